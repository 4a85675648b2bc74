package exchange

import (
	"net/netip"
	"time"
)

// TLS is how the client's connection is secured. It is made once for a connection, and nobody changes it.
type TLS struct {
	Version    string // "1.2" or "1.3", as OpenTelemetry's tls.protocol.version has it
	Cipher     string // the suite, by its name at IANA
	ALPN       string // "": nothing was negotiated
	ServerName string // that the client has asked for (SNI), in lower case; "": none
	Resumed    bool
	Began      int64 // when the client's hello was there, and when the handshake was over: times of the loop's clock
	Ended      int64
	Peer       *Certificate // the client's; nil: it has shown none
}

// Certificate is a client's certificate, which was verified. No text of it has a control character in it.
type Certificate struct {
	Subject, Issuer     string // in the notation of RFC 2253
	Serial              string // in lower-case hexadecimal digits
	SHA256              string // of the whole certificate, likewise
	DNS, URI, Email     []string
	IP                  []netip.Addr
	NotBefore, NotAfter time.Time
	DER                 []byte
}
