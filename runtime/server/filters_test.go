package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
)

// scripted is a filter that does as it is told, and remembers when it was called.
type scripted struct {
	name     string
	request  func(x *exchange.Exchange, place int) (filter.Verdict, error)
	response func(x *exchange.Exchange, place int) (filter.Verdict, error)

	mu    sync.Mutex
	calls []string
}

func (s *scripted) Name() string        { return s.name }
func (s *scripted) WantsResponse() bool { return true }

func (s *scripted) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *scripted) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

func (s *scripted) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *scripted) Request(x *exchange.Exchange, _ filter.Role, place int) (filter.Verdict, error) {
	*x.State(place) = s.name
	s.note("request at %d", place)
	if s.request == nil {
		return filter.Continue, nil
	}
	return s.request(x, place)
}

func (s *scripted) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	s.note("response at %d, %v", place, *x.State(place))
	if s.response == nil {
		return filter.Continue, nil
	}
	return s.response(x, place)
}

func (s *scripted) End(x *exchange.Exchange, place int) {
	s.note("end at %d, %v", place, *x.State(place))
}

// shout is a stage that makes everything upper case, and one more.
type shout struct{}

func (shout) Chunk(_ *netloop.Task, dst, data []byte, last bool, _ *http1.Head) ([]byte, *fault.Error) {
	if dst = append(dst, bytes.ToUpper(data)...); last {
		dst = append(dst, '!')
	}
	return dst, nil
}

func chain(list ...filter.Filter) change {
	return func(s *Snapshot, _ *upstream.Config) {
		s.Routes = tableOf(&Route{Name: "all", Upstream: 0, Chain: list, Upgrades: Upgrades{Any: true}})
	}
}

// echo answers each request with the request, framing and body included, as it has arrived.
func echo(_ int, c *backendConn) {
	for h := c.head(); h != ""; h = c.head() {
		body := ""
		switch {
		case strings.Contains(h, "chunked"):
			for !strings.HasSuffix(body, "\r\n\r\n") || !strings.Contains("\r\n"+body, "\r\n0\r\n") {
				line, err := c.r.ReadString('\n')
				if err != nil {
					return
				}
				body += line
			}
		case strings.Contains(h, "Content-Length: "):
			n := 0
			_, _ = fmt.Sscanf(h[strings.Index(h, "Content-Length: "):], "Content-Length: %d", &n)
			b := make([]byte, n)
			for i := range b {
				b[i], _ = c.r.ReadByte()
			}
			body = string(b)
		}
		said := h + "\r\n" + body
		c.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
	}
}

// TestFiltersSeeTheRequestsBody: held back and looked at, replaced, changed on its way, and larger than anything that is
// read at once.
func TestFiltersSeeTheRequestsBody(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20_000)
	hold := func(most int, then func(x *exchange.Exchange, held []byte, whole bool)) func(*exchange.Exchange, int) (filter.Verdict, error) {
		return func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
			held, whole, err := x.RequestBody.Hold(most)
			if err != nil {
				return 0, err
			}
			then(x, held, whole)
			return filter.Continue, nil
		}
	}
	for name, c := range map[string]struct {
		request      func(*exchange.Exchange, int) (filter.Verdict, error)
		length, want []string // of a request with a length, and of one in chunks
	}{
		"held": {hold(1<<20, func(x *exchange.Exchange, held []byte, whole bool) {
			x.Request.Set("x-held", fmt.Sprint(len(held), whole))
		}), []string{"x-held: 320000 true", "Content-Length: 320000\r\n", long}, []string{"x-held: 320000 true", "Content-Length: 320000\r\n", long}},
		"too long to hold": {hold(1000, func(x *exchange.Exchange, held []byte, whole bool) {
			x.Request.Set("x-held", fmt.Sprint(len(held) > 1000, whole))
		}), []string{"x-held: true false", "Content-Length: 320000\r\n", long}, []string{"x-held: true false", "Transfer-Encoding: chunked\r\n"}},
		"replaced": {hold(1<<20, func(x *exchange.Exchange, _ []byte, _ bool) { x.RequestBody.Replace([]byte("short")) }),
			[]string{"Content-Length: 5\r\n", "\r\n\r\nshort"}, []string{"Content-Length: 5\r\n", "\r\n\r\nshort"}},
		"staged": {func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
			x.RequestBody.Stage(shout{})
			return filter.Continue, nil
		}, []string{"Transfer-Encoding: chunked\r\n", "0123456789ABCDEF", "!\r\n0\r\n\r\n"}, []string{"Transfer-Encoding: chunked\r\n", "ABCDEF", "!\r\n0\r\n\r\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, newBackend(t, echo), chain(&scripted{request: c.request}))
			cl := g.client()
			for range 2 { // on one connection
				_, body := cl.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", len(long), long).answer()
				for _, want := range c.length {
					cl.want(body, want)
				}
				_, body = cl.say("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(long), long).answer()
				for _, want := range c.want {
					cl.want(body, want)
				}
			}
		})
	}
}

