package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"

	"wasmgate/config"
)

func TestParseHTTP3(t *testing.T) {
	l, err := parseHTTP3("1000 2000000 30000000\n", 2*time.Second)
	if err != nil || l.requests != 1000 || l.perSec != 500 || l.p50 != 2*time.Millisecond || l.p99 != 30*time.Millisecond || l.bad != "" {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := parseHTTP3("0 0 0", time.Second); err != nil || l.bad == "" {
		t.Errorf("%+v, %v", l, err)
	}
	if _, err := parseHTTP3("no connection", time.Second); err == nil {
		t.Error("what is no result was read")
	}
}

// TestHTTP3Load: the load asks a server with the headers of every load, and takes no answer but a good one.
func TestHTTP3Load(t *testing.T) {
	s := &setup{dir: t.TempDir()}
	if err := s.issue(); err != nil {
		t.Fatal(err)
	}
	cert, err := tls.LoadX509KeyPair(s.certificate(), s.key())
	if err != nil {
		t.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http3.Server{
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/bad" || r.Header.Get("X-Tenant") != tenant {
				w.WriteHeader(500)
			}
			fmt.Fprint(w, answerBody)
		}),
	}
	go func() { _ = srv.Serve(socket) }()
	t.Cleanup(func() { _ = srv.Close(); _ = socket.Close() })
	port := strconv.Itoa(socket.LocalAddr().(*net.UDPAddr).Port)
	var out bytes.Buffer
	if err := http3Load(t.Context(), []string{port, "2", "3", "200", "/some/path"}, &out); err != nil {
		t.Fatal(err)
	}
	if l, err := parseHTTP3(out.String(), 200*time.Millisecond); err != nil || l.requests < 6 || l.p50 <= 0 || l.p99 < l.p50 {
		t.Errorf("%+v, %v", l, err)
	}
	if err := http3Load(t.Context(), []string{port, "1", "1", "200", "/bad"}, &out); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a status that is no answer: %v", err)
	}
}

// TestHTTP3Configurations: every candidate of -http3 is told to speak it.
func TestHTTP3Configurations(t *testing.T) {
	for _, name := range http3Names {
		c, ok := find(name)
		if !ok {
			t.Fatalf("no candidate %s", name)
		}
		s := &setup{dir: t.TempDir(), plugin: "/plugins/tenant.wasm", backend: 9001, workers: 1, tls: true, http3: true}
		path, err := s.render(c.config, c.config, s.fields(c, 9101, 9102))
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(path) == "Caddyfile" {
			continue
		}
		cfg, _, err := config.Load(config.Source{File: path, Stat: func(string) error { return nil }})
		if err != nil || !cfg.Listeners[0].HTTP3.Enabled || cfg.Listeners[0].TLS == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
