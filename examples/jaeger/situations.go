package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// Spans, events and attributes of the gateway that only the tour looks at: runtime/telemetry/names.go.
const (
	spanWait = "wait_for_connection"

	eventPlugin  = "plugin.decided"
	eventBegun   = "attempt.begun"
	eventChosen  = "target.chosen"
	eventEjected = "target.ejected"

	attrErrorType     = "error.type"
	attrAttemptNumber = "wasmgate.attempt.number"
	attrAttemptWhy    = "wasmgate.attempt.why"
	attrPassed        = "wasmgate.target.passed"
	attrWhyNew        = "wasmgate.connection.why_new"
	attrRequests      = "wasmgate.connection.requests"
	attrDNSTTL        = "wasmgate.dns.ttl"
	attrPluginName    = "wasmgate.plugin.name"
	attrPluginOutcome = "wasmgate.plugin.outcome"
	attrPluginFuel    = "wasmgate.plugin.fuel"
	attrQuestion      = "dns.question.name"
	attrTLSVersion    = "tls.protocol.version"
)

// shopName is what the tour's name server calls the upstream.
const shopName = "shop.tour"

// situation is one stop of the tour.
type situation struct {
	name, what string
	play       func(*stage) error
}

var situations = []situation{
	{"warm", "the second request finds a connection that is open already", playWarm},
	{"cold", "the first request pays for name, connection and TLS", playCold},
	{"dns", "the upstream's name gets another address", playDNS},
	{"retry", "an upstream server dies under a request, and is gone for the next", playRetry},
	{"denied", "a plugin refuses a request", playDenied},
}

func established(c *connection) bool { return len(c.setup) > 0 }

// hasClosed says whether the end of the connection is told of.
func hasClosed(c *connection) bool { return c.last() != nil }

// playWarm: two requests, one connection.
func playWarm(s *stage) error {
	shop, err := s.startShop("127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := s.startGateway("warm.yaml", "SHOP="+shop.Addr); err != nil {
		return err
	}
	visits, err := s.visits(200, "/cart", "/checkout")
	if err != nil {
		return err
	}
	r, err := s.request(visits[1], 1)
	if err != nil {
		return err
	}
	attempt := r.attempts[0]
	c, err := s.connection(attempt, established)
	if err != nil {
		return err
	}
	s.point(visits[1].trace, "The second request. No part of it waited for a connection:")
	if err := s.tags(attempt,
		fact{attrConnReused, "it came from the pool"},
		fact{attrConnOrdinal, "which request of the connection this was"},
		fact{attrConnAge, "how old the connection was, in seconds"},
		fact{attrConnIdle, "of that, how long it had just been idle"},
		fact{attrPoolWait, "what it cost to get it, in seconds"}); err != nil {
		return err
	}
	s.say("     and under References the link to the connection's own trace, which is\n")
	s.point(c.root.TraceID, "The connection that carried both:")
	return s.tags(&c.root,
		fact{attrWhyOpened, "why it was opened: nothing was open to this address"},
		fact{attrConnID, "the attempt has the same"})
}

// playCold: the first request of all, by name, to a server that speaks TLS.
func playCold(s *stage) error {
	names, err := s.startNames(30*time.Millisecond, time.Minute, shopName, "127.0.0.1")
	if err != nil {
		return err
	}
	cert, ca, err := newCertificate(shopName)
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "ca.pem")
	if err := os.WriteFile(file, ca, 0o600); err != nil {
		return err
	}
	shop, err := NewShop("127.0.0.1:0", s.shop, cert)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, shop.Close)
	if err := s.startGateway("cold.yaml", "SHOP="+named(shop.Addr), "DNS="+names.Addr(), "CA="+file); err != nil {
		return err
	}
	visits, err := s.visits(200, "/cart")
	if err != nil {
		return err
	}
	r, err := s.request(visits[0], 1)
	if err != nil {
		return err
	}
	attempt := r.attempts[0]
	c, err := s.connection(attempt, func(c *connection) bool { return len(c.setup) == 3 })
	if err != nil {
		return err
	}
	s.point(visits[0].trace, "The request. Most of its time went by before it could be sent:")
	if err := s.tags(attempt,
		fact{attrWhyNew, "why no pooled connection was used: there was none"},
		fact{attrPoolWait, "how long it waited for one, in seconds"}); err != nil {
		return err
	}
	s.say("   and below it, what it waited for:\n")
	s.took(r.below(attempt, spanWait), map[string]string{spanWait: "of this:"})
	for _, name := range []string{"wait.dns", "wait.connect", "wait.tls"} {
		spans := r.below(attempt, name)
		if len(spans) != 1 {
			return fmt.Errorf("%d spans %s", len(spans), name)
		}
		s.took(spans, map[string]string{"wait.dns": "the name server takes 30 ms for its answer", "wait.connect": "TCP", "wait.tls": "the handshake"})
	}
	s.point(c.root.TraceID, "The connection that was opened for it, in full:")
	if err := s.tags(&c.root,
		fact{attrWhyOpened, "nothing was open to this address"},
		fact{attrTLSVersion, "what the handshake agreed on"},
		fact{attrDNSTTL, "how long the answer may be used, in seconds"}); err != nil {
		return err
	}
	s.took([]*Span{&c.setup[0], &c.setup[1], &c.setup[2]}, map[string]string{"dns.lookup": "of " + text(&c.setup[0], attrQuestion)})
	return nil
}