// TestAClientIsAskedForABodyThatAFilterWants: Expect: 100-continue.
func TestAClientIsAskedForABodyThatAFilterWants(t *testing.T) {
	f := &scripted{request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		_, _, err := x.RequestBody.Hold(100)
		if err != nil {
			return 0, err
		}
		return filter.Continue, nil
	}}
	cl := newGate(t, newBackend(t, echo), chain(f)).client()
	cl.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	cl.want(cl.head(), "HTTP/1.1 100 Continue")
	_, body := cl.say("body").answer()
	cl.want(body, "\r\n\r\nbody")
}

func TestFiltersSeeTheAnswersBody(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20_000)
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			switch {
			case strings.HasPrefix(h, "HEAD"):
				c.say("HTTP/1.1 200 OK\r\nContent-Length: 320000\r\n\r\n")
			case strings.Contains(h, "/chunked"):
				c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 1\r\n\r\n", len(long), long)
			default:
				c.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(long), long)
			}
		}
	})
	f := &scripted{response: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		how, _ := x.Request.Get("x-how")
		switch string(how) {
		case "hold":
			held, whole, err := x.ResponseBody.Hold(1 << 20)
			if err != nil {
				return 0, err
			}
			x.Response.Set("x-held", fmt.Sprint(len(held), whole))
		case "replace":
			x.ResponseBody.Replace([]byte("short"))
			if _, whole, err := x.ResponseBody.Hold(1 << 20); err != nil || !whole {
				return 0, err
			}
			x.ResponseBody.Replace([]byte("short"))
		case "stage":
			x.ResponseBody.Stage(shout{})
		}
		return filter.Continue, nil
	}}
	g := newGate(t, b, chain(f))
	cl := g.client()
	for _, c := range []struct{ how, request, head, body string }{
		{"hold", "GET /", "x-held: 320000 true", long},
		{"hold", "GET /chunked", "x-held: 320000 true", long},
		{"hold", "HEAD /", "x-held: 0 true", ""},
		{"replace", "GET /", "Content-Length: 5", "short"},
		{"replace", "HEAD /", "Content-Length: 320000", ""},
		{"stage", "GET /", "Transfer-Encoding: chunked", strings.ToUpper(long) + "!"},
		{"stage", "HEAD /", "Content-Length: 320000", ""},
	} {
		head, body := "", ""
		if cl.say("%s HTTP/1.1\r\nHost: h\r\nx-how: %s\r\n\r\n", c.request, c.how); strings.HasPrefix(c.request, "HEAD") {
			head = cl.head()
		} else {
			head, body = cl.answer()
		}
		if cl.want(head, c.head); body != c.body {
			t.Errorf("%s %s: a body of %d bytes, want %d", c.how, c.request, len(body), len(c.body))
		}
	}
	if n := b.accepted.Load(); n != 1 {
		t.Errorf("the backend has had %d connections; each answer leaves one that can be used again", n)
	}
}

