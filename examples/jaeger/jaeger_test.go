package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience bounds every wait for another process. It is long because the machine may be busy; no test waits it out
// unless something is wrong.
const patience = 60 * time.Second

var running struct {
	once   sync.Once
	path   string // of the program
	jaeger *Jaeger
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if running.jaeger != nil {
		_ = running.jaeger.Stop()
	}
	os.Exit(code)
}

// theJaeger builds Jaeger and starts it, once for all tests.
func theJaeger(t *testing.T) *Jaeger {
	t.Helper()
	need(t, "go")
	running.once.Do(func() {
		path, err := Build(context.Background(), os.Stderr)
		if err != nil {
			running.err = err
			return
		}
		running.path = path
		p := freePorts(t, 4)
		running.jaeger, running.err = Start(context.Background(), path, Ports{OTLPHTTP: p[0], OTLPGRPC: p[1], Query: p[2], QueryGRPC: p[3]})
	})
	if running.jaeger == nil {
		missing(t, "a Jaeger built from the Go module proxy: "+running.err.Error())
	}
	return running.jaeger
}

// missing skips a test for want of something that is not part of Go; where everything shall be there, it fails.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("WASMGATE_TEST_ALL") == "1" {
		t.Fatal("missing: " + what)
	}
	t.Skip("missing: " + what)
}

func need(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		missing(t, tool)
	}
}

// freePorts are ports that nobody listens on, of those that systems do not give to clients, and that the tests of other packages do
// not take: what is stopped can be started again on the same.
func freePorts(t *testing.T, n int) []int {
	t.Helper()
	var ports []int
	for tries := 0; len(ports) < n; tries++ {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(12_000+rand.IntN(4000))))
		if err != nil {
			if tries > 1000 {
				t.Fatal(err)
			}
			continue
		}
		defer l.Close() // together at the end, so that no port comes twice
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

// eventually asks again and again until ok, or fails with what was last seen.
func eventually(t *testing.T, what string, ask func() (ok bool, seen string)) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		ok, seen := ask()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s; last seen: %s", what, patience, seen)
		}
	}
}

// The ids of the spans made by hand.
const (
	handConnTrace    = "0af7651916cd43dd8448eb211c80319c"
	handConnSpan     = "b7ad6b7169203331"
	handRequestTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
	handServerSpan   = "00f067aa0ba902b7"
	handAttemptSpan  = "53995c3f42cd8ad8"
	handService      = "by-hand"
	handConnID       = "9007199254740993" // one more than a float64 can count to
)

type object = map[string]any

func handSpan(trace, id, parent, name string, kind int, from, to time.Time, attributes ...object) object {
	return object{
		"traceId": trace, "spanId": id, "parentSpanId": parent, "name": name, "kind": kind,
		"startTimeUnixNano": strconv.FormatInt(from.UnixNano(), 10), "endTimeUnixNano": strconv.FormatInt(to.UnixNano(), 10),
		"attributes": attributes,
	}
}

func attr(key, kind string, value any) object {
	return object{"key": key, "value": object{kind: value}}
}

// handMade is a connection's trace and a request's that links to it, in OTLP's JSON encoding.
func handMade(now time.Time) object {
	at := func(ms int) time.Time { return now.Add(time.Duration(ms) * time.Millisecond) }
	const internal, server, client = 1, 2, 3
	attempt := handSpan(handRequestTrace, handAttemptSpan, handServerSpan, "GET", client, at(4), at(9),
		attr(attrConnID, "intValue", handConnID), attr(attrConnOrdinal, "intValue", "2"), attr(attrConnReused, "boolValue", true),
		attr(attrConnAge, "doubleValue", 1.5), attr(attrConnIdle, "doubleValue", 0.25), attr(attrPoolWait, "doubleValue", 0.000002),
		attr(attrStatus, "intValue", "200"))
	attempt["links"] = []object{{"traceId": handConnTrace, "spanId": handConnSpan, "attributes": []object{attr("relation", "stringValue", "uses")}}}
	spans := []object{
		handSpan(handConnTrace, handConnSpan, "", spanConnection, client, at(0), at(3),
			attr(attrConnID, "intValue", handConnID), attr(attrUpstream, "stringValue", "users"), attr(attrWhyOpened, "stringValue", "first"),
			attr(attrServer, "stringValue", "users.test"), attr(attrServerPort, "intValue", "80"),
			attr(attrPeerAddress, "stringValue", "192.0.2.7"), attr(attrPeerPort, "intValue", "80")),
		handSpan(handConnTrace, "b7ad6b7169203332", handConnSpan, "dns.lookup", internal, at(0), at(1)),
		handSpan(handConnTrace, "b7ad6b7169203333", handConnSpan, "tcp.connect", internal, at(1), at(3)),
		handSpan(handRequestTrace, handServerSpan, "", "GET /users", server, at(4), at(10), attr(attrPath, "stringValue", "/users/0042")),
		attempt,
	}
	return object{"resourceSpans": []object{{
		"resource":   object{"attributes": []object{attr("service.name", "stringValue", handService)}},
		"scopeSpans": []object{{"scope": object{"name": "hand"}, "spans": spans}},
	}}}
}

