package dnstest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// ask puts a question and returns the data of the records of the answer and of the additional section.
func ask(t *testing.T, s *Server, network, name string, kind uint16) (rcode int, data string) {
	t.Helper()
	c := dns.Client{Net: network, Timeout: 20 * time.Second} // of a machine that may stand still
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion(name, kind), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, rr := range append(m.Answer, m.Extra...) {
		all = append(all, fmt.Sprint(rr.Header().Ttl, " ", strings.TrimPrefix(rr.String(), rr.Header().String())))
	}
	return m.Rcode, strings.Join(all, ", ")
}

func TestServerAnswersWhatItIsTold(t *testing.T) {
	s := New(t)
	s.Set("Web.test", 5*time.Second, "10.0.0.1", "fd00::1")
	s.Rotate("turn.test", 0, 2, "10.0.0.1", "10.0.0.2", "10.0.0.3")
	s.SetCNAME("alias.test", time.Second, "web.test")
	s.SetSRV("_x._tcp.test", 7*time.Second, []SRV{{Priority: 1, Weight: 2, Port: 3, Target: "web.test"}})
	s.Fail("fail.test", dns.RcodeServerFailure)
	for i, c := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string
	}{
		{"web.test.", dns.TypeA, 0, "5 10.0.0.1"},
		{"WEB.test.", dns.TypeAAAA, 0, "5 fd00::1"},
		{"web.test.", dns.TypeSRV, 0, ""},
		{"turn.test.", dns.TypeA, 0, "0 10.0.0.1, 0 10.0.0.2"},
		{"turn.test.", dns.TypeA, 0, "0 10.0.0.3, 0 10.0.0.1"},
		{"alias.test.", dns.TypeA, 0, "1 web.test., 5 10.0.0.1"},
		{"_x._tcp.test.", dns.TypeSRV, 0, "7 1 2 3 web.test., 5 10.0.0.1, 5 fd00::1"},
		{"fail.test.", dns.TypeA, dns.RcodeServerFailure, ""},
		{"none.test.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		network := []string{"udp", "tcp"}[i%2]
		if rcode, got := ask(t, s, network, c.name, c.kind); rcode != c.rcode || got != c.want {
			t.Errorf("%s %s by %s: %d %q, want %d %q", c.name, dns.TypeToString[c.kind], network, rcode, got, c.rcode, c.want)
		}
	}
	if s.Queries("web.test") != 3 || s.Queries("TURN.test.") != 2 || s.Queries("other.test") != 0 {
		t.Error("the questions are counted by name")
	}
}

func TestClockRunsTimersInOrder(t *testing.T) {
	c := NewClock()
	begin := c.Now()
	var ran []string
	note := func(what string) { ran = append(ran, fmt.Sprint(what, c.Now().Sub(begin))) }
	c.AfterFunc(2*time.Second, func() { note("b") })
	c.AfterFunc(time.Second, func() {
		note("a")
		c.AfterFunc(500*time.Millisecond, func() { note("c") })
	})
	stop := c.AfterFunc(time.Second, func() { note("stopped") })
	if !c.In(time.Second) || c.In(time.Hour) || c.Timers() != 3 || !stop() || stop() {
		t.Error("timers wait until their time, or until they are stopped")
	}
	c.Advance(2*time.Second - 1)
	c.Advance(1)
	if got := fmt.Sprint(ran); got != "[a1s c1.5s b2s]" || c.Timers() != 0 || c.Now().Sub(begin) != 2*time.Second {
		t.Errorf("%s, %d left", got, c.Timers())
	}
}
