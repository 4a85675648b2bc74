package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	upstreamName  = "users.test" // known to the test's name server only
	dnsTTL        = time.Minute
	clientSpan    = "1122334455667788"
	attrSpanKind  = "span.kind"
	spanDNS       = "dns.lookup"
	spanConnect   = "tcp.connect"
	attrKept      = "wasmgate.kept"
	brokenPath    = "/broken" // which the upstream answers with 500
	gatewaySource = "../.."
)

var gatewayBinary = sync.OnceValues(func() (string, error) { return BuildGateway(context.Background()) })

// TestGatewayTraces sends two requests through a gateway with wasmgate.yaml and reads in Jaeger what
// happened to its upstream connection.
func TestGatewayTraces(t *testing.T) {
	j := theJaeger(t)
	// Each with a trace of its own: Jaeger would make one of two with the same id.
	for protocol, clientTrace := range map[string]string{"http": "11223344556677889900aabbccddeeff", "grpc": "ffeeddccbbaa00998877665544332211"} {
		t.Run(protocol, func(t *testing.T) { testGatewayTraces(t, j, protocol, clientTrace) })
	}
}

func testGatewayTraces(t *testing.T, j *Jaeger, protocol, clientTrace string) {
	api := NewAPI(j.Ports.QueryURL())
	up := startUpstream(t)
	service := "wasmgate-" + protocol
	gw := startGateway(t, j, up, protocol, service, "1.0")

	get(t, gw, "/first", nil)
	get(t, gw, "/second", http.Header{"Traceparent": {"00-" + clientTrace + "-" + clientSpan + "-01"}})

	setup := []string{spanConnect} // its name was looked up when the gateway started
	if protocol == "grpc" {
		setup = []string{spanDNS, spanConnect} // with the request that named it
	}
	c := connectionWithUses(t, api, service, len(setup), 2)
	checkConnection(t, c, up, setup)
	first, second := c.uses[0], c.uses[1]
	checkUse(t, first, c, up, 1, false)
	checkUse(t, second, c, up, 2, true)
	checkLinkV3(t, api, first.attempt.TraceID, first.attempt.SpanID, c.root.TraceID)

	if second.attempt.TraceID != clientTrace {
		t.Errorf("the second request's trace is %s, not the client's %s", second.attempt.TraceID, clientTrace)
	}
	for i, u := range c.uses {
		want := "00-" + u.attempt.TraceID + "-" + u.attempt.SpanID + "-01"
		if got := up.seen(i); got != want {
			t.Errorf("request %d: the upstream was given traceparent %q, want %q", i+1, got, want)
		}
	}

	stop(t, gw)
	eventually(t, "the end of the connection in Jaeger", func() (bool, string) {
		c = connectionWithUses(t, api, service, len(setup), 2)
		for _, s := range c.segments {
			if n, _ := s.Int(attrRequests); text(&s, attrWhyClosed) == "shutdown" && n == 2 {
				return true, ""
			}
		}
		return false, fmt.Sprintf("%d segments, none closed by the shutdown after 2 requests", len(c.segments))
	})
}

// TestTheReadmesOwnGateway is wasmgate.yaml as it is, but for the ports: its upstream is Jaeger itself, which keeps
// connections, so that the second request reuses the first one's.
func TestTheReadmesOwnGateway(t *testing.T) {
	j := theJaeger(t)
	service := fmt.Sprint("wasmgate-readme-", time.Now().UnixNano())
	file := filepath.Join(t.TempDir(), "wasmgate.yaml")
	config := replaceEach(t, "wasmgate.yaml", map[string]string{
		`"127.0.0.1:8080"`: `"127.0.0.1:0"`, `"127.0.0.1:9901"`: `"127.0.0.1:0"`, `service_name: wasmgate`: "service_name: " + service,
		`"http://localhost:4318"`: strconv.Quote(j.Ports.OTLPURL()), `"http://localhost:16686"`: strconv.Quote(fmt.Sprintf("http://localhost:%d", j.Ports.Query)),
	})
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	g := runGateway(t, file)
	for range 2 {
		if status, body, err := NewAPI(g.URL).Get(t.Context(), "/api/services"); err != nil || status != http.StatusOK || !strings.Contains(string(body), `"data"`) {
			t.Fatalf("status %d, %q, %v", status, body, err)
		}
	}
	c := connectionWithUses(t, NewAPI(j.Ports.QueryURL()), service, 1, 2)
	for i, u := range c.uses {
		if got := text(&u.attempt, attrConnOrdinal); got != strconv.Itoa(i+1) {
			t.Errorf("request %d: ordinal %s", i+1, got)
		}
	}
	stop(t, g)
}

