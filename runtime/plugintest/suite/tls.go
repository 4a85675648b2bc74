package suite

import (
	"encoding/pem"
	"fmt"
	"net/netip"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
)

// TLS is how the client's connection is secured.
type TLS struct {
	Version     string       `koanf:"version" enum:"1.2,1.3" doc:"Default: 1.3."`
	Cipher      string       `koanf:"cipher" doc:"The suite, by its name at IANA. Default: TLS_AES_128_GCM_SHA256."`
	ALPN        string       `koanf:"alpn" doc:"What was negotiated, as h2. Default: nothing."`
	ServerName  string       `koanf:"server_name" doc:"The name that the client has asked for. Default: none."`
	Resumed     bool         `koanf:"resumed" doc:"A session of an earlier connection was resumed."`
	Certificate *Certificate `koanf:"certificate" doc:"The client's, which was verified. Default: it has shown none."`
}

// Certificate is what a client's certificate says.
type Certificate struct {
	Subject   string `koanf:"subject" doc:"As \"CN=alice,O=Example\"."`
	Issuer    string `koanf:"issuer"`
	Serial    string `koanf:"serial" doc:"In lower-case hexadecimal digits."`
	SHA256    string `koanf:"sha256" doc:"Of the whole certificate, likewise. It is not computed."`
	DNS       Values `koanf:"dns" doc:"Alternative names: a text, or a list of texts."`
	URI       Values `koanf:"uri"`
	Email     Values `koanf:"email"`
	IP        Values `koanf:"ip"`
	NotBefore Time   `koanf:"not_before" doc:"As \"2026-01-02T15:04:05Z\". Default: now."`
	NotAfter  Time   `koanf:"not_after" doc:"Default: a day after not_before."`
	PEM       PEM    `koanf:"pem" doc:"The certificate itself, for plugins that read it; nothing else is taken from it."`
}

// Time is a moment.
type Time time.Time

// ReadValue is config.ValueReader's.
func (m *Time) ReadValue(from any) error {
	text, _ := from.(string)
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return config.Mistake(fmt.Sprintf("%v is no time", from), `write it as "2026-01-02T15:04:05Z" (RFC 3339)`)
	}
	*m = Time(at)
	return nil
}

// PEM is what is in a block of PEM.
type PEM []byte

// ReadValue is config.ValueReader's.
func (p *PEM) ReadValue(from any) error {
	text, _ := from.(string)
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return config.Mistake("wants a certificate in PEM", "write the lines from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE----- below `pem: |`")
	}
	*p = block.Bytes
	return nil
}

// facts are what the gateway would know. The error is of an address.
func (c *TLS) facts() (*exchange.TLS, error) {
	t := &exchange.TLS{Version: c.Version, Cipher: c.Cipher, ALPN: c.ALPN, ServerName: c.ServerName, Resumed: c.Resumed}
	if t.Version == "" {
		t.Version = "1.3"
	}
	if t.Cipher == "" {
		t.Cipher = "TLS_AES_128_GCM_SHA256"
	}
	var err error
	if c.Certificate != nil {
		t.Peer, err = c.Certificate.facts()
	}
	return t, err
}

func (c *Certificate) facts() (*exchange.Certificate, error) {
	f := &exchange.Certificate{
		Subject: c.Subject, Issuer: c.Issuer, Serial: c.Serial, SHA256: c.SHA256, DNS: c.DNS, URI: c.URI, Email: c.Email,
		NotBefore: time.Time(c.NotBefore), NotAfter: time.Time(c.NotAfter), DER: c.PEM,
	}
	if f.NotBefore.IsZero() {
		f.NotBefore = time.Now()
	}
	if f.NotAfter.IsZero() {
		f.NotAfter = f.NotBefore.AddDate(0, 0, 1)
	}
	for _, text := range c.IP {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("certificate: %q is no address", text)
		}
		f.IP = append(f.IP, ip.Unmap())
	}
	return f, nil
}
