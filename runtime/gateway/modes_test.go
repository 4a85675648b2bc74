package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// The client's address, and that of another: curl sends from any address of this machine that it is told.
const (
	oneClient     = "127.0.0.9"
	anotherClient = "127.0.0.8"
)

// from has curl ask several times by one connection, from a client's address.
func from(t *testing.T, client string, times int, url string, more ...string) {
	t.Helper()
	args := append([]string{"--interface", client}, more...)
	if conns := curlConnections(t, times, append(args, url)...); conns != 1 {
		t.Errorf("curl from %s took %d connections for %d requests", client, conns, times)
	}
}

// TestPROXYProtocolFromABalancer: behind a network load balancer the peer of every connection is the balancer; by the PROXY
// protocol it says whose it is, and the backend's X-Forwarded-For and the access log have that address. HAProxy is the
// balancer, or curl says it itself. (Row "network load balancer in front".)
func TestPROXYProtocolFromABalancer(t *testing.T) {
	o := startOrigin(t, nil)
	s := startSite(t, fmt.Sprintf(`
listeners:
  - { name: behind, address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8] }
  - { name: trusts, address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8], trusted_proxies: [198.51.100.0/24] }
  - { name: others, address: '127.0.0.1:0', proxy_protocol: [10.0.0.0/8] }
upstreams: { app: { targets: ['http://%s'] } }
routes: [{ upstream: app }]
`, o.addr))
	n := 0
	check := func(what, want string) {
		t.Helper()
		n++
		l := s.lines(n)[n-1]
		t.Logf("%-24s X-Forwarded-For: %s, access log: client %s", what, field(o.last(), "X-Forwarded-For"), l.Client)
		if got := field(o.last(), "X-Forwarded-For"); got != want || l.Client != want || l.Status != 200 {
			t.Errorf("%s: X-Forwarded-For is %q, the access log says %+v; want %s", what, got, l, want)
		}
	}
	for _, version := range []string{"send-proxy", "send-proxy-v2"} {
		balancer := haproxy(t, "send-proxy.cfg", "BACKEND="+s.at("behind"), "SEND="+version)
		from(t, oneClient, 1, "http://"+balancer+"/", "-H", "X-Forwarded-For: 198.51.100.7")
		check("haproxy, "+version, oneClient)
	}
	from(t, oneClient, 1, "http://"+s.at("behind")+"/", "--haproxy-protocol")
	check("curl --haproxy-protocol", oneClient)

	// Everything that depends on the client follows: who is trusted, too.
	const header = "PROXY TCP4 203.0.113.9 192.0.2.1 4711 80\r\n"
	call(t, s.at("behind")).say(header + aGET)
	check("a header by hand", "203.0.113.9")
	call(t, s.at("trusts")).say("PROXY TCP4 198.51.100.1 192.0.2.1 4711 80\r\nGET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
	n++
	if got, l := field(o.last(), "X-Forwarded-For"), s.lines(n)[n-1]; got != "203.0.113.9, 198.51.100.1" || l.Client != "203.0.113.9" {
		t.Errorf("a trusted proxy behind the balancer: X-Forwarded-For is %q, the access log says %+v", got, l)
	}
	call(t, s.at("behind")).say("PROXY UNKNOWN\r\n" + aGET) // the balancer's own check of health
	check("PROXY UNKNOWN", "127.0.0.1")

	// Who must say it and does not, and who says it unasked, gets nowhere.
	was := o.requests.Load()
	if head, _, err := call(t, s.at("behind")).try(aGET); err == nil {
		t.Errorf("without a header: %q", head)
	}
	if head, _, err := call(t, s.at("others")).try(header + aGET); err != nil || !strings.HasPrefix(head, "HTTP/1.1 400") {
		t.Errorf("a header from somebody who is not believed: %q, %v", head, err)
	}
	if o.requests.Load() != was {
		t.Error("the backend got a request of them")
	}
}

// proxyOut is a gateway that tells an upstream by the PROXY protocol who its clients are, in both modes.
func proxyOut(t *testing.T, addr, version string) *site {
	return startSite(t, fmt.Sprintf(`
listeners:
  - { name: http, address: '127.0.0.1:0', forwarded: { headers: none } }
  - { name: tcp, address: '127.0.0.1:0', mode: tcp, upstream: inner }
  - { name: chain, address: '127.0.0.1:0', mode: tcp, upstream: inner, proxy_protocol: [127.0.0.0/8] }
upstreams: { inner: { targets: ['http://%s'], proxy_protocol: %s } }
routes: [{ upstream: inner }]
`, addr, version))
}

// TestPROXYProtocolToABackend: nginx with proxy_protocol, and HAProxy with accept-proxy, learn the client's address from
// the connection itself, which therefore is for one client alone; it is used again for that one's next requests. (Row
// "network load balancer in front".)
func TestPROXYProtocolToABackend(t *testing.T) {
	const each = 3
	nginx := startNginxLog(t, "proxy_protocol", "keepalive_timeout 60s;")
	o := startOrigin(t, nil)
	inner := haproxy(t, "accept-proxy.cfg", "BACKEND="+o.addr)
	for _, version := range []string{"v1", "v2"} {
		s := proxyOut(t, nginx.addr, version)
		balancer := haproxy(t, "send-proxy.cfg", "BACKEND="+s.at("chain"), "SEND=send-proxy-v2")
		for _, front := range []struct{ name, addr string }{{"http", s.at("http")}, {"tcp", s.at("tcp")}, {"tcp behind haproxy", balancer}} {
			before := len(nginx.requests(0, 0))
			for _, client := range []string{oneClient, anotherClient} {
				from(t, client, each, "http://"+front.addr+"/"+client)
			}
			list := nginx.requests(before, 2*each)
			for _, r := range list {
				if "/"+r.Proxy != r.Path {
					t.Errorf("%s, mode %s: nginx was told that %s asks for %s", version, front.name, r.Proxy, r.Path)
				}
			}
			t.Logf("%s, mode %-18s nginx: %d requests of two clients on %d connections, each with its client's address", version, front.name+":", len(list), connections(list))
			if got := connections(list); got != 2 {
				t.Errorf("%s, mode %s: %d connections for two clients", version, front.name, got)
			}
		}
		if s.openedFor("proxy_protocol") == 0 && s.openedFor("first") < 2 {
			t.Errorf("why the second client's connection was opened: %s", s.reasons())
		}
		// A client that has gone leaves its connections to nobody, so they are closed.
		testkit.Eventually(t, "the connections have ended with their clients", func() bool {
			return s.closedFor("tunnel_ended") >= 4 && s.closedFor("client_gone") == 2 && s.pool("inner").Open == 0
		})

		s = proxyOut(t, inner, version)
		for _, listener := range []string{"http", "tcp"} {
			from(t, oneClient, 1, "http://"+s.at(listener)+"/")
			if got := field(o.last(), "X-Forwarded-For"); got != oneClient {
				t.Errorf("%s, mode %s: haproxy says that the client is %q; want %s", version, listener, got, oneClient)
			}
		}
	}
}
