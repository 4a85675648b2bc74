package gateway_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// The tests of this file and of names_test.go show the section "Addresses that change" of examples/parity/README.md.

const nameTTL = time.Second

// named is a config with one target, a name that this server knows; dns are further keys of the upstream's dns, and more
// are further keys of the upstream, one a line.
func named(server *dnstest.Server, port uint16, dns string, more ...string) string {
	return fmt.Sprintf(`
loops: 2
routes: [{ upstream: web }]
upstreams:
  web:
    targets: ['http://backend.test:%d']
    dns: { server: '%s', %s }
    %s
`, port, server.Addr(), dns, strings.Join(more, "\n    "))
}

// move is how the addresses of a name change while requests come, and the old ones then go dark.
type move struct {
	old, new []*backend // what DNS gives; some may be in both
	dns      *dnstest.Server
	at       time.Time // DNS has given the new ones since
	*arrivals
	*flow
	connections map[*backend]int64 // of those in both, before
}

// gone are the backends whose address DNS no longer gives.
func (m *move) gone() (list []*backend) {
	for _, b := range m.old {
		if !slices.Contains(m.new, b) {
			list = append(list, b)
		}
	}
	return list
}

// begin has requests come, until so many old backends have had some.
func (m *move) begin(t *testing.T, addr, host string, backends int) {
	m.arrivals = watch(append(slices.Clone(m.old), m.new...))
	m.flow = flowing(t, addr, host, 8, 4*time.Millisecond)
	m.pass(t, 300)
	testkit.Eventually(t, "requests reach the old addresses", func() bool {
		time.Sleep(time.Millisecond)
		have := 0
		for _, b := range m.old {
			if b.requests.Load() > 0 {
				have++
			}
		}
		return have >= backends
	})
}

// flip has DNS give the new addresses.
func (m *move) flip() {
	m.connections = map[*backend]int64{}
	for _, b := range m.old {
		m.connections[b] = b.accepted.Load()
	}
	m.dns.Set("backend.test", nameTTL, ips(m.new)...)
	m.at = time.Now()
}

// story has DNS change, and a while later, when nobody should ask them any more, the old ones go dark.
func (m *move) story(t *testing.T) {
	m.flip()
	time.Sleep(nameTTL + 2*time.Second)
	if n := m.failed.Load(); n > 0 {
		t.Errorf("%d requests failed before anything was dark", n)
	}
	for _, b := range m.gone() {
		darken(t, b)
	}
	time.Sleep(2 * time.Second)
	m.stop()
}

// late is how many requests reached an old address later than a second after the TTL.
func (m *move) late() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.gone() {
		for _, at := range m.arrivals.at[b] {
			if at.After(m.at.Add(nameTTL + time.Second)) {
				n++
			}
		}
	}
	return n
}

// newMove starts a name server and so many backends, of which the name has two at first, and the last two at last.
func newMove(t *testing.T, backends int, dns *dnstest.Server) *move {
	list := startBackends(t, backends)
	m := &move{old: list[:2], new: list[backends-2:], dns: dns}
	dns.Set("backend.test", nameTTL, ips(m.old)...)
	return m
}

// TestAddressesChangeUnderLoad: the story of a load balancer whose addresses are changed by the cloud, and which is
// behind its name all the time. Shows the row "child processes cache an address until restart", and of "pooled
// connections to the old address live on" what holds for those that are in both answers.
func TestAddressesChangeUnderLoad(t *testing.T) {
	for name, backends := range map[string]int{"all of them": 4, "one of two": 3} {
		t.Run(name, func(t *testing.T) {
			despiteStalls(t, func(wrong func(format string, args ...any)) {
				m := newMove(t, backends, dnstest.New(t))
				p := startPlant(t, named(m.dns, m.old[0].port(), ""))
				defer p.Close()
				m.begin(t, p.addr.String(), "backend.test", 2)
				m.story(t)
				t.Logf("%v; the last one reached an old address %v after the change, with a TTL of %v", m.flow, m.last(m.gone()...).Sub(m.at).Round(time.Millisecond), nameTTL)
				if n := m.failed.Load(); n > 0 {
					t.Errorf("requests failed\n%s", p.journal) // nothing is short here: none fails however the machine runs
				}
				if n := m.late(); n > 0 {
					wrong("%d requests reached an old address later than TTL + 1 s", n)
				}
				for _, b := range m.new {
					if b.requests.Load() < 100 {
						wrong("%s had %d requests", b.addr, b.requests.Load())
					}
					if slices.Contains(m.old, b) {
						t.Logf("%s is in both answers: %d connections before, %d after, %d open", b.addr, m.connections[b], b.accepted.Load(), b.open.Load())
						if b.open.Load() != b.accepted.Load() || b.accepted.Load() > 8 {
							t.Errorf("the address in both answers has %d of %d connections", b.open.Load(), b.accepted.Load())
						}
					}
				}
			})
		})
	}
}

