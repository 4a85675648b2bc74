package observability

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const patience = 30 * time.Second

// binaryDir is the folder of the gateway's program once there is one; TestMain removes it.
var binaryDir string

var binary = sync.OnceValues(func() (path string, err error) {
	if binaryDir, err = os.MkdirTemp("", "wasmgate-observability-"); err != nil {
		return "", err
	}
	path = filepath.Join(binaryDir, "wasmgate")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the gateway: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// gateway is one that runs, in front of a service that answers, one that fails, one that is gone, and with a plugin that traps.
type gateway struct {
	*testing.T
	public, secure, bytes, admin string // addresses
	hold                         chan struct{}
	holding                      chan struct{}
}

func startGateway(t *testing.T) *gateway {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{T: t, public: freeAddr(t), secure: freeAddr(t), bytes: freeAddr(t), admin: freeAddr(t), hold: make(chan struct{}), holding: make(chan struct{}, 1)}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		switch r.URL.Path {
		case "/broken":
			w.WriteHeader(http.StatusInternalServerError)
		case "/hold":
			g.holding <- struct{}{}
			<-g.hold
		case "/text":
			w.Header().Set("Content-Type", "text/plain")
			_, _ = io.WriteString(w, strings.Repeat("text ", 1000))
		case "/tunnel":
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(c, c)
		}
	}))
	t.Cleanup(service.Close)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(collector.Close)
	hostile, err := filepath.Abs("../../runtime/gateway/testdata/hostile.wasm")
	if err != nil {
		t.Fatal(err)
	}
	certificate, key := newCertificate(t)
	_, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	config := filepath.Join(t.TempDir(), "wasmgate.yaml")
	text := fmt.Sprintf(`
loops: 1
listeners:
  - { name: public, address: %q }
  - { name: secure, address: %q, http3: { enabled: true }, tls: { certificates: [{ cert: %q, key: %q, default: true }] } }
  - { name: bytes, address: %q, mode: tcp, upstream: app }
upstreams:
  app: { targets: ["http://localhost:%s"], pool: { max_connections: 1, acquire_timeout: 20s, idle_timeout: 60s } }
  gone: { targets: ["http://%s", "http://%s"] }
plugins:
  trap: { module: %q, config: trap, state: [notes] }
routes:
  - { name: trap, match: { path_prefix: /trap }, plugins: [trap], upstream: app }
  - { name: gone, match: { path_prefix: /gone }, upstream: gone }
  - { name: text, match: { path: /text }, upstream: app, compression: { encodings: [gzip] } }
  - { name: all, upstream: app }
telemetry:
  traces: { endpoint: %q, sample: 0 }
  access_log: { output: "off" }
admin: { address: %q }
plugin_cache: { dir: "off" }
`, g.public, g.secure, certificate, key, g.bytes, port, freeAddr(t), freeAddr(t), hostile, collector.URL, g.admin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, path, "run", "-c", config)
	eventually(t, "the gateway is ready", func() bool {
		resp, err := http.Get("http://" + g.admin + "/readyz")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	return g
}

// program starts one, and ends it with the test.
func program(t *testing.T, path string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), output.Bytes())
		}
	})
}

// given are the ports that freeAddr has given out.
var given = map[int]bool{}

// freeAddr is an address that nobody listens at, with a port of those that systems do not give to clients, and that tests of other
// packages do not take.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 1000 {
		port := 16_000 + mathrand.IntN(2000)
		if given[port] {
			continue
		}
		l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		given[port] = true
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// eventually waits for a fact that another process brings about and that can only be asked for.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass that %s", what)
		}
	}
}

// get asks the gateway, as somebody whose request is traced if trace is not empty, and returns the status.
func (g *gateway) get(path, trace string) int {
	g.Helper()
	req, _ := http.NewRequest(http.MethodGet, "http://"+g.public+path, nil)
	if trace != "" {
		req.Header.Set("Traceparent", "00-"+trace+"-1122334455667788-01")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.Error(err)
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// live has everything happen once that panels and alerts are about: requests that go well and that fail, a service that is gone
// and is tried again, a plugin that traps, a queue, a session. Requests that go well are of this trace.
func (g *gateway) live(trace string) {
	g.Helper()
	for path, status := range map[string]int{"/": 200, "/broken": 500, "/gone": 502, "/trap": 500} {
		own := ""
		if status == 200 {
			own = trace
		}
		if got := g.get(path, own); got/100 != status/100 {
			g.Fatalf("%s: status %d", path, got)
		}
	}
	var queue sync.WaitGroup
	queue.Go(func() { g.get("/hold", "") })
	<-g.holding
	queue.Go(func() { g.get("/", trace) })
	eventually(g.T, "a request waits for a connection", func() bool {
		return value(g.scrape(false)["wasmgate_pool_waiting"], "upstream", "app") == 1
	})
	g.hold <- struct{}{}
	queue.Wait()
	if got := g.get("/text", ""); got != 200 { // compressed: the client takes gzip
		g.Fatalf("/text: status %d", got)
	}
	g.session()
	g.tunnel()
	g.handshake()
}

// tunnel is a WebSocket.
func (g *gateway) tunnel() {
	ended := func() float64 { return value(g.scrape(false)["wasmgate_tunnels_total"], "protocol", "websocket") }
	before := ended()
	c, err := net.Dial("tcp", g.public)
	if err != nil {
		g.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 101 {
		g.Fatalf("%v, %v", resp, err)
	}
	c.Close()
	eventually(g.T, "the tunnel has ended", func() bool { return ended() > before })
}

// handshake is one with the listener that speaks TLS.
func (g *gateway) handshake() {
	done := func() float64 { return value(g.scrape(false)["wasmgate_tls_handshakes_total"], "listener", "secure") }
	before := done()
	c, err := tls.Dial("tcp", g.secure, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a handshake is all that is wanted
	if err != nil {
		g.Fatal(err)
	}
	c.Close()
	eventually(g.T, "the handshake is counted", func() bool { return done() > before })
}

// newCertificate writes a certificate that signs itself, and its key.
func newCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("a.pem", "CERTIFICATE", signed), write("a.key", "PRIVATE KEY", der)
}

// session is one of TCP mode.
func (g *gateway) session() {
	ended := func() float64 { return value(g.scrape(false)["wasmgate_sessions_total"], "listener", "bytes") }
	before := ended()
	c, err := net.Dial("tcp", g.bytes)
	if err != nil {
		g.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		g.Fatalf("%q, %v", b, err)
	}
	c.Close()
	eventually(g.T, "the session is counted", func() bool { return ended() > before })
}

// scrape reads the metrics as Prometheus does: with native histograms or without.
func (g *gateway) scrape(native bool) map[string]*dto.MetricFamily {
	g.Helper()
	req, _ := http.NewRequest(http.MethodGet, "http://"+g.admin+"/metrics", nil)
	if native {
		req.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		g.Fatal(err)
	}
	defer resp.Body.Close()
	model.NameValidationScheme = model.LegacyValidation //nolint:staticcheck // what the decoder looks at
	all := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(resp.Body, expfmt.ResponseFormat(resp.Header))
	for {
		f := &dto.MetricFamily{}
		switch err := d.Decode(f); err {
		case nil:
			all[f.GetName()] = f
		case io.EOF:
			return all
		default:
			g.Fatal(err)
		}
	}
}

// value is the sum of the samples with this label.
func value(f *dto.MetricFamily, name, is string) (sum float64) {
	for _, m := range f.GetMetric() {
		for _, l := range m.Label {
			if l.GetName() == name && l.GetValue() == is {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	return sum
}
