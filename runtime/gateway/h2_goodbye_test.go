package gateway_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// partings are the ways in which the gateway ends an idle connection: what the upstream is configured with, and what is done then.
var partings = []struct {
	name, keys string
	do         func(t *testing.T, p *plant, config string)
}{
	{"idle timeout", "pool: { keep_idle: 0, idle_timeout: 50ms }", nil},
	{"age", "pool: { max_age: 100ms }", nil},
	{"requests", "pool: { max_requests: 1 }", nil},
	{"the target is disabled", "", func(_ *testing.T, p *plant, _ string) {
		p.patch("web", p.upstream("web").Members[0].Target, `{"state": "disabled"}`)
	}},
	{"the target is gone", "", func(_ *testing.T, p *plant, config string) {
		p.reload(strings.Replace(config, "targets: ['", "targets: ['http://127.0.0.1:1', '", 1)) // stays
		p.reload("loops: 1\n" + h2Upstream("127.0.0.1:1", "") + h2Routes)
	}},
	{"the upstream is gone", "", func(_ *testing.T, p *plant, _ string) {
		p.reload("loops: 1\nroutes: [{ respond: { status: 204 } }]\n")
	}},
	{"an operator", "", func(t *testing.T, p *plant, _ string) {
		run(t, "curl", "-sS", "--fail-with-body", "-X", "POST", "http://"+p.AdminAddr().String()+"/connections/drain?address=127.0.0.1")
	}},
	{"the gateway stops", "", func(_ *testing.T, p *plant, _ string) { p.Close() }},
}

// upstreamConfig is one upstream at an address, by TLS with the certificate a.test of the authority, or without.
func upstreamConfig(a *issuer, addr string, secure bool, protocol, keys string) string {
	scheme, more := "http", ""
	if secure {
		scheme, more = "https", fmt.Sprintf(", tls: { ca: %q, server_name: a.test }", a.file("ca.pem"))
	}
	if keys != "" {
		more += ", " + keys
	}
	return fmt.Sprintf("loops: 1\nupstreams: { web: { targets: ['%s://%s'], protocol: %s%s } }\n%s", scheme, addr, protocol, more, h2Routes)
}

func (a *issuer) server(name string) *tls.Config {
	a.t.Helper()
	a.issue(name, name+".test")
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}} //nolint:gosec // its client says
}

// TestIdleConnectionsAreLeftInOrder: whoever ends an idle connection, an upstream of HTTP/2 is told by GOAWAY(NO_ERROR), and TLS by
// close_notify, without which Go's tls.Conn says "unexpected EOF".
func TestIdleConnectionsAreLeftInOrder(t *testing.T) {
	authority := newIssuer(t)
	cfg := authority.server("a")
	for _, secure := range []bool{false, true} {
		for _, c := range partings {
			t.Run(fmt.Sprintf("%s, TLS %v", c.name, secure), func(t *testing.T) {
				with := cfg
				if !secure {
					with = nil
				}
				// What is said last waits for nobody: on portable loops a write may not be known to be over, though all of it has arrived.
				despiteStalls(t, func(wrong func(format string, args ...any)) {
					b := startH2Peer(t, with, ok)
					text := upstreamConfig(authority, b.addr, secure, "http2", c.keys)
					p := startPlant(t, text)
					defer p.Close()
					if a := p.ask("GET", "/"); a.status != 200 {
						t.Fatalf("%d %s", a.status, a.body)
					}
					if c.do != nil {
						c.do(t, p, text)
					}
					if last, end := b.ended(); last != "GOAWAY 0 NO_ERROR" || end != "end EOF" {
						wrong("%s; %s: %q", last, end, b.all())
					}
				})
			})
		}
	}
}

// TestIdleConnectionsOfHTTP1AreLeftInOrder is the same for TLS below HTTP/1.1.
func TestIdleConnectionsOfHTTP1AreLeftInOrder(t *testing.T) {
	authority := newIssuer(t)
	cfg := authority.server("a")
	for _, c := range partings {
		t.Run(c.name, func(t *testing.T) {
			l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
			if err != nil {
				t.Fatal(err)
			}
			ends := make(chan error, 1)
			s := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})} //nolint:gosec // its client is the gateway
			watched := make(chan struct{})
			go func() { defer close(watched); _ = s.Serve(&endings{l, ends}) }()
			defer func() { s.Close(); <-watched }()
			text := upstreamConfig(authority, l.Addr().String(), true, "http1.1", c.keys)
			p := startPlant(t, text)
			if a := p.ask("GET", "/"); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if c.do != nil {
				c.do(t, p, text)
			}
			if err := receive(t, ends); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("it has ended with %v", err)
			}
		})
	}
}

// endings is a listener that tells what the reads of its first connection have ended with.
type endings struct {
	net.Listener
	ends chan error
}

func (l *endings) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &ending{Conn: c, ends: l.ends}, nil
}

type ending struct {
	net.Conn
	ends chan error
}

func (c *ending) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if late := net.Error(nil); err != nil && !(errors.As(err, &late) && late.Timeout()) {
		select {
		case c.ends <- err:
		default:
		}
	}
	return n, err
}

// TestABusyConnectionThatAnOperatorCutsOffSaysSo too: streams are open, and fail.
func TestABusyConnectionThatAnOperatorCutsOffSaysSo(t *testing.T) {
	b := startH2Peer(t, nil, func(*h2Link, *http2.MetaHeadersFrame) {})
	p := startPlant(t, "loops: 1\n"+h2Upstream(b.addr, ", retries: { attempts: 1 }")+h2Routes)
	answered := make(chan int, 1)
	go func() { answered <- p.ask("POST", "/").status }()
	testkit.Eventually(t, "the request is there", func() bool { return b.count("HEADERS") == 1 })
	var list struct{ Connections []struct{ ID uint64 } }
	if err := json.Unmarshal([]byte(get(t, "http://"+p.AdminAddr().String()+"/connections")), &list); err != nil || len(list.Connections) != 1 {
		t.Fatalf("%v, %+v", err, list)
	}
	run(t, "curl", "-sS", "--fail-with-body", "-X", "DELETE", fmt.Sprintf("http://%s/connections/%d?now=true", p.AdminAddr(), list.Connections[0].ID))
	if last, end := b.ended(); last != "GOAWAY 0 NO_ERROR" || end != "end EOF" {
		t.Errorf("%s; %s: %q", last, end, b.all())
	}
	if status := receive(t, answered); status != 502 {
		t.Errorf("answered %d", status)
	}
}