// playDNS: between two requests the name's address changes.
func playDNS(s *stage) error {
	before, after, addr, err := s.twoShops()
	if err != nil {
		return err
	}
	names, err := s.startNames(0, time.Second, shopName, "127.0.0.1")
	if err != nil {
		return err
	}
	if err := s.startGateway("dns.yaml", "SHOP="+named(before.Addr), "DNS="+names.Addr()); err != nil {
		return err
	}
	if _, err := s.visits(200, "/before"); err != nil {
		return err
	}
	names.Set(shopName, addr)
	s.say("  now DNS says that %s is at %s\n", shopName, addr)
	if err := s.await("the gateway sees that the address has gone", func() (bool, error) {
		n, err := s.gateway.Metric(s.ctx, `wasmgate_upstream_member_changes_total{upstream="shop",state="left"}`)
		return n > 0, err
	}); err != nil {
		return err
	}
	visits, err := s.visits(200, "/after")
	if err != nil {
		return err
	}
	if want := "/after from " + after.Addr + "\n"; visits[0].body != want {
		return fmt.Errorf("the visitor sees %q, not %q", visits[0].body, want)
	}
	return s.showDNS(visits[0])
}

// twoShops starts two servers on the same port of different addresses of this machine.
func (s *stage) twoShops() (before, after *Shop, addr netip.Addr, err error) {
	for range 10 { // the port may be taken on the other address
		if before, err = s.startShop("127.0.0.1:0"); err != nil {
			return nil, nil, addr, err
		}
		_, port, _ := net.SplitHostPort(before.Addr)
		for _, other := range []string{"127.0.0.2", "::1"} { // not every system has all of 127/8
			if after, err = s.startShop(net.JoinHostPort(other, port)); err == nil {
				return before, after, netip.MustParseAddr(other), nil
			}
		}
	}
	return nil, nil, addr, fmt.Errorf("a second address of this machine, 127.0.0.2 or ::1: %w", err)
}

func (s *stage) showDNS(v visit) error {
	r, err := s.request(v, 1)
	if err != nil {
		return err
	}
	attempt := r.attempts[0]
	newer, err := s.connection(attempt, established)
	if err != nil {
		return err
	}
	var older *connection
	s.say("  the idle connection to the old address is kept for 4 s (dns.drain), then closed\n")
	if err := s.await("the end of the old connection in Jaeger", func() (bool, error) {
		older, err = s.olderThan(newer)
		return older != nil && hasClosed(older), err
	}); err != nil {
		return err
	}
	s.point(older.root.TraceID, "The old connection has ended:")
	if err := s.tags(&older.root, fact{attrPeerAddress, "where it led to"}); err != nil {
		return err
	}
	if err := s.tags(older.last(), fact{attrWhyClosed, "DNS no longer gave its address"}, fact{attrRequests, "so many had used it"}); err != nil {
		return err
	}
	s.point(newer.root.TraceID, "The new connection:")
	if err := s.tags(&newer.root,
		fact{attrWhyOpened, "the idle one led to an address that DNS no longer gave"},
		fact{attrPeerAddress, "where it leads to"},
		fact{attrDNSAge, "how old the answer of DNS was, in seconds: less than its TTL"},
		fact{attrDNSTTL, "the answer's time to live, in seconds"}); err != nil {
		return err
	}
	s.point(v.trace, "The request after the change waited for that one:")
	return s.tags(attempt, fact{attrWhyNew, "in the words of the connection"}, fact{attrDNSAge, "for those who look at the request first"})
}

// olderThan returns the connection of this gateway to the same upstream that was opened before another.
func (s *stage) olderThan(c *connection) (*connection, error) {
	traces, err := s.api.Traces(s.ctx, "wasmgate", spanConnection, 1000)
	if err != nil {
		return nil, err
	}
	for _, t := range traces {
		o := newConnection(t)
		if o != nil && o.root.StartTime < c.root.StartTime && processID(t, &o.root) == c.process && text(&o.root, attrServer) == text(&c.root, attrServer) {
			return o, nil
		}
	}
	return nil, nil
}

