package explain

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what comes out to testdata")

// forwardedOne has something of everything.
func forwardedOne() *Explanation {
	tried := []Try{{Route: "health", Part: "path", Want: "/healthz", Have: "/shop/cart", Place: Place{Path: "routes[0]"}}}
	for _, name := range []string{"t1", "t2", "t3", "t4", "t5"} {
		tried = append(tried, Try{Route: name, Part: "host", Want: name + ".example", Have: "shop.example"})
	}
	tried = append(tried,
		Try{Route: "gold", Part: "headers", Name: "x-tier", Want: "gold", Have: "tin", Place: Place{Path: "routes[6]"}},
		Try{Route: "beta", Part: "query", Name: "beta", Want: "any value", Have: "nothing"},
		Try{Route: "by-plugin", Place: Place{Path: "routes[8]"}},
		Try{Route: "shop", Place: Place{Path: "routes[9]"}},
	)
	return &Explanation{
		Live:   true,
		Client: "203.0.113.9:50000", Outcome: Forwarded, Route: "shop",
		Request:  Message{Line: "POST /shop/cart?x=1 HTTP/1.1", Fields: []Field{{Name: "Host", Value: "shop.example"}, {Name: "x-evil", Value: "\x1b[2Jé"}}, Body: "a=1\nb=2"},
		Listener: Listener{Name: "public", Address: ":8080", Mode: "http", Why: "it is the first one in mode http", Place: Place{Path: "listeners[0]"}},
		Steps: []Step{
			{Plugin: &Plugin{Name: "ids", Role: "listener", Phase: "request", Decision: "continue", Fuel: 900, Took: 4 * time.Microsecond, Set: []Field{{Name: "x-request-id", Value: "7"}}, Removed: []string{"x-old"}}},
			{Round: &Round{Number: 1, Method: "POST", Authority: "shop.example", Path: "/shop/cart?x=1", Tried: tried, Matched: "shop"}},
			{Plugin: &Plugin{
				Name: "tenant", Role: "route", Phase: "request", Decision: "rematch", Fuel: 12345, Took: 1500 * time.Microsecond, Path: "/app/cart", Upstream: "acme", Timeout: "2s",
				Says: []string{"hello"}, Calls: []Call{{Upstream: "auth", Method: "GET", Path: "/who", Error: "no"}, {Upstream: "auth", Method: "GET", Path: "/who", Sent: true, Status: 200}, {Upstream: "auth", Method: "GET", Path: "/", Sent: true, Error: "connect"}},
			}},
			{Round: &Round{Number: 2, Method: "POST", Authority: "shop.example", Path: "/app/cart", Tried: []Try{{Route: "app"}}, Matched: "app"}},
			{Plugin: &Plugin{Name: "trap", Role: "route", Phase: "request", Decision: "fail_open", Failure: "plugin_trap: plugin trap: unreachable", Fuel: 7}},
		},
		Upstream: &Upstream{
			Name: "acme", Why: "plugin tenant chose it", Host: "the client's (host: preserve)", Algorithm: "hash", HashKey: "beef", Session: "s1",
			Pool:  &Pool{Open: 3, Idle: 1, Waiting: 1, BreakerOpen: true, RetriesLeft: 9},
			Rules: []Rule{{Key: "timeouts.connect", Value: "3s"}, {Key: "retries.attempts", Value: "2"}},
			Members: []Member{
				{Target: "acme.internal:80", Address: "10.0.0.1:80", State: "active", Health: "healthy", Weight: 1, Choice: Chosen, Requests: 1, Open: 2, Idle: 1, DNSAge: "4s"},
				{Target: "acme.internal:80", Address: "10.0.0.2:80", State: "active", Health: "ejected", Why: "5 failures in a row", Weight: 1, Choice: PassedOver, DNSDoubt: "the server did not answer"},
				{Target: "10.0.0.3:8080", Address: "10.0.0.3:8080", State: "standby", Health: "healthy", Weight: 2, Tier: 1, Choice: PassedOver},
			},
		},
		Sent: &Message{Line: "POST /cart?x=1 HTTP/1.1", Fields: []Field{
			{Name: "Host", Value: "shop.example"}, {Name: "X-Forwarded-For", Value: "203.0.113.9", Note: "added: who the client is"},
			{Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Note: "trace context; its ids are others for each request"},
		}, Body: "a=1\nb=2"},
		Notes: []string{"not sent on: x-evil"},
	}
}

