package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var traceURL = regexp.MustCompile(`(http://127\.0\.0\.1:\d+)/trace/([0-9a-f]{32})\n`)

// play plays a situation of the tour as its command does, and returns the traces that it says to look at, as Jaeger has them.
func play(t *testing.T, name string, traces int) []Trace {
	t.Helper()
	j := theJaeger(t)
	var out, errs bytes.Buffer
	args := []string{"-otlp-http", strconv.Itoa(j.Ports.OTLPHTTP), "-query", strconv.Itoa(j.Ports.Query), "tour", name}
	if err := command(t.Context(), args, &out, &errs); err != nil {
		t.Fatalf("%v\n%s%s", err, &out, &errs)
	}
	t.Logf("%s", &out)
	var list []Trace
	for _, m := range traceURL.FindAllStringSubmatch(out.String(), -1) {
		if m[1] != j.Ports.QueryURL() {
			t.Errorf("%s is no address of Jaeger's", m[0])
		}
		found, err := NewAPI(j.Ports.QueryURL()).Trace(t.Context(), m[2])
		if err != nil || len(found) != 1 {
			t.Fatalf("trace %s: %d, %v", m[2], len(found), err)
		}
		slices.SortStableFunc(found[0].Spans, byStart)
		list = append(list, found[0])
	}
	if len(list) != traces {
		t.Fatalf("it says to look at %d traces, want %d", len(list), traces)
	}
	return list
}

// of are a trace's spans of a service and, if kind is not empty, of that kind, in the order of their starts.
func (tr Trace) of(service, kind string) (list []Span) {
	for _, s := range tr.Spans {
		if got, _ := s.Tag(attrSpanKind); tr.Processes[s.ProcessID].ServiceName == service && (kind == "" || got == kind) {
			list = append(list, s)
		}
	}
	return list
}

// named are a trace's spans of a name.
func (tr Trace) named(name string) (list []Span) {
	for _, s := range tr.Spans {
		if s.OperationName == name {
			list = append(list, s)
		}
	}
	return list
}

func one(t *testing.T, list []Span, what string) Span {
	t.Helper()
	if len(list) != 1 {
		t.Fatalf("%d %s, want one", len(list), what)
	}
	return list[0]
}

func wantTags(t *testing.T, s Span, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := text(&s, key); got != value {
			t.Errorf("%s: %s is %s, want %s", s.OperationName, key, got, value)
		}
	}
}

func wantLink(t *testing.T, from Span, to Trace) {
	t.Helper()
	r := root(to)
	if l := from.Links(); len(l) != 1 || l[0].TraceID != to.TraceID || l[0].SpanID != r.SpanID || r.OperationName != spanConnection {
		t.Errorf("the links of %s are %v, want one to %s %s of trace %s", from.OperationName, l, r.OperationName, r.SpanID, to.TraceID)
	}
}

// event is the event of a span with this name, if it has one.
func (s *Span) event(name string) (fields []Tag) {
	for _, l := range s.Logs {
		if got, _ := tag(l.Fields, "event"); got == name {
			return l.Fields
		}
	}
	return nil
}

// wantWhole: visitor, gateway and shop are one trace, each below the other.
func wantWhole(t *testing.T, tr Trace, status string) (server Span, attempts []Span) {
	t.Helper()
	visitor, server := one(t, tr.of(serviceVisitor, "client"), "spans of the visitor"), one(t, tr.of("wasmgate", "server"), "requests")
	if visitor.Parent() != "" || server.Parent() != visitor.SpanID {
		t.Errorf("the request's parent is %s, want the visitor's %s", server.Parent(), visitor.SpanID)
	}
	wantTags(t, visitor, map[string]string{attrStatus: status})
	wantTags(t, server, map[string]string{attrStatus: status})
	attempts = tr.of("wasmgate", "client")
	for _, a := range attempts {
		if a.Parent() != server.SpanID {
			t.Errorf("an attempt's parent is %s, want the request's %s", a.Parent(), server.SpanID)
		}
	}
	if status != "200" {
		return server, attempts
	}
	if shop := one(t, tr.of(serviceShop, "server"), "spans of the shop"); shop.Parent() != attempts[len(attempts)-1].SpanID {
		t.Errorf("the parent of the shop's span is %s, want the last attempt's", shop.Parent())
	}
	return server, attempts
}

