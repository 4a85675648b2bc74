package resolve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/fault"
)

// server is a real name server on loopback, whose answers the test changes.
type server struct {
	addr    string
	mu      sync.Mutex
	handle  func(q *dns.Msg, m *dns.Msg, tcp bool)
	queries atomic.Int64
}

func newServer(t *testing.T) *server {
	t.Helper()
	pc, ln := samePort(t)
	s := &server{addr: pc.LocalAddr().String()}
	s.zone(nil)
	handler := func(tcp bool) dns.HandlerFunc {
		return func(w dns.ResponseWriter, q *dns.Msg) {
			s.queries.Add(1)
			m := new(dns.Msg).SetReply(q)
			s.mu.Lock()
			h := s.handle
			s.mu.Unlock()
			h(q, m, tcp)
			if m.Rcode != -1 {
				_ = w.WriteMsg(m)
			}
		}
	}
	for _, d := range []*dns.Server{{PacketConn: pc, Handler: handler(false)}, {Listener: ln, Handler: handler(true)}} {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		go func() { _ = d.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = d.Shutdown() })
	}
	return s
}

// samePort opens a port that is free for UDP and for TCP.
func samePort(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// with changes the answers.
func (s *server) with(h func(q, m *dns.Msg, tcp bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handle = h
}

// zone answers by lines of a zone file; other names do not exist.
func (s *server) zone(lines []string) {
	var rrs []dns.RR
	for _, l := range lines {
		rr, err := dns.NewRR(l)
		if err != nil {
			panic(err)
		}
		rrs = append(rrs, rr)
	}
	s.with(func(q, m *dns.Msg, _ bool) {
		name, known := q.Question[0].Name, false
		for _, rr := range rrs {
			if strings.EqualFold(rr.Header().Name, name) {
				known = true
				if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
					m.Answer = append(m.Answer, rr)
				}
				if c, ok := rr.(*dns.CNAME); ok {
					name = c.Target
				}
			}
		}
		if !known {
			m.Rcode = dns.RcodeNameError
		}
	})
}

// clock is a time that the test moves.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

type fixture struct {
	*testing.T
	*server
	*clock
	resolver *Resolver
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, server: newServer(t), clock: &clock{}}
	f.clock.at.Store(time.Now().UnixNano())
	before := runtime.NumGoroutine()
	f.resolver = New(Options{Hosts: filepath.Join(t.TempDir(), "none"), Now: f.now})
	t.Cleanup(func() {
		f.resolver.Close()
		for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
			if time.Now().After(end) {
				t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
				return
			}
		}
	})
	return f
}

func (f *fixture) name(host string) *Name {
	return f.resolver.Name(host, NameOptions{Server: f.addr, MinTTL: time.Second, MaxTTL: time.Minute})
}

func (f *fixture) resolve(n *Name) *Answer {
	f.Helper()
	a, err := n.Resolve(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	return a
}

func (f *fixture) want(a *Answer, addrs string) {
	f.Helper()
	if got := fmt.Sprint(a.Addrs); got != "["+addrs+"]" {
		f.Errorf("got %s, want [%s]", got, addrs)
	}
}

func TestAnAddressNeedsNoServer(t *testing.T) {
	f := setUp(t)
	for _, host := range []string{"10.0.0.1", "[::1]", "::ffff:10.0.0.1"} {
		if a := f.name(host).Current(); a == nil || len(a.Addrs) != 1 {
			t.Errorf("%s: %+v", host, a)
		}
	}
	if f.queries.Load() != 0 {
		t.Error("a server was asked")
	}
}

func TestAnAnswerIsUsedForItsTTLAndThenAskedForAgain(t *testing.T) {
	f := setUp(t)
	f.zone([]string{"web.test. 30 A 10.0.0.1", "web.test. 20 A 10.0.0.2", "web.test. 60 AAAA fd00::1"})
	n := f.name("web.test")
	if n.Current() != nil {
		t.Fatal("an answer before the first question")
	}
	a := f.resolve(n)
	f.want(a, "10.0.0.1 10.0.0.2 fd00::1")
	if a.TTL != 20*time.Second || a.Server != f.addr || a.Stale {
		t.Errorf("%+v; want the least TTL, 20 s", a)
	}
	f.zone([]string{"web.test. 5 A 10.0.0.9"})
	f.advance(19 * time.Second)
	if n.Current() != a || f.queries.Load() != 2 {
		t.Error("within its TTL the answer stays, and nobody is asked")
	}
	f.advance(1100 * time.Millisecond)
	if n.Current() != a {
		t.Error("just past its TTL the answer is used once more")
	}
	f.want(f.resolve(n), "10.0.0.9") // the refresh that Current began, or the next
	f.advance(5*time.Second + grace)
	if n.Current() != nil {
		t.Error("past TTL and grace nobody may use the old answer")
	}
	f.want(f.resolve(n), "10.0.0.9")
}

func TestTTLIsBounded(t *testing.T) {
	f := setUp(t)
	f.zone([]string{"low.test. 0 A 10.0.0.1", "high.test. 86400 A 10.0.0.1"})
	if a := f.resolve(f.name("low.test")); a.TTL != time.Second {
		t.Errorf("min_ttl: %v", a.TTL)
	}
	if a := f.resolve(f.name("high.test")); a.TTL != time.Minute {
		t.Errorf("max_ttl: %v", a.TTL)
	}
}

func TestNXDOMAINAndSilenceAreDoubtAndNotNews(t *testing.T) {
	for name, broken := range map[string]func(q, m *dns.Msg, tcp bool){
		"NXDOMAIN": func(_, m *dns.Msg, _ bool) { m.Rcode = dns.RcodeNameError },
		"SERVFAIL": func(_, m *dns.Msg, _ bool) { m.Rcode = dns.RcodeServerFailure },
		"empty":    func(_, m *dns.Msg, _ bool) {},
		"another question": func(_, m *dns.Msg, _ bool) {
			m.Question[0].Name = "other.test."
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := setUp(t)
			f.zone([]string{"web.test. 10 A 10.0.0.1"})
			n := f.name("web.test")
			f.resolve(n)
			f.with(broken)
			f.advance(time.Minute)
			a := f.resolve(n)
			f.want(a, "10.0.0.1")
			if !a.Stale || a.Doubt == "" {
				t.Errorf("%+v; want it marked stale, and why", a)
			}
			if n.Current() == nil {
				t.Error("the stale answer is in force until the next try")
			}
			f.zone([]string{"web.test. 10 A 10.0.0.2"})
			f.advance(retryDoubt)
			if a = f.resolve(n); a.Stale {
				t.Error("still stale")
			}
			f.want(a, "10.0.0.2")
		})
	}
}

