package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestMain makes this program the load of handshakes, as the command itself is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == shakeCommand {
		if err := command(context.Background(), os.Args[1:], os.Stdout, os.Stderr); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience bounds every wait for another process.
const patience = 30 * time.Second

// need skips a test for want of something that is not part of Go; where everything shall be there, it fails.
func need(t *testing.T, missing func(*setup) string) {
	t.Helper()
	s := &setup{root: filepath.Join("..", "..")}
	s.plugin = filepath.Join(s.root, pluginModule)
	switch m := missing(s); {
	case m == "":
	case os.Getenv("WASMGATE_TEST_ALL") == "1":
		t.Fatal("missing: " + m)
	default:
		t.Skip("missing: " + m)
	}
}

func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !ask() {
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func twoCPUs(*setup) string {
	if runtime.NumCPU() < 2 {
		return "a second CPU"
	}
	return ""
}

func itoa(n int) string { return strconv.Itoa(n) }

func TestParse(t *testing.T) {
	o, err := parse([]string{"-rounds", "3", "-two", "haproxy", "nginx"}, io.Discard)
	if err != nil || o.rounds != 3 || o.seconds != 4 || o.connections != 64 || o.workers() != 2 || strings.Join(o.names, " ") != "haproxy nginx" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, args := range [][]string{{"-rounds", "0"}, {"-seconds", "-1"}, {"-connections", "0"}, {"-path", "x"}, {"nginxx"}, {"-nope"}, {"-handshakes", "full"}, {"-tls", "-handshakes", "some"}} {
		if o, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v is read as %+v", args, o)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestCPUs(t *testing.T) {
	for _, c := range []struct {
		two             bool
		count           int
		candidate, load string
	}{{false, 2, "0", "1"}, {false, 8, "0", "1"}, {true, 2, "0,1", "0,1"}, {true, 4, "0,1", "2,3"}} {
		if candidate, load := (&options{two: c.two}).cpus(c.count); candidate != c.candidate || load != c.load {
			t.Errorf("%+v: %s and %s", c, candidate, load)
		}
	}
}

// TestCandidates starts every candidate with its configuration, with one worker and with two, and sees that it proxies,
// and decides where it shall.
func TestCandidates(t *testing.T) {
	built := &setup{dir: t.TempDir(), root: filepath.Join("..", "..")}
	for i := range candidates {
		c := &candidates[i]
		t.Run(c.name, func(t *testing.T) {
			need(t, twoCPUs)
			need(t, tools("nginx", "wrk", "taskset"))
			need(t, c.missing)
			o := options{rounds: 1, seconds: 1, names: []string{c.name}}
			if strings.HasPrefix(c.name, "wasmgate") {
				if err := built.build(t.Context()); err != nil {
					t.Fatal(err)
				}
				o.binary = built.binary
			}
			for _, o.two = range []bool{false, true} {
				startOne(t, c, &o)
			}
			if o.two = false; slices.Contains(tlsNames, c.name) {
				o.tls = true
				startOne(t, c, &o)
			}
		})
	}
}

func startOne(t *testing.T, c *candidate, o *options) {
	t.Helper()
	b, err := prepare(t.Context(), o, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer b.close()
	ports, err := freePorts(3)
	if err != nil {
		t.Fatal(err)
	}
	b.s.backend = ports[0]
	config, err := b.s.render("backend.conf", "backend.conf", b.s.fields(nil, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	command, err := b.s.prepare(c, ports[1], ports[2])
	if err != nil {
		t.Fatal(err)
	}
	for port, command := range map[int][]string{ports[0]: nginxCommand(b.s, config), ports[1]: command} {
		p, err := start("0,1", command, filepath.Join(b.s.dir, itoa(port)+".log"))
		if err != nil {
			t.Fatal(err)
		}
		defer p.stop()
		if err := p.listening(port); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.s.probe(t.Context(), c, ports[1], "/some/path?x=1"); err != nil {
		t.Errorf("with %s: %v", plural(o.workers(), "worker"), err)
	}
	// What decides nothing must not pass for a candidate that decides.
	if !c.scripts {
		claims := *c
		claims.scripts = true
		if err := b.s.probe(t.Context(), &claims, ports[1], "/some/path?x=1"); err == nil {
			t.Error("it decides nothing, and the probe does not see it")
		}
	}
}

// TestRound measures the baseline once, as short as wrk can.
func TestRound(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: not with -short")
	}
	need(t, twoCPUs)
	need(t, tools("nginx", "wrk", "taskset"))
	var out strings.Builder
	if err := command(t.Context(), []string{"-rounds", "1", "-seconds", "1", "-connections", "4", "nginx"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 round of 1 s, 4 connections, 1 worker on CPU 0;", "\n| nginx | proxying only | ", " | 1.00 | "} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, &out)
		}
	}
}

// TestHandshakes measures full and resumed handshakes once.
func TestHandshakes(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds: not with -short")
	}
	need(t, twoCPUs)
	need(t, tools("nginx", "wrk", "taskset"))
	for _, kind := range []string{"full", "resumed"} {
		var out strings.Builder
		if err := command(t.Context(), []string{"-tls", "-handshakes", kind, "-rounds", "1", "-seconds", "1", "nginx"}, &out, io.Discard); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		if !strings.Contains(out.String(), "1 round of 1 s, 8 connections") {
			t.Errorf("the report says:\n%s", &out)
		}
	}
}

// TestBadAnswers: figures that came from error pages are not a result.
func TestBadAnswers(t *testing.T) {
	need(t, twoCPUs)
	need(t, tools("nginx", "wrk", "taskset"))
	var out strings.Builder
	err := command(t.Context(), []string{"-rounds", "1", "-seconds", "1", "-path", probePath, "nginx"}, &out, io.Discard)
	if !errors.Is(err, errBad) || !strings.Contains(out.String(), "- NOT A RESULT: nginx, round 1: the answer has 1 bytes") {
		t.Errorf("%v:\n%s", err, &out)
	}
}

// TestLosses: what a candidate says of spans and lines that it lost is in the report.
func TestLosses(t *testing.T) {
	text := "# HELP lost x\nlost_total{reason=\"a\"} 3\nlost_total{reason=\"b c\"} 4\nlost_total_more 5\nlost_total 1e1\n"
	if n := sum(text, "lost_total"); n != 17 {
		t.Errorf("%v", n)
	}
	r := row{name: "x", rounds: []sample{{told: told{spans: 5, spansLost: 1}}, {told: told{spans: 7, linesLost: 2}}}}
	if got := strings.Join(r.losses(), ""); got != "x: 12 spans sent, 1 spans or records of them lost, 2 lines of the access log lost" {
		t.Error(got)
	}
	if got := (&row{name: "y", rounds: make([]sample, 3)}).losses(); got != nil {
		t.Error(got)
	}
}

// TestCollector: traces arrive at the collector of the harness's own, which is this program started again.
func TestCollector(t *testing.T) {
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- collect(ctx, itoa(ports[0])) }()
	for deadline := time.Now().Add(patience); ; {
		res, err := http.Post("http://"+address(ports[0])+"/v1/traces", "application/x-protobuf", strings.NewReader("spans"))
		if err == nil {
			res.Body.Close()
			if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "application/x-protobuf" {
				t.Errorf("%d %v", res.StatusCode, res.Header)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