func positive(t *testing.T, s Span, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if n, ok := s.Float(key); !ok || n <= 0 {
			t.Errorf("%s: %s is %s, want more than 0", s.OperationName, key, text(&s, key))
		}
	}
}

func TestTourWarm(t *testing.T) {
	list := play(t, "warm", 2)
	request, conn := list[0], list[1]
	_, attempts := wantWhole(t, request, "200")
	attempt := one(t, attempts, "attempts")
	connRoot := root(conn)
	wantTags(t, attempt, map[string]string{attrConnReused: "true", attrConnOrdinal: "2", attrConnID: text(&connRoot, attrConnID), attrWhyNew: "?"})
	positive(t, attempt, attrConnAge, attrConnIdle)
	age, _ := attempt.Float(attrConnAge)
	if idle, _ := attempt.Float(attrConnIdle); idle > age {
		t.Errorf("the connection was idle for %v s, and is %v s old", idle, age)
	}
	wantLink(t, attempt, conn)
	wantTags(t, connRoot, map[string]string{attrWhyOpened: "first", attrUpstream: "shop"})
	if len(request.named("wait.connect"))+len(conn.named(spanConnect)) != 1 {
		t.Error("the second request has waited for a connection, or the connection was not dialled")
	}
}

// TestTourCold has another try where the machine stood still between two phases.
func TestTourCold(t *testing.T) {
	for try := 1; ; try++ {
		took, waited := tourCold(t)
		if took*10 >= waited*5 {
			return
		}
		if try == 4 {
			t.Fatalf("the phases took %s of a wait of %s", micros(took), micros(waited))
		}
	}
}

// tourCold says how long the phases took, and the whole wait.
func tourCold(t *testing.T) (took, waited int64) {
	t.Helper()
	list := play(t, "cold", 2)
	request, conn := list[0], list[1]
	_, attempts := wantWhole(t, request, "200")
	attempt := one(t, attempts, "attempts")
	wantTags(t, attempt, map[string]string{attrConnReused: "false", attrConnOrdinal: "1", attrWhyNew: "first"})
	wantLink(t, attempt, conn)
	wait := one(t, request.named(spanWait), "waits")
	if wait.Parent() != attempt.SpanID || wait.Duration < 30_000 {
		t.Errorf("it waited for %s, below %s", micros(wait.Duration), wait.Parent())
	}
	for phase, whole := range map[string]string{"wait.dns": spanDNS, "wait.connect": spanConnect, "wait.tls": "tls.handshake"} {
		part, of := one(t, request.named(phase), phase), one(t, conn.named(whole), whole)
		if part.Parent() != wait.SpanID || of.Parent() != root(conn).SpanID || part.Duration != of.Duration {
			t.Errorf("%s took %s, and %s %s", phase, micros(part.Duration), whole, micros(of.Duration))
		}
		took += part.Duration
	}
	if took > wait.Duration+3 { // microseconds are rounded down
		t.Errorf("the phases took %s of a wait of %s", micros(took), micros(wait.Duration))
	}
	dns := one(t, conn.named(spanDNS), spanDNS)
	if dns.Duration < 30_000 {
		t.Errorf("the look-up took %s", micros(dns.Duration))
	}
	wantTags(t, dns, map[string]string{attrQuestion: shopName})
	wantTags(t, root(conn), map[string]string{attrWhyOpened: "first", attrServer: shopName, attrTLSVersion: "1.3", attrDNSTTL: "60", "wasmgate.tls.server_name": shopName})
	return took, wait.Duration
}

