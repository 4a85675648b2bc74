package resolve

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// write puts a text into a file.
func (f *fixture) write(path, text string) {
	f.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
}

// bracketed is an address as resolv.conf has it when it has a port.
func bracketed(s *dnstest.Server) string {
	host, port, _ := net.SplitHostPort(s.Addr())
	return "[" + host + "]:" + port
}

// configure makes resolv.conf name the servers, and what else is given.
func (f *fixture) configure(more string, all ...*dnstest.Server) {
	f.Helper()
	text := "# written by a test\n"
	for _, s := range all {
		text += "nameserver " + bracketed(s) + "\n"
	}
	f.write(f.conf, text+more)
}

func TestHostsFileComesFirst(t *testing.T) {
	f := setUp(t)
	f.write(f.hosts, "# comment\nfd00::9 local.test # end\n10.9.9.9 Local.test other\nnonsense line\n10.9.9.8 more other.test.\n10.9.9.9 local.test\n")
	f.configure("", f.Server)
	f.Set("local.test", time.Minute, "10.0.0.1")
	a := f.resolve(f.with("local.test", NameOptions{MinTTL: time.Minute}))
	f.wantFresh(a, "10.9.9.9 fd00::9")
	if a.Server != f.hosts || a.TTL != hostsTTL {
		t.Errorf("%+v", a)
	}
	f.wantFresh(f.resolve(f.with("LOCAL.test.", NameOptions{Family: IPv6})), "fd00::9")
	f.wantFresh(f.resolve(f.with("other.test", NameOptions{})), "10.9.9.8")
	f.wantFresh(f.resolve(f.with("local.test", NameOptions{Server: f.Addr()})), "10.0.0.1")
	f.wantFresh(f.resolve(f.with("more", NameOptions{MaxTTL: time.Second})), "10.9.9.8")
	if !f.clock.In(time.Second) {
		t.Error("max_ttl holds for the hosts file too")
	}
}

func TestChangesOfTheFilesAreSeen(t *testing.T) {
	f := setUp(t)
	other := dnstest.New(t)
	f.Set("web.test", time.Hour, "10.0.0.1")
	other.Set("web.test", time.Hour, "10.0.0.2")
	f.configure("", f.Server)
	n := f.with("web.test", NameOptions{})
	own := f.with("web.test", NameOptions{Server: f.Addr()})
	f.resolve(own)
	f.wantFresh(f.resolve(n), "10.0.0.1")
	f.pass(n, time.Minute)
	if f.Queries("web.test") != 4 {
		t.Error("files that do not change make nobody ask")
	}
	f.configure("", other)
	f.wantFresh(f.pass(n, hostsTTL), "10.0.0.2")
	f.write(f.hosts, "10.9.9.9 web.test\n")
	f.wantFresh(f.pass(n, hostsTTL), "10.9.9.9")
	f.write(f.hosts, "10.9.9.10 web.test\n")
	f.wantFresh(f.pass(n, hostsTTL), "10.9.9.10")
	if err := os.Remove(f.hosts); err != nil {
		t.Fatal(err)
	}
	f.wantFresh(f.pass(n, hostsTTL), "10.0.0.2")
	other.Silence(true) // a change while a look-up is under way is looked at after it
	other.Set("web.test", time.Hour, "10.0.0.3")
	n.mu.Lock()
	n.begin(true)
	n.mu.Unlock()
	f.asked(other, "web.test", 6)
	f.write(f.hosts, "10.9.9.11 web.test\n")
	f.clock.Advance(2 * time.Second)
	f.clock.Advance(3 * time.Second)
	other.Silence(false)
	f.clock.Advance(sendAgain)
	n.Await(context.Background()) // of the servers
	f.wantFresh(n.Await(context.Background()), "10.9.9.11")
	if f.Queries("web.test") != 4 {
		t.Error("a name with a server of its own is none of the files' business")
	}
	n.Close()
	own.Close()
	if f.clock.Timers() != 0 {
		t.Errorf("%d timers are left when no name is in use", f.clock.Timers())
	}
}

