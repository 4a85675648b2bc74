package proxywasm

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// TestPropertiesOfTLS: what is told of a client's TLS has Envoy's names and forms, and what there is nothing of is not there.
func TestPropertiesOfTLS(t *testing.T) {
	shown := &exchange.TLS{Version: "1.3", ServerName: "a.test", Peer: &exchange.Certificate{
		Subject: "CN=alice", SHA256: "ab12", DNS: []string{"a.clients", "b.clients"}, URI: []string{"spiffe://a"},
	}}
	for _, c := range []struct {
		tls        *exchange.TLS
		name, want string
	}{
		{shown, "mtls", "\x01"},
		{shown, "tls_version", "TLSv1.3"},
		{shown, "requested_server_name", "a.test"},
		{shown, "subject_peer_certificate", "CN=alice"},
		{shown, "sha256_peer_certificate_digest", "ab12"},
		{shown, "dns_san_peer_certificate", "a.clients"},
		{shown, "uri_san_peer_certificate", "spiffe://a"},
		{shown, "subject_local_certificate", ""},
		{&exchange.TLS{Version: "1.2"}, "mtls", "\x00"},
		{&exchange.TLS{Version: "1.2"}, "tls_version", "TLSv1.2"},
		{&exchange.TLS{Version: "1.2"}, "requested_server_name", ""},
		{&exchange.TLS{Version: "1.2"}, "subject_peer_certificate", ""},
		{&exchange.TLS{Peer: &exchange.Certificate{}}, "dns_san_peer_certificate", ""},
		{nil, "mtls", "\x00"},
		{nil, "tls_version", ""},
	} {
		if got, ok := secureProperty(nil, c.tls, c.name); string(got) != c.want || ok != (c.want != "") {
			t.Errorf("connection.%s of %+v: %q, %t", c.name, c.tls, got, ok)
		}
	}
}

// TestPropertiesOfTheUpstream is the same for the other side.
func TestPropertiesOfTheUpstream(t *testing.T) {
	to := netip.MustParseAddrPort("192.0.2.1:8443")
	failed := fault.New(fault.TLS, fault.Upstream, 502, "no certificate")
	second := string(binary.LittleEndian.AppendUint64(nil, 2))
	for _, c := range []struct {
		attempt    exchange.Attempt
		name, want string
	}{
		{exchange.Attempt{Address: to, Secured: "1.3", Number: 2}, "tls_version", "TLSv1.3"},
		{exchange.Attempt{Address: to, Number: 2}, "tls_version", ""},
		{exchange.Attempt{Address: to, Number: 2}, "request_attempt_count", second},
		{exchange.Attempt{Address: to}, "address", "192.0.2.1:8443"},
		{exchange.Attempt{Err: failed}, "transport_failure_reason", failed.Error()},
		{exchange.Attempt{Err: fault.New(fault.HeaderTimeout, fault.Upstream, 504, "late")}, "transport_failure_reason", ""},
		{exchange.Attempt{}, "transport_failure_reason", ""},
		{exchange.Attempt{Address: to}, "subject_peer_certificate", ""},
	} {
		if got, ok := upstreamProperty(nil, &c.attempt, c.name); string(got) != c.want || ok != (c.want != "") {
			t.Errorf("upstream.%s of %+v: %q, %t", c.name, c.attempt, got, ok)
		}
	}
}
