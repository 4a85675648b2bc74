package gateway_test

import (
	"bufio"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/explain"
)

// experience is what a client has met with: the certificate that it was shown, the protocol, the status and the body of the answer.
type experience struct {
	served, protocol string
	status           int
	body             string
}

func fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// meet asks a listener by TLS, for a server name or none.
func meet(t *testing.T, addr, name, host string, shown ...tls.Certificate) (is experience) {
	t.Helper()
	cfg := &tls.Config{InsecureSkipVerify: true, ServerName: name, NextProtos: []string{"h2", "http/1.1"}, Certificates: shown} //nolint:gosec // what is shown is compared
	cfg.VerifyConnection = func(s tls.ConnectionState) error {
		is.served, is.protocol = fingerprint(s.PeerCertificates[0].Raw), s.NegotiatedProtocol
		return nil
	}
	raw, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(raw, cfg)
	if err := c.Handshake(); err != nil {
		return is
	}
	r, err := http.NewRequest("GET", "https://"+host+"/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	var resp *http.Response
	if is.protocol == "h2" {
		var ask func(*http.Request) (*http.Response, error)
		if ask, err = overHTTP2(c); err == nil {
			resp, err = ask(r)
		}
	} else if err = r.Write(c); err == nil {
		resp, err = http.ReadResponse(bufio.NewReader(c), r)
	}
	if err != nil { // in TLS 1.3 a client learns only then that its certificate is not taken
		return is
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	is.status, is.body = resp.StatusCode, string(body)
	return is
}

// TestExplainAgreesWithWhatHappensByTLS asks listeners with all rules about clients' certificates, and compares what explanations
// say of it: certificate, protocol, answer or none, and what the upstream is told of the client.
func TestExplainAgreesWithWhatHappensByTLS(t *testing.T) {
	a, others := newIssuer(t), newIssuer(t)
	a.issue("a", "a.test", "*.many.test")
	a.issue("b", "b.test")
	alice, mallory := a.client("alice"), others.client("mallory")
	pemOf := func(c tls.Certificate) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}))
	}
	tlsOf := func(more string) string {
		return fmt.Sprintf("tls: { certificates: [{ cert: %q, key: %q }, { cert: %q, key: %q }], client_ca: %q, client_headers: { subject: x-who }, %s }",
			a.file("a.pem"), a.file("a.key"), a.file("b.pem"), a.file("b.key"), a.file("ca.pem"), more)
	}
	g := startListening(t, "listeners:\n"+
		"  - { name: test, address: '127.0.0.1:0', "+tlsOf("client_auth: request")+" }\n"+
		"  - { name: strict, address: '127.0.0.1:0', "+tlsOf("client_auth: require, profile: strict")+" }\n"+
		"  - { name: old, address: '127.0.0.1:0', http2: { enabled: false }, "+tlsOf("client_auth: request")+" }\n"+
		"upstreams: { app: { targets: ['"+echo(t)+"'] } }\nroutes: [{ upstream: app }]\n")
	for _, listener := range []string{"test", "strict", "old"} {
		addr := g.Addr(listener).String()
		for _, host := range []string{"a.test", "B.test", "x.many.test", "y.x.many.test", "nobody.test", "127.0.0.1", "[::1]"} {
			for who, shown := range map[string][]tls.Certificate{"nobody": nil, "alice": {alice}, "mallory": {mallory}} {
				q := explain.Request{URL: "https://" + host + "/x", Listener: listener}
				for _, c := range shown {
					q.ClientCertificate = pemOf(c)
				}
				name := strings.Trim(strings.ToLower(host), "[]")
				if net.ParseIP(name) != nil {
					name = ""
				}
				is, e := meet(t, addr, name, host, shown...), explained(t, g.Gateway, q)
				what := listener + " " + host + " " + who
				if e.TLS == nil {
					t.Fatalf("%s: nothing is said of TLS", what)
				}
				if served := e.TLS.Certificate; (served == nil) != (is.served == "") || served != nil && served.SHA256 != is.served {
					t.Errorf("%s: the certificate is said to be %+v, and is %s", what, served, is.served)
				}
				if (is.status == 0) != (e.Outcome == explain.Closed) || (is.status == 0) != (e.TLS.Failed != "") {
					t.Errorf("%s: status %d, said was %s: %s", what, is.status, e.Outcome, e.Error)
				}
				if is.status == 0 {
					continue
				}
				if e.TLS.Protocol != is.protocol {
					t.Errorf("%s: protocol %s, said was %s", what, is.protocol, e.TLS.Protocol)
				}
				switch {
				case e.Outcome == explain.Answered:
					if e.Answer.Status != is.status {
						t.Errorf("%s: status %d, said was %d", what, is.status, e.Answer.Status)
					}
				case is.status != 200:
					t.Errorf("%s: status %d, said was %s", what, is.status, e.Outcome)
				default:
					for _, f := range e.Sent.Fields {
						if strings.EqualFold(f.Name, "x-who") && !strings.Contains(is.body, f.Value) || who == "alice" && !strings.Contains(written(e.Sent), "CN=alice") {
							t.Errorf("%s: the upstream got %q, said was %q", what, is.body, written(e.Sent))
						}
					}
				}
			}
		}
	}
}

// TestExplainTLS: what there is to say of handshakes that fail, of listeners that are asked by the wrong scheme, and of redirects.
func TestExplainTLS(t *testing.T) {
	a := newIssuer(t)
	a.issue("a", "a.test")
	pair := fmt.Sprintf("certificates: [{ cert: %q, key: %q }]", a.file("a.pem"), a.file("a.key"))
	g := unstarted(t, "listeners:\n  - { name: plain, address: ':8080', redirect_https: true, redirect_port: 8443 }\n  - { name: other, address: ':8081' }\n"+
		"  - { name: tls, address: ':8443', tls: { "+pair+" } }\n"+
		"  - { name: mutual, address: ':9443', tls: { "+pair+", client_auth: require, client_ca: '"+a.file("ca.pem")+"' } }\n"+hello)
	for _, c := range []struct {
		url, outcome, kind, says string
		status                   int
	}{
		{"http://a.test:8080/x?y", explain.Answered, "", "", 308},
		{"https://a.test/x", explain.Answered, "", "", 200}, // none has port 443: the first that speaks TLS
		{"https://a.test:8443/x", explain.Answered, "", "", 200},
		{"http://a.test:8443/x", explain.Answered, "malformed", "ask it by https", 400},
		{"https://other.test:8443/x", explain.Closed, "unknown_name", "certificate", 0},
		{"https://a.test:9443/x", explain.Closed, "client_certificate", "--client-cert", 0},
		{"https://a.test:8081/x", explain.Answered, "", "", 200},
		{"/x", explain.Answered, "", "", 308},
	} {
		e := explained(t, g, explain.Request{URL: c.url})
		if e.Outcome != c.outcome || e.Kind != c.kind || !strings.Contains(e.Error, c.says) || e.Answer != nil && e.Answer.Status != c.status {
			t.Errorf("%s: %s (%s): %s, %+v", c.url, e.Outcome, e.Kind, e.Error, e.Answer)
		}
		if text := e.Text(explain.Options{}); e.TLS != nil && !strings.Contains(text, "\ntls        ") || strings.Contains(c.url, "8081") && !strings.Contains(text, "speaks no TLS") {
			t.Errorf("%s: %s", c.url, text)
		}
	}
	for _, text := range []string{"junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if _, err := g.Explain(t.Context(), explain.Request{URL: "https://a.test/", ClientCertificate: text}); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