func TestSearchList(t *testing.T) {
	f := setUp(t)
	f.configure("search a.test b.test .\noptions ndots:2\n", f.Server)
	f.Set("web.b.test", time.Minute, "10.0.0.1")
	f.Set("empty.a.test", time.Minute)
	f.Set("empty.b.test", time.Minute, "10.0.0.2")
	f.Set("x.y.z", time.Minute, "10.0.0.3")
	f.Set("x.y.z.a.test", time.Minute, "10.0.0.4")
	f.Set("one.dot.b.test", time.Minute, "10.0.0.5")
	f.Set("one.dot", time.Minute, "10.0.0.6")
	f.Fail("fail.a.test", dns.RcodeServerFailure)
	f.Set("fail.b.test", time.Minute, "10.0.0.7")
	for host, want := range map[string]string{
		"web": "10.0.0.1", "empty": "10.0.0.2", "x.y.z": "10.0.0.3", "one.dot": "10.0.0.5", "one.dot.": "10.0.0.6", "fail": "10.0.0.7",
	} {
		f.wantFresh(f.resolve(f.with(host, NameOptions{})), want)
	}
	f.fails(f.with("none", NameOptions{}), "NXDOMAIN", "none.")
	for _, name := range []string{"none.a.test", "none.b.test", "none"} {
		f.asked(f.Server, name, 1)
	}
	f.fails(f.with("web.", NameOptions{}), "NXDOMAIN")
}

// TestAnOutageDoesNotChangeTheName: were it so, a failing server of the first domain would send requests to whoever has the
// name in the second one.
func TestAnOutageDoesNotChangeTheName(t *testing.T) {
	f := setUp(t)
	f.configure("search a.test b.test\n", f.Server)
	f.Set("web.a.test", 10*time.Second, "10.0.0.1")
	f.Set("web.b.test", 10*time.Second, "10.6.6.6")
	n := f.with("web", NameOptions{Family: IPv4})
	f.wantFresh(f.resolve(n), "10.0.0.1")
	f.Fail("web.a.test", dns.RcodeServerFailure)
	f.wantStale(f.pass(n, 10*time.Second), "10.0.0.1", "SERVFAIL", "web.a.test.")
	f.Remove("web.a.test")
	f.wantFresh(f.pass(n, time.Second), "10.6.6.6")
	f.Fail("web.a.test", dns.RcodeServerFailure)
	f.wantFresh(f.pass(n, 10*time.Second), "10.6.6.6")
	f.Silence(true)
	first, asked := f.Queries("web.a.test"), f.Queries("web.b.test")
	f.clock.Advance(10 * time.Second)
	f.asked(f.Server, "web.a.test", first+1)
	f.wantStale(f.pass(n, 10*time.Second), "10.6.6.6", "no answer in 10s")
	if f.Queries("web.b.test") != asked {
		t.Error("where nobody answers, the search ends")
	}
}

func TestTheNextServerWhenOneFails(t *testing.T) {
	f := setUp(t)
	second, third := dnstest.New(t), dnstest.New(t)
	f.configure("", f.Server, second, third)
	f.Fail("web.test", dns.RcodeServerFailure)
	second.Fail("web.test", dns.RcodeRefused)
	third.Set("web.test", 10*time.Second, "10.0.0.1")
	n := f.with("web.test", NameOptions{})
	a := f.resolve(n)
	f.wantFresh(a, "10.0.0.1")
	if a.Server != third.Addr() {
		t.Errorf("%s answered", a.Server)
	}
	third.Fail("web.test", dns.RcodeServerFailure)
	f.wantStale(f.pass(n, 10*time.Second), "10.0.0.1", f.Addr()+" answered SERVFAIL", second.Addr()+" answered REFUSED", third.Addr())
	f.Fail("other.test", 3841)
	f.fails(f.with("other.test", NameOptions{Server: f.Addr()}), "RCODE 3841")
}