// TestGatewayKeepsErrors samples nothing: in Jaeger there is the one request that failed, with its attempt and the link to the
// connection, although another one had opened that; the upstream was told that it is not sampled, by the ids that are there.
func TestGatewayKeepsErrors(t *testing.T) {
	j := theJaeger(t)
	api := NewAPI(j.Ports.QueryURL())
	up := startUpstream(t)
	const service = "wasmgate-errors"
	gw := startGateway(t, j, up, "http", service, "0")
	get(t, gw, "/first", nil)
	res, err := http.Get(gw.URL + brokenPath)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusInternalServerError {
		t.Fatalf("status %d", res.StatusCode)
	}
	c := connectionWithUses(t, api, service, 1, 1)
	u := c.uses[0]
	for key, want := range map[string]string{attrKept: "error", attrStatus: "500", attrSpanKind: "server"} {
		if got := text(&u.request, key); got != want {
			t.Errorf("the request: %s is %s, want %s", key, got, want)
		}
	}
	for key, want := range map[string]string{attrKept: "error", attrConnOrdinal: "2", attrConnReused: "true", attrConnID: text(&c.root, attrConnID)} {
		if got := text(&u.attempt, key); got != want {
			t.Errorf("the attempt: %s is %s, want %s", key, got, want)
		}
	}
	if want, got := "00-"+u.attempt.TraceID+"-"+u.attempt.SpanID+"-00", up.seen(1); got != want {
		t.Errorf("the upstream was given traceparent %q, want %q", got, want)
	}
	stop(t, gw)
}

// connectionWithUses waits for the service's one connection, so many spans of how it was set up, and n requests that link to it.
func connectionWithUses(t *testing.T, api *API, service string, setup, n int) *connection {
	t.Helper()
	var found *connection
	eventually(t, "the connection and its requests in Jaeger", func() (bool, string) {
		opened, err := api.Traces(t.Context(), service, spanConnection, 100)
		if err != nil {
			t.Fatal(err)
		}
		all, err := api.Traces(t.Context(), service, "", 100)
		if err != nil {
			t.Fatal(err)
		}
		conns := connections(opened, all)
		if len(conns) != 1 {
			return false, fmt.Sprintf("%d connections, %d traces", len(conns), len(all))
		}
		found = conns[0]
		whole := len(found.uses) == n && len(found.setup) >= setup
		for _, u := range found.uses { // a trace may be there without all of its spans yet
			whole = whole && u.request.SpanID != u.attempt.SpanID
		}
		return whole, found.describe()
	})
	return found
}

func checkConnection(t *testing.T, c *connection, up *upstream, setup []string) {
	t.Helper()
	if p := c.root.Parent(); p != "" {
		t.Errorf("the connection's span has a parent %s: it is to be the root of a trace of its own", p)
	}
	for key, want := range map[string]string{
		attrUpstream: "jaeger", attrWhyOpened: "first", attrServer: upstreamName,
		attrPeerAddress: "127.0.0.1", attrPeerPort: strconv.Itoa(up.port),
	} {
		if got := text(&c.root, key); got != want {
			t.Errorf("connection: %s is %s, want %s", key, got, want)
		}
	}
	if id, ok := c.root.Int(attrConnID); !ok || id == 0 {
		t.Errorf("connection: %s is %s", attrConnID, text(&c.root, attrConnID))
	}
	var names []string
	for _, s := range c.setup {
		names = append(names, s.OperationName)
		if s.OperationName == spanDNS && !strings.HasPrefix(text(&s, attrQuestion), upstreamName) {
			t.Errorf("%s is %s, want %s", attrQuestion, text(&s, attrQuestion), upstreamName)
		}
		if s.StartTime < c.root.StartTime || s.StartTime+s.Duration > c.root.StartTime+c.root.Duration+1 {
			t.Errorf("%s is not within its parent's time", s.OperationName)
		}
	}
	if !slices.Equal(names, setup) {
		t.Errorf("the connection's children are %v, want %v", names, setup)
	}
	if age, ok := c.root.Float(attrDNSAge); !ok || age < 0 {
		t.Errorf("connection: %s is %s", attrDNSAge, text(&c.root, attrDNSAge))
	}
}

func checkUse(t *testing.T, u use, c *connection, up *upstream, ordinal int64, reused bool) {
	t.Helper()
	for key, want := range map[string]string{
		attrConnID: text(&c.root, attrConnID), attrConnOrdinal: strconv.FormatInt(ordinal, 10), attrConnReused: strconv.FormatBool(reused),
		attrPeerAddress: "127.0.0.1", attrPeerPort: strconv.Itoa(up.port), attrStatus: "200", attrSpanKind: "client",
	} {
		if got := text(&u.attempt, key); got != want {
			t.Errorf("request %d: %s is %s, want %s", ordinal, key, got, want)
		}
	}
	numbers := map[string]bool{attrPoolWait: !reused, attrDNSAge: false, attrConnAge: reused, attrConnIdle: reused}
	for key, positive := range numbers {
		if n, ok := u.attempt.Float(key); !ok || n < 0 || positive && n == 0 {
			t.Errorf("request %d: %s is %s", ordinal, key, text(&u.attempt, key))
		}
	}
	if len(u.attempt.Links()) != 1 || u.attempt.Links()[0].SpanID != c.root.SpanID {
		t.Errorf("request %d: the attempt's links are %v, want one to the connection's root %s", ordinal, u.attempt.Links(), c.root.SpanID)
	}
	if u.attempt.Parent() != u.request.SpanID || text(&u.request, attrSpanKind) != "server" {
		t.Errorf("request %d: the attempt's parent is %s, want the server span %s", ordinal, u.attempt.Parent(), u.request.SpanID)
	}
}

