package server

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
)

// told is a Witness that remembers.
type told []string

func (w *told) Round(x *exchange.Exchange) { *w = append(*w, "round "+string(x.Request.Path)) }
func (w *told) Tried(_ *http1.Request, from, matched int) {
	*w = append(*w, fmt.Sprintf("from %d matched %d", from, matched))
}

// rehearsed is what would come of a request: what the upstream would get, or the answer.
func (g *gate) rehearsed(request string) (sent, answer string, why told) {
	g.Helper()
	done := make(chan struct{})
	l := g.group.Loop(1)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			defer close(done)
			asked := Asked{Bytes: []byte(request), Client: netip.MustParseAddrPort("203.0.113.9:1234"), Local: netip.MustParseAddrPort("127.0.0.1:80")}
			r := Rehearse(t, g.snapshot, nil, &asked, &why)
			if r.Sent != nil {
				sent = string(r.Sent.Sent)
			}
			answer = string(r.Answer)
		})
	})
	<-done
	return sent, answer, why
}

// TestRehearse: what a backend gets is what was said before.
func TestRehearse(t *testing.T) {
	b := newBackend(t, func(_ int, c *backendConn) {
		var got bytes.Buffer
		for head := c.head(); head != ""; head = c.head() {
			got.Reset()
			got.WriteString(head + "\r\n")
			switch {
			case strings.Contains(head, "chunked"):
				for !strings.HasSuffix(got.String(), "0\r\n\r\n") && !strings.HasSuffix(got.String(), "X-Sum: 1\r\n\r\n") {
					line, err := c.r.ReadString('\n')
					if got.WriteString(line); err != nil {
						return
					}
				}
			case strings.Contains(head, "Content-Length"):
				var n int
				_, rest, _ := strings.Cut(head, "Content-Length: ")
				_, _ = fmt.Sscan(rest, &n)
				body := make([]byte, n)
				for i := range body {
					body[i], _ = c.r.ReadByte()
				}
				got.Write(body)
			}
			c.say("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", got.Len(), got.Bytes())
		}
	})
	g := newGate(t, b)
	big := strings.Repeat("0123456789", 9000)
	for name, request := range map[string]string{
		"plain":    "GET /a%2fb/../c?x HTTP/1.1\r\nHost: h\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Stays: 2\r\n\r\n",
		"length":   "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000\r\n\r\n" + big,
		"trailers": "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n",
	} {
		sent, answer, why := g.rehearsed(request)
		_, body := g.client().say("%s", request).answer()
		if sent != body || answer != "" || fmt.Sprint(why) == "[]" {
			t.Errorf("%s: said %.300q %.300q %v, sent %.300q", name, sent, answer, why, body)
		}
	}
	for want, request := range map[string]string{
		"HTTP/1.1 405 ": "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
		"HTTP/1.1 400 ": "GET / HTTP/1.1\r\n\r\n",
		"HTTP/1.1 431 ": "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("x", 1<<16) + "\r\n\r\n",
		"":              "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nabc", // the client would be gone
	} {
		if sent, answer, _ := g.rehearsed(request); sent != "" || want == "" && answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.HasPrefix(answer, want) {
			t.Errorf("%.60q: %.300q %.300q, want %q", request, sent, answer, want)
		}
	}
	g.eventually("nothing but what was sent was", func() bool { return len(g.journal.entries()) == 3 })
}

// TestRehearsalsAreTold: of each search for a route, also of those after a plugin has sent the request back.
func TestRehearsalsAreTold(t *testing.T) {
	g := newGate(t, nil, func(s *Snapshot, _ *upstream.Config) {
		back := &scripted{request: func(x *exchange.Exchange, _ int) (filter.Verdict, error) {
			x.Request.SetPath([]byte("/two"))
			return filter.Rematch, nil
		}}
		s.Routes = tableUnder(&Route{Name: "one", Chain: filter.Chain{back}}, "/one", &Route{Name: "two", Respond: &Response{Status: 200, Body: []byte("ok")}}, "/two")
	})
	sent, answer, why := g.rehearsed("GET /one HTTP/1.1\r\nHost: h\r\n\r\n")
	if sent != "" || !strings.HasSuffix(answer, "\r\n\r\nok") || fmt.Sprint(why) != "[round /one from 0 matched 0 round /two from 0 matched 1]" {
		t.Errorf("%q %q %v", sent, answer, why)
	}
	if _, answer, why = g.rehearsed("GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.HasPrefix(answer, "HTTP/1.1 404 ") || fmt.Sprint(why) != "[round /nowhere from 0 matched -1]" {
		t.Errorf("%q %v", answer, why)
	}
}
