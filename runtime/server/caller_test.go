package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
)

// call sends a plugin's own request on the first loop.
func (g *gate) call(c *filter.Call) (err *fault.Error) {
	caller := NewCaller(2, g.snapshot.Upstreams, []Observer{g.journal, g.journal})
	done := make(chan struct{})
	l := g.group.Loop(0)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			err = caller.Call(t, c)
		})
	})
	<-done
	return err
}

func get(path string) *filter.Call {
	return &filter.Call{Filter: "auth", Method: []byte("GET"), Path: []byte(path)}
}

// TestPluginsCallUpstreams over the pool that clients' requests use too.
func TestPluginsCallUpstreams(t *testing.T) {
	b := newBackend(t, echo)
	g := newGate(t, b)
	c := get("/check?user=1")
	c.Fields.Add("X-User", "1")
	c.Fields.Add("Connection", "x-secret")
	c.Fields.Add("X-Secret", "no")
	c.Fields.Add("Transfer-Encoding", "chunked")
	c.Fields.Add("Content-Length", "7")
	for range 3 {
		if err := g.call(c); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("GET /check?user=1 HTTP/1.1\r\nHost: %s\r\nX-User: 1\r\n\r\n", b.Addr())
		if c.Status != 200 || string(c.Answer) != want {
			t.Errorf("%d %q, want %q", c.Status, c.Answer, want)
		}
		if length, _ := c.AnswerFields.Get("content-length"); string(length) != fmt.Sprint(len(want)) {
			t.Errorf("content-length: %q", length)
		}
	}
	post := &filter.Call{Method: []byte("POST"), Path: []byte("/"), Authority: []byte("auth.internal"), Body: []byte("body")}
	if err := g.call(post); err != nil || string(post.Answer) != "POST / HTTP/1.1\r\nHost: auth.internal\r\nContent-Length: 4\r\n\r\nbody" {
		t.Errorf("%v, %q", err, post.Answer)
	}
	post.Body = nil
	post.Trailers.Add("x-sum", "1")
	if err := g.call(post); err != nil || !strings.Contains(string(post.Answer), "Transfer-Encoding: chunked\r\n") || !strings.Contains(string(post.Answer), "x-sum: 1\r\n") {
		t.Errorf("%v, %q", err, post.Answer)
	}
	if n := b.accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if e := g.entry(0); len(e.attempts) != 1 || e.attempts[0].Upstream != "backend" || e.err != "" {
		t.Errorf("told: %+v", e)
	}
}

// TestCallsThatFail say why, and what failed.
func TestCallsThatFail(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			switch {
			case strings.Contains(h, "/slow"):
				_ = c.head()
			case strings.Contains(h, "/cut"):
				c.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nno")
				return
			default:
				c.say("HTTP/1.1 503 No\r\nContent-Length: 2000\r\n\r\n%s", strings.Repeat("x", 2000))
			}
		}
	})
	g := newGate(t, b)
	slow, big, field := get("/slow"), get("/"), get("/")
	slow.Timeout = 50 * time.Millisecond
	big.MaxAnswer = 1000
	field.Fields.Add("x-a", "1\r\nx-b: 2")
	for what, c := range map[string]struct {
		call *filter.Call
		kind fault.Kind
	}{
		"too slow":            {slow, fault.RequestTimeout},
		"too much":            {big, fault.BodyTooLarge},
		"cut off":             {get("/cut"), fault.UpstreamClosed},
		"a line in the path":  {get("/ HTTP/1.1\r\nX-Evil: 1\r\n\r\n"), fault.Denied},
		"a line in a field":   {field, fault.Denied},
		"a path up":           {get("/../x"), fault.Denied},
		"no path":             {get(""), fault.Denied},
		"no method":           {&filter.Call{Path: []byte("/")}, fault.Denied},
		"a tunnel":            {&filter.Call{Method: []byte("CONNECT"), Path: []byte("/")}, fault.Denied},
		"an odd authority":    {&filter.Call{Method: []byte("GET"), Path: []byte("/"), Authority: []byte("a b")}, fault.Denied},
		"no such upstream":    {&filter.Call{Method: []byte("GET"), Path: []byte("/"), Upstream: 1}, fault.Denied},
		"none":                {&filter.Call{Method: []byte("GET"), Path: []byte("/"), Upstream: exchange.NoUpstream}, fault.Denied},
		"an answer is answer": {get("/"), 0},
	} {
		err := g.call(c.call)
		if c.kind == 0 {
			if err != nil || c.call.Status != 503 || len(c.call.Answer) != 2000 {
				t.Errorf("%s: %v, %d with %d bytes", what, err, c.call.Status, len(c.call.Answer))
			}
			continue
		}
		if err == nil || err.Kind != c.kind {
			t.Errorf("%s: %v, want %v", what, err, c.kind)
		}
	}
}
