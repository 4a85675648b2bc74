package server

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/route"
	"wasmgate/runtime/upstream"
)

// appAtBase is a route that maps /app to /base of users.internal:8080, for a client that asked gate.example.
func appAtBase() reversal {
	return reversal{
		rewrite: &Rewrite{StripPrefix: []byte("/app"), AddPrefix: []byte("/base")}, ownScheme: "http", scheme: "http",
		client: []byte("gate.example"), sent: []byte("users.internal:8080"), host: "users.internal",
		address: netip.MustParseAddrPort("10.0.0.7:8080"), others: []string{"second.internal:8080", "plain.internal"},
	}
}

func stripped(v reversal) reversal  { v.rewrite = &Rewrite{StripPrefix: []byte("/app")}; return v }
func plain(v reversal) reversal     { v.rewrite = &Rewrite{}; return v }
func captured(v reversal) reversal  { v.rewrite = &Rewrite{Path: &route.Template{}}; return v }
func encrypted(v reversal) reversal { v.scheme = "https"; return v }
func preserved(v reversal) reversal {
	v.sent = v.client
	return v
}

// TestURLsOfTheUpstream has what an upstream says, and what the client gets; "" is: the same.
func TestURLsOfTheUpstream(t *testing.T) {
	base := appAtBase()
	for _, c := range []struct {
		what       string
		v          reversal
		said, want string
	}{
		{"its own name", base, "http://users.internal:8080/base/x?q=1#f", "http://gate.example/app/x?q=1#f"},
		{"in any case", base, "HTTP://Users.INTERNAL:8080/base/X", "http://gate.example/app/X"},
		{"its address", base, "http://10.0.0.7:8080/base/x", "http://gate.example/app/x"},
		{"another of its targets", base, "http://second.internal:8080/base/x", "http://gate.example/app/x"},
		{"a target without a port", base, "http://plain.internal/base/", "http://gate.example/app/"},
		{"a target's default port", base, "http://plain.internal:80/base/", "http://gate.example/app/"},
		{"without a scheme", base, "//users.internal:8080/base/x", "http://gate.example/app/x"},
		{"an absolute path", base, "/base/x?y", "/app/x?y"},
		{"the base itself", base, "/base", "/app"},
		{"the base with a query", base, "http://users.internal:8080/base?q", "http://gate.example/app?q"},
		{"to a client that is encrypted", encrypted(base), "http://users.internal:8080/base/x", "https://gate.example/app/x"},
		{"stripped", stripped(base), "http://users.internal:8080/x", "http://gate.example/app/x"},
		{"stripped, no path", stripped(base), "http://users.internal:8080", "http://gate.example/app/"},
		{"stripped, only a query", stripped(base), "http://users.internal:8080?q", "http://gate.example/app/?q"},
		{"stripped, the root", stripped(base), "/", "/app/"},
		{"not rewritten", plain(base), "http://users.internal:8080/x", "http://gate.example/x"},
		{"Host preserved", preserved(base), "http://gate.example/base/x", "http://gate.example/app/x"},
		{"Host preserved, TLS in front", preserved(encrypted(base)), "http://gate.example/base/x", "https://gate.example/app/x"},
		{"Host preserved, TLS known of", preserved(encrypted(base)), "https://gate.example/base/x", "https://gate.example/app/x"},
		{"captures: the authority", captured(base), "http://users.internal:8080/y?z", "http://gate.example/y?z"},
		{"a path that begins like another site", func(v reversal) reversal { v.rewrite = &Rewrite{AddPrefix: []byte("/base")}; return v }(base),
			"/base//evil.example/x", "http://gate.example//evil.example/x"},
		{"the same with a backslash", func(v reversal) reversal { v.rewrite = &Rewrite{AddPrefix: []byte("/base")}; return v }(base),
			`/base/\evil.example/x`, `http://gate.example/\evil.example/x`},
		{"and nobody to say who we are", func(v reversal) reversal { v.rewrite, v.client = &Rewrite{AddPrefix: []byte("/base")}, nil; return v }(base),
			"/base//evil.example/x", ""},
		{"a client without Host", func(v reversal) reversal { v.client = nil; return v }(base), "http://users.internal:8080/base/x", "/app/x"},

		{"another site", base, "http://other.example/base/x", ""},
		{"another port", base, "http://users.internal:8081/base/x", ""},
		{"the default port", base, "http://users.internal/base/x", ""},
		{"an upgrade to https", preserved(base), "https://gate.example/base/x", ""},
		{"a name that begins like it", base, "http://users.internal.evil.example:8080/base/x", ""},
		{"a user", base, "http://users.internal:8080@evil.example/base/x", ""},
		{"a user of ours", base, "http://u:p@users.internal:8080/base/x", ""},
		{"a backslash", base, `http://users.internal:8080\base`, ""},
		{"no authority", base, "http:///base/x", ""},
		{"one slash", base, "http:/users.internal:8080/base/x", ""},
		{"another scheme", base, "ftp://users.internal:8080/base/x", ""},
		{"a script", base, "javascript:alert(1)//users.internal:8080/base/", ""},
		{"outside of the base", base, "http://users.internal:8080/admin", ""},
		{"a segment that begins like the base", base, "/based/x", ""},
		{"a path outside of the base", base, "/x", ""},
		{"relative", base, "x/y", ""},
		{"relative, up", base, "../x", ""},
		{"a query", base, "?q=http://users.internal:8080/base/", ""},
		{"nothing", base, "", ""},
		{"a slash too much", base, "//", ""},
		{"captures: the path", captured(base), "/y", ""},
		{"not rewritten: the path", plain(base), "/y", ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, name := range []string{"Location", "content-location", "URI"} {
				checkField(t, &c.v, name, c.said, c.want)
			}
			for _, f := range []string{"5; url=%s", "0;URL='%s'", `3, url = "%s"`, "1;%s"} {
				want := fmt.Sprintf(f, c.want)
				if c.want == "" {
					want = ""
				}
				checkField(t, &c.v, "Refresh", fmt.Sprintf(f, c.said), want)
			}
		})
	}
	checkField(t, &base, "URI", "<http://users.internal:8080/base/x>", "<http://gate.example/app/x>")
	checkField(t, &base, "X-Other", "http://users.internal:8080/base/x", "")
	for _, odd := range []string{"5", "5;", "", "; url=/base", "a; url=/base", "5 url=/base", "5; url", "5; url=", `5; url="`} {
		checkField(t, &base, "Refresh", odd, "")
	}
}

