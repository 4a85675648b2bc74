package gateway_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestAPluginThatLooksAtABodyLeavesItsLength: bodies too long to be held whole, that a Proxy-Wasm plugin sees piece by piece and
// leaves alone, go with the length that they came with, both ways and to an HTTP/1.0 client; one whose content-length the
// plugin removes goes in chunks, or until the connection closes.
func TestAPluginThatLooksAtABodyLeavesItsLength(t *testing.T) {
	b := startBackends(t, 1)
	long := strings.Repeat("0123456789abcdef", 1<<13) // 128 KiB
	seen := make(chan string, 1)
	b[0].does(func(a *asked) reply {
		seen <- fmt.Sprintf("%s %d", a.get("Content-Length"), len(a.body))
		return reply{body: long}
	})
	p := startPlant(t, fmt.Sprintf(`loops: 1
upstreams: { web: { targets: ['http://%s'] } }
plugins:
  looks: { module: %q, config: "request_more size 0\nresponse_more size 2" }
  changes: { module: %[2]q, config: "response del 2 content-length\nresponse_end setbody 1 2147483647 0 !" }
routes:
  - { match: { path_prefix: /looks }, plugins: [looks], upstream: web }
  - { plugins: [changes], upstream: web }
`, b[0].addr, module(t, probe)))
	for _, c := range []struct{ path, minor, field, body string }{
		{"/looks", "1", "Content-Length: 131072\r\n", long},
		{"/looks", "0", "Content-Length: 131072\r\n", long},
		{"/changes", "1", "Transfer-Encoding: chunked\r\n", ""},
		{"/changes", "0", "Connection: close\r\n", long + "!"},
	} {
		conn := p.request(fmt.Sprintf("POST %s HTTP/1.%s\r\nHost: h\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", c.path, c.minor, len(long), long))
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if got := <-seen; got != "131072 131072" {
			t.Errorf("%s: the upstream was told and got %s", c.path, got)
		}
		all, err := io.ReadAll(conn)
		head, body, _ := strings.Cut(string(all), "\r\n\r\n")
		if err != nil || !strings.Contains(head+"\r\n", c.field) || c.body != "" && body != c.body || c.body == "" && !strings.HasSuffix(body, "!\r\n0\r\n\r\n") {
			t.Errorf("%s in HTTP/1.%s: %v, %s\n%d bytes that end with %q", c.path, c.minor, err, head, len(body), body[max(len(body)-30, 0):])
		}
	}
}
