package native

import (
	"encoding/pem"
	"strings"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/sdk/abi"
)

// secureFact is value k of what get_header tells of a client's TLS connection by this name. It is made when it is asked for.
func secureFact(t *exchange.TLS, name string, k int) (string, bool) {
	if t == nil {
		return "", false
	}
	name = strings.ToLower(name)
	var list []string
	switch name {
	case abi.TLSVersion:
		list = one(t.Version)
	case abi.TLSCipher:
		list = one(t.Cipher)
	case abi.TLSALPN:
		list = one(t.ALPN)
	case abi.TLSServerName:
		list = one(t.ServerName)
	case abi.TLSResumed:
		list = []string{"0"}
		if t.Resumed {
			list[0] = "1"
		}
	default:
		if t.Peer != nil {
			list = peerFact(t.Peer, name)
		}
	}
	if k < 0 || k >= len(list) {
		return "", false
	}
	return list[k], true
}

// peerFact is secureFact for what the client's certificate says.
func peerFact(c *exchange.Certificate, name string) []string {
	switch name {
	case abi.TLSSubject:
		return []string{c.Subject} // which may be empty: then its other names count
	case abi.TLSIssuer:
		return []string{c.Issuer}
	case abi.TLSSerial:
		return one(c.Serial)
	case abi.TLSSHA256:
		return one(c.SHA256)
	case abi.TLSDNS:
		return c.DNS
	case abi.TLSURI:
		return c.URI
	case abi.TLSEmail:
		return c.Email
	case abi.TLSIP:
		list := make([]string, len(c.IP))
		for i, ip := range c.IP {
			list[i] = ip.String()
		}
		return list
	case abi.TLSNotBefore:
		return []string{c.NotBefore.UTC().Format(time.RFC3339)}
	case abi.TLSNotAfter:
		return []string{c.NotAfter.UTC().Format(time.RFC3339)}
	case abi.TLSCertificate:
		if len(c.DER) == 0 { // in a test of a plugin, which has said what else the certificate says
			return nil
		}
		return []string{string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER}))}
	}
	return nil
}

// one is a list of a text that is there.
func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