// TestAddressesGoDarkBeforeDNSSaysSo: the machines are gone at the very moment in which DNS changes, so for a whole TTL
// their addresses are believed in. Timeouts that fit the backend, and a retry after them, are what it takes. Shows the
// row "503 until restart".
func TestAddressesGoDarkBeforeDNSSaysSo(t *testing.T) {
	for name, backends := range map[string]int{"all of them": 4, "one of two": 3} {
		t.Run(name, func(t *testing.T) {
			despiteStalls(t, func(wrong func(format string, args ...any)) {
				m := newMove(t, backends, dnstest.New(t))
				p := startPlant(t, named(m.dns, m.old[0].port(), "",
					"timeouts: { connect: 200ms }",
					"retries: { attempts: 4, on: [connect, reset, timeout], per_try_timeout: 200ms }"))
				defer p.Close()
				m.begin(t, p.addr.String(), "backend.test", 2)
				for _, b := range m.gone() {
					darken(t, b)
				}
				m.flip()
				time.Sleep(3 * time.Second)
				m.stop()
				t.Logf("%v; the last one reached an old address %v after the change", m.flow, m.last(m.gone()...).Sub(m.at).Round(time.Millisecond))
				if n := m.failed.Load(); n > 0 {
					wrong("requests failed\n%s", p.journal)
				}
				if n := m.late(); n > 0 {
					wrong("%d requests reached an old address later than TTL + 1 s", n)
				}
			})
		})
	}
}

// TestApacheAndAddressesThatChange does to Debian's Apache what TestAddressesChangeUnderLoad does to the gateway, for
// the record: the first of its configs is what the row "child processes cache an address until restart" is about, the
// others are what its users do about it.
func TestApacheAndAddressesThatChange(t *testing.T) {
	block := rand.IntN(250) + 1
	free, err := net.ListenPacket("udp", fmt.Sprintf("127.53.%d.250:53", block))
	if err != nil {
		missing(t, "leave to be a name server on port 53 of loopback, the only port that the system's resolver asks: "+err.Error())
	}
	_ = free.Close()
	for i, c := range []struct {
		name, parameters string
		fails            bool
	}{
		{"as it comes", "", true},
		{"disablereuse", "disablereuse=On retry=0", false},
		{"addressttl", "addressttl=1", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := fmt.Sprintf("127.53.%d.%d", block, i+1)
			m := newMove(t, 4, dnstest.NewAt(t, server+":53"))
			a := startApache(t, "addresses.conf", server, fmt.Sprintf("backend.test:%d", m.old[0].port()), c.parameters)
			m.begin(t, a.addr, "backend.test", 1) // it uses the first address alone
			m.story(t)
			lines := a.errors()
			t.Logf("Apache, ProxyPass %s: %v; %d reached an old address later than TTL + 1 s; %d connections; DNS was asked %d times; %d lines in its error log",
				c.parameters, m.flow, m.late(), total(append(slices.Clone(m.old), m.new...), acceptedOf), m.dns.Queries("backend.test"), len(lines))
			if i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "attempt to connect") }); i >= 0 {
				t.Log(lines[i])
			}
			if c.fails && (m.failed.Load() == 0 || m.late() == 0) {
				t.Error("Apache did not fail: what examples/parity says of it is no longer so")
			}
		})
	}
}

// TestConnectionsToAnAddressThatIsGone: shows the row "pooled connections to the old address live on". A request under
// way ends on its connection; idle ones close after dns.drain; those of the address that stays are not touched.
func TestConnectionsToAnAddressThatIsGone(t *testing.T) {
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		list := startBackends(t, 2)
		gone, stays := list[0], list[1]
		server := dnstest.New(t)
		server.Set("backend.test", nameTTL, ips(list)...)
		// With one loop requests go to the two in strict turn.
		p := startPlant(t, strings.Replace(named(server, gone.port(), "drain: 1s"), "loops: 2", "loops: 1", 1))
		defer p.Close()
		// Four connections to each: so many requests are held at once.
		release := held(t, list)
		warm := ahead(p, 8)
		testkit.Eventually(t, "each has four requests", func() bool { return gone.busy.Load() == 4 && stays.busy.Load() == 4 })
		release()
		warm()
		release = held(t, list)
		slow := ahead(p, 2)
		testkit.Eventually(t, "each has one request", func() bool { return gone.busy.Load() == 1 && stays.busy.Load() == 1 })

		server.Set("backend.test", nameTTL, stays.ip())
		testkit.Eventually(t, "the address is gone", func() bool { return len(p.changes(gone.addr)) > 1 })
		left := p.changes(gone.addr)[1]
		if left.state != "left" {
			t.Errorf("when DNS no longer gave it: %v; want it to have left", left)
		}
		if n := gone.open.Load(); n != 4 { // it is looked at before dns.drain is over
			wrong("when DNS no longer gave it: %d connections; want 4", n)
		}
		testkit.Eventually(t, "the idle connections close", func() bool { return gone.open.Load() == 1 })
		if after := time.Since(left.at); after < 900*time.Millisecond || after > 2*time.Second {
			wrong("idle connections closed after %v; dns.drain is 1s", after)
		}
		release()
		slow()
		testkit.Eventually(t, "the busy one closes after its answer", func() bool { return gone.open.Load() == 0 })
		for range 4 {
			get(t, p.url("/"))
		}
		if gone.requests.Load() != 5 || stays.accepted.Load() != 4 || stays.open.Load() != 4 {
			t.Errorf("the one that is gone had %d requests, want 5; the one that stays has %d of %d connections, want 4 of 4",
				gone.requests.Load(), stays.open.Load(), stays.accepted.Load())
		}
		testkit.Eventually(t, "the connections are told of", func() bool { return p.closedFor("address_gone") == 4 })
	})
}

