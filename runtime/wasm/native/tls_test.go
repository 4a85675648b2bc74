package native

import (
	"bytes"
	"encoding/pem"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
	"wasmgate/sdk/abi"
)

// TestViewOfTLS: the server name and the client's subject are in the view, and cost nothing to write there.
func TestViewOfTLS(t *testing.T) {
	b := newBench(t)
	b.on(func(task *netloop.Task) {
		x := newExchange(t, task, simpleHead)
		e := newEncoder(&abi.Manifest{Phases: abi.WantsRequest})
		var h abi.Head
		head(&h, x, abi.PhaseRequest, abi.RoleRoute, 0)
		buf := make([]byte, 4096)
		for _, one := range []struct {
			tls           *exchange.TLS
			name, subject []byte
		}{
			{nil, nil, nil},
			{&exchange.TLS{}, nil, nil},
			{&exchange.TLS{ServerName: "a.test"}, []byte("a.test"), nil},
			{&exchange.TLS{Peer: &exchange.Certificate{Subject: "CN=alice"}}, nil, []byte("CN=alice")},
			{&exchange.TLS{ServerName: "a.test", Peer: &exchange.Certificate{}}, []byte("a.test"), []byte{}}, // it has other names
		} {
			x.Client.TLS = one.tls
			v := abi.View(buf[:e.encode(buf, x, &h)])
			name, subject := v.Field(abi.FieldSNI), v.Field(abi.FieldCertSubject)
			if !bytes.Equal(name, one.name) || !bytes.Equal(subject, one.subject) || (subject == nil) != (one.subject == nil) {
				t.Errorf("%+v: %q and %q", one.tls, name, subject)
			}
			if n := testing.AllocsPerRun(100, func() { e.encode(buf, x, &h) }); n != 0 {
				t.Errorf("%+v: %v allocations", one.tls, n)
			}
		}
	})
}

// TestSecureFacts: what get_header tells of a certificate is the certificate, and a place that is too short gets nothing of it.
func TestSecureFacts(t *testing.T) {
	tls := &exchange.TLS{Version: "1.3", Peer: &exchange.Certificate{
		NotBefore: time.Date(2026, 1, 2, 4, 4, 5, 0, time.FixedZone("", 3600)), DER: bytes.Repeat([]byte("x"), 3000),
	}}
	text, ok := secureFact(tls, abi.TLSCertificate, 0)
	if block, rest := pem.Decode([]byte(text)); !ok || block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 || !bytes.Equal(block.Bytes, tls.Peer.DER) {
		t.Errorf("the certificate is %q", text)
	}
	if since, _ := secureFact(tls, abi.TLSNotBefore, 0); since != "2026-01-02T03:04:05Z" {
		t.Errorf("since %q", since)
	}
	if subject, ok := secureFact(tls, abi.TLSSubject, 0); !ok || subject != "" {
		t.Errorf("an empty subject: %q, %t", subject, ok)
	}
	for _, k := range []int{-1, 1, 1 << 31} {
		if v, ok := secureFact(tls, abi.TLSVersion, k); ok {
			t.Errorf("value %d is %q", k, v)
		}
	}
}