// TestCookiesOfTheUpstream has Set-Cookie fields, and what the client gets; "" is: the same.
func TestCookiesOfTheUpstream(t *testing.T) {
	base := appAtBase()
	ip := appAtBase()
	ip.client = []byte("192.0.2.1:8080")
	slashes := appAtBase()
	slashes.rewrite = &Rewrite{StripPrefix: []byte("/app/"), AddPrefix: []byte("/base/")}
	for _, c := range []struct {
		what       string
		v          reversal
		said, want string
	}{
		{"both", base, "a=b; Path=/base/x; Domain=users.internal; HttpOnly; Secure", "a=b; Path=/app/x; Domain=gate.example; HttpOnly; Secure"},
		{"in any case and spacing", base, "a=b;PATH = /base ;domain=.USERS.internal", "a=b; Path=/app; Domain=gate.example"},
		{"the path alone", base, "a=b; Max-Age=5; path=/base/", "a=b; Max-Age=5; Path=/app/"},
		{"everything of a stripped one", stripped(base), "a=b; Path=/", "a=b; Path=/app"},
		{"slashes", slashes, "a=b; Path=/base", "a=b; Path=/app"},
		{"an address", base, "a=b; Domain=10.0.0.7", "a=b; Domain=gate.example"},
		{"another target", base, "a=b; Domain=second.internal", "a=b; Domain=gate.example"},
		{"a client that knows no name", ip, "a=b; Domain=users.internal; Secure", "a=b; Secure"},
		{"captures", captured(base), "a=b; Path=/base; Domain=users.internal", "a=b; Path=/base; Domain=gate.example"},
		{"__Host-", stripped(base), "__Host-a=b; Path=/; Secure", ""},
		{"__host-", stripped(base), "__host-a=b; Path=/; Secure", ""},
		{"no attributes", base, "a=b", ""},
		{"another path", base, "a=b; Path=/", ""},
		{"a path that begins like it", base, "a=b; Path=/based", ""},
		{"a relative path", base, "a=b; Path=base", ""},
		{"another domain", base, "a=b; Domain=internal", ""},
		{"the client's own", base, "a=b; Domain=gate.example", ""},
		{"attributes in the value", base, "Path=/base", ""},
		{"odd", base, ";;=;Path;Domain=;Path=", ""},
		{"empty", base, "", ""},
	} {
		t.Run(c.what, func(t *testing.T) { checkField(t, &c.v, "Set-Cookie", c.said, c.want) })
	}
}

func checkField(t *testing.T, v *reversal, name, said, want string) {
	t.Helper()
	var h http1.Head
	h.Add(name, said)
	v.head(nil, &h)
	if want == "" {
		want = said
	}
	if got := string(h.Value(0)); got != want {
		t.Errorf("%s: %q became %q, want %q", name, said, got, want)
	}
}

// FuzzReverse looks for answers that lead to where the upstream did not, or that grow without bounds.
func FuzzReverse(f *testing.F) {
	f.Add("http://users.internal:8080/base/x")
	f.Add("/base//evil.example")
	f.Add("5; url='http://10.0.0.7:8080/base'")
	f.Add("a=b; Path=/base/x; Domain=users.internal")
	f.Fuzz(func(t *testing.T, value string) {
		if !http1.ValidFieldValue(value) {
			return
		}
		for _, v := range []reversal{appAtBase(), stripped(appAtBase()), captured(encrypted(appAtBase())), {rewrite: &Rewrite{AddPrefix: []byte("/base")}}} {
			var h http1.Head
			for _, name := range []string{"Location", "Refresh", "URI", "Set-Cookie"} {
				h.Add(name, value)
			}
			v.head(nil, &h)
			for i := range h.Len() {
				got := string(h.Value(i))
				// Each attribute of a cookie can grow by the client's name, everything else does once.
				if most := len(value) + 64 + 24*strings.Count(value, ";"); len(got) > most {
					t.Errorf("%s: %q became %q", h.Name(i), value, got)
				}
				if !http1.ValidFieldValue(got) && got != "" {
					t.Errorf("%s: %q became %q", h.Name(i), value, got)
				}
			}
			got := string(h.Value(0))
			if got != value && !strings.HasPrefix(got, v.scheme+"://gate.example/") && (len(got) == 0 || got[0] != '/' || startsElsewhere([]byte(got))) {
				t.Errorf("%q became %q", value, got)
			}
		}
	})
}

