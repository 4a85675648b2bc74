package resolve

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

func TestNoIsDoubtAndNotNews(t *testing.T) {
	for name, fail := range failing {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			f.Set("web.test", 10*time.Second, "10.0.0.1")
			n := f.with("web.test", NameOptions{Server: f.Addr(), Family: IPv4}) // one question each time
			good := f.resolve(n)
			fail(f.Server)
			a := f.pass(n, 10*time.Second)
			f.wantStale(a, "10.0.0.1", name, f.Addr())
			if a.At != good.At || a.TTL != good.TTL {
				t.Error("the stale answer is as old as the good one")
			}
			f.wantChanges(2)
			for _, wait := range []time.Duration{1, 2, 3, 4, 5, 5} {
				asked := f.Queries("web.test")
				if f.pass(n, wait*time.Second-1); f.Queries("web.test") != asked {
					t.Errorf("asked before %d s were over", wait)
				}
				if f.pass(n, 1); f.Queries("web.test") == asked {
					t.Errorf("not asked again after %d s", wait)
				}
			}
			f.wantChanges(2)
			f.Set("web.test", 10*time.Second, "10.0.0.1")
			f.wantFresh(f.pass(n, 5*time.Second), "10.0.0.1")
			f.wantChanges(3)
			fail(f.Server)
			f.pass(n, 10*time.Second)
			asked := f.Queries("web.test")
			if f.pass(n, time.Second); f.Queries("web.test") == asked {
				t.Error("after a good answer the waits begin at 1 s again")
			}
		})
	}
}

func TestSilenceIsDoubtAndALateAnswerIsAdopted(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	n := f.name("web.test")
	a := f.resolve(n)
	f.Set("web.test", 10*time.Second, "10.0.0.2")
	f.Hold()
	f.clock.Advance(10 * time.Second)
	f.asked(f.Server, "web.test", 4)
	f.clock.Advance(lateAfter - 1)
	if n.Current() != a {
		t.Error("stale too early")
	}
	f.clock.Advance(1)
	f.wantStale(n.Current(), "10.0.0.1", "900ms")
	f.wantChanges(2)
	f.Release()
	f.wantFresh(f.pass(n, 0), "10.0.0.2")
	f.wantChanges(3)
}

func TestSilenceIsAskedAgainAndAgain(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	n := f.with("web.test", NameOptions{Server: f.Addr(), Family: IPv4})
	f.resolve(n)
	f.Silence(true)
	f.clock.Advance(10 * time.Second)
	f.asked(f.Server, "web.test", 2)
	f.clock.Advance(nextServer)
	f.asked(f.Server, "web.test", 3)
	for i := range 3 {
		f.clock.Advance(sendAgain)
		f.asked(f.Server, "web.test", 4+i)
	}
	f.wantStale(f.pass(n, 700*time.Millisecond), "10.0.0.1", "no answer in 4s")
	f.wantChanges(2)
	f.Silence(false)
	f.wantFresh(f.pass(n, time.Second), "10.0.0.1")
	f.wantChanges(3)
}

func TestALostDatagramCostsNoStaleness(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	n := f.name("web.test")
	f.resolve(n)
	f.Silence(true)
	f.clock.Advance(10 * time.Second)
	f.asked(f.Server, "web.test", 4)
	f.Silence(false)
	f.wantFresh(f.pass(n, nextServer), "10.0.0.1")
	f.wantChanges(1)
}

func TestANameThatNeverHadAnAnswerKeepsAsking(t *testing.T) {
	f := setUp(t)
	n := f.with("web.test", NameOptions{Server: f.Addr(), Family: IPv4})
	f.fails(n, f.Addr(), "NXDOMAIN", "dns.server")
	asked := f.Queries("web.test")
	f.fails(n, "NXDOMAIN")
	if f.Queries("web.test") != asked {
		t.Error("a failure is not asked for again at once")
	}
	f.clock.Advance(refreshRest)
	f.fails(n, "NXDOMAIN")
	if f.Queries("web.test") == asked {
		t.Error("a request may ask again after 500 ms")
	}
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	f.wantFresh(f.pass(n, 2*time.Second), "10.0.0.1")
	f.wantChanges(1)
}

func TestOneFamilyInDoubt(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", 10*time.Second, "10.0.0.1", "fd00::1")
	n := f.name("web.test")
	f.resolve(n)
	only := func(kind, code uint16) dnstest.Handler {
		return func(q, m *dns.Msg, _ bool) bool {
			if q.Question[0].Qtype != kind {
				m.Rcode = int(code)
				return true
			}
			rr, _ := dns.NewRR("web.test. 10 A 10.0.0.2")
			m.Answer = []dns.RR{rr}
			return true
		}
	}
	f.Handle(only(dns.TypeA, dns.RcodeServerFailure))
	f.wantStale(f.pass(n, 10*time.Second), "10.0.0.2 fd00::1", "AAAA", "SERVFAIL")
	f.wantChanges(2)
	f.wantStale(f.pass(n, time.Second), "10.0.0.2 fd00::1")
	f.wantChanges(2)
	f.Handle(only(dns.TypeA, dns.RcodeSuccess)) // there are none of the other family any more: that is news
	f.wantFresh(f.pass(n, 2*time.Second), "10.0.0.2")
	f.wantChanges(3)
}

func TestAServerThatDropsOneFamily(t *testing.T) {
	f := setUp(t)
	f.Handle(func(q, m *dns.Msg, _ bool) bool {
		rr, _ := dns.NewRR("web.test. 10 A 10.0.0.1")
		m.Answer = []dns.RR{rr}
		return q.Question[0].Qtype == dns.TypeA
	})
	n := f.name("web.test")
	n.Refresh()
	testkit.Eventually(t, "the one family is there", func() bool { return f.clock.In(otherFamily) })
	f.wantFresh(f.pass(n, otherFamily), "10.0.0.1")
	if !f.clock.In(10 * time.Second) {
		t.Error("an answer is good for its TTL although the name never had the other family")
	}
}
