//go:build linux && !wasmgate_portable && !race

package gateway_test

import (
	"bytes"
	"net"
	"testing"
)

// TestRequestsAllocateNothing sends requests through the whole gateway, metrics on: by a plain route, and by one that a
// plugin decides, and by one that compresses. The client does not allocate and nginx is another process, so every allocation would be the gateway's.
func TestRequestsAllocateNothing(t *testing.T) {
	n := startNginx(t)
	g := start(t, "loops: 1\n"+tenants(n, module(t, tenantRouter))+
		"  - { match: { path: /packed }, upstream: web, compression: { min_length: 1B } }\n  - { upstream: web }\n")
	for _, path := range []string{"/plain", "/tenant/x", "/packed"} {
		t.Run(path, func(t *testing.T) {
			c, err := net.Dial("tcp", g.addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			request, answer := []byte("GET "+path+" HTTP/1.1\r\nHost: h\r\nX-Tenant: acme\r\nUser-Agent: test\r\nAccept-Encoding: gzip\r\n\r\n"), make([]byte, 4096)
			if got := testing.AllocsPerRun(2000, func() {
				if _, err := c.Write(request); err != nil {
					t.Fatal(err)
				}
				if _, err := c.Read(answer); err != nil {
					t.Fatal(err)
				}
			}); got != 0 {
				t.Errorf("a request allocates %v times", got)
			}
			if string(answer[:15]) != "HTTP/1.1 200 OK" || bytes.Contains(answer, []byte("Content-Encoding: gzip")) != (path == "/packed") {
				t.Errorf("got %q", answer[:256])
			}
		})
	}
}
