package gateway_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

// TestTheAccessLogOfARequestAndOfASession: what the config asks for is what syslog gets, from listeners of both modes: fields
// as the client sent them, whatever routes do to them, and nothing that shall be kept out.
func TestTheAccessLogOfARequestAndOfASession(t *testing.T) {
	if os.PathSeparator != '/' {
		t.Skip("there are no sockets of this kind")
	}
	dir, err := os.MkdirTemp("", "log") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket, err := net.ListenPacket("unixgram", filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	var got testkit.Buffer
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, _, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = got.Write(append(b[:n:n], '\n'))
		}
	}()
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Seen", r.Header.Get("X-Request-Id"))
		w.Header().Set("Set-Cookie", "secret")
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(backend.Close)
	g := startText(t, fmt.Sprintf(`
telemetry:
  access_log:
    output: syslog+unixgram://%s/log
    syslog: { facility: local0, tag: edge }
    format: '$client "$request" $status $bytes_out $request_header_x_request_id $response_header_x_seen $response_header_set_cookie $upstream $route $listener'
    redact: { headers: [set-cookie], query: [token] }
admin: { address: '' }
plugin_cache: { dir: 'off' }
listeners:
  - { name: test, address: '127.0.0.1:0' }
  - { name: database, address: '127.0.0.1:0', mode: tcp, upstream: web }
upstreams: { web: { targets: ['%s'] } }
routes: [{ name: all, upstream: web, request_headers: { set: { x-request-id: "8" } } }]
`, dir, backend.URL))
	for _, url := range []string{g.url("/a?b=1&token=secret"), "http://" + g.Addr("database").String() + "/"} {
		q, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("X-Request-Id", "7")
		q.Close = true
		answer, err := http.DefaultClient.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	for _, want := range []string{
		`(?m)^<134>1 \S+ \S+ edge \d+ access - 127\.0\.0\.1 "GET /a\?b=1&token=\*\*\* HTTP/1\.1" 200 5 7 8 \*\*\* web all test$`,
		`(?m)^<134>1 \S+ \S+ edge \d+ access - 127\.0\.0\.1 "CONNECT database TCP" 200 \d{3,} - - - web - database$`,
	} {
		testkit.Eventually(t, "there is "+want, func() bool { return regexp.MustCompile(want).MatchString(got.String()) })
	}
	if strings.Contains(got.String(), "secret") {
		t.Errorf("the log says %q", got.String())
	}
}
