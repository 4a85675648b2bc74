// Command jaeger builds a real Jaeger from the Go module proxy, runs it on loopback, and shows in a terminal what the
// gateway's traces say about its upstream connections.
//
// Jaeger is built and started as a program of its own and never linked into this one. What the example services of the tour
// need, OpenTelemetry's SDK with otelhttp and the DNS messages of golang.org/x/net, is in the versions that Jaeger needs too.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: go run . [flags] [run | build | tour [NAME] | look | show TRACE_ID]

  run    build Jaeger, start it and keep it running until interrupted (the default)
  build  build Jaeger only
  tour   play a situation and say what to look for in Jaeger; without a name, list them
  look   print each upstream connection that a running Jaeger knows of, and the requests that used it
  show   print one trace of a running Jaeger

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "jaeger:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	p := DefaultPorts
	fs := flag.NewFlagSet("jaeger", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&p.OTLPHTTP, "otlp-http", p.OTLPHTTP, "port for OTLP over HTTP")
	fs.IntVar(&p.OTLPGRPC, "otlp-grpc", p.OTLPGRPC, "port for OTLP over gRPC")
	fs.IntVar(&p.Query, "query", p.Query, "port of the query API, and of Jaeger's UI where it has one")
	fs.IntVar(&p.QueryGRPC, "query-grpc", p.QueryGRPC, "port of the query API over gRPC")
	service := fs.String("service", "wasmgate", "look: the service name to look for")
	limit := fs.Int("limit", 200, "look: how many traces to read at most")
	fs.Usage = func() { fmt.Fprint(stderr, usage); fs.PrintDefaults() }
	if err := fs.Parse(args); err != nil {
		return err
	}
	verb, arg := fs.Arg(0), fs.Arg(1)
	if most := map[string]int{"tour": 2, "show": 2}[verb]; fs.NArg() > max(most, 1) {
		return fmt.Errorf("flags come before the command; %q is one word too many", fs.Arg(max(most, 1)))
	}
	switch verb {
	case "", "run":
		return run(ctx, p, stdout, stderr)
	case "build":
		path, err := Build(ctx, stderr)
		if err == nil {
			fmt.Fprintln(stdout, path)
		}
		return err
	case "tour":
		return Tour(ctx, arg, p, stdout, stderr)
	case "look":
		return Look(ctx, NewAPI(p.QueryURL()), *service, *limit, stdout)
	case "show":
		return Show(ctx, NewAPI(p.QueryURL()), arg, stdout)
	default:
		return fmt.Errorf("no command %q: it is run, build, tour, look or show", verb)
	}
}

func run(ctx context.Context, p Ports, stdout, stderr io.Writer) error {
	j, err := BuildAndStart(ctx, p, stderr)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, `Jaeger is running, its store in memory.
  traces in   http://localhost:%d (OTLP over HTTP), localhost:%d (OTLP over gRPC)
  traces out  %s/api/traces?service=wasmgate
  connections and who used them: go run -C examples/jaeger . look
Interrupt to stop it.
`, p.OTLPHTTP, p.OTLPGRPC, p.QueryURL())
	return j.Wait(ctx)
}
