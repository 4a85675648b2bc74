package resolve

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/internal/testkit"
)

// records answers questions of one kind with lines of a zone file.
func records(kind uint16, lines ...string) func(q, m *dns.Msg, tcp bool) bool {
	return func(q, m *dns.Msg, _ bool) bool {
		if q.Question[0].Qtype != kind {
			return true
		}
		for _, l := range lines {
			rr, err := dns.NewRR(l)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		return true
	}
}

func TestCNAMEsAreFollowedButNotForEver(t *testing.T) {
	f := setUp(t)
	chain := func(n int) []string {
		lines := []string{fmt.Sprintf("c%d.test. 60 A 10.0.0.1", n)}
		for i := range n {
			lines = append(lines, fmt.Sprintf("c%d.test. %d CNAME C%d.test.", i, 20+i, i+1)) // after what it leads to
		}
		return lines
	}
	f.Handle(records(dns.TypeA, chain(maxChain)...))
	if a := f.resolve(f.name("c0.test")); a.TTL != 20*time.Second {
		t.Errorf("%+v; want the least TTL on the way", a)
	}
	f.Handle(records(dns.TypeA, chain(maxChain+1)...))
	f.fails(f.name("c0.test"), "without an address")
	f.Handle(records(dns.TypeA, "c0.test. 60 CNAME loop.test.", "loop.test. 60 CNAME c0.test."))
	f.fails(f.name("c0.test"), "without an address")
	f.Handle(records(dns.TypeA, "c0.test. 60 CNAME c0.test."))
	f.fails(f.name("c0.test"), "without an address")
	f.Handle(records(dns.TypeA, "other.test. 60 A 10.0.0.1", "c0.test. 60 CH A 10.0.0.1"))
	f.fails(f.name("c0.test"), "without an address")
}

func TestAddressesThatAreNoServers(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:10.0.0.1", "::ffff:0.0.0.0")
	f.fails(f.name("web.test"), "without an address")
	f.Set("web.test", time.Minute, "0.0.0.0", "127.0.0.1", "ff02::1", "::1")
	f.wantFresh(f.resolve(f.name("web.test")), "127.0.0.1 ::1")
}

func TestOneFamilyOnly(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1", "fd00::1")
	f.wantFresh(f.resolve(f.with("web.test", NameOptions{Server: f.Addr(), Family: IPv4})), "10.0.0.1")
	f.wantFresh(f.resolve(f.with("web.test", NameOptions{Server: f.Addr(), Family: IPv6})), "fd00::1")
	if f.Queries("web.test") != 2 {
		t.Error("what is not wanted is not asked for")
	}
}

func TestALargeAnswerComesByTCPAndIsBounded(t *testing.T) {
	f := setUp(t)
	var addrs []string
	for i := range 400 {
		addrs = append(addrs, fmt.Sprintf("10.1.%d.%d", i/200, i%200))
	}
	f.Set("large.test", 10*time.Second, addrs...)
	n := f.with("large.test", NameOptions{Server: f.Addr(), Family: IPv4})
	if a := f.resolve(n); len(a.Endpoints) != maxEndpoints || f.Queries("large.test") != 2 {
		t.Errorf("%d addresses after %d questions, want the bound of %d, and UDP and TCP", len(a.Endpoints), f.Queries("large.test"), maxEndpoints)
	}
	f.Set("large.test", 10*time.Second, append(addrs[200:], addrs[:200]...)...)
	f.pass(n, 10*time.Second)
	f.wantChanges(1) // whatever the order, the same ones are kept
	f.Handle(func(_, m *dns.Msg, tcp bool) bool { m.Truncated = true; return true })
	f.wantStale(f.pass(n, 10*time.Second), fmt.Sprint(list(n)), "truncated answer by TCP")
	f.Handle(func(_, m *dns.Msg, tcp bool) bool {
		m.Truncated = true
		m.Id += map[bool]uint16{true: 1}[tcp]
		return true
	})
	f.wantStale(f.pass(n, time.Second), fmt.Sprint(list(n)), "another number")
	f.Handle(func(_, m *dns.Msg, tcp bool) bool { m.Truncated = true; return !tcp })
	f.clock.Advance(2 * time.Second)
	f.asked(f.Server, "large.test", 10)
	f.wantStale(f.pass(n, ownTimeout*ownAttempts), fmt.Sprint(list(n)), "no answer in 4s")
}

// list is the addresses in force, as want has them.
func list(n *Name) string {
	text := ""
	for i, e := range n.Current().Endpoints {
		if i > 0 {
			text += " "
		}
		text += e.Addr.String()
	}
	return text
}

func TestAServerFromBeforeEDNS(t *testing.T) {
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		f := setUp(t)
		answer := records(dns.TypeA, "web.test. 60 A 10.0.0.1")
		f.Handle(func(q, m *dns.Msg, tcp bool) bool {
			if q.IsEdns0() != nil {
				m.Rcode = code
				return true
			}
			return answer(q, m, tcp)
		})
		f.wantFresh(f.resolve(f.name("web.test")), "10.0.0.1")
		f.Handle(func(_, m *dns.Msg, _ bool) bool { m.Rcode = code; return true })
		f.fails(f.name("web.test"), dns.RcodeToString[code])
	}
}