// held has backends answer when release is called, or at the end of the test.
func held(t *testing.T, list []*backend) (release func()) {
	hold := make(chan struct{})
	for _, b := range list {
		b.does(func(*asked) reply { return reply{until: hold} })
	}
	release = sync.OnceFunc(func() { close(hold) })
	t.Cleanup(release)
	return release
}

// ahead sends requests at once, and returns what waits for their answers.
func ahead(p *plant, n int) (wait func()) {
	bodies := make(chan string, n)
	for range n {
		go func() { bodies <- get(p.T, p.url("/")) }()
	}
	return func() {
		p.Helper()
		for range n {
			if body := <-bodies; !strings.HasPrefix(body, "b") {
				p.Errorf("answered %q", body)
			}
		}
	}
}

// TestAConnectFailureAsksDNSAtOnce: shows the row "503 until restart". The answer has hours to live, but its only address
// cannot be connected to; the request that finds out waits for a newer answer and goes there.
func TestAConnectFailureAsksDNSAtOnce(t *testing.T) {
	for name, goes := range map[string]func(*testing.T, *backend){
		"refused": func(_ *testing.T, b *backend) { b.stop() },
		"dark": func(t *testing.T, b *backend) {
			darken(t, b)
		},
	} {
		t.Run(name, func(t *testing.T) {
			despiteStalls(t, func(wrong func(format string, args ...any)) {
				list := startBackends(t, 2)
				server := dnstest.New(t)
				server.Set("backend.test", time.Hour, list[0].ip())
				p := startPlant(t, named(server, list[0].port(), "", "retries: { attempts: 1 }", "timeouts: { connect: 300ms }", "pool: { reuse: never }"))
				defer p.Close()
				if got := get(t, p.url("/")); got != "b1" {
					wrong("at first: %q", got)
					return
				}
				time.Sleep(600 * time.Millisecond) // an answer younger than 500 ms is not asked for anew
				asked := server.Queries("backend.test")
				server.Set("backend.test", time.Hour, list[1].ip())
				goes(t, list[0])
				begun := time.Now()
				got := get(t, p.url("/"))
				t.Logf("answered %q after %v; DNS was asked %d times more", got, time.Since(begun).Round(time.Millisecond), server.Queries("backend.test")-asked)
				if got != "b2" || server.Queries("backend.test") == asked {
					wrong("the request that met the dead address was answered %q; want b2, as DNS says now", got)
				}
				if time.Since(begun) > 2*time.Second {
					wrong("it took long")
				}
			})
		})
	}
}

// TestAnAddressThatFallsSilent: the same without a connection that fails. The answer has hours to live, and on the open
// connections of one of its addresses no answer comes any more: that the address is ejected is the occasion to ask DNS.
func TestAnAddressThatFallsSilent(t *testing.T) {
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		list := startBackends(t, 3)
		server := dnstest.New(t)
		server.Set("backend.test", time.Hour, ips(list[:2])...)
		p := startPlant(t, named(server, list[0].port(), "",
			"retries: { attempts: 2, on: [connect, reset, timeout], per_try_timeout: 200ms }"))
		defer p.Close()
		f := flowing(t, p.addr.String(), "backend.test", 4, 5*time.Millisecond)
		defer f.stop()
		f.pass(t, 200)
		time.Sleep(600 * time.Millisecond) // an answer younger than 500 ms is not asked for anew
		server.Set("backend.test", time.Hour, ips(list[1:])...)
		list[0].always(reply{hang: true})
		silent := time.Now()
		testkit.Eventually(t, "the new address is used", func() bool {
			f.pass(t, 1)
			return list[2].requests.Load() > 0
		})
		took := time.Since(silent).Round(time.Millisecond)
		f.pass(t, 200)
		f.stop()
		t.Logf("the address that DNS gives in its place was used after %v; %v", took, f)
		if f.failed.Load() > 0 || took > 3*time.Second {
			wrong("%v until the new address was used, %v", took, f)
		}
	})
}
