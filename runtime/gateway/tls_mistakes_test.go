package gateway_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// TestTLSOnAPortWithoutIt: the access log says what a client has done that speaks TLS where nobody does.
func TestTLSOnAPortWithoutIt(t *testing.T) {
	s := startSite(t, "listeners: [{ name: test, address: '127.0.0.1:0' }]\n"+hello)
	raw, err := net.Dial("tcp", s.at("test"))
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if err := tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).Handshake(); err == nil {
		t.Error("the handshake went well")
	}
	s.logs(`"status":400`)
	s.logs(`"error_detail":"the client speaks TLS, and this port does not: the listener has no tls"`)
}

// TestAHandshakeThatFailsSaysWhatToDo: the log has a help where the config may be what is wrong.
func TestAHandshakeThatFailsSaysWhatToDo(t *testing.T) {
	a := newIssuer(t)
	s := startSite(t, "listeners: ["+a.listener("")+"]\n"+hello)
	for _, c := range []struct {
		edit func(*tls.Config)
		says string
	}{
		{func(c *tls.Config) { c.ServerName = "nobody.test" }, `"server_name":"nobody.test","reason":"unknown_name","error":"there is no certificate for the name that the client asks for","help":"name a certificate for it`},
		{func(c *tls.Config) { c.NextProtos = []string{"smtp"} }, `"help":"tls.alpn says what is offered`},
		{func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, `"help":"tls.min_version and tls.profile`},
	} {
		config := a.trust()
		config.ServerName = "a.test"
		c.edit(config)
		if conn, err := tls.Dial("tcp", s.at("test"), config); err == nil {
			conn.Close()
			t.Errorf("the handshake went well, and should have said %s", c.says)
		}
		testkit.Eventually(t, "the log says "+c.says, func() bool { return strings.Contains(s.output.String(), c.says) })
	}
}

// TestFilesOfAnUpstreamAreToldAtTheirPlace: what cannot be used of them is said where it is named, with what to do.
func TestFilesOfAnUpstreamAreToldAtTheirPlace(t *testing.T) {
	a := newAuthority(t, "ours")
	a.issue("client", x509.Certificate{Subject: pkix.Name{CommonName: "gate"}})
	a.issue("other", x509.Certificate{Subject: pkix.Name{CommonName: "other"}})
	for says, path := range map[string]string{
		"ca: " + a.file("client.key"):                                      "upstreams.web.tls.ca",
		"cert: " + a.file("client.pem") + ", key: " + a.file("other.key"):  "upstreams.web.tls.key",
		"cert: " + a.file("client.key") + ", key: " + a.file("client.key"): "upstreams.web.tls.cert",
	} {
		text := fmt.Sprintf("listeners: [{ name: test, address: '127.0.0.1:0' }]\nupstreams: { web: { targets: ['https://h'], tls: { %s } } }\nroutes: [{ upstream: web }]\n", says)
		_, err := gateway.New(gateway.Options{Config: load(t, text), Log: zerolog.Nop()})
		var r *gateway.Remark
		if !errors.As(err, &r) || r.Path != path || r.Help == "" || !r.Wrong {
			t.Errorf("%s: %v, want it at %s", says, err, path)
		}
	}
}
