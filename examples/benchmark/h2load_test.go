package main

import (
	"strings"
	"testing"
)

const h2loadGood = `starting benchmark...
spawning thread #0: 8 total client(s). Timing-based test with 0s of warm-up time and 2s of main duration for measurements.
Main benchmark duration is started for thread #0.
Application protocol: h2c

finished in 2.00s, 46219.00 req/s, 24.60MB/s
requests: 92438 total, 93238 started, 92438 done, 92438 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 92445 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 49.20MB (51593066) total, 1.76MB (1849123) headers (space savings 88.51%), 44.08MB (46219000) data
                     min         max         mean         sd        +/- sd
time for request:     1.20ms     40.11ms     17.12ms      3.99ms    77.11%
`

func TestParseH2load(t *testing.T) {
	l, err := parseH2load(h2loadGood)
	if err != nil || l.requests != 92438 || l.perSec != 46219 || l.p99 != unknown || l.bad != "" {
		t.Errorf("%+v, %v", l, err)
	}
	for part, with := range map[string]string{"0 failed": "3 failed", "0 errored": "4 errored", "0 4xx": "5 4xx", "92438 succeeded": "0 succeeded"} {
		if l, err := parseH2load(strings.Replace(h2loadGood, part, with, 1)); err != nil || l.bad == "" {
			t.Errorf("%s: %+v, %v", with, l, err)
		}
	}
	if _, err := parseH2load("h2load: unknown option"); err == nil {
		t.Error("what is no result was read")
	}
}
