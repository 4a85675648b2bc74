package main

import (
	"strings"
	"testing"
	"time"
)

const wrkGood = `Running 4s test @ http://127.0.0.1:9101/some/path?x=1
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.07ms  357.12us  12.40ms   92.83%
    Req/Sec    58.31k     2.85k   63.11k    75.00%
  Latency Distribution
     50%    0.98ms
     75%    1.13ms
     90%  812.00us
     99%    2.31ms
  232191 requests in 4.00s, 161.19MB read
Requests/sec:  57996.62
Transfer/sec:     40.26MB
`

func TestParseWrk(t *testing.T) {
	for name, c := range map[string]struct {
		out  string
		want load
	}{
		"good": {wrkGood, load{requests: 232191, perSec: 57996.62, p50: 980 * time.Microsecond, p99: 2310 * time.Microsecond}},
		"socket errors": {
			strings.Replace(wrkGood, "Requests/sec", "  Socket errors: connect 0, read 12, write 0, timeout 3\nRequests/sec", 1),
			load{requests: 232191, perSec: 57996.62, p50: 980 * time.Microsecond, p99: 2310 * time.Microsecond, bad: "Socket errors: connect 0, read 12, write 0, timeout 3"},
		},
		"bad answers": {
			strings.Replace(wrkGood, "Requests/sec", "  Non-2xx or 3xx responses: 232191\nRequests/sec", 1),
			load{requests: 232191, perSec: 57996.62, p50: 980 * time.Microsecond, p99: 2310 * time.Microsecond, bad: "Non-2xx or 3xx responses: 232191"},
		},
		"both": {
			strings.Replace(wrkGood, "Requests/sec", "  Socket errors: connect 1, read 0, write 0, timeout 0\n  Non-2xx or 3xx responses: 7\nRequests/sec", 1),
			load{requests: 232191, perSec: 57996.62, p50: 980 * time.Microsecond, p99: 2310 * time.Microsecond,
				bad: "Socket errors: connect 1, read 0, write 0, timeout 0; Non-2xx or 3xx responses: 7"},
		},
		"nothing": {
			"  Latency Distribution\n     50%    0.00us\n     99%    0.00us\n  0 requests in 1.00s, 0.00B read\nRequests/sec:      0.00\n",
			load{bad: "no answers"},
		},
	} {
		got, err := parseWrk(c.out)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
	for _, out := range []string{"", "unable to connect to 127.0.0.1:1 Connection refused", strings.Replace(wrkGood, "2.31ms", "fast", 1)} {
		if l, err := parseWrk(out); err == nil {
			t.Errorf("%.40q is read as %+v", out, l)
		}
	}
}

func TestParseWrkTime(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0.00us": 0, "812.00us": 812 * time.Microsecond, "1.25ms": 1250 * time.Microsecond, "2.01s": 2010 * time.Millisecond, "1.50m": 90 * time.Second,
	} {
		if got, err := parseWrkTime(in); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "ms", "-1ms", "1", "1ns", "1.2.3ms"} {
		if got, err := parseWrkTime(in); err == nil {
			t.Errorf("%q is %s", in, got)
		}
	}
}