func TestANameThatNeverHadAnAnswer(t *testing.T) {
	f := setUp(t)
	_, err := f.name("gone.test").Resolve(context.Background())
	var e *fault.Error
	if !errors.As(err, &e) || e.Kind != fault.DNS || e.Host != "gone.test" || !strings.Contains(err.Error(), f.addr) || !strings.Contains(err.Error(), "NXDOMAIN") {
		t.Errorf("the error says not enough: %v", err)
	}
}

func TestATruncatedAnswerIsAskedForByTCP(t *testing.T) {
	f := setUp(t)
	f.with(func(q, m *dns.Msg, tcp bool) {
		if m.Truncated = !tcp; tcp && q.Question[0].Qtype == dns.TypeA {
			for i := range 200 {
				rr, _ := dns.NewRR(fmt.Sprintf("%s 60 A 10.1.%d.%d", q.Question[0].Name, i/100, i%100))
				m.Answer = append(m.Answer, rr)
			}
		}
	})
	if a := f.resolve(f.name("large.test")); len(a.Addrs) != maxAddrs {
		t.Errorf("%d addresses, want the bound of %d", len(a.Addrs), maxAddrs)
	}
}

func TestCNAMEsAreFollowedButNotForEver(t *testing.T) {
	f := setUp(t)
	f.zone([]string{"web.test. 60 CNAME real.test.", "real.test. 7 A 10.0.0.1"})
	if a := f.resolve(f.name("web.test")); a.TTL != 7*time.Second {
		t.Errorf("%+v", a)
	}
	f.zone([]string{"web.test. 60 CNAME loop.test.", "loop.test. 60 CNAME web.test."})
	if _, err := f.name("web.test").Resolve(context.Background()); err == nil {
		t.Error("a loop of names has an address")
	}
}

func TestOneQuestionForAllWhoWait(t *testing.T) {
	f := setUp(t)
	release := make(chan struct{})
	f.with(func(q, m *dns.Msg, _ bool) {
		<-release
		if rr, _ := dns.NewRR(q.Question[0].Name + " 60 A 10.0.0.1"); q.Question[0].Qtype == dns.TypeA {
			m.Answer = append(m.Answer, rr)
		}
	})
	n := f.name("web.test")
	var wg sync.WaitGroup
	for range 20 {
		n.Refresh()
		wg.Go(func() {
			if _, err := n.Resolve(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wg.Wait()
	if got := f.queries.Load(); got != 2 {
		t.Errorf("%d questions, want one for each family", got)
	}
}

func TestHostsFileAndSearchList(t *testing.T) {
	f := setUp(t)
	dir := t.TempDir()
	hosts, conf := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	host, port, _ := net.SplitHostPort(f.addr)
	for path, text := range map[string]string{
		hosts: "# comment\n10.9.9.9 Local.test other\nfd00::9 local.test # end\nnonsense line\n",
		conf:  "nameserver " + host + "\nsearch a.test b.test\noptions ndots:1\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := New(Options{Hosts: hosts, ResolvConf: conf})
	defer r.Close()
	a, err := r.Name("local.test", NameOptions{}).Resolve(context.Background())
	if err != nil || fmt.Sprint(a.Addrs) != "[10.9.9.9 fd00::9]" || a.Server != hosts {
		t.Errorf("%+v, %v", a, err)
	}
	c, err := r.conf("")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(c.NameList("web")); got != "[web.a.test. web.b.test. web.]" {
		t.Errorf("search: %s", got)
	}
	_ = port // resolv.conf cannot name a port, so the list is not asked here
}

func TestCurrentAllocatesNothing(t *testing.T) {
	f := setUp(t)
	f.zone([]string{"web.test. 60 A 10.0.0.1"})
	n := f.name("web.test")
	f.resolve(n)
	if got := testing.AllocsPerRun(100, func() { _ = n.Current() }); got != 0 {
		t.Errorf("Current allocates %v times", got)
	}
}