// hostile is a server that sends several datagrams for one question.
func hostile(t *testing.T, answers func(q *dns.Msg) [][]byte) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for buf := make([]byte, 4096); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) == nil {
				for _, b := range answers(q) {
					_, _ = pc.WriteTo(b, from)
				}
			}
		}
	}()
	t.Cleanup(func() {
		_ = pc.Close()
		<-ended
	})
	return pc.LocalAddr().String()
}

// answer is a packed answer that has been changed.
func answer(q *dns.Msg, addr string, change func(m *dns.Msg)) []byte {
	m := new(dns.Msg).SetReply(q)
	rr, _ := dns.NewRR(q.Question[0].Name + " 60 A " + addr)
	m.Answer = []dns.RR{rr}
	change(m)
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func strays(q *dns.Msg) map[string][]byte {
	cut := answer(q, "10.6.6.6", func(*dns.Msg) {})
	huge := append(answer(q, "10.6.6.6", func(*dns.Msg) {}), make([]byte, 8000)...)
	binary.BigEndian.PutUint16(huge[6:], 9000)
	loop := append(answer(q, "10.6.6.6", func(m *dns.Msg) { m.Answer = nil }), 0xc0, byte(len(answer(q, "10.6.6.6", func(m *dns.Msg) { m.Answer = nil }))), 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 10, 6, 6, 6)
	binary.BigEndian.PutUint16(loop[6:], 1)
	return map[string][]byte{
		"empty": {}, "short": {1, 2, 3}, "garbage": []byte("GET / HTTP/1.1\r\nHost: web.test\r\n\r\n"), "cut off": cut[:len(cut)-3], "huge": huge, "pointer to itself": loop,
		"another number":   answer(q, "10.6.6.6", func(m *dns.Msg) { m.Id++ }),
		"another name":     answer(q, "10.6.6.6", func(m *dns.Msg) { m.Question[0].Name = "evil.test." }),
		"another kind":     answer(q, "10.6.6.6", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }),
		"another class":    answer(q, "10.6.6.6", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
		"no question":      answer(q, "10.6.6.6", func(m *dns.Msg) { m.Question = nil }),
		"two questions":    answer(q, "10.6.6.6", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
		"not an answer":    answer(q, "10.6.6.6", func(m *dns.Msg) { m.Response = false }),
		"another question": answer(q, "10.6.6.6", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }),
	}
}

func TestWhatIsNoAnswerIsPassedOver(t *testing.T) {
	f := setUp(t)
	addr := hostile(t, func(q *dns.Msg) [][]byte {
		var all [][]byte
		for _, b := range strays(q) {
			all = append(all, b)
		}
		return append(all, answer(q, "10.0.0.1", func(m *dns.Msg) { m.Question[0].Name = "WEB.test." }))
	})
	n := f.with("web.test", NameOptions{Server: addr, Family: IPv4})
	f.wantFresh(f.resolve(n), "10.0.0.1")
}

func TestNothingButStraysIsNoAnswer(t *testing.T) {
	f := setUp(t)
	for what := range strays(new(dns.Msg).SetQuestion("web.test.", dns.TypeA)) {
		asked := make(chan struct{}, 16)
		addr := hostile(t, func(q *dns.Msg) [][]byte {
			asked <- struct{}{}
			return [][]byte{strays(q)[what]}
		})
		n := f.with("web.test", NameOptions{Server: addr, Family: IPv4})
		n.Refresh()
		<-asked
		f.clock.Advance(nextServer)
		<-asked
		if a := f.pass(n, ownTimeout*ownAttempts); a != nil {
			t.Errorf("%s: %+v", what, a)
		}
		f.fails(n, addr)
		n.Close()
	}
}

func TestAFloodOfStraysEndsTheLookUp(t *testing.T) {
	f := setUp(t)
	addr := hostile(t, func(q *dns.Msg) [][]byte {
		all := make([][]byte, 2*maxStrays)
		for i := range all {
			all[i] = strays(q)["another number"]
		}
		return all
	})
	n := f.with("web.test", NameOptions{Server: addr, Family: IPv4})
	f.fails(n, "64 datagrams", "another number")
}

func TestTheNumberOfLookUpsIsBounded(t *testing.T) {
	f := setUp(t)
	f.Set("web.test", time.Minute, "10.0.0.1")
	for range maxLookUps {
		f.resolver.slots <- struct{}{}
	}
	n := f.name("web.test")
	n.Refresh()
	testkit.Eventually(t, "the look-up waits for its turn", func() bool { return f.clock.In(lookUpLimit) })
	if f.Queries("web.test") != 0 {
		t.Error("asked although too many are asking")
	}
	<-f.resolver.slots
	f.wantFresh(f.resolve(n), "10.0.0.1")
	f.resolver.slots <- struct{}{}
	other := f.name("other.test")
	other.Refresh()
	testkit.Eventually(t, "the look-up waits for its turn", func() bool { return f.clock.In(lookUpLimit) })
	f.pass(other, lookUpLimit)
	f.fails(other, "no answer in 30s")
	for range maxLookUps {
		<-f.resolver.slots
	}
}

// FuzzAnswer gives any bytes as the answer to a question, and holds the bounds against what is made of them.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg).SetQuestion("web.test.", dns.TypeA)
	s := new(dns.Msg).SetQuestion("_http._tcp.web.test.", dns.TypeSRV)
	q.Id, s.Id = 7, 7
	f.Add(answer(q, "10.0.0.1", func(*dns.Msg) {}), false)
	for _, b := range strays(q) {
		f.Add(b, false)
	}
	f.Add(answer(s, "10.0.0.1", func(m *dns.Msg) {
		m.Answer = []dns.RR{&dns.SRV{Hdr: dns.RR_Header{Name: "_http._tcp.web.test.", Rrtype: dns.TypeSRV, Class: dns.ClassINET}, Port: 80, Target: "a.test."}}
		m.Extra = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "a.test.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(10, 0, 0, 1)}}
	}), true)
	f.Fuzz(func(t *testing.T, b []byte, service bool) {
		asked := q
		if service {
			asked = s
		}
		m, err := parse(b, asked)
		if err != nil {
			return
		}
		if m.Id != 7 || !m.Response {
			t.Error("this is no answer")
		}
		var all []Endpoint
		if service {
			targets, ttl := services(m.Answer, "_http._tcp.web.test.")
			if len(targets) > maxTargets || ttl < 0 {
				t.Errorf("%d targets, TTL %s", len(targets), ttl)
			}
			for _, r := range targets {
				all = append(all, endpoints(glue(m.Extra, r.Target, Any).addrs, Endpoint{Port: r.Port})...)
			}
		} else {
			addrs, ttl := addresses(m.Answer, "web.test.", dns.TypeA)
			if ttl < 0 {
				t.Errorf("TTL %s", ttl)
			}
			all = endpoints(addrs, Endpoint{})
		}
		all = tidy(all)
		if len(all) > maxEndpoints {
			t.Errorf("%d endpoints", len(all))
		}
		for _, e := range all {
			if !e.Addr.IsValid() || e.Addr.IsUnspecified() || e.Addr.IsMulticast() || service != (e.Port != 0) {
				t.Errorf("%+v", e)
			}
		}
	})
}
