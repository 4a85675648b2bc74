package config

// ListenerTLS is how a listener speaks TLS with its clients.
type ListenerTLS struct {
	Certificates     []Certificate `koanf:"certificates" doc:"What clients are shown, chosen by the server name that they ask for (SNI): an exact name counts before one with *., and of several for the same name the first that the client can use, ECDSA before RSA. A client that asks for no name gets the one for the address that it connected to. A name for which there is none, without a default, ends the handshake (alert unrecognized_name)."`
	ACME             []string      `koanf:"acme" scalar:"true" example:"[www.example.com, example.com]" doc:"Server names whose certificates are obtained, and renewed, from the issuer of acme; no wildcards. certificates goes before it. While a name has no certificate yet its handshakes fail."`
	MinVersion       TLSVersion    `koanf:"min_version" enum:"1.2,1.3" example:"\"1.3\"" doc:"Oldest version of TLS that is spoken. The suites are the secure ones of Go's crypto/tls, with forward secrecy."`
	Profile          TLSProfile    `koanf:"profile" enum:"default,strict" example:"strict" doc:"strict: TLS 1.3 only, whatever min_version says."`
	ALPN             []ALPN        `koanf:"alpn" enum:"h2,http/1.1" example:"[http/1.1]" doc:"Protocols that are offered, the preferred one first; h2 only where http2.enabled is. A client that offers none of them is refused; one that offers nothing is spoken to in HTTP/1.1."`
	HandshakeTimeout Duration      `koanf:"handshake_timeout" min:"1ms" example:"5s" doc:"From the connection to the end of the handshake; then it is closed."`
	SessionTickets   bool          `koanf:"session_tickets" example:"false" doc:"Whether clients may resume a session instead of a whole handshake. The keys of tickets are the same on all event loops, are made anew every 8 hours, and taken for 24. They stay over reloads, never leave the process, and a session is resumed only for the same server name, by the same client_auth and client_ca."`
	OCSPStapling     bool          `koanf:"ocsp_stapling" example:"true" doc:"Ask the authority of each certificate that names a responder whether it was revoked (OCSP), and hand the answer on to clients. The gateway must be able to reach it."`
	ClientAuth       ClientAuth    `koanf:"client_auth" enum:"off,request,require" example:"require" doc:"Certificates of clients. request: one that is shown must be of client_ca. require: there must be one."`
	ClientCA         string        `koanf:"client_ca" file:"true" example:"certs/clients-ca.pem" doc:"PEM file of the authorities that clients' certificates are verified against."`
	ClientHeaders    ClientHeaders `koanf:"client_headers" doc:"Fields that tell upstreams who the client is by its certificate. From every listener's clients that are not trusted_proxies they are removed, in any spelling."`
}

// Certificate is a certificate with its key.
type Certificate struct {
	Cert    string   `koanf:"cert" file:"true" required:"true" example:"certs/example.pem" doc:"PEM file of the certificate, with those between it and its authority. It is read again when it changes; a pair that is not whole then changes nothing."`
	Key     string   `koanf:"key" file:"true" required:"true" example:"certs/example.key" doc:"PEM file of its key: ECDSA, RSA or Ed25519."`
	Names   []string `koanf:"names" scalar:"true" example:"\"*.example.com\"" doc:"Server names that it is shown for. Default: the names and addresses in the certificate."`
	Default bool     `koanf:"default" example:"true" doc:"Shown to clients that ask for no name, or for one that no certificate is for."`
}

// ClientHeaders are the names of fields for facts of a client's certificate; empty: there is none.
type ClientHeaders struct {
	Subject     string `koanf:"subject" example:"X-Client-Cert-Subject" doc:"Its subject, as in CN=alice,O=Example (RFC 2253)."`
	Issuer      string `koanf:"issuer" example:"X-Client-Cert-Issuer" doc:"Its issuer, written likewise."`
	Serial      string `koanf:"serial" example:"X-Client-Cert-Serial" doc:"Its serial number, in hexadecimal digits."`
	Names       string `koanf:"names" example:"X-Client-Cert-SAN" doc:"Its alternative names, as in DNS:a.example,URI:spiffe://example/a."`
	Fingerprint string `koanf:"fingerprint" example:"X-Client-Cert-Fingerprint" doc:"SHA-256 of the whole certificate, in hexadecimal digits."`
	Certificate string `koanf:"certificate" example:"Client-Cert" doc:"The certificate itself, as Client-Cert of RFC 9440 has it."`
	Forwarded   string `koanf:"forwarded" example:"X-Forwarded-Client-Cert" doc:"Hash, Subject, URI and DNS in one field, as Envoy writes it."`
}

// TLSVersion is a version of TLS.
type TLSVersion string

// The values of TLSVersion.
const (
	TLS12 TLSVersion = "1.2"
	TLS13 TLSVersion = "1.3"
)

// TLSProfile is what a listener takes for secure.
type TLSProfile string

// The values of TLSProfile.
const (
	TLSDefault TLSProfile = "default"
	TLSStrict  TLSProfile = "strict"
)

// ALPN is a protocol that is negotiated in the handshake.
type ALPN string

// The values of ALPN.
const (
	ALPNHTTP2  ALPN = "h2"
	ALPNHTTP11 ALPN = "http/1.1"
)

// ClientAuth is whether clients show certificates.
type ClientAuth string

// The values of ClientAuth.
const (
	ClientAuthOff     ClientAuth = "off"
	ClientAuthRequest ClientAuth = "request"
	ClientAuthRequire ClientAuth = "require"
)

// DefaultListenerTLS is TLS of a listener about which nothing was said but that there is some.
func DefaultListenerTLS() ListenerTLS {
	return ListenerTLS{
		MinVersion: TLS12, Profile: TLSDefault, ALPN: []ALPN{ALPNHTTP2, ALPNHTTP11}, HandshakeTimeout: 10 * sec,
		SessionTickets: true, ClientAuth: ClientAuthOff,
	}
}

// All are the names that are set, in the order of the schema.
func (h *ClientHeaders) All() []string {
	var list []string
	for _, name := range []string{h.Subject, h.Issuer, h.Serial, h.Names, h.Fingerprint, h.Certificate, h.Forwarded} {
		if name != "" {
			list = append(list, name)
		}
	}
	return list
}