func answeredOne() *Explanation {
	return &Explanation{
		Client: "127.0.0.1:50000", Outcome: Answered, Error: "no_route: no route matches", Kind: "no_route",
		Request:  Message{Line: "GET / HTTP/1.1", Fields: []Field{{Name: "Host", Value: "localhost"}}},
		Listener: Listener{Name: ":8080", Address: ":8080", Mode: "http", Why: "it was asked for"},
		Steps:    []Step{{Round: &Round{Number: 1, Method: "GET", Authority: "localhost", Path: "/", Tried: []Try{}}}, {Plugin: &Plugin{Name: "h", Role: "listener", Phase: "response", Decision: "continue"}}},
		Answer:   &Message{Line: "HTTP/1.1 404 Not Found", Status: 404, Fields: []Field{{Name: "Content-Length", Value: "4"}}, Body: "none"},
	}
}

func TestText(t *testing.T) {
	e := forwardedOne()
	e.Locate(func(path string) string {
		return map[string]string{"listeners[0]": "edge.yaml:2:5", "routes[0]": "edge.yaml:10:5", "routes[9]": "edge.yaml:40:5"}[path]
	})
	for name, got := range map[string]string{
		"forwarded.txt": e.Text(Options{}), "all.txt": e.Text(Options{All: true}), "color.txt": e.Text(Options{Color: true}), "answered.txt": answeredOne().Text(Options{}),
		"closed.txt": (&Explanation{Outcome: Closed, Error: "denied: plugin p: it closes the stream", Request: Message{Line: "GET / HTTP/1.1"}}).Text(Options{}),
		"passed.txt": (&Explanation{Outcome: Passed, Upstream: &Upstream{Name: "db", Algorithm: "first"}, Request: Message{Line: "a connection for db.example"}}).Text(Options{}),
	} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s is not what comes out (-update writes it):\n%s", file, got)
		}
		if plain := strings.Contains(name, "color"); strings.Contains(got, "\x1b") != plain || strings.Contains(got, "\x1b[2J") {
			t.Errorf("%s: escapes", name)
		}
	}
}

// TestJSONIsTheSame: what is read of what was written says the same.
func TestJSONIsTheSame(t *testing.T) {
	for _, e := range []*Explanation{forwardedOne(), answeredOne()} {
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var again Explanation
		if err := json.Unmarshal(b, &again); err != nil || again.Text(Options{All: true}) != e.Text(Options{All: true}) {
			t.Errorf("%v\n%s", err, again.Text(Options{}))
		}
	}
}

func TestURLs(t *testing.T) {
	for s, want := range map[string]URL{
		"http://a.example":                {Scheme: "http", Authority: "a.example", Host: "a.example", Port: 80, Target: "/"},
		"a.example/x":                     {Scheme: "http", Authority: "a.example", Host: "a.example", Port: 80, Target: "/x"},
		"HTTPS://A:8443?q#f":              {Scheme: "https", Authority: "A:8443", Host: "A", Port: 8443, Target: "/?q"},
		"http://[::1]:81/%2f//..?a=b?c/d": {Scheme: "http", Authority: "[::1]:81", Host: "::1", Port: 81, Target: "/%2f//..?a=b?c/d"},
		"http://[::1]/":                   {Scheme: "http", Authority: "[::1]", Host: "::1", Port: 80, Target: "/"},
		"/a b":                            {Target: "/a b"},
		"*":                               {Target: "*"},
		"tls://db.example":                {Scheme: "tls", Authority: "db.example", Host: "db.example", Port: 443, Target: "/"},
	} {
		if got, err := ParseURL(s); err != nil || got != want {
			t.Errorf("%s: %+v %v", s, got, err)
		}
	}
}

func TestBytes(t *testing.T) {
	for want, r := range map[string]Request{
		"GET /x HTTP/1.1\r\nHost: a\r\n\r\n":                                                  {URL: "http://a:80/x"},
		"GET /x HTTP/1.1\r\nHost: localhost\r\nA: b\r\n\r\n":                                  {URL: "/x", Fields: []Field{{Name: "A", Value: "b"}}},
		"GET / HTTP/1.1\r\nhost: other\r\n\r\n":                                               {URL: "http://a", Fields: []Field{{Name: "host", Value: "other"}}},
		"POST / HTTP/1.1\r\nHost: a:81\r\nContent-Length: 2\r\n\r\nhi":                        {URL: "a:81", Body: "hi"},
		"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n": {URL: "a", Method: "PUT", Body: "hi", Fields: []Field{{Name: "Transfer-Encoding", Value: "chunked"}}},
		"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n":            {URL: "a", Method: "PUT", Fields: []Field{{Name: "Transfer-Encoding", Value: "chunked"}}},
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhi":                           {URL: "a", Body: "hi", Fields: []Field{{Name: "Content-Length", Value: "9"}}},
	} {
		u, err := ParseURL(r.URL)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.Bytes(u); err != nil || string(b) != want {
			t.Errorf("%q %v, want %q", b, err, want)
		}
	}
}
