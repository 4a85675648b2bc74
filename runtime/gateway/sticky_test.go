package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// nodes are three targets with routes; b1's sessions go to b3 when it cannot be used.
func nodes(b []*backend, first string) string {
	return targets(b, "route: node1, redirect: node3"+first, "route: node2", "route: node3")
}

// TestStickySessionsOfTheApplication shows the row "stickysession, stickysessionsep, route, redirect, scolonpathdelim":
// JSESSIONID.route in a cookie, in the path and in a header, with the separators of the documents, keeps to its target,
// and goes where redirect says when that one is drained, by hand or by the config.
func TestStickySessionsOfTheApplication(t *testing.T) {
	for name, c := range map[string]struct {
		sticky string
		ask    func(p *plant, route string) map[string]int
	}{
		"cookie": {"cookie: JSESSIONID", func(p *plant, route string) map[string]int {
			return p.who(12, "/", "Cookie: a=b; JSESSIONID=8F2C."+route+"; c=d")
		}},
		"path parameter": {"path_parameter: jsessionid", func(p *plant, route string) map[string]int {
			return p.who(12, "/cart;jsessionid=8F2C."+route+"?x=y")
		}},
		"header": {"header: x-session", func(p *plant, route string) map[string]int {
			return p.who(12, "/", "X-Session: 8F2C."+route)
		}},
		"another separator": {"cookie: JSESSIONID, separator: '!'", func(p *plant, route string) map[string]int {
			return p.who(12, "/", "Cookie: JSESSIONID=8F.2C!"+route)
		}},
		"all of it": {"header: x-session, separator: ''", func(p *plant, route string) map[string]int {
			return p.who(12, "/", "X-Session: "+route)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := startBackends(t, 3)
			config := func(first string) string {
				return web(nodes(b, first), "sticky: { "+c.sticky+" }, health: { passive: { failures: 1, eject_for: 20s, on_connect: true } }")
			}
			p := startPlant(t, config(""))
			for i, name := range []string{"b1", "b2", "b3"} {
				p.only("a session", c.ask(p, fmt.Sprintf("node%d", i+1)), name)
			}
			p.only("a session of nobody", c.ask(p, "node9"), "b1", "b2", "b3")
			p.only("no session", p.who(12, "/"), "b1", "b2", "b3")

			p.patch("web", b[1].addr, `{"state": "drain"}`)
			p.only("drained without a redirect: it keeps its sessions", c.ask(p, "node2"), "b2")
			p.only("and gets no new ones", p.who(12, "/"), "b1", "b3")
			p.patch("web", b[0].addr, `{"state": "drain"}`)
			p.only("drained with a redirect", c.ask(p, "node1"), "b3")
			p.patch("web", b[0].addr, `{"state": "active"}`)
			p.only("active again", c.ask(p, "node1"), "b1")
			p.reload(config(", state: drain"))
			p.only("drained by the config", c.ask(p, "node1"), "b3")
			p.reload(config(", state: disabled"))
			p.only("disabled", c.ask(p, "node1"), "b3")
			p.reload(config(""))

			b[1].stop()
			p.only("its target is dead, and others take its sessions", c.ask(p, "node2"), "b1", "b3")
		})
	}
}

// TestNoFailover shows "nofailover": a session whose target cannot be used is told so, and goes nowhere else.
func TestNoFailover(t *testing.T) {
	b := startBackends(t, 2)
	p := startPlant(t, web(targets(b, "route: node1", "route: node2"), "retries: { attempts: 1 }, sticky: { cookie: JSESSIONID, failover: false }, health: { passive: { failures: 1, eject_for: 20s } }"))
	b[0].stop()
	p.only("the target is dead", p.who(1, "/", "Cookie: JSESSIONID=x.node1"), "502")
	p.only("and ejected", p.who(5, "/", "Cookie: JSESSIONID=x.node1"), "503")
	p.only("others have another", p.who(5, "/", "Cookie: JSESSIONID=x.node2"), "b2")
	p.only("or none", p.who(5, "/"), "b2")
}

// TestInsertedCookie shows the same row's second style, HAProxy's "cookie insert": the gateway names the target in a cookie of
// its own, and names another one when the session has had to move.
func TestInsertedCookie(t *testing.T) {
	b := startBackends(t, 3)
	config := func(ttl string) string {
		return web(targets(b, "route: node1", "route: node2"), "sticky: { cookie: lb, insert: true, "+ttl+"path: /app, secure: true, same_site: strict }, health: { passive: { failures: 1, eject_for: 20s } }")
	}
	p := startPlant(t, config(""))
	first := p.ask("GET", "/")
	set := first.get("Set-Cookie")
	value, attributes, _ := strings.Cut(set, ";")
	for _, want := range []string{"Path=/app", "Secure", "HttpOnly", "SameSite=Strict"} {
		if !strings.Contains(attributes, want) {
			t.Errorf("Set-Cookie: %s; want %s", set, want)
		}
	}
	if !strings.HasPrefix(value, "lb=") || strings.Contains(set, b[0].ip()) {
		t.Errorf("Set-Cookie: %s", set)
	}
	home := first.get("X-Backend")
	for range 12 {
		a := p.ask("GET", "/", "Cookie: "+value)
		if a.get("X-Backend") != home || a.get("Set-Cookie") != "" {
			t.Errorf("%s answered a session of %s, Set-Cookie %q", a.get("X-Backend"), home, a.get("Set-Cookie"))
		}
	}
	// Each target has a cookie of its own, that of the config where there is one.
	cookies := map[string]string{}
	testkit.Eventually(t, "all three were met", func() bool {
		a := p.ask("GET", "/")
		cookies[a.get("X-Backend")], _, _ = strings.Cut(a.get("Set-Cookie"), ";")
		return len(cookies) == 3
	})
	if cookies["b1"] != "lb=node1" || cookies["b2"] != "lb=node2" || len(cookies["b3"]) < len("lb=x") {
		t.Errorf("cookies: %v", cookies)
	}
	for name, cookie := range cookies {
		p.only("the session of "+cookie, p.who(6, "/", "Cookie: "+cookie), name)
	}
	// One that lasts for a time lasts that long from the last answer on.
	p.reload(config("ttl: 1h, "))
	if a := p.ask("GET", "/", "Cookie: lb=node2"); !strings.HasPrefix(a.get("Set-Cookie"), "lb=node2;") || !strings.Contains(a.get("Set-Cookie"), "Max-Age=3600") {
		t.Errorf("Set-Cookie: %s", a.get("Set-Cookie"))
	}
	b[0].stop()
	moved := p.ask("GET", "/", "Cookie: lb=node1")
	if got, _, _ := strings.Cut(moved.get("Set-Cookie"), ";"); moved.status != 200 || got != cookies[moved.get("X-Backend")] {
		t.Errorf("moved to %s with Set-Cookie %s", moved.get("X-Backend"), got)
	}
	if a := p.ask("GET", "/", "Cookie: lb=made-up"); a.status != 200 || a.get("Set-Cookie") == "" {
		t.Errorf("a cookie that somebody made up: %d, Set-Cookie %q", a.status, a.get("Set-Cookie"))
	}
}