func TestAnAnswerIsMappedBack(t *testing.T) {
	var own string
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			path := strings.Fields(h)[1]
			c.say("HTTP/1.1 302 Found\r\nLocation: http://%s%s\r\nContent-Location: %s\r\nRefresh: 5; url=%s\r\nSet-Cookie: a=b; Domain=127.0.0.1; Path=/v1\r\n"+
				"Set-Cookie: c=d\r\nLink: <http://%s/v1>\r\nContent-Length: 0\r\n\r\n", own, path, path, path, own)
		}
	})
	own = b.Addr().String()
	g := newGate(t, b, func(s *Snapshot, _ *upstream.Config) {
		s.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		s.Routes = tableOf(&Route{
			Upstream: 0, Rewrite: Rewrite{StripPrefix: []byte("/app"), AddPrefix: []byte("/v1"), Reverse: true},
			Response: Edits{Set: []Field{{[]byte("Refresh"), []byte("7; url=/v1/ours")}}},
		})
	})
	c := g.client()
	for range 2 {
		head, _ := c.say("GET /app/x?y HTTP/1.1\r\nHost: gate.example:81\r\n\r\n").answer()
		c.want(head, "Location: http://gate.example:81/app/x?y\r\n")
		c.want(head, "Content-Location: /app/x?y\r\n")
		c.want(head, "Refresh: 7; url=/v1/ours\r\n") // the configuration has the last word
		c.want(head, "Set-Cookie: a=b; Domain=gate.example; Path=/app\r\n")
		c.want(head, "Set-Cookie: c=d\r\n")
		c.want(head, "Link: <http://"+own+"/v1>\r\n")
	}
	head, _ := c.say("GET /app/x HTTP/1.1\r\nHost: gate.example\r\nX-Forwarded-Proto: https\r\n\r\n").answer()
	c.want(head, "Location: https://gate.example/app/x\r\n")
}

// TestTheClientsNameIsKeptWhenHostIsAnothers: the upstream is sent a Host of the configuration, and answers with it.
func TestTheClientsNameIsKeptWhenHostIsAnothers(t *testing.T) {
	c := newGate(t, newBackend(t, func(_ int, c *backendConn) {
		for c.head() != "" {
			c.say("HTTP/1.1 201 Created\r\nLocation: http://literal.example/x\r\nContent-Length: 0\r\n\r\n")
		}
	}), func(s *Snapshot, _ *upstream.Config) {
		s.Upstreams[0].Host = HostPolicy{Mode: LiteralHost, Literal: []byte("literal.example")}
		s.Routes = tableOf(&Route{Upstream: 0, Rewrite: Rewrite{Reverse: true}})
	}).client()
	head, _ := c.say("POST / HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\nContent-Length: 0\r\n\r\n").answer()
	c.want(head, "Location: http://[2001:db8::1]:8080/x\r\n")
}

// TestNoOtherSpellingOfAFieldThatTheConfigurationSets: much software takes X_User and X-User for one, so a client must not
// get past what the configuration says of it.
func TestNoOtherSpellingOfAFieldThatTheConfigurationSets(t *testing.T) {
	heads := make(chan string, 1)
	b := newBackend(t, func(_ int, c *backendConn) {
		for h := c.head(); h != ""; h = c.head() {
			heads <- h
			c.say("HTTP/1.1 200 OK\r\nX_Kept: 1\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n")
		}
	})
	g := newGate(t, b, func(s *Snapshot, _ *upstream.Config) {
		s.Routes = tableOf(&Route{
			Request:  Edits{Remove: [][]byte{[]byte("x-role")}, Set: []Field{{[]byte("x-user"), []byte("anna")}}},
			Response: Edits{Set: []Field{{[]byte("x-kept"), []byte("3")}}},
		})
	})
	c := g.client()
	head, _ := c.say("GET / HTTP/1.1\r\nHost: h\r\nX_User: root\r\nX-Role: a\r\nX_ROLE: b\r\nx-User: root\r\nX-Users: 7\r\n\r\n").answer()
	c.want(head, "X_Kept: 1\r\nx-kept: 3\r\n") // answers come from our own side
	seen := strings.ToLower(<-heads)
	if strings.Contains(seen, "root") || strings.Contains(seen, "role") || !strings.Contains(seen, "x-user: anna\r\n") || !strings.Contains(seen, "x-users: 7\r\n") {
		t.Errorf("the upstream saw %s", seen)
	}
}
