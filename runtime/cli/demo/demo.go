// Package demo shows in one process what a gateway does: two upstreams, a sandboxed plugin that decides, a burst of
// requests, and then, for each upstream connection, why it was opened, what it carried and who used it.
//
// Nothing in it is made for show but the upstreams and the client: gateway, plugin and config are those that run
// serves. It uses net/http for both of them, because they are the other side of the wire.
package demo

import (
	"bytes"
	"context"
	_ "embed" // for the config
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"text/template"
	"time"

	"github.com/rs/zerolog"

	tenantrouter "wasmgate/plugins/tenant-router"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/telemetry"
)

// Options are what Run needs.
type Options struct {
	Out     io.Writer
	Color   bool
	Port    int    // of the gateway, on 127.0.0.1; 0: a free one
	Strict  bool   // Port being taken is an error; otherwise a free one is used
	Once    bool   // end after the summary
	Traces  string // an OTLP endpoint; empty: what OTEL_EXPORTER_OTLP_ENDPOINT says, else no traces
	Env     func(string) string
	Signals <-chan os.Signal
	Build   telemetry.Build
}

// Requests is how many requests the burst has, and Clients how many keep-alive connections they come over.
const (
	Requests = 200
	Clients  = 4
)

// stopping is how long requests may take to end after an interrupt.
const stopping = 5 * time.Second

//go:embed demo.yaml
var configText string

var configTemplate = template.Must(template.New("demo.yaml").Parse(configText))

// settings are what is different from one run to the next in the config.
type settings struct {
	Port, Admin  int
	Acme, Shared string // origins
	Traces       string
}

// Config returns the demo's config with fixed ports, as text.
func Config() string {
	return settings{Port: 8080, Admin: 9901, Acme: "http://127.0.0.1:9001", Shared: "http://127.0.0.1:9002"}.text()
}

func (s settings) text() string {
	var b bytes.Buffer
	if err := configTemplate.Execute(&b, s); err != nil {
		panic(err) // the template is a constant, and a test executes it
	}
	return b.String()
}

func (s settings) load() (*config.Config, error) {
	c, _, err := config.Load(config.Source{
		File: "demo.yaml", Data: []byte(s.text()),
		Stat: func(string) error { return nil }, // the module is in this program
	})
	return c, err
}

// Run runs the demo until it is interrupted, or, with Once, until everything is told.
func Run(o Options) error {
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	upstreams, err := startUpstreams("acme", "shared")
	if err != nil {
		return err
	}
	defer upstreams.close()
	port, note, err := choosePort(o.Port, o.Strict)
	if err != nil {
		return err
	}
	w := newWatcher()
	s := settings{Port: port, Acme: upstreams.origin("acme"), Shared: upstreams.origin("shared"), Traces: o.Traces}
	g, err := startGateway(&o, s, w)
	if err != nil {
		return err
	}
	t := &teller{out: o.Out, paint: paint(o.Color)}
	url := "http://" + g.Addr("demo").String()
	t.begin(url, note)
	err = show(&o, t, g, w, upstreams, url)
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	go func() {
		select {
		case <-o.Signals: // a second one
			cancel()
		case <-ctx.Done():
		}
	}()
	if e := g.Shutdown(ctx); err == nil && !errors.Is(e, context.Canceled) {
		err = e
	}
	return err
}

// show is the demo itself: the burst, its summary, and an account of what comes after it.
func show(o *Options, t *teller, g *gateway.Gateway, w *watcher, upstreams *upstreams, url string) error {
	took, err := burst(url)
	if err != nil {
		return fmt.Errorf("the demo's own client: %w", err)
	}
	a := newAccount()
	if err := a.follow(w, Requests); err != nil {
		return err
	}
	t.summary(a, took, upstreams.accepted())
	if o.Once {
		return nil
	}
	traces := o.Traces
	if traces == "" {
		traces = o.Env("OTEL_EXPORTER_OTLP_ENDPOINT")
	}
	t.invite(url, g.AdminAddr().String(), traces)
	for {
		select {
		case e := <-w.events:
			t.live(a, a.take(e))
		case <-o.Signals:
			t.goodbye(w.lost.Load())
			return nil
		}
	}
}

func startGateway(o *Options, s settings, w *watcher) (*gateway.Gateway, error) {
	c, err := s.load()
	if err != nil {
		return nil, err
	}
	log := zerolog.New(zerolog.ConsoleWriter{Out: o.Out, NoColor: !o.Color, TimeFormat: time.TimeOnly}).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	g, err := gateway.New(gateway.Options{
		Config: c, Log: log, Env: o.Env, Build: o.Build, Watcher: w,
		Module: func(string, string) ([]byte, error) { return tenantrouter.Module, nil },
	})
	if err != nil {
		return nil, err
	}
	if err := g.Start(); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// choosePort returns the port to listen on, and what to say about it.
func choosePort(port int, strict bool) (chosen int, note string, err error) {
	if port == 0 {
		return 0, "", nil
	}
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	switch {
	case err == nil:
		return port, "", ln.Close()
	case strict:
		return 0, "", fmt.Errorf("port %d cannot be used: %w", port, err)
	}
	return 0, fmt.Sprintf("port %d is taken, so this is a free one", port), nil
}