// startGateway starts wasmgate with the first configuration of the README, its addresses replaced. With gRPC, which is the
// difference in nothing else, the route names the upstream's address, so that its name is looked up with the first request.
func startGateway(t *testing.T, j *Jaeger, up *upstream, protocol, service, sample string) *Gateway {
	t.Helper()
	endpoint := `"` + j.Ports.OTLPURL() + `"`
	target := fmt.Sprintf("%s:%d", upstreamName, up.port)
	targets, route := fmt.Sprintf("targets: [\"http://%s\"]", target), "upstream: jaeger\n"
	if protocol == "grpc" {
		targets, route = fmt.Sprintf("dynamic: { allow: [%q] }", target), fmt.Sprintf("upstream: jaeger\n    authority: %q\n", target)
		endpoint = fmt.Sprintf(`"http://127.0.0.1:%d", protocol: grpc`, j.Ports.OTLPGRPC)
	}
	file := filepath.Join(t.TempDir(), "wasmgate.yaml")
	config := replaceEach(t, "wasmgate.yaml", map[string]string{
		`"127.0.0.1:8080"`:                    `"127.0.0.1:0"`,
		`"127.0.0.1:9901"`:                    `"127.0.0.1:0"`,
		`"http://localhost:4318"`:             endpoint,
		`service_name: wasmgate`:              "service_name: " + service,
		`sample: 1.0`:                         "sample: " + sample,
		`targets: ["http://localhost:16686"]`: fmt.Sprintf("%s\n    dns: { server: %q }", targets, up.names.Addr()),
		"upstream: jaeger\n":                  route,
	})
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return runGateway(t, file)
}

// runGateway starts the gateway with a configuration; it ends with the test.
func runGateway(t *testing.T, file string, env ...string) *Gateway {
	t.Helper()
	if _, err := os.Stat(filepath.Join(gatewaySource, "main.go")); err != nil {
		missing(t, "the gateway's main package")
	}
	program, err := gatewayBinary()
	if err != nil {
		t.Fatal(err)
	}
	g, err := StartGateway(context.Background(), program, file, env...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = g.cmd.Process.Kill()
		<-g.ended
		if t.Failed() {
			t.Logf("the gateway's log:\n%s", &g.log)
		}
	})
	return g
}

// replaceEach returns a file's text with each key replaced, which must be there exactly once.
func replaceEach(t *testing.T, file string, by map[string]string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	for old, now := range by {
		if n := strings.Count(text, old); n != 1 {
			t.Fatalf("%s has %q %d times, want it once", file, old, n)
		}
		text = strings.Replace(text, old, now, 1)
	}
	return text
}

func get(t *testing.T, g *Gateway, path string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || string(body) != "you asked for "+path {
		t.Fatalf("GET %s: status %d, body %q, %v", path, res.StatusCode, body, err)
	}
}

// stop asks the gateway to end, and waits until it has.
func stop(t *testing.T, g *Gateway) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	if err := g.Stop(); err != nil {
		t.Errorf("the gateway ended with %v", err)
	}
}

// upstream is an HTTP server, and the name server that knows it.
type upstream struct {
	port  int
	names *Names

	mu           sync.Mutex
	traceparents []string
}

func (u *upstream) seen(i int) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if i >= len(u.traceparents) {
		return ""
	}
	return u.traceparents[i]
}

func startUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.traceparents = append(u.traceparents, r.Header.Get("Traceparent"))
		u.mu.Unlock()
		if r.URL.Path == brokenPath {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprintf(w, "you asked for %s", r.URL.Path)
	}))
	t.Cleanup(s.Close)
	u.port = s.Listener.Addr().(*net.TCPAddr).Port

	names, err := NewNames(0, dnsTTL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Close)
	names.Set(upstreamName, netip.MustParseAddr("127.0.0.1"))
	u.names = names
	return u
}

// TestNames has Go's own resolver read what the name server of the tour says.
func TestNames(t *testing.T) {
	u := startUpstream(t)
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", u.names.Addr())
	}}
	addrs, err := r.LookupHost(t.Context(), upstreamName+".")
	if err != nil || !slices.Equal(addrs, []string{"127.0.0.1"}) {
		t.Fatalf("%v, %v", addrs, err)
	}
	u.names.Set(upstreamName, netip.IPv6Loopback())
	if addrs, err = r.LookupHost(t.Context(), strings.ToUpper(upstreamName)+"."); err != nil || !slices.Equal(addrs, []string{"::1"}) {
		t.Fatalf("after a change: %v, %v", addrs, err)
	}
	var none *net.DNSError
	if addrs, err = r.LookupHost(t.Context(), "nobody.test."); !errors.As(err, &none) || !none.IsNotFound {
		t.Fatalf("of nobody: %v, %v", addrs, err)
	}
}
