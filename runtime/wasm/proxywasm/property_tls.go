package proxywasm

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// secureProperty appends a property of the client's TLS below "connection", under the names that Envoy gives them. What there
// is nothing of is not there; only mtls always is.
func secureProperty(dst []byte, t *exchange.TLS, rest string) ([]byte, bool) {
	if rest == "mtls" {
		if t != nil && t.Peer != nil {
			return append(dst, 1), true
		}
		return append(dst, 0), true
	}
	if t == nil {
		return dst, false
	}
	text := ""
	switch rest {
	case "tls_version":
		text = "TLSv" + t.Version
	case "requested_server_name":
		text = t.ServerName
	default:
		if t.Peer != nil {
			text = peerProperty(t.Peer, rest)
		}
	}
	return append(dst, text...), text != ""
}

func peerProperty(c *exchange.Certificate, rest string) string {
	switch rest {
	case "subject_peer_certificate":
		return c.Subject
	case "sha256_peer_certificate_digest":
		return c.SHA256
	case "dns_san_peer_certificate":
		return first(c.DNS)
	case "uri_san_peer_certificate":
		return first(c.URI)
	}
	return ""
}

// first is what Envoy tells of several names.
func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// upstreamProperty appends a property of the upstream that an attempt is made with. The certificates on that side are not kept:
// who it is was verified by then.
func upstreamProperty(dst []byte, a *exchange.Attempt, rest string) ([]byte, bool) {
	switch rest {
	case "tls_version":
		if a.Secured == "" {
			return dst, false
		}
		return append(append(dst, "TLSv"...), a.Secured...), true
	case "request_attempt_count":
		return appendInt(dst, int64(a.Number)), true
	case "transport_failure_reason":
		if a.Err == nil || a.Err.Kind != fault.TLS && a.Err.Kind != fault.Connect && a.Err.Kind != fault.ConnectTimeout {
			return dst, false
		}
		return append(dst, a.Err.Error()...), true
	}
	return addressProperty(dst, a.Address, rest)
}
