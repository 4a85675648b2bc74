package gateway_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// regexSite is a gateway with the route of which Apache's ProxyPassMatch closes its connections.
func regexSite(t *testing.T, addr string) *site {
	return startSite(t, fmt.Sprintf(`
listeners: [{ name: test, address: '127.0.0.1:0' }]
upstreams: { app: { targets: ['http://%s'] } }
routes:
  - { match: { path_regex: "^/app/users/([0-9]{4})$" }, rewrite: { path: "/users/$1" }, upstream: app }
`, addr))
}

// TestARegexRouteKeepsConnections is a day that somebody lost to Apache: with ProxyPass the connections to the backend
// stayed, with ProxyPassMatch each request opened one, since enablereuse is off for it. For wasmgate they are the same.
// (Rows "ProxyPassMatch regex url$1" of Routes, and enablereuse of Upstream connection pool.)
func TestARegexRouteKeepsConnections(t *testing.T) {
	const clients, each = 4, 25
	type seen struct {
		opened     int64
		connection string // what the backend was told
	}
	// Connections that stay carry one request after the other; all of a client's come on one connection of its own.
	through := func(t *testing.T, addr func(backend string) string) seen {
		o := startOrigin(t, nil)
		front := addr(o.addr)
		list := make([]*caller, clients)
		for i := range list {
			list[i] = call(t, front)
		}
		for n := range each {
			for i, c := range list {
				head, _ := c.say(fmt.Sprintf("GET /app/users/%04d HTTP/1.1\r\nHost: h\r\n\r\n", n*clients+i))
				if !strings.HasPrefix(head, "HTTP/1.1 200") {
					t.Fatal(head)
				}
			}
		}
		if want := fmt.Sprintf("GET /users/%04d HTTP/1.1\r\n", each*clients-1); !strings.HasPrefix(o.last(), want) {
			t.Errorf("the backend was asked %q; want %q", o.last(), want)
		}
		m := regexp.MustCompile(`(?i)\r\nconnection: *(.*)`).FindStringSubmatch(o.last())
		s := seen{opened: o.used.Load()}
		if m != nil {
			s.connection = strings.TrimSpace(m[1])
		}
		t.Logf("%d requests of %d clients: %d connections to the backend, Connection: %q", clients*each, clients, s.opened, s.connection)
		return s
	}
	t.Run("wasmgate", func(t *testing.T) {
		s := through(t, func(backend string) string { return regexSite(t, backend).at("test") })
		if s.opened > clients || s.connection == "close" {
			t.Errorf("%+v; want at most one connection for each of %d clients", s, clients)
		}
	})
	t.Run("apache", func(t *testing.T) {
		s := through(t, func(backend string) string { return httpd(t, "regex.conf", "BACKEND="+backend, "PARAMETERS=") })
		if s.opened != clients*each || s.connection != "close" {
			t.Errorf("%+v; the story was that each request opens a connection", s)
		}
	})
	t.Run("apache, enablereuse=on", func(t *testing.T) {
		s := through(t, func(backend string) string {
			return httpd(t, "regex.conf", "BACKEND="+backend, "PARAMETERS=enablereuse=on")
		})
		if s.opened >= clients*each/2 {
			t.Errorf("%+v; want connections used again", s)
		}
	})
}

// modeSite has the same upstream behind a listener of each mode.
func modeSite(t *testing.T, addr string, client bool, reuse string) *site {
	return startSite(t, fmt.Sprintf(`
listeners:
  - { name: http, address: '127.0.0.1:0', keep_alive: { enabled: %v } }
  - { name: told, address: '127.0.0.1:0', keep_alive: { enabled: %[1]v, idle_timeout: 30s }, advertise_keep_alive: true }
  - { name: tcp, address: '127.0.0.1:0', mode: tcp, upstream: web }
upstreams: { web: { targets: ['http://%s'], pool: { reuse: %s } } }
routes: [{ upstream: web }]
`, client, addr, reuse))
}

