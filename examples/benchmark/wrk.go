package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load is what wrk says of one run.
type load struct {
	requests int64
	perSec   float64
	p50, p99 time.Duration
	bad      string // answers that were none, in wrk's words
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^\s*(\d+) requests in`)
	wrkPerSec   = regexp.MustCompile(`(?m)^Requests/sec:\s+([\d.]+)`)
	wrkP50      = regexp.MustCompile(`(?m)^\s+50%\s+(\S+)`)
	wrkP99      = regexp.MustCompile(`(?m)^\s+99%\s+(\S+)`)
	wrkBad      = regexp.MustCompile(`(?m)^\s*((?:Non-2xx|Socket errors).*?)\s*$`)
	wrkTime     = regexp.MustCompile(`^([\d.]+)(us|ms|s|m|h)$`)
)

// runWrk sends requests for a while over connections that stay open.
func runWrk(ctx context.Context, cpus string, o *options, port int, d time.Duration) (load, error) {
	out, err := generate(ctx, cpus, o, port, "wrk", "-t1", fmt.Sprintf("-c%d", o.clients()), fmt.Sprintf("-d%ds", int(d.Seconds())), "--latency")
	if err != nil {
		return load{}, err
	}
	return parseWrk(out)
}

// generate runs what makes the load, on its CPUs, with the headers of every request, and returns what it prints.
func generate(ctx context.Context, cpus string, o *options, port int, command ...string) (string, error) {
	args := append([]string{"-c", cpus}, command...)
	for _, h := range requestHeaders {
		args = append(args, "-H", h)
	}
	out, err := exec.CommandContext(ctx, "taskset", append(args, origin(o.tls, port)+o.path)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", command[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// parseWrk reads what wrk --latency prints.
func parseWrk(out string) (load, error) {
	var l load
	var errs [4]error
	l.requests, errs[0] = strconv.ParseInt(submatch(wrkRequests, out), 10, 64)
	l.perSec, errs[1] = strconv.ParseFloat(submatch(wrkPerSec, out), 64)
	l.p50, errs[2] = parseWrkTime(submatch(wrkP50, out))
	l.p99, errs[3] = parseWrkTime(submatch(wrkP99, out))
	if err := errors.Join(errs[:]...); err != nil {
		return l, fmt.Errorf("what wrk says is not understood: %w\n%s", err, out)
	}
	var bad []string
	for _, m := range wrkBad.FindAllStringSubmatch(out, -1) {
		bad = append(bad, m[1])
	}
	l.bad = strings.Join(bad, "; ")
	if l.requests == 0 && l.bad == "" {
		l.bad = "no answers"
	}
	return l, nil
}

func submatch(re *regexp.Regexp, s string) string {
	if m := re.FindStringSubmatch(s); m != nil {
		return m[1]
	}
	return ""
}

// parseWrkTime reads a time such as 812.00us, 1.25ms, 2.01s or 1.00m.
func parseWrkTime(s string) (time.Duration, error) {
	if !wrkTime.MatchString(s) {
		return 0, fmt.Errorf("time %q", s)
	}
	return time.ParseDuration(s)
}
