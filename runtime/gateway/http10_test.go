package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestAnswersOfHTTP10: however an upstream of HTTP/1.0 ends an answer and whatever it says of its connection, clients of HTTP/1.1 and of
// HTTP/2 get it whole, and the connection is used again only where both its end is known and it says keep-alive. It is sent no chunks.
func TestAnswersOfHTTP10(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		status       int
		conns        int64 // for three requests
		why          string
	}{
		{"a length, and keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nwell", 200, 1, ""},
		{"a length, and Keep-Alive", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=60\r\nContent-Length: 4\r\n\r\nwell", 200, 1, ""},
		{"a length", "HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nwell", 200, 3, "http10_no_keepalive"},
		{"a length, and close", "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\nwell", 200, 3, "http10_no_keepalive"},
		{"no length", "HTTP/1.0 200 OK\r\n\r\nwell", 200, 3, "close_delimited"},
		{"no length, and keep-alive", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nwell", 200, 3, "close_delimited"},
		{"HTTP/1.1 after all", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell", 200, 1, ""},
		{"chunks, which 1.0 does not have", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", 502, 3, "protocol_error"},
	} {
		for _, client := range []struct {
			version string
			make    func(*testing.T) *http.Client
		}{{"HTTP/1.1", func(*testing.T) *http.Client { return http.DefaultClient }}, {"HTTP/2", h2Client}} {
			t.Run(c.name+", "+client.version, func(t *testing.T) {
				o := startOrigin(t, func(w io.Writer, _ *originRequest) bool {
					_, _ = io.WriteString(w, c.answer)
					return c.conns == 1
				})
				p := startPlant(t, fmt.Sprintf("loops: 1\nupstreams: { web: { targets: ['http://%s'], protocol: http1.0, health: { passive: { failures: 0 } }, retries: { attempts: 1 } } }\n%s", o.addr, h2Routes))
				with := client.make(t)
				for range 3 {
					r, _ := http.NewRequest("POST", p.url("/"), io.NopCloser(strings.NewReader("body"))) // without a length
					a, err := with.Do(r)
					if err != nil {
						t.Fatal(err)
					}
					body := readAll(t, a)
					if a.StatusCode != c.status || c.status == 200 && body != "well" {
						t.Errorf("%s %q", a.Status, body)
					}
				}
				if got := strings.ToLower(o.last()); !strings.HasPrefix(got, "post / http/1.0\r\n") || strings.Contains(got, "transfer-encoding") || !strings.Contains(got, "\r\ncontent-length: 4") {
					t.Errorf("the upstream was sent %q", o.last())
				}
				if n := o.used.Load(); n != c.conns {
					t.Errorf("%d connections", n)
				}
				if c.why != "" && p.closedFor(c.why) != 3 {
					t.Errorf("connections were closed for %v", p.closed)
				}
			})
		}
	}
}
