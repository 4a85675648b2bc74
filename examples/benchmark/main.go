// Command benchmark compares what HTTP reverse proxies cost, side by side on one machine, and prints a Markdown table.
//
// The load comes from wrk and the backend is nginx, because neither is by the authors of any candidate but nginx itself,
// which is the baseline; taskset binds processes to CPUs, because it does so before the process has started a thread. No
// generator of HTTP/3 is packaged: that load is this program's own, by quic-go, which the candidates use too. Everything else is
// the standard library.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	rounds, seconds, connections int
	streams                      int // of a connection of HTTP/2 at a time
	two, bulk, telemetry, http2  bool
	tls, http3                   bool
	handshakes                   string // full or resumed: connections instead of requests; "": requests
	path, binary, plugin         string
	against, collector           string
	names                        []string
}

// errBad says that a candidate's figures are not a result.
var errBad = errors.New("not every row is a result")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "benchmark:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if ours, err := bulkLoad(args); ours {
		return err
	}
	if len(args) == 6 && args[0] == shakeCommand {
		return shakeLoad(args[1:], stdout)
	}
	if len(args) == 6 && args[0] == http3Command {
		return http3Load(ctx, args[1:], stdout)
	}
	if len(args) == 2 && args[0] == collectorCommand {
		return collect(ctx, args[1])
	}
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if runtime.GOOS != "linux" {
		return errors.New("the figures are read from /proc: it needs Linux")
	}
	b, err := prepare(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.run(ctx); err != nil {
		return err
	}
	fmt.Fprint(stdout, b.report())
	if len(b.bad) > 0 {
		return errBad
	}
	return nil
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	fs := flag.NewFlagSet("benchmark", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.rounds, "rounds", 5, "rounds; in each, every candidate has its turn")
	fs.IntVar(&o.seconds, "seconds", 4, "seconds that a candidate is measured in a round, after one to warm up")
	fs.IntVar(&o.connections, "connections", 64, "client connections, all of them kept alive and busy; with -http2 and -http3 the default is 8")
	fs.BoolVar(&o.two, "two", false, "two workers on CPUs 0 and 1 for each candidate, instead of one on CPU 0")
	fs.BoolVar(&o.http2, "http2", false, "requests of HTTP/2, by h2load: compares "+strings.Join(http2Names, ", "))
	fs.BoolVar(&o.tls, "tls", false, "clients speak TLS 1.3, with a certificate for an ECDSA key on P-256: compares "+strings.Join(tlsNames, ", "))
	fs.BoolVar(&o.http3, "http3", false, "requests of HTTP/3, beside HTTP/1.1 over TLS: compares "+strings.Join(http3Names, ", "))
	fs.StringVar(&o.handshakes, "handshakes", "", "with -tls: `full` or resumed handshakes, each on a connection of its own with a small request")
	fs.IntVar(&o.streams, "streams", 100, "streams at a time on each connection, with -http2; with -http3 the default is 8")
	fs.BoolVar(&o.bulk, "bulk", false, "bytes through TCP mode instead of requests")
	fs.BoolVar(&o.telemetry, "telemetry", false, "what access logs and traces cost: compares "+strings.Join(telemetryNames, ", "))
	fs.StringVar(&o.collector, "collector", "", "OTLP/HTTP endpoint that traces are sent to (default: one of its own, which reads them and does nothing)")
	fs.StringVar(&o.path, "path", "/some/path?x=1", "request target")
	fs.StringVar(&o.binary, "wasmgate", "", "wasmgate program to measure (default: built from the sources)")
	fs.StringVar(&o.plugin, "plugin", "", "plugin module to measure (default: "+pluginModule+")")
	fs.StringVar(&o.against, "against", "nginx+lua,haproxy+lua", "further candidates to divide CPU time by, each a column; with -telemetry wasmgate")
	fs.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./examples/benchmark [flags] [candidate ...]\n\nThe first candidate is the baseline. Candidates, all of the first line by default:\n  %s\nwith -telemetry:\n  %s\nwith -bulk:\n  %s\n\nflags:\n",
			strings.Join(requestNames(), " "), strings.Join(telemetryNames, " "), strings.Join(bulkNames(), " "))
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if (o.http2 || o.http3) && !given(fs, "connections") {
		o.connections = 8
	}
	if o.http3 && !given(fs, "streams") {
		o.streams = 8
	}
	switch {
	case o.http3 && (o.http2 || o.handshakes != "" || o.bulk || o.telemetry):
		return nil, errors.New("-http3 goes with no other kind of load")
	case o.handshakes != "" && o.handshakes != "full" && o.handshakes != "resumed":
		return nil, fmt.Errorf("-handshakes %q is neither full nor resumed", o.handshakes)
	case o.handshakes != "" && !o.tls:
		return nil, errors.New("-handshakes wants -tls")
	case o.handshakes != "" && !given(fs, "connections"):
		o.connections = 8
	}
	if o.rounds < 1 || o.seconds < 1 || o.connections < 1 || o.streams < 1 {
		return nil, errors.New("-rounds, -seconds, -connections and -streams are at least 1")
	}
	if !strings.HasPrefix(o.path, "/") {
		return nil, fmt.Errorf("-path %q does not begin with /", o.path)
	}
	for _, name := range fs.Args() {
		if c, ok := find(name); !ok || c.bulk != o.bulk {
			return nil, fmt.Errorf("no candidate %q; there are %s, with -telemetry %s, and with -bulk %s", name,
				strings.Join(requestNames(), ", "), strings.Join(telemetryNames, ", "), strings.Join(bulkNames(), ", "))
		}
	}
	o.names = fs.Args()
	o.tls = o.tls || o.http3
	switch {
	case len(o.names) > 0:
	case o.telemetry:
		o.names, o.against = telemetryNames, "wasmgate"
	case o.http3:
		o.names, o.against = http3Names, "caddy"
	case o.tls && !o.http2:
		o.names, o.against = tlsNames, ""
	case o.http2:
		o.names, o.against = http2Names, "caddy"
	}
	return o, nil
}

func given(fs *flag.FlagSet, name string) (found bool) {
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// workers is how many loops, workers or threads each candidate has.
func (o *options) workers() int {
	if o.two {
		return 2
	}
	return 1
}

// duration is how long a candidate is measured in a round.
func (o *options) duration() time.Duration { return time.Duration(o.seconds) * time.Second }

// cpus says where candidates run, and where the backend and wrk do, as taskset takes it: apart from each other if there
// are CPUs enough.
func (o *options) cpus(count int) (candidate, load string) {
	switch {
	case !o.two:
		return "0", "1"
	case count >= 4:
		return "0,1", "2,3"
	default:
		return "0,1", "0,1"
	}
}