// TestModesAndKeepAlive counts connections on both sides. In mode http the two sides are settings that nothing couples; in
// mode tcp a connection is one on both sides, and what client and backend agree on is theirs. HAProxy with the same
// backend beside it, for the record. (Rows "mode tcp beside mode http", http-keep-alive and KeepAlive.)
func TestModesAndKeepAlive(t *testing.T) {
	const requests = 5
	stays := startNginxLog(t, "", "keepalive_timeout 60s;")
	closes := startNginxLog(t, "", "keepalive_timeout 0;")
	count := func(n *nginxLog, args ...string) (client, backend int) {
		n.T = t
		before := len(n.requests(0, 0))
		client = curlConnections(t, requests, args...)
		return client, connections(n.requests(before, requests))
	}
	check := func(what string, n *nginxLog, wantClient, wantBackend int, args ...string) {
		t.Helper()
		client, backend := count(n, args...)
		t.Logf("%-60s %d requests: %d connections of the client, %d to the backend", what, requests, client, backend)
		if client != wantClient || backend != wantBackend {
			t.Errorf("%s: want %d and %d", what, wantClient, wantBackend)
		}
	}
	for _, c := range []struct {
		client          bool
		reuse           string
		wantC, wantB    int
		option, reuseHA string // HAProxy's, if it has it
	}{
		{true, "always", 1, 1, "http-keep-alive", "always"},
		{true, "never", 1, 5, "http-server-close", "never"},
		{false, "always", 5, 1, "", ""},
		{false, "never", 5, 5, "httpclose", "never"},
	} {
		s := modeSite(t, stays.addr, c.client, c.reuse)
		check(fmt.Sprintf("wasmgate, mode http, client %v, reuse %s", c.client, c.reuse), stays, c.wantC, c.wantB, "http://"+s.at("http")+"/")
		if c.option != "" {
			front := haproxy(t, "modes.cfg", "BACKEND="+stays.addr, "MODE=http", "REUSE="+c.reuseHA, "OPTION="+c.option)
			check("haproxy, mode http, option "+c.option, stays, c.wantC, c.wantB, "http://"+front+"/")
		}
	}
	s := modeSite(t, stays.addr, true, "always")
	toCloses := modeSite(t, closes.addr, true, "always")
	ha := haproxy(t, "modes.cfg", "BACKEND="+stays.addr, "MODE=tcp", "REUSE=never", "OPTION=http-keep-alive")
	haCloses := haproxy(t, "modes.cfg", "BACKEND="+closes.addr, "MODE=tcp", "REUSE=never", "OPTION=http-keep-alive")
	for _, front := range []struct{ name, stays, closes string }{{"wasmgate", s.at("tcp"), toCloses.at("tcp")}, {"haproxy", ha, haCloses}} {
		check(front.name+", mode tcp, both keep alive", stays, 1, 1, "http://"+front.stays+"/")
		check(front.name+", mode tcp, the client closes", stays, 5, 5, "-H", "Connection: close", "http://"+front.stays+"/")
		check(front.name+", mode tcp, the backend closes", closes, 5, 5, "http://"+front.closes+"/")
		check(front.name+", mode tcp, both close", closes, 5, 5, "-H", "Connection: close", "http://"+front.closes+"/")
	}
	// In mode http a backend that closes is no reason to close the client's connection.
	check("wasmgate, mode http, the backend closes", closes, 1, 5, "http://"+toCloses.at("http")+"/")
}

// TestIsItKeepAlive: curl -I does not show Connection: keep-alive in mode http, although the connection stays, and shows
// the backend's own in mode tcp. Whoever wants to see it switches it on. (Rows "mode tcp beside mode http" and "the header
// is missing, is it keep-alive?".)
func TestIsItKeepAlive(t *testing.T) {
	n := startNginxLog(t, "", "keepalive_timeout 60s;")
	s := modeSite(t, n.addr, true, "always")
	shown := regexp.MustCompile(`(?im)^(connection|keep-alive): *(.*?)\r?$`)
	looks := 0 // each is a request that nginx notes down, after its answer
	look := func(what, addr, want string) {
		t.Helper()
		looks++
		var fields []string
		out := run(t, "curl", "-sS", "-I", "http://"+addr+"/")
		for _, m := range shown.FindAllStringSubmatch(out, -1) {
			fields = append(fields, strings.ToLower(m[1])+": "+m[2])
		}
		got := strings.Join(fields, ", ")
		t.Logf("curl -I, %-28s %q", what, got)
		if got != want {
			t.Errorf("curl -I, %s: %q; want %q\n%s", what, got, want, out)
		}
	}
	const own = "connection: keep-alive"
	look("the backend itself", n.addr, own)
	look("wasmgate, mode tcp", s.at("tcp"), own)
	look("wasmgate, mode http", s.at("http"), "")
	look("wasmgate, advertised", s.at("told"), own+", keep-alive: timeout=30")
	look("haproxy, mode tcp", haproxy(t, "modes.cfg", "BACKEND="+n.addr, "MODE=tcp", "REUSE=never", "OPTION=http-keep-alive"), own)
	look("haproxy, mode http", haproxy(t, "modes.cfg", "BACKEND="+n.addr, "MODE=http", "REUSE=always", "OPTION=http-keep-alive"), "")

	off := modeSite(t, n.addr, false, "always")
	look("wasmgate, keep_alive off", off.at("http"), "connection: close")
	look("wasmgate, off and advertised", off.at("told"), "connection: close")

	// HTTP/1.0 keeps no connection unless both say so, so ab -k shows it without curl.
	for _, listener := range []string{"http", "told", "tcp"} {
		before := len(n.requests(0, looks))
		out := run(t, "ab", "-k", "-q", "-n", "200", "-c", "1", "http://"+s.at(listener)+"/")
		kept := regexp.MustCompile(`Keep-Alive requests: +(\d+)`).FindStringSubmatch(out)
		conns := connections(n.requests(before, 200))
		if kept == nil || kept[1] != "200" || conns != 1 {
			t.Errorf("ab -k, %s: %v of 200 kept alive, %d connections to the backend", listener, kept, conns)
		}
	}
}
