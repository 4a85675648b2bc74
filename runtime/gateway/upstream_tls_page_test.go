package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// shell runs commands of a page in the current folder.
func shell(t *testing.T, commands string) string {
	t.Helper()
	c := exec.Command(need(t, "bash"), "-euo", "pipefail", "-c", commands) //nolint:gosec // of our own page
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v: %s", commands, err, out)
	}
	return string(out)
}

// TestThePageForTLSToUpstreamsHolds runs the commands of runtime/secure/README.md, beside a server that wants a client certificate: the
// config that they write works, and the keys that they print are the pins.
func TestThePageForTLSToUpstreamsHolds(t *testing.T) {
	need(t, "openssl")
	page, err := os.ReadFile("../secure/README.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	blocks := strings.Split(string(page), "```sh\n")[1:]
	for i := range blocks {
		blocks[i], _, _ = strings.Cut(blocks[i], "```")
	}
	if len(blocks) != 5 {
		t.Fatalf("the page has %d blocks of commands", len(blocks))
	}
	shell(t, strings.Replace(blocks[0], "wasmgate check", ": checked below,", 1))
	pair, err := tls.LoadX509KeyPair("users.pem", "users.key")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile("ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(ca)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hello, "+r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.StartTLS()
	defer s.Close()
	here := func(text string) string {
		return strings.ReplaceAll(text, "127.0.0.1:9443", s.Listener.Addr().String())
	}
	text, err := os.ReadFile("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, commands := range blocks[2:4] {
		if got := "sha256/" + strings.TrimSpace(shell(t, here(commands))); got != pinOf(pair.Leaf) {
			t.Errorf("%s prints %s, and the pin is %s", commands, got, pinOf(pair.Leaf))
		}
	}
	if said := shell(t, here(blocks[4])); !strings.Contains(said, "Verify return code: 0 (ok)") {
		t.Errorf("openssl says %s", said)
	}
	for pin, want := range map[string]string{pinOf(pair.Leaf): "hello, gateway", "sha256/r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E=": "502 Bad Gateway: tls\n"} {
		config := strings.Replace(strings.Replace(here(string(text)), "127.0.0.1:8080", "127.0.0.1:0", 1), "{ address:", "{ name: test, address:", 1)
		config = strings.Replace(config, "      ca:", "      pin: ['"+pin+"']\n      ca:", 1)
		g := startListening(t, config)
		if got := get(t, g.url("/")); got != want {
			t.Errorf("pinned %s: %q", pin, got)
		}
	}
}
