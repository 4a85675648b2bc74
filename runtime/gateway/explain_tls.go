package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/server"
)

// handshakeTime bounds a handshake in memory, where nobody is waited for.
const handshakeTime = 5 * time.Second

// negotiate finds out what would be agreed on with a client that speaks TLS: it does the handshake, in memory, with what the
// listener's certificates are now. Only the client's own certificate is looked at beside it, since a handshake would need its key.
// It says whether there would be a connection.
func (f *finding) negotiate(asked *server.Asked, t *server.TLS) bool {
	l := &f.state.config.Listeners[f.listener]
	r := &explain.TLS{ServerName: serverName(f.url.Host), ClientAuth: string(l.TLS.ClientAuth)}
	f.result.TLS = r
	cfg := t.Config()
	state, served, err := meet(cfg, r.ServerName, asked.Local)
	if served != nil {
		r.Certificate = certificateOf(served)
	}
	if err != nil {
		f.unsafe(server.ResultOf(err), err.Error())
		return false
	}
	r.Version, r.Cipher, r.Protocol = strings.TrimPrefix(tls.VersionName(state.Version), "TLS "), tls.CipherSuiteName(state.CipherSuite), state.NegotiatedProtocol
	if cfg.ClientAuth == tls.NoClientCert {
		if len(f.shown) > 0 {
			f.result.Notes = append(f.result.Notes, "the client's certificate is not looked at: the listener's tls.client_auth is "+string(config.ClientAuthOff))
		}
	} else if !f.show(cfg, &state) {
		return false
	}
	asked.TLS = &state
	return true
}

// show looks at the client's certificate as crypto/tls does, and notes it in state. It says whether the client gets in.
func (f *finding) show(cfg *tls.Config, state *tls.ConnectionState) bool {
	if len(f.shown) == 0 {
		if cfg.ClientAuth == tls.RequireAndVerifyClientCert {
			f.unsafe(server.HandshakeClientCertificate, "tls: client didn't provide a certificate (give one of tls.client_ca with --client-cert)")
			return false
		}
		return true
	}
	f.result.TLS.Client = certificateOf(f.shown[0])
	o := x509.VerifyOptions{Roots: cfg.ClientCAs, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	for _, c := range f.shown[1:] {
		o.Intermediates.AddCert(c)
	}
	var err error
	if state.VerifiedChains, err = f.shown[0].Verify(o); err != nil {
		f.unsafe(server.HandshakeClientCertificate, "tls: failed to verify certificate: "+err.Error())
		return false
	}
	state.PeerCertificates = f.shown
	return true
}

// unsafe is the end of a connection whose handshake fails.
func (f *finding) unsafe(why server.HandshakeResult, text string) {
	e := f.result
	e.TLS.Failed, e.TLS.Version, e.Outcome = why.String(), "", explain.Closed
	e.Kind, e.Error = why.String(), "the TLS handshake fails: "+text
}

// serverName is what a client asks for who wants this host: names only (RFC 6066 section 3).
func serverName(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// at is one end of a connection in memory, at an address.
type endAt struct {
	net.Conn
	local net.Addr
}

func (c endAt) LocalAddr() net.Addr { return c.local }

// meet does a handshake of the server with a client that takes whatever it is shown, and returns what the server says of it, and
// what it has shown.
func meet(cfg *tls.Config, name string, local netip.AddrPort) (state tls.ConnectionState, served *x509.Certificate, err error) {
	cfg = cfg.Clone()
	cfg.ClientAuth, cfg.SessionTicketsDisabled = tls.NoClientCert, true
	a, b := net.Pipe()
	until := time.Now().Add(handshakeTime)
	_, _ = a.SetDeadline(until), b.SetDeadline(until)
	client := tls.Client(a, &tls.Config{
		ServerName: name, InsecureSkipVerify: true, NextProtos: []string{string(config.ALPNHTTP2), string(config.ALPNHTTP11)}, //nolint:gosec // nothing is said to it
		VerifyConnection: func(s tls.ConnectionState) error {
			served = s.PeerCertificates[0]
			return nil
		},
	})
	met := make(chan struct{})
	go func() {
		defer close(met)
		_ = client.Handshake()
		_ = a.Close()
	}()
	s := tls.Server(endAt{b, net.TCPAddrFromAddrPort(local)}, cfg)
	err = s.Handshake()
	_ = b.Close()
	<-met
	return s.ConnectionState(), served, err
}

func certificateOf(c *x509.Certificate) *explain.Certificate {
	sum := sha256.Sum256(c.Raw)
	names := append([]string{}, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	return &explain.Certificate{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: slices.Concat(names, c.EmailAddresses), NotAfter: c.NotAfter, SHA256: hex.EncodeToString(sum[:]),
	}
}

// shownBy reads the certificates that a client shows.
func shownBy(text string) (list []*x509.Certificate, err error) {
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, explain.Mistake("the client's certificate cannot be read: " + err.Error())
		}
		list = append(list, c)
	}
	if text != "" && len(list) == 0 {
		return nil, explain.Mistake("the client's certificate is not PEM: there is no CERTIFICATE in it")
	}
	return list, nil
}
