package httpwasm

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
)

// TestGuestsThatFail in both phases, under both policies: what the guest did before is undone where the exchange goes on.
func TestGuestsThatFail(t *testing.T) {
	edits := "M PATCH;U /other?x;h 0 a 2;r 0 b;h 0 host elsewhere;w 0 body;h 1 x-early 1;"
	for name, c := range map[string]struct {
		request, response string
		kind              fault.Kind
		phase             string
		seen              string // by the upstream, under fail_open
	}{
		"a trap":                   {edits + "t", "", fault.PluginTrap, "request", "POST /path?q=1 1 1 true question"},
		"without an end":           {edits + "x", "", fault.PluginFuel, "request", "POST /path?q=1 1 1 true question"},
		"a bad URI":                {edits + "U no", "", fault.PluginAnswer, "request", "POST /path?q=1 1 1 true question"},
		"after reading":            {edits + "F 1;B 0 3;t", "", fault.PluginTrap, "request", "POST /path?q=1 1 1 true question"},
		"after reading a little":   {edits + "b 0 3;t", "", fault.PluginTrap, "request", "POST /path?q=1 1 1 true question"},
		"a trap on the answer":     {"h 1 x-early 1;w 1 early;F 6;N 0", "S 404;h 1 x-a 2;r 1 x-b;w 1 late;h 3 x-sum 1;n 3;t", fault.PluginTrap, "response", "POST /path?q=1 1 1 true question"},
		"an answer without an end": {"F 2;N 0", "S 404;h 1 x-a 2;B 1 3;x", fault.PluginFuel, "response", "POST /path?q=1 1 1 true question"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, policy := range []wasm.OnError{wasm.FailClosed, wasm.FailOpen} {
				var seen string
				backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					b, _ := io.ReadAll(r.Body)
					seen = fmt.Sprintf("%s %s %s %s %v %s", r.Method, r.RequestURI, r.Header.Get("a"), r.Header.Get("b"), r.Host == "example.com", b)
					w.Header().Set("X-A", "1")
					w.Header().Set("X-B", "1")
					w.WriteHeader(201)
					_, _ = io.WriteString(w, hello)
				}))
				t.Cleanup(backend.Close)
				p, j := load(t, kitGuest, Options{OnError: policy}, wasm.Limits{})
				g := newGate(t, setup{backend: backend.Listener.Addr(), route: []filter.Filter{p}})
				r, _ := http.NewRequest("POST", g.url+"/path?q=1", strings.NewReader("question"))
				r.Host = "example.com"
				for name, value := range map[string]string{"a": "1", "b": "1", "x-request": c.request, "x-response": c.response} {
					r.Header.Set(name, value)
				}
				got := g.do(r)
				eventually(t, "the exchange ends", func() bool { return len(g.watcher.all()) == 1 })
				e := g.watcher.all()[0]
				if policy == wasm.FailClosed {
					refused(t, got)
					if !strings.HasPrefix(e.err, c.kind.String()+": plugin p, phase "+c.phase) || c.phase == "request" && seen != "" {
						t.Errorf("%s, the upstream saw %q", e.err, seen)
					}
				} else if seen != c.seen || got.status != 201 || got.body != hello || got.header.Get("X-A") != "1" || got.header.Get("X-B") != "1" ||
					got.header.Get("X-Early") != "" || len(got.trailers) > 0 || e.err != "" {
					t.Errorf("fail_open: the upstream saw %q, the client %+v, %s", seen, got, e.err)
				}
				if s := p.Stats(); s.Failures[c.kind] != 1 || s.Discarded != 1 {
					t.Errorf("%+v", s)
				}
				last := e.calls[len(e.calls)-1]
				if last.Outcome != "error" || last.Err == nil || last.Phase != c.phase {
					t.Errorf("traced as %+v", last)
				}
				if lines := j.all(); !slices.ContainsFunc(lines, func(l wasm.Line) bool { return l.Err != nil && l.Level == wasm.LogError && l.Phase == c.phase }) {
					t.Errorf("logged: %+v", lines)
				}
				if got := g.send("GET /", nil, "x-request: w 1 well"); got.body != "well" {
					t.Errorf("the next request: %+v", got)
				}
			}
		})
	}
}

// TestABodyThatWasReadAwayCannotComeBack: the exchange fails in any case.
func TestABodyThatWasReadAwayCannotComeBack(t *testing.T) {
	p, _ := load(t, kitGuest, Options{OnError: wasm.FailOpen}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), route: []filter.Filter{p}})
	r := g.send("POST /", strings.NewReader(strings.Repeat("a", 100_000)), "x-request: b 0 50000;t")
	if r.err == nil && (r.status != 503 || !strings.Contains(r.body, "plugin_answer")) {
		t.Errorf("%+v", r)
	}
	if r := g.send("POST /", strings.NewReader(strings.Repeat("a", 2<<20)), "x-request: F 1;b 0 9;N 0"); r.status != 200 || len(r.body) != 2<<20 {
		t.Errorf("a body that is too long to hold: %d, %d bytes", r.status, len(r.body))
	}
}

// TestManyTooLargeBodiesOpenNoBreaker: it is clients who send them.
func TestManyTooLargeBodiesOpenNoBreaker(t *testing.T) {
	p, j := load(t, kitGuest, Options{MaxBody: 100, Breaker: &wasm.Breaker{Failures: 2, Percent: 1, Window: time.Hour, Open: time.Hour}}, wasm.Limits{})
	g := newGate(t, setup{backend: echo(t), route: []filter.Filter{p}})
	for range 5 {
		if r := g.send("POST /", strings.NewReader(strings.Repeat("a", 101)), "x-request: F 1;b 0 9;N 0"); r.status != 413 {
			t.Errorf("%+v", r)
		}
	}
	if r := g.send("POST /", strings.NewReader(strings.Repeat("a", 100)), "x-request: F 1;b 0 9;N 0"); r.status != 200 {
		t.Errorf("%+v", r)
	}
	if s := p.Stats(); s.Failures[fault.BodyTooLarge] != 5 || s.BreakerOpened != 0 || len(j.all()) == 0 {
		t.Errorf("%+v, %v", s, j.texts())
	}
}
