package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// ClientHeaders are the names of the fields that tell upstreams about a client's certificate; empty: it is not told.
type ClientHeaders struct {
	Subject, Issuer, Serial, Names, Fingerprint []byte
	Certificate                                 []byte // Client-Cert of RFC 9440
	Forwarded                                   []byte // X-Forwarded-Client-Cert as Envoy writes it
}

// apply sets them. What a trusted peer says of somebody else stays.
func (h *ClientHeaders) apply(w *work, c *exchange.Certificate, trusted bool) {
	head := &w.x.Request.Head
	set := func(name, value []byte) {
		w.scratch = value
		if len(name) == 0 || len(value) == 0 {
			return
		}
		if _, said := head.GetBytes(name); !said || !trusted {
			head.SetBytes(name, value)
		}
	}
	set(h.Subject, append(w.scratch[:0], c.Subject...))
	set(h.Issuer, append(w.scratch[:0], c.Issuer...))
	set(h.Serial, append(w.scratch[:0], c.Serial...))
	set(h.Fingerprint, append(w.scratch[:0], c.SHA256...))
	if len(h.Names) > 0 {
		set(h.Names, appendNames(w.scratch[:0], c))
	}
	if len(h.Certificate) > 0 {
		set(h.Certificate, append(base64.StdEncoding.AppendEncode(append(w.scratch[:0], ':'), c.DER), ':'))
	}
	if len(h.Forwarded) > 0 {
		set(h.Forwarded, appendXFCC(w.scratch[:0], c))
	}
}

// appendNames writes the alternative names as openssl does.
func appendNames(b []byte, c *exchange.Certificate) []byte {
	add := func(kind, name string) {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, kind...), ':'), name...)
	}
	for _, n := range c.DNS {
		add("DNS", n)
	}
	for _, n := range c.URI {
		add("URI", n)
	}
	for _, n := range c.Email {
		add("email", n)
	}
	for _, a := range c.IP {
		if len(b) > 0 {
			b = append(b, ',')
		}
		b = a.AppendTo(append(b, "IP:"...))
	}
	return b
}

// appendXFCC writes an element of X-Forwarded-Client-Cert.
func appendXFCC(b []byte, c *exchange.Certificate) []byte {
	b = append(append(b, "Hash="...), c.SHA256...)
	b = appendQuoted(append(b, `;Subject=`...), c.Subject, true)
	for _, n := range c.URI {
		b = appendQuoted(append(b, `;URI=`...), n, false)
	}
	for _, n := range c.DNS {
		b = appendQuoted(append(b, `;DNS=`...), n, false)
	}
	return b
}

func appendQuoted(b []byte, s string, always bool) []byte {
	if !always && !strings.ContainsAny(s, `,;="\`) {
		return append(b, s...)
	}
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// identityOf is what there is to know of a client by its certificate.
func identityOf(c *x509.Certificate) *exchange.Certificate {
	sum := sha256.Sum256(c.Raw)
	f := &exchange.Certificate{
		Subject: visible(c.Subject.String()), Issuer: visible(c.Issuer.String()), Serial: c.SerialNumber.Text(16), SHA256: hex.EncodeToString(sum[:]),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, DER: c.Raw,
	}
	for _, n := range c.DNSNames {
		f.DNS = append(f.DNS, visible(n))
	}
	for _, u := range c.URIs {
		f.URI = append(f.URI, visible(u.String()))
	}
	for _, n := range c.EmailAddresses {
		f.Email = append(f.Email, visible(n))
	}
	for _, ip := range c.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			f.IP = append(f.IP, a.Unmap())
		}
	}
	return f
}

// visible writes control characters as RFC 4514 allows for any, by their code: what an authority has signed may hold a line
// break, and these texts go into fields and logs.
func visible(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == 0x7f {
			b.WriteString(`\` + hex.EncodeToString([]byte{c}))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// servedBy says whether a request for an authority may come on a connection that was made for a server name; "" is one that
// was made to an address.
func servedBy(name string, authority []byte) bool {
	host := hostOf(authority)
	if name == "" {
		_, err := netip.ParseAddr(string(bytes.Trim(host, "[]")))
		return err == nil
	}
	return strings.EqualFold(name, string(bytes.TrimSuffix(host, []byte("."))))
}

// hostOf is an authority without its port.
func hostOf(authority []byte) []byte {
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		return authority[:i]
	}
	return authority
}

// redirect answers a request that did not come by https with the same by https on a port. It says whether it has; what a
// peer that is trusted says to have come by https has.
func (w *work) redirect(port int) bool {
	x := &w.x
	r := &x.Request
	if proto, _ := r.GetID(http1.FieldXForwardedProto); x.Client.Scheme == "https" || string(proto) == "https" {
		return false
	}
	x.Local.Set, x.Local.Status, x.Local.Body = true, 308, x.Local.Body[:0]
	x.Local.Trailers.Reset()
	x.Response.Reset()
	if len(r.Authority) == 0 {
		x.Local.Status, x.Local.Body = 400, append(x.Local.Body, "400 Bad Request: clients are sent on to https, and the request names no host\n"...)
		return true
	}
	b := append(append(w.scratch[:0], "https://"...), hostOf(r.Authority)...)
	if port != 443 {
		b = strconv.AppendInt(append(b, ':'), int64(port), 10)
	}
	if r.Form != http1.Asterisk {
		b = append(b, r.Path...)
	}
	if r.HasQuery() {
		b = append(append(b, '?'), r.Query()...)
	}
	w.scratch = b
	x.Response.AddBytes([]byte("Location"), b)
	return true
}
