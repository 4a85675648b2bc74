package gateway_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/pebble"
	"wasmgate/runtime/internal/testkit"
)

// issuing is a real issuer, and the ports at which it asks for what a gateway answers.
type issuing struct {
	*testing.T
	*pebble.Server
	dns           *dnstest.Server
	plain, secure int
	storage       string
	more          string // keys of acme
}

func startPebble(t *testing.T, o pebble.Options, names ...string) *issuing {
	t.Helper()
	i := &issuing{T: t, dns: dnstest.New(t), plain: freePort(t), secure: freePort(t), storage: filepath.Join(t.TempDir(), "acme"), more: "check_interval: 200ms"}
	for _, name := range names {
		i.dns.Set(name, time.Minute, "127.0.0.1")
	}
	o.DNS, o.HTTPPort, o.TLSPort = i.dns.Addr(), i.plain, i.secure
	i.Server = pebble.Start(t, o, func(t testing.TB, what string) { missing(t.(*testing.T), what) })
	return i
}

// config is one with a plain listener, and one with certificates for the names.
func (i *issuing) config(names ...string) string {
	return fmt.Sprintf(`
telemetry: { access_log: { output: 'off' } }
admin: { address: '' }
plugin_cache: { dir: 'off' }
acme: { agree: true, email: who@example.com, directory: '%s', ca: '%s', storage: '%s', %s }
listeners:
  - { name: plain, address: '127.0.0.1:%d' }
  - { name: test, address: '127.0.0.1:%d', tls: { acme: [%s] } }
routes:
  - match: { path_prefix: /.well-known }
    respond: { status: 404, body: "not here\n" }
  - respond: { status: 200, body: "hello\n" }
`, i.Directory, i.CAFile, i.storage, i.more, i.plain, i.secure, strings.Join(names, ", "))
}

// start starts a gateway. No goroutine is left when it is closed.
func (i *issuing) start(names ...string) *gate {
	i.Helper()
	before := runtime.NumGoroutine()
	i.Cleanup(func() {
		i.Stop() // it has some of its own
		testkit.Eventually(i.T, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= before })
	})
	g := startText(i.T, i.config(names...))
	i.Cleanup(func() {
		if i.Failed() {
			i.Logf("the gateway's log:\n%s", g.log.String())
		}
	})
	return g
}

// client asks by TLS. It trusts the issuer as it is now.
func (i *issuing) client() *http.Client {
	i.Helper()
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: i.Roots()},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", i.secure))
		},
	}}
}

// serial is that of the certificate which a new connection gets.
func (i *issuing) serial(name string) (string, error) {
	client := i.client()
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + name + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "hello\n" {
		err = fmt.Errorf("answered %q", body)
	}
	return resp.TLS.PeerCertificates[0].SerialNumber.Text(16), err
}

func (i *issuing) wait(name string) (serial string) {
	i.Helper()
	testkit.Eventually(i.T, "a certificate for "+name, func() (ok bool) {
		var err error
		serial, err = i.serial(name)
		return err == nil
	})
	return serial
}

// TestCertificatesAreObtained: by either challenge, through the gateway's own listeners, while these serve what they always do.
func TestCertificatesAreObtained(t *testing.T) {
	for _, kind := range []string{"http-01", "tls-alpn-01"} {
		t.Run(kind, func(t *testing.T) {
			i := startPebble(t, pebble.Options{}, "a.example.com", "b.example.com")
			i.more += ", challenges: [" + kind + "]"
			g := i.start("a.example.com", "b.example.com")
			if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/", i.plain)); got != "hello\n" {
				t.Errorf("the plain listener answers %q", got)
			}
			i.wait("a.example.com")
			i.wait("b.example.com")
			if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/.well-known/acme-challenge/x", i.plain)); got != "not here\n" {
				t.Errorf("a challenge that is none is answered %q", got)
			}
			if _, err := i.serial("c.example.com"); err == nil {
				t.Error("a name that is not configured has a certificate")
			}
			if strings.Contains(g.log.String(), `"level":"error"`) {
				t.Error(g.log.String())
			}
		})
	}
}