// TestFiltersChangeTheStatus to one of an answer without a body, and from one: the client finds the next answer where it is.
func TestFiltersChangeTheStatus(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			switch {
			case strings.Contains(h, "/none"):
				c.say("HTTP/1.1 204 No Content\r\n\r\n")
			case strings.Contains(h, "/chunked"):
				c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
			default:
				c.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")
			}
		}
	})
	f := &scripted{response: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		if to, ok := x.Request.Get("x-to"); ok {
			_, _ = fmt.Sscan(string(to), &x.Response.Status)
		}
		if _, ok := x.Request.Get("x-hold"); ok {
			_, _, _ = x.ResponseBody.Hold(100)
		}
		return filter.Continue, nil
	}}
	cl := newGate(t, b, chain(f)).client()
	for _, c := range []struct{ path, fields, head, body string }{
		{"/", "x-to: 204\r\n", "HTTP/1.1 204", ""},
		{"/chunked", "x-to: 304\r\n", "HTTP/1.1 304", ""},
		{"/", "x-to: 204\r\nx-hold: 1\r\n", "HTTP/1.1 204", ""},
		{"/none", "x-to: 200\r\n", "Content-Length: 0", ""},
		{"/none", "x-to: 503\r\nx-hold: 1\r\n", "Content-Length: 0", ""},
		{"/", "x-to: 404\r\n", "HTTP/1.1 404", "body"},
		{"/", "", "HTTP/1.1 200", "body"},
	} {
		head, body := cl.say("GET %s HTTP/1.1\r\nHost: h\r\n%s\r\n", c.path, c.fields).answer()
		if cl.want(head, c.head); body != c.body {
			t.Errorf("%s %s: body %q", c.path, c.fields, body)
		}
	}
}

// TestFiltersSeeAnswersOfOurOwn: those that a request has passed, and no others; the nearest to the upstream first.
func TestFiltersSeeAnswersOfOurOwn(t *testing.T) {
	mark := func(name string) *scripted {
		return &scripted{name: name, response: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
			held, _, _ := x.ResponseBody.Hold(100)
			x.ResponseBody.Replace(append(append([]byte{}, held...), name...))
			x.Response.Add("x-seen", name)
			return filter.Continue, nil
		}}
	}
	answers := &scripted{name: "answers", request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		x.Local.Set, x.Local.Status, x.Local.Body = true, 418, append(x.Local.Body[:0], "tea"...)
		return filter.Respond, nil
	}}
	fails := &scripted{name: "fails", request: func(*exchange.Exchange, int) (filter.Verdict, error) {
		return 0, fault.New(fault.PluginTrap, fault.Plugin, 503, "trap")
	}}
	for name, c := range map[string]struct {
		last         *scripted
		status, body string
	}{
		"a filter's answer": {answers, "418", "teabal"},
		"an error":          {fails, "503", "503 Service Unavailable: " + fault.PluginTrap.String() + "\nbal"},
	} {
		t.Run(name, func(t *testing.T) {
			l, a, b, behind := mark("l"), mark("a"), mark("b"), mark("behind")
			g := newGate(t, nil, func(s *Snapshot, _ *upstream.Config) {
				s.Filters = filter.Chain{l}
				s.Routes = tableOf(&Route{Name: "all", Upstream: 0, Chain: filter.Chain{a, b, c.last, behind}})
			})
			cl := g.client()
			head, body := cl.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
			cl.want(head, c.status)
			if body != c.body {
				t.Errorf("body %q, want %q", body, c.body)
			}
			if seen := strings.Count(head, "x-seen: "); seen != 3 {
				t.Errorf("seen by %d: %s", seen, head)
			}
			g.entry(0)
			for f, want := range map[*scripted][]string{
				l: {"request at 0", "response at 0, l", "end at 0, l"}, a: {"request at 2", "response at 2, a", "end at 2, a"},
				c.last: {"request at 4", "end at 4, " + c.last.name}, behind: {"end at 5, <nil>"},
			} {
				if got := f.called(); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", f.name, got, want)
				}
			}
		})
	}
}