func TestTheNextServerWhenOneIsSilent(t *testing.T) {
	f := setUp(t)
	second := dnstest.New(t)
	f.configure("", f.Server, second)
	second.Set("web.test", 10*time.Second, "10.0.0.2")
	f.Silence(true)
	n := f.with("web.test", NameOptions{Family: IPv4})
	n.Refresh()
	f.asked(f.Server, "web.test", 1)
	if second.Queries("web.test") != 0 {
		t.Error("the second server was asked at once")
	}
	f.wantFresh(f.pass(n, nextServer), "10.0.0.2")
	f.wantFresh(f.pass(n, 10*time.Second), "10.0.0.2") // at once: a server that was silent is asked last
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	f.Silence(false)
	f.pass(n, 10*time.Second)
	f.wantFresh(f.pass(n, 10*time.Second), "10.0.0.1") // after 30 s it is asked first again
}

// TestALateServer: the first server answers after the second one was asked, and before it.
func TestALateServer(t *testing.T) {
	f := setUp(t)
	second := dnstest.New(t)
	f.configure("", f.Server, second)
	f.Set("web.test", 10*time.Second, "10.0.0.1")
	second.Silence(true)
	f.Hold()
	n := f.with("web.test", NameOptions{Family: IPv4})
	n.Refresh()
	f.asked(f.Server, "web.test", 1)
	f.clock.Advance(nextServer)
	f.asked(second, "web.test", 1)
	f.Release()
	f.wantFresh(f.pass(n, 0), "10.0.0.1")
}

func TestTimeoutAndAttempts(t *testing.T) {
	f := setUp(t)
	f.Silence(true)
	for options, want := range map[string]time.Duration{
		"": 10 * time.Second, "options timeout:1 attempts:1\n": time.Second, "options timeout:3 attempts:4\n": 12 * time.Second, "options timeout:900 attempts:900\n": lookUpLimit,
	} {
		f.configure(options, f.Server)
		n := f.with("web.test", NameOptions{Family: IPv4})
		n.Refresh()
		testkit.Eventually(t, "the server is asked", func() bool { return f.clock.In(want) })
		f.clock.Advance(want - 1)
		if n.mu.Lock(); n.flight == nil {
			t.Errorf("%q: given up before %s", options, want)
		}
		n.mu.Unlock()
		f.pass(n, 1)
		f.fails(n, "no answer in "+want.String())
		n.Close()
	}
}

func TestAServerThatIsNotThere(t *testing.T) {
	f := setUp(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0") // keeps the port, by TCP
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f.Set("web.test", time.Minute, "10.0.0.1")
	host, port, _ := net.SplitHostPort(ln.Addr().String())
	f.write(f.conf, fmt.Sprintf("nameserver [%s]:%s\nnameserver %s\n", host, port, bracketed(f.Server)))
	n := f.with("web.test", NameOptions{})
	if runtime.GOOS != "linux" { // elsewhere it may be silence
		n.Refresh()
		f.asked(f.Server, "web.test", 0)
		f.clock.Advance(nextServer)
	}
	f.wantFresh(f.resolve(n), "10.0.0.1")
}

func TestWhatCannotBeAsked(t *testing.T) {
	f := setUp(t)
	f.fails(f.with("web.test", NameOptions{}), f.conf, "no such file")
	f.fails(f.with(strings.Repeat("a", 64)+".test", NameOptions{Server: f.Addr()}), "not a domain name")
	f.write(f.conf, "search a.test\n")
	if s, err := f.resolver.servers("web", ""); err != nil || fmt.Sprint(s.addrs) != "[127.0.0.1:53]" {
		t.Errorf("%+v, %v; want the server of this host", s, err)
	}
	for server, want := range map[string]string{"10.0.0.1": "10.0.0.1:53", "fd00::1": "[fd00::1]:53", "[fd00::1]": "[fd00::1]:53", "10.0.0.1:5353": "10.0.0.1:5353", "[fd00::1]:5353": "[fd00::1]:5353"} {
		if got := withPort(server); got != want {
			t.Errorf("%s: %s, want %s", server, got, want)
		}
	}
}