// TestARenewalDropsNothing: certificates are renewed while clients go on over the connections that they have, and new
// handshakes have the new one.
func TestARenewalDropsNothing(t *testing.T) {
	// After a renewal that failed, as when its gateway was closed, it is waited for a minute, by the name.
	name := fmt.Sprintf("renewed-%d.example.com", time.Now().UnixNano())
	i := startPebble(t, pebble.Options{Validity: 40 * time.Second}, name)
	i.more += ", renew_window: 0.97"
	i.start(name)
	first := i.wait(name)
	stop, requests := make(chan struct{}), atomic.Int64{}
	var clients sync.WaitGroup
	defer clients.Wait()
	defer func() { close(stop) }()
	trust := &tls.Config{ServerName: name, RootCAs: i.Roots()}
	for range 4 {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.secure), trust)
		if err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			defer conn.Close()
			for r := bufio.NewReader(conn); ; requests.Add(1) {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", name); err != nil {
					t.Error(err)
					return
				}
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Errorf("after %d requests: %v", requests.Load(), err)
					return
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "hello\n" || resp.Close {
					t.Errorf("answered %q, %v, close: %v", body, err, resp.Close)
					return
				}
			}
		})
	}
	seen := map[string]bool{first: true}
	testkit.Eventually(t, "two renewals", func() bool {
		serial, err := i.serial(name)
		if err != nil {
			t.Error(err)
		}
		seen[serial] = true
		return len(seen) >= 3 || t.Failed()
	})
	at := requests.Load()
	testkit.Eventually(t, "clients go on", func() bool { return requests.Load() > at+100 || t.Failed() })
}

// keptConn is a client's connection that tells whether the gateway was the one to end it.
type keptConn struct {
	net.Conn
	closed atomic.Bool
	ended  *atomic.Int64
}

func (h *keptConn) Read(b []byte) (int, error) {
	n, err := h.Conn.Read(b)
	if err != nil && !h.closed.Load() {
		h.ended.Add(1)
	}
	return n, err
}

func (h *keptConn) Close() error {
	h.closed.Store(true)
	return h.Conn.Close()
}

// TestARenewalKeepsConnections: clients of Go's net/http ask on, by connections that the gateway never ends, while certificates
// are renewed, and while the configuration is loaded anew. How many they make is theirs: net/http gives one up itself when its own
// goroutine that writes was not heard of within 50 ms, or when several requests at once leave more than it keeps.
func TestARenewalKeepsConnections(t *testing.T) {
	name := fmt.Sprintf("kept-%d.example.com", time.Now().UnixNano())
	i := startPebble(t, pebble.Options{Validity: 40 * time.Second}, name)
	i.more += ", renew_window: 0.97"
	g := i.start(name)
	seen := map[string]bool{i.wait(name): true}
	roots := i.Roots()
	stop, requests, ended := make(chan struct{}), atomic.Int64{}, atomic.Int64{}
	var clients sync.WaitGroup
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for range 3 {
			clients.Go(func() { i.askOn(version, name, roots, stop, &requests, &ended) })
		}
	}
	finish := sync.OnceFunc(func() { close(stop); clients.Wait() })
	defer finish()
	testkit.Eventually(t, "two renewals", func() bool {
		serial, err := i.serial(name)
		if err != nil {
			t.Error(err)
		}
		seen[serial] = true
		return len(seen) >= 3 || t.Failed()
	})
	for range 3 {
		c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(i.config(name))})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Reload(c); err != nil {
			t.Fatal(err)
		}
	}
	at := requests.Load()
	testkit.Eventually(t, "clients go on", func() bool { return requests.Load() > at+100 || t.Failed() })
	if finish(); ended.Load() != 0 {
		t.Errorf("the gateway has ended %d connections", ended.Load())
	}
}