// TestFiltersSeeATunnelBegin: they may change the head, answer otherwise, or fail.
func TestFiltersSeeATunnelBegin(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			c.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\nX-A: 1\r\n\r\n")
			_, _ = io.Copy(c, c.r)
		}
	})
	f := &scripted{name: "f", response: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		if held, whole, err := x.ResponseBody.Hold(9); len(held) > 0 || !whole || err != nil || x.Response.Status != 101 {
			t.Errorf("%d, %q, %v, %v", x.Response.Status, held, whole, err)
		}
		how, _ := x.Request.Get("x-how")
		x.Response.SetBytes([]byte("x-seen"), how)
		x.ResponseBody.Replace([]byte("nothing"))
		switch string(how) {
		case "status":
			x.Response.Status = 403
		case "answer":
			x.Local.Set, x.Local.Status, x.Local.Body = true, 200, append(x.Local.Body[:0], "no"...)
			return filter.Respond, nil
		case "fail":
			return 0, fault.New(fault.PluginTrap, fault.Plugin, 503, "trap")
		}
		return filter.Continue, nil
	}}
	g := newGate(t, b, chain(f))
	for i, c := range []struct{ how, status, body string }{
		{"look", "101", ""}, {"status", "403", ""}, {"answer", "200", "no"}, {"fail", "503", "503 Service Unavailable: plugin_trap\n"},
	} {
		cl := g.client()
		cl.say("GET / HTTP/1.1\r\nHost: h\r\nx-how: %s\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", c.how)
		head, body := "", ""
		if c.how == "look" {
			head = cl.head()
			cl.want(head, "X-A: 1\r\n")
			cl.want(head, "Upgrade: echo\r\n")
			cl.say("ping")
			cl.want(cl.bytes(4), "ping")
		} else if head, body = cl.answer(); body != c.body || strings.Contains(head, "pgrade") {
			t.Errorf("%s: %q %q", c.how, head, body)
		}
		if cl.want(head, "HTTP/1.1 "+c.status); c.how != "fail" {
			cl.want(head, "x-seen: "+c.how)
		}
		cl.Close()
		g.entry(i)
	}
	for _, call := range f.called() {
		if strings.HasPrefix(call, "end") && call != "end at 1, f" {
			t.Errorf("%q", call)
		}
	}
}

// TestAMatcherThatAnswers: the route that it is asked about has nothing more to do with the request.
func TestAMatcherThatAnswers(t *testing.T) {
	answers := &scripted{name: "answers", request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		x.Local.Set, x.Local.Status, x.Local.Body = true, 403, append(x.Local.Body[:0], "no"...)
		return filter.Respond, nil
	}}
	l, behind := &scripted{name: "l"}, &scripted{name: "behind"}
	g := newGate(t, nil, func(s *Snapshot, _ *upstream.Config) {
		s.Filters = filter.Chain{l}
		s.Routes = tableOf(&Route{Name: "a", Upstream: 0, Matcher: answers, Chain: filter.Chain{behind}})
	})
	cl := g.client()
	for i := range 2 {
		head, body := cl.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		if cl.want(head, "403 Forbidden"); body != "no" {
			t.Errorf("%q", body)
		}
		if e := g.entry(i); e.err != "" {
			t.Error(e.err)
		}
	}
	once := []string{"request at 0", "response at 0, l", "end at 0, l"}
	if got := l.called(); !slices.Equal(got, append(once, once...)) || len(behind.called()) != 0 {
		t.Errorf("%q, %q", got, behind.called())
	}
}

// TestAnswersOfOurOwnHaveTrailers: a filter's, and what another adds; not where there is no place for them.
func TestAnswersOfOurOwnHaveTrailers(t *testing.T) {
	sums := &scripted{name: "sums", request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		x.Local.Set, x.Local.Status, x.Local.Body = true, 200, append(x.Local.Body[:0], "tea"...)
		if string(x.Request.Path) == "/empty" {
			x.Local.Body = x.Local.Body[:0]
		}
		x.Local.Trailers.Add("x-sum", "1")
		return filter.Respond, nil
	}}
	adds := &scripted{name: "adds", response: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		x.ResponseBody.Trailers().Add("x-more", "2")
		return filter.Continue, nil
	}}
	g := newGate(t, nil, chain(adds, sums))
	cl := g.client()
	for range 2 {
		cl.want(cl.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head(), "Transfer-Encoding: chunked")
		if got, want := cl.bytes(len("3\r\ntea\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n")), "3\r\ntea\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		cl.want(cl.say("GET /empty HTTP/1.1\r\nHost: h\r\n\r\n").head(), "Transfer-Encoding: chunked")
		if got, want := cl.bytes(len("0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n")), "0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		cl.want(cl.say("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n").head(), "Content-Length: 3")
	}
	head, body := cl.say("GET / HTTP/1.0\r\nHost: h\r\n\r\n").answer()
	if cl.want(head, "Content-Length: 3"); body != "tea" {
		t.Errorf("%q", body)
	}
}