// TestTourDNS has another try where the machine stood still, so that an answer of DNS was used later than it is good for.
func TestTourDNS(t *testing.T) {
	var list []Trace
	for try := 1; ; try++ {
		list = play(t, "dns", 3)
		to := root(list[1])
		if age, ok := to.Float(attrDNSAge); ok && age >= 0 && age <= 1 || try == 4 {
			break
		}
	}
	older, newer, request := list[0], list[1], list[2]
	wantTags(t, root(older), map[string]string{attrWhyOpened: "first", attrServer: shopName, attrPeerAddress: "127.0.0.1"})
	c := newConnection(older)
	if c.last() == nil {
		t.Fatal("the old connection has not ended")
	}
	wantTags(t, *c.last(), map[string]string{attrWhyClosed: "address_gone", attrRequests: "1"})

	to := root(newer)
	wantTags(t, to, map[string]string{attrWhyOpened: "address_changed", attrServer: shopName, attrDNSTTL: "1", "wasmgate.dns.stale": "false"})
	if text(&to, attrPeerAddress) == "127.0.0.1" || newConnection(newer).last() != nil && text(newConnection(newer).last(), attrWhyClosed) == "address_gone" {
		t.Errorf("the new connection leads to %s", text(&to, attrPeerAddress))
	}
	if age, ok := to.Float(attrDNSAge); !ok || age < 0 || age > 1 {
		t.Errorf("the answer of DNS was %v s old", age)
	}
	if ended, began := c.last().StartTime+c.last().Duration, to.StartTime; ended < began {
		t.Errorf("the old connection ended %s before the new one began: it was not kept for its return", micros(began-ended))
	}
	_, attempts := wantWhole(t, request, "200")
	attempt := one(t, attempts, "attempts")
	wantTags(t, attempt, map[string]string{attrWhyNew: "address_changed", attrConnOrdinal: "1", attrDNSAge: text(&to, attrDNSAge)})
	wantLink(t, attempt, newer)
}

func TestTourRetry(t *testing.T) {
	list := play(t, "retry", 4)
	_, attempts := wantWhole(t, list[0], "200")
	if len(attempts) != 2 {
		t.Fatalf("%d attempts", len(attempts))
	}
	dead, well := text(&attempts[0], attrServerPort), text(&attempts[1], attrServerPort)
	if dead == well {
		t.Errorf("both attempts were given to port %s", dead)
	}
	wantTags(t, attempts[0], map[string]string{attrErrorType: "upstream_closed", attrAttemptNumber: "1", attrStatus: "?", "error": "true", attrWhyClosed: "peer_closed"})
	wantTags(t, attempts[1], map[string]string{attrErrorType: "?", attrAttemptNumber: "2", attrAttemptWhy: "retry", "http.request.resend_count": "1", attrStatus: "200"})
	if first, second := attempts[0], attempts[1]; first.StartTime+first.Duration > second.StartTime+1 {
		t.Error("the attempts were made at once: this is no hedge")
	}

	_, attempts = wantWhole(t, list[1], "200")
	attempt := one(t, attempts, "attempts")
	wantTags(t, attempt, map[string]string{attrServerPort: well, attrAttemptNumber: "1", attrErrorType: "?"})
	if passed, _ := tag(attempt.event(eventChosen), attrPassed); passed != "1" {
		t.Errorf("%s servers were tried in vain", passed)
	}
	failed, wait := one(t, list[1].named(spanFailed), spanFailed), one(t, list[1].named(spanWait), spanWait)
	if failed.Parent() != wait.SpanID || wait.Parent() != attempt.SpanID {
		t.Error("the failure is not below the attempt's wait")
	}
	wantTags(t, failed, map[string]string{attrServerPort: dead, attrErrorType: "connect", "error": "true"})
	if port, _ := tag(failed.event(eventEjected), attrServerPort); port != dead {
		t.Errorf("port %q was ejected, want %s", port, dead)
	}
	wantLink(t, failed, list[2])
	wantTags(t, root(list[2]), map[string]string{attrWhyClosed: "connect_failed", attrErrorType: "connect", attrServerPort: dead})

	_, attempts = wantWhole(t, list[3], "200")
	attempt = one(t, attempts, "attempts")
	wantTags(t, attempt, map[string]string{attrServerPort: well, attrErrorType: "?"})
	if passed, _ := tag(attempt.event(eventChosen), attrPassed); passed != "0" || len(list[3].named(spanFailed)) > 0 {
		t.Errorf("the third request tried %s servers in vain", passed)
	}
}