// playRetry: the first server dies of the first request, and is not there for the second.
func playRetry(s *stage) error {
	shop, err := s.startShop("127.0.0.1:0")
	if err != nil {
		return err
	}
	dying, end, err := NewDying()
	if err != nil {
		return err
	}
	s.closers = append(s.closers, end)
	if err := s.startGateway("retry.yaml", "SHOP="+shop.Addr, "DYING="+dying); err != nil {
		return err
	}
	visits, err := s.visits(200, "/one", "/two", "/three")
	if err != nil {
		return err
	}
	var r [3]request
	for i, v := range visits {
		if r[i], err = s.request(v, 1); err != nil {
			return err
		}
	}
	if err := s.showDeath(visits[0], &r[0]); err != nil {
		return err
	}
	if err := s.showGone(visits[1], &r[1]); err != nil {
		return err
	}
	s.point(visits[2].trace, "The third request is not given to the dead server at all, for a minute (eject_for):")
	if len(r[2].attempts) != 1 {
		return fmt.Errorf("the third request has %d attempts", len(r[2].attempts))
	}
	return s.log(r[2].attempts[0], eventChosen, nil, fact{attrPassed, "no server was tried in vain"})
}

func (s *stage) showDeath(v visit, r *request) error {
	if len(r.attempts) != 2 {
		return fmt.Errorf("%d attempts instead of 2", len(r.attempts))
	}
	s.point(v.trace, "The first request: two attempts side by side, below the gateway's span. The visitor saw 200.")
	if err := s.tags(r.attempts[0], fact{attrErrorType, "the server closed the connection without an answer"},
		fact{attrServerPort, "of the server that died"}, fact{attrWhyClosed, "what became of the connection"}); err != nil {
		return err
	}
	if err := s.tags(r.attempts[1], fact{attrAttemptWhy, "why there was a second attempt"}, fact{attrAttemptNumber, "which one it was"},
		fact{attrServerPort, "of another server"}, fact{attrStatus, "its answer"}); err != nil {
		return err
	}
	second := func(tags []Tag) bool { n, _ := tag(tags, attrAttemptNumber); return n == "2" }
	return s.log(r.server, eventBegun, second, fact{attrErrorType, "the decision, and what the attempt before had failed with"})
}

func (s *stage) showGone(v visit, r *request) error {
	if len(r.attempts) != 1 {
		return fmt.Errorf("%d attempts instead of 1", len(r.attempts))
	}
	failed := r.below(r.attempts[0], spanFailed)
	if len(failed) != 1 {
		return fmt.Errorf("%d spans %s instead of 1", len(failed), spanFailed)
	}
	c, err := s.connection(failed[0], func(*connection) bool { return true })
	if err != nil {
		return err
	}
	s.point(v.trace, "The second request: nothing was sent to the dead server, so this is no retry. The visitor saw 200.")
	if err := s.log(r.attempts[0], eventChosen, nil, fact{attrPassed, "so many servers were tried in vain before this one"}); err != nil {
		return err
	}
	if err := s.tags(failed[0], fact{attrErrorType, "it could not be connected to"}, fact{attrServerPort, "of the dead server"}); err != nil {
		return err
	}
	if err := s.log(failed[0], eventEjected, nil, fact{attrServerPort, "the second failure in a row: it is given no further request"}); err != nil {
		return err
	}
	s.point(c.root.TraceID, "The connection that never was, to which that span links:")
	return s.tags(&c.root, fact{attrWhyClosed, "in place of a life"}, fact{attrErrorType, "and why"})
}

// playDenied: a plugin lets nobody into /admin.
func playDenied(s *stage) error {
	shop, err := s.startShop("127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := s.startGateway("denied.yaml", "SHOP="+shop.Addr); err != nil {
		return err
	}
	visits, err := s.visits(403, "/admin")
	if err != nil {
		return err
	}
	r, err := s.request(visits[0], 0)
	if err != nil {
		return err
	}
	if len(r.attempts) > 0 {
		return errors.New("there is an attempt at the upstream")
	}
	calls := r.below(r.server, "plugin.call tenant")
	if len(calls) != 1 {
		return fmt.Errorf("%d calls of the plugin instead of 1", len(calls))
	}
	s.point(visits[0].trace, "The request ends at the gateway: there is no attempt below its span, and nothing of the shop.")
	if err := s.log(r.server, eventPlugin, nil,
		fact{attrPluginName, "who decided"},
		fact{attrPluginOutcome, "what: it answered the request itself"},
		fact{attrPluginFuel, "what that cost, in instructions of WebAssembly"}); err != nil {
		return err
	}
	if err := s.tags(calls[0], fact{attrPluginFuel, "the same, at the span of the call: " + micros(calls[0].Duration).String()}); err != nil {
		return err
	}
	return s.tags(r.server, fact{attrStatus, "what the visitor saw"})
}

// named is an address with the upstream's name in the place of its host.
func named(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort(shopName, port)
}