// TestMatchingAgain: on the same route the chain goes on; on another one it begins, and the first one's is over.
func TestMatchingAgain(t *testing.T) {
	again := &scripted{name: "again", request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		if to, ok := x.Request.Get("x-to"); ok {
			x.Request.SetPath(to)
		}
		return filter.Rematch, nil
	}}
	next, other := &scripted{name: "next"}, &scripted{name: "other"}
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) {
		s.Routes = tableUnder(&Route{Name: "a", Upstream: 0, Chain: filter.Chain{again, next}}, "/a", &Route{Name: "b", Upstream: 0, Chain: filter.Chain{other}}, "/b")
	})
	cl := g.client()
	for to, want := range map[string]map[*scripted][]string{
		"/a/2": {again: {"request at 1", "response at 1, again", "end at 1, again"}, next: {"request at 2", "response at 2, next", "end at 2, next"}, other: nil},
		"/b":   {again: {"request at 1", "end at 1, again"}, next: {"end at 2, <nil>"}, other: {"request at 1", "response at 1, other", "end at 1, other"}},
	} {
		for _, f := range []*scripted{again, next, other} {
			f.forget()
		}
		before := len(g.journal.entries())
		head, _ := cl.say("GET /a/1 HTTP/1.1\r\nHost: h\r\nx-to: %s\r\n\r\n", to).answer()
		cl.want(head, "200")
		g.entry(before)
		for f, want := range want {
			if got := f.called(); !slices.Equal(got, want) {
				t.Errorf("to %s: %s: %q, want %q", to, f.name, got, want)
			}
		}
	}
}

// TestMatchingAgainAfterARewrite: routes match what the client asked for, not what a route has made of it, unless a plugin
// says otherwise; and a route's upstream does not stay with a request that goes to another route.
func TestMatchingAgainAfterARewrite(t *testing.T) {
	again := &scripted{request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		if to, ok := x.Request.Get("x-to"); ok {
			x.Request.SetPath(to)
		}
		return filter.Rematch, nil
	}}
	strip := Rewrite{StripPrefix: []byte("/a")}
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) {
		s.Routes = tableUnder(&Route{Name: "a", Upstream: 0, Chain: filter.Chain{again}, Rewrite: strip}, "/a", &Route{Name: "b", Upstream: exchange.NoUpstream}, "/b")
	})
	cl := g.client()
	_, body := cl.say("GET /a/1?q HTTP/1.1\r\nHost: h\r\n\r\n").answer()
	cl.want(body, "GET /1?q HTTP/1.1")
	_, body = cl.say("GET /a/1?q HTTP/1.1\r\nHost: h\r\nx-to: /a/a/2\r\n\r\n").answer()
	cl.want(body, "GET /a/2?q HTTP/1.1")
	head, _ := cl.say("GET /a/1 HTTP/1.1\r\nHost: h\r\nx-to: /b\r\n\r\n").answer()
	cl.want(head, "HTTP/1.1 502") // nobody chose an upstream
}

type teapot struct{ error }

func (teapot) Answer(x *exchange.Exchange) {
	x.Local.Set, x.Local.Status, x.Local.Body = true, 418, append(x.Local.Body[:0], "tea"...)
}

// late answers when it sees the end of a body that is on its way.
type late struct{}

func (late) Chunk(_ *netloop.Task, dst, data []byte, last bool, _ *http1.Head) ([]byte, *fault.Error) {
	if last {
		return dst, &fault.Error{Kind: fault.Denied, Source: fault.Plugin, Status: 418, Err: teapot{errors.New("tea")}}
	}
	return append(dst, data...), nil
}

// TestAPluginAnswersWhileTheBodyIsOnItsWay: nothing of an answer has been sent, so the client gets the plugin's.
func TestAPluginAnswersWhileTheBodyIsOnItsWay(t *testing.T) {
	f := &scripted{request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
		x.RequestBody.Stage(late{})
		return filter.Continue, nil
	}}
	cl := newGate(t, newBackend(t, func(_ int, c *backendConn) { _ = c.head(); _, _ = io.Copy(io.Discard, c.r) }), chain(f)).client()
	cl.say("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n%s", strings.Repeat("x", 200_000))
	head, body := cl.answer()
	cl.want(head, "HTTP/1.1 418")
	if body != "tea" {
		t.Errorf("body %q", body)
	}
}