// TestJaegerIsReal sends spans made by hand and reads them back, with nothing of the gateway in between: what the other
// tests see is then the gateway's doing.
func TestJaegerIsReal(t *testing.T) {
	j := theJaeger(t)
	body, err := json.Marshal(handMade(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(j.Ports.OTLPURL()+"/v1/traces", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("POST /v1/traces: status %d", res.StatusCode)
	}
	api := NewAPI(j.Ports.QueryURL())
	var request, conn Trace
	eventually(t, "both traces in Jaeger", func() (bool, string) {
		for id, to := range map[string]*Trace{handRequestTrace: &request, handConnTrace: &conn} {
			traces, err := api.Trace(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if len(traces) != 1 {
				return false, "no trace " + id
			}
			*to = traces[0]
		}
		return len(request.Spans) == 2 && len(conn.Spans) == 3, "traces with spans missing"
	})

	attempt := spanNamed(t, request, "GET")
	if got := attempt.Parent(); got != handServerSpan {
		t.Errorf("the attempt's parent is %q, not the server span", got)
	}
	if links := attempt.Links(); len(links) != 1 || links[0].TraceID != handConnTrace || links[0].SpanID != handConnSpan {
		t.Errorf("the attempt's links are %v, not one to the connection", links)
	}
	for key, want := range map[string]string{attrConnID: handConnID, attrConnOrdinal: "2", attrConnReused: "true", attrConnIdle: "0.25"} {
		if got := text(&attempt, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if r := root(conn); r.OperationName != spanConnection {
		t.Errorf("the connection's root is %q", r.OperationName)
	}
	checkLinkV3(t, api, handRequestTrace, handAttemptSpan, handConnTrace)

	var out strings.Builder
	if err := Look(t.Context(), api, handService, 100, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"connection " + handConnID + " to users: users.test:80 → 192.0.2.7:80\n",
		"because: first, dns.lookup 1ms, tcp.connect 2ms\n",
		"#2 GET /users /users/0042 200 in 5ms: reused it at age 1.5s after 250ms idle, waited 2µs for it (trace " + handRequestTrace + ")\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("look does not print %q but:\n%s", want, &out)
		}
	}
}

func spanNamed(t *testing.T, tr Trace, name string) Span {
	t.Helper()
	for _, s := range tr.Spans {
		if s.OperationName == name {
			return s
		}
	}
	t.Fatalf("trace %s has no span %q", tr.TraceID, name)
	return Span{}
}

// checkLinkV3 sees a link through the other API as well, the one with OpenTelemetry's own data model.
func checkLinkV3(t *testing.T, api *API, trace, span, linked string) {
	t.Helper()
	status, body, err := api.Get(t.Context(), "/api/v3/traces/"+trace)
	if err != nil || status != http.StatusOK {
		t.Fatalf("/api/v3/traces/%s: status %d, %v", trace, status, err)
	}
	var answer struct {
		Result struct {
			ResourceSpans []struct {
				ScopeSpans []struct {
					Spans []struct {
						SpanID string
						Links  []struct{ TraceID, SpanID string }
					}
				}
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	for _, r := range answer.Result.ResourceSpans {
		for _, sc := range r.ScopeSpans {
			for _, s := range sc.Spans {
				if s.SpanID != span {
					continue
				}
				if len(s.Links) != 1 || s.Links[0].TraceID != linked {
					t.Errorf("api v3: span %s has links %v, want one to trace %s", span, s.Links, linked)
				}
				return
			}
		}
	}
	t.Errorf("api v3: trace %s has no span %s", trace, span)
}

// TestLookNeedsNothing: without connections there is a sentence, and without Jaeger an error that says so.
func TestLookNeedsNothing(t *testing.T) {
	j := theJaeger(t)
	var out strings.Builder
	if err := Look(t.Context(), NewAPI(j.Ports.QueryURL()), "nobody", 10, &out); err != nil || !strings.Contains(out.String(), "no upstream connection") {
		t.Errorf("look for an unknown service: %q, %v", &out, err)
	}
	closed := NewAPI("http://127.0.0.1:" + strconv.Itoa(freePorts(t, 1)[0]))
	if err := Look(t.Context(), closed, "nobody", 10, &out); err == nil || !strings.Contains(err.Error(), "is Jaeger running?") {
		t.Errorf("look without Jaeger: %v", err)
	}
}