func TestTourDenied(t *testing.T) {
	tr := play(t, "denied", 1)[0]
	server, attempts := wantWhole(t, tr, "403")
	if shop := tr.of(serviceShop, ""); len(attempts) > 0 || len(shop) > 0 {
		t.Errorf("there are %d attempts, and %d spans of the shop", len(attempts), len(shop))
	}
	decided := server.event(eventPlugin)
	for key, want := range map[string]string{attrPluginName: "tenant", attrPluginOutcome: "deny", "wasmgate.plugin.phase": "request"} {
		if got, _ := tag(decided, key); got != want {
			t.Errorf("the decision: %s is %s, want %s", key, got, want)
		}
	}
	fuel, _ := tag(decided, attrPluginFuel)
	if n, err := strconv.Atoi(fuel); err != nil || n <= 0 {
		t.Errorf("it cost %s", fuel)
	}
	call := one(t, tr.named("plugin.call tenant"), "calls")
	wantTags(t, call, map[string]string{attrPluginFuel: fuel})
	if server.event(eventBegun) != nil || call.Parent() != server.SpanID {
		t.Error("an attempt was begun, or the call is not below the request")
	}
}

// TestDependencies: what Jaeger draws as the system's architecture are the visitor, the gateway and what stands behind it.
func TestDependencies(t *testing.T) {
	play(t, "warm", 2)
	api := NewAPI(theJaeger(t).Ports.QueryURL())
	want := map[string]bool{serviceVisitor + " > wasmgate": true, "wasmgate > " + serviceShop: true}
	eventually(t, "who calls whom in Jaeger", func() (bool, string) {
		list, err := api.Dependencies(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for _, d := range list {
			if want[d.Parent+" > "+d.Child] && d.CallCount > 0 {
				found++
			}
		}
		return found == len(want), fmt.Sprint(list)
	})
}

// TestTheTourIsListed, and what it does not have is an error.
func TestTheTourIsListed(t *testing.T) {
	var out bytes.Buffer
	if err := command(t.Context(), []string{"tour"}, &out, &out); err != nil {
		t.Fatal(err)
	}
	for _, s := range situations {
		if !strings.Contains(out.String(), "tour "+s.name) {
			t.Errorf("%s is not listed:\n%s", s.name, &out)
		}
	}
	if err := command(t.Context(), []string{"tour", "hot"}, &out, &out); err == nil || !strings.Contains(err.Error(), `no "hot"`) {
		t.Errorf("tour hot: %v", err)
	}
}

// shared is output that one goroutine writes and another one reads.
type shared struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// TestTheTourBringsAJaeger where none runs, which stays until it is interrupted; show prints what is in it.
func TestTheTourBringsAJaeger(t *testing.T) {
	theJaeger(t) // it can be built
	p := freePorts(t, 4)
	ports := []string{"-otlp-http", strconv.Itoa(p[0]), "-otlp-grpc", strconv.Itoa(p[1]), "-query", strconv.Itoa(p[2]), "-query-grpc", strconv.Itoa(p[3])}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out shared
	ended := make(chan error, 1)
	go func() { ended <- command(ctx, append(ports, "tour", "denied"), &out, &out) }()
	eventually(t, "it has played", func() (bool, string) {
		select {
		case err := <-ended:
			t.Fatalf("it has ended: %v\n%s", err, &out)
		default:
		}
		return strings.Contains(out.String(), "Interrupt to stop it"), out.String()
	})
	id := traceURL.FindStringSubmatch(out.String())[2]
	var shown strings.Builder
	if err := command(t.Context(), append(ports, "show", id), &shown, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"visitor GET /admin ", "\n  wasmgate GET everything ", "\n    wasmgate plugin.call tenant ", "event=plugin.decided", "\n      http.response.status_code = 403\n",
	} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("show does not print %q but:\n%s", want, &shown)
		}
	}
	if err := command(t.Context(), append(ports, "show", strings.Repeat("1", 32)), &shown, &out); err == nil {
		t.Error("a trace that is not there is shown")
	}
	interrupt()
	if err := <-ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
}