// askOn asks one request after the other until stop.
func (i *issuing) askOn(version, name string, roots *x509.CertPool, stop chan struct{}, requests, ended *atomic.Int64) {
	var made atomic.Int64
	tr := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: version == "HTTP/2.0",
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			made.Add(1)
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", i.secure))
			return &keptConn{Conn: c, ended: ended}, err
		},
	}
	defer tr.CloseIdleConnections()
	trace := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{PutIdleConn: func(err error) {
		if err != nil {
			i.Logf("%s: net/http gives a connection up: %v", version, err)
		}
	}})
	for ; ; requests.Add(1) {
		select {
		case <-stop:
			if n := made.Load(); n != 1 {
				i.Logf("%s: a client has made %d connections", version, n)
			}
			return
		default:
		}
		r, err := http.NewRequestWithContext(trace, http.MethodGet, "https://"+name+"/", http.NoBody)
		if err != nil {
			i.Error(err)
			return
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			i.Errorf("%s: %v", version, err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(body) != "hello\n" || resp.Close || resp.Proto != version {
			i.Errorf("%s: answered %q by %s, %v, close: %v", version, body, resp.Proto, err, resp.Close)
			return
		}
	}
}

// TestARestartNeedsNoIssuer: what is stored is served from the first handshake on.
func TestARestartNeedsNoIssuer(t *testing.T) {
	i := startPebble(t, pebble.Options{}, "a.example.com")
	g := i.start("a.example.com")
	serial := i.wait("a.example.com")
	client := i.client() // knows the root
	defer client.CloseIdleConnections()
	g.Close()
	i.Stop()
	i.start("a.example.com", "b.example.com")
	resp, err := client.Get("https://a.example.com/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.TLS.PeerCertificates[0].SerialNumber.Text(16); got != serial || readAll(t, resp) != "hello\n" {
		t.Errorf("the certificate %s is served, and %s is stored", got, serial)
	}
}

// TestWithoutAnIssuer: others are served, handshakes for the name fail, the log says why; and it is obtained as soon as the
// issuer is there.
func TestWithoutAnIssuer(t *testing.T) {
	i := startPebble(t, pebble.Options{}, "a.example.com")
	i.Stop()
	g := i.start("a.example.com")
	if got := get(t, fmt.Sprintf("http://127.0.0.1:%d/", i.plain)); got != "hello\n" {
		t.Errorf("the plain listener answers %q", got)
	}
	_, err := tls.Dial("tcp", g.addr.String(), &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
	if err == nil {
		t.Error("a handshake without a certificate succeeds")
	}
	testkit.Eventually(t, "the log says why", func() bool {
		log := g.log.String()
		return strings.Contains(log, `"message":"a certificate cannot be obtained: handshakes for the name fail until it is there"`) && strings.Contains(log, "connection refused") &&
			strings.Contains(log, `"message":"a handshake failed: the certificate of the name is not there yet"`)
	})
	i.Again()
	i.wait("a.example.com")
}

// TestNamesAreReloaded: names come and go, and settings change, while the gateway runs.
func TestNamesAreReloaded(t *testing.T) {
	i := startPebble(t, pebble.Options{}, "a.example.com", "b.example.com")
	g := i.start("a.example.com")
	reload := func(text string) error {
		c, _, err := config.Load(config.Source{File: "test.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return g.Reload(c)
	}
	a := i.wait("a.example.com")
	if err := reload(i.config("b.example.com")); err != nil {
		t.Fatal(err)
	}
	i.wait("b.example.com")
	if _, err := i.serial("a.example.com"); err == nil {
		t.Error("a name that went is served")
	}
	was := i.config("a.example.com")
	i.more += ", key_type: p384"
	if err := reload(i.config("b.example.com", "a.example.com")); err != nil {
		t.Fatal(err)
	}
	if now, err := i.serial("a.example.com"); err != nil || now != a {
		t.Errorf("what is stored is not served at once: %s %v", now, err)
	}
	// A folder that cannot be used changes nothing.
	good := i.storage
	i.storage = filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(i.storage, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := reload(i.config("a.example.com")); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("a folder that others can read: %v", err)
	}
	i.storage = good
	if _, err := i.serial("b.example.com"); err != nil {
		t.Error(err)
	}
	if err := reload(was); err != nil {
		t.Error(err)
	}
	i.wait("a.example.com")
}

// TestWithoutAStartNothingIsObtained: who only asks a gateway what it would do has no folder made, and asks no issuer.
func TestWithoutAStartNothingIsObtained(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "acme")
	c := load(t, "acme: { agree: true, directory: 'https://127.0.0.1:1/dir', storage: '"+dir+"' }\nlisteners: [{ address: '127.0.0.1:0', tls: { acme: a.example.com } }]\nroutes: [{ respond: { status: 200 } }]\n")
	g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	g.Close()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}
