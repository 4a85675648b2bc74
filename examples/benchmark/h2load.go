package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// unknown is a time of which nothing is known.
const unknown time.Duration = -1

var (
	h2loadPerSec = regexp.MustCompile(`(?m)^finished in .*?, ([\d.]+) req/s`)
	h2loadCounts = regexp.MustCompile(`(?m)^requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout`)
	h2loadStatus = regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx`)
)

// runH2load sends requests of HTTP/2 for a while, over connections that stay open, each with so many streams at a time.
func runH2load(ctx context.Context, cpus string, o *options, port int, d time.Duration) (load, error) {
	out, err := generate(ctx, cpus, o, port, "h2load", "-t1", fmt.Sprintf("-c%d", o.connections), fmt.Sprintf("-m%d", o.streams), fmt.Sprintf("-D%d", int(d.Seconds())))
	if err != nil {
		return load{}, err
	}
	return parseH2load(out)
}

// parseH2load reads what h2load prints. It tells of no percentiles.
func parseH2load(out string) (load, error) {
	var l load
	counts, status := h2loadCounts.FindStringSubmatch(out), h2loadStatus.FindStringSubmatch(out)
	perSec, err := strconv.ParseFloat(submatch(h2loadPerSec, out), 64)
	if counts == nil || status == nil || err != nil {
		return l, fmt.Errorf("what h2load says is not understood:\n%s", out)
	}
	l.perSec, l.p50, l.p99 = perSec, unknown, unknown
	if l.requests, err = strconv.ParseInt(counts[1], 10, 64); err != nil {
		return l, err
	}
	switch {
	case counts[2] != "0" || counts[3] != "0" || counts[4] != "0" || status[3] != "0" || status[4] != "0":
		l.bad = strings.TrimSpace(counts[0] + "; " + status[0])
	case l.requests == 0:
		l.bad = "no answers"
	}
	return l, nil
}
