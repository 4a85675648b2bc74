//go:build linux && !wasmgate_portable && !race

package gateway_test

import (
	"bytes"
	"crypto/tls"
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

// TestRequestsByTLSAllocateNothingMore: what crypto/tls allocates for a record is measured between two of its connections that
// say as much; a request through the gateway allocates no more than that.
func TestRequestsByTLSAllocateNothingMore(t *testing.T) {
	n := startNginx(t)
	a := newIssuer(t)
	g := startListening(t, "loops: 1\nlisteners: ["+a.listener("")+"]\n"+tenants(n, module(t, tenantRouter))+"  - { upstream: web }\n")
	request, answer := []byte("GET /plain HTTP/1.1\r\nHost: a.test\r\nUser-Agent: test\r\n\r\n"), make([]byte, 4096)
	perRound := func(c net.Conn) float64 {
		return testing.AllocsPerRun(2000, func() {
			if _, err := c.Write(request); err != nil {
				t.Fatal(err)
			}
			if _, err := c.Read(answer); err != nil {
				t.Fatal(err)
			}
		})
	}
	cert, err := tls.LoadX509KeyPair(a.file("a.pem"), a.file("a.key"))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	plain, err := tls.Dial("tcp", ln.Addr().String(), a.trust())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	want := perRound(plain)
	got := perRound(g.secured(a.trust()))
	t.Logf("crypto/tls alone allocates %v times, through the gateway %v times", want, got)
	if got > want {
		t.Errorf("a request by TLS allocates %v times, and crypto/tls alone %v times", got, want)
	}
	if string(answer[:15]) != "HTTP/1.1 200 OK" {
		t.Errorf("got %q", answer[:64])
	}
}
