package server

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/upstream"
)

func TestAConnectionThatStaysSaysSoWhenAsked(t *testing.T) {
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) {
		s.KeepAlive.Advertise, s.KeepAlive.MaxRequests = true, 3
	})
	c := g.client()
	for _, want := range []string{"Connection: keep-alive\r\nKeep-Alive: timeout=10, max=2\r\n", "Connection: keep-alive\r\nKeep-Alive: timeout=10, max=1\r\n", "Connection: close\r\n"} {
		head, _ := c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		c.want(head, want)
		if strings.Contains(want, "close") && strings.Contains(head, "Keep-Alive:") {
			t.Errorf("a connection that ends promises to stay: %q", head)
		}
	}
	c.rest()
}

// TestAClientOfHTTP10IsAlwaysTold sends what ab -k sends: one connection carries everything.
func TestAClientOfHTTP10IsAlwaysTold(t *testing.T) {
	g := newGate(t, newBackend(t, hello))
	c := g.client()
	for range 5 {
		head, _ := c.say("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: h\r\nUser-Agent: ApacheBench/2.3\r\nAccept: */*\r\n\r\n").answer()
		c.want(head, "Connection: keep-alive\r\nKeep-Alive: timeout=10\r\n")
	}
	head, _ := c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
	if strings.Contains(strings.ToLower(head), "keep-alive") {
		t.Errorf("a client of HTTP/1.1 is told what it knows: %q", head)
	}
}

func TestAnOldConnectionEndsAfterItsNextAnswer(t *testing.T) {
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) { s.KeepAlive.MaxAge = 50 * time.Millisecond })
	begun := time.Now()
	c := g.client()
	for {
		head, _ := c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").answer()
		if strings.Contains(head, "Connection: close") {
			break
		}
		if time.Since(begun) > 5*time.Second {
			t.Fatal("the connection is never too old")
		}
	}
	if took := time.Since(begun); took < 40*time.Millisecond {
		t.Errorf("the connection was closed after %v", took)
	}
	c.rest()
}

// overloaded is a filter that refuses everything, and says when to come again.
type overloaded struct {
	filter.Filter
	after time.Duration
}

func (o overloaded) Request(*exchange.Exchange, filter.Role, int) (filter.Verdict, error) {
	return 0, &fault.Error{Kind: fault.Overloaded, Source: fault.Gateway, Status: 503, RetryAfter: o.after}
}

func TestRetryAfterIsTheErrors(t *testing.T) {
	for after, want := range map[time.Duration]string{
		0: "1", time.Millisecond: "1", 1500 * time.Millisecond: "2", 30 * time.Second: "30", 1 << 62: "3600", -1: "1",
	} {
		c := newGate(t, nil, func(s *Snapshot, _ *upstream.Config) { s.Filters = filter.Chain{overloaded{after: after}} }).client()
		c.want(c.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head(), "Retry-After: "+want+"\r\n")
	}
}

func TestPeersThatAreNotTold(t *testing.T) {
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		want    []string
		never   []string
	}{
		"trusted":     {local, []string{"X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-Host: h\r\n", "Forwarded: for=192.0.2.7\r\n"}, []string{"127.0.0.1"}},
		"not trusted": {nil, []string{"X-Forwarded-Proto: http\r\n"}, []string{"X-Forwarded-For", "192.0.2.7", "\nForwarded", "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			cl := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) {
				s.Trusted, s.Forwarded = c.trusted, Forwarded{XForwarded: true, RFC7239: true, Except: local}
			}).client()
			_, body := cl.say("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n\r\n").answer()
			for _, want := range c.want {
				cl.want(body, want)
			}
			for _, never := range c.never {
				if strings.Contains(body, never) {
					t.Errorf("%q in %q", never, body)
				}
			}
		})
	}
}
