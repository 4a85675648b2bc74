package gateway

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/netloop"
)

const helpPEM = "a certificate begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der` turns a binary one into that"

// keptSessions bounds what an upstream keeps of TLS sessions to resume: one for each address and name.
const keptSessions = 256

// clientTLS is how an upstream's https targets are spoken to, but for the client's certificate; authorities is what tls.ca has.
func clientTLS(c *config.Upstream, authorities []byte) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: c.TLS.ServerName, InsecureSkipVerify: c.TLS.InsecureSkipVerify, //nolint:gosec // whoever configures it is warned
		NextProtos: []string{"http/1.1"}, ClientSessionCache: tls.NewLRUClientSessionCache(keptSessions),
	}
	if c.TLS.MinVersion == config.TLS13 {
		t.MinVersion = tls.VersionTLS13
	}
	if c.Protocol == config.ProtocolHTTP2 {
		t.NextProtos = []string{"h2"}
	}
	if c.TLS.CA != "" {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, &Remark{Path: "tls.ca", Message: c.TLS.CA + " has no certificate in PEM", Help: helpPEM, Wrong: true}
		}
	}
	if len(c.TLS.Pin) > 0 {
		p, err := pinsOf(c.TLS.Pin)
		if err != nil {
			return nil, err
		}
		t.VerifyConnection = p.verify // for sessions that are resumed too
	}
	return t, nil
}

// trusted reads tls.ca; nil without one.
func trusted(c *config.UpstreamTLS) ([]byte, error) {
	if c.CA == "" {
		return nil, nil
	}
	b, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("tls.ca: %w", err)
	}
	return b, nil
}

// pins are SHA-256 digests of public keys.
type pins [][sha256.Size]byte

func pinsOf(list []string) (p pins, err error) {
	for _, text := range list {
		b, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(text, "sha256/"))
		if err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("tls.pin: %s is not a pin", text)
		}
		p = append(p, [sha256.Size]byte(b))
	}
	return p, nil
}

// verify is tls.Config.VerifyConnection: a certificate of a verified chain has a pinned key. Where nothing was verified it is the
// server's own, which the handshake has shown to be its.
func (p pins) verify(s tls.ConnectionState) error {
	chains := s.VerifiedChains
	if len(chains) == 0 && len(s.PeerCertificates) > 0 {
		chains = [][]*x509.Certificate{s.PeerCertificates[:1]}
	}
	for _, chain := range chains {
		for _, c := range chain {
			if slices.Contains(p, sha256.Sum256(c.RawSubjectPublicKeyInfo)) {
				return nil
			}
		}
	}
	if len(s.PeerCertificates) == 0 {
		return errors.New("the upstream has shown no certificate, and one with a pinned key is wanted (tls.pin)")
	}
	own := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return fmt.Errorf("no certificate of the upstream's has a pinned key (tls.pin); its own has sha256/%s", base64.StdEncoding.EncodeToString(own[:]))
}

// identity is a TLS configuration with a client certificate, which is read again when its files have changed.
type identity struct {
	base      *tls.Config
	cert, key string
	log       zerolog.Logger
	now       atomic.Pointer[identified]
	looking   atomic.Bool
}

type identified struct {
	*tls.Config
	stamp  string
	looked time.Time
}

// lookEvery is how often files are looked at, at most.
const lookEvery = time.Second

func newIdentity(base *tls.Config, cert, key string, log zerolog.Logger) (*identity, error) {
	id := &identity{base: base, cert: cert, key: key, log: log}
	stamp := id.stamp()
	c, err := id.load()
	if err != nil {
		at := &Remark{Path: "tls.cert", Message: "cannot use " + cert + ": " + err.Error(), Help: helpPEM, Wrong: true, Err: err}
		if ofKey(err, key) {
			at.Path, at.Message = "tls.key", "cannot use "+key+": "+err.Error()
			at.Help = "it is the key of the first certificate in tls.cert, in PEM and without a password"
		}
		return nil, at
	}
	id.now.Store(&identified{c, stamp, time.Now()})
	return id, nil
}

// ofKey says whether an error of tls.LoadX509KeyPair is the key's.
func ofKey(err error, key string) bool {
	if file := (*fs.PathError)(nil); errors.As(err, &file) {
		return file.Path == key
	}
	text := err.Error()
	return strings.Contains(text, "key") && !strings.Contains(text, "certificate input")
}

// load makes a configuration of what the files have. Sessions are those of an identity, and begin anew with it.
func (id *identity) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(id.cert, id.key)
	if err != nil {
		return nil, err
	}
	c := id.base.Clone()
	c.Certificates = []tls.Certificate{pair}
	c.ClientSessionCache = tls.NewLRUClientSessionCache(keptSessions)
	return c, nil
}

// stamp changes when the files do.
func (id *identity) stamp() string {
	text := ""
	for _, name := range [...]string{id.cert, id.key} {
		if s, err := os.Stat(name); err == nil {
			text += fmt.Sprintln(s.ModTime().UnixNano(), s.Size())
		}
	}
	return text
}

// current is upstream.Config.Secure: the configuration for a handshake. It parks t while files are looked at.
func (id *identity) current(t *netloop.Task) *tls.Config {
	was := id.now.Load()
	if time.Since(was.looked) > lookEvery && id.looking.CompareAndSwap(false, true) {
		t.Await(func() { id.look(was) })
		id.looking.Store(false)
	}
	return id.now.Load().Config
}

// look reads the files if they have changed. If they are no pair, as in the midst of being written, what was stays.
func (id *identity) look(was *identified) {
	next := &identified{was.Config, id.stamp(), time.Now()}
	if next.stamp != was.stamp {
		c, err := id.load()
		if err == nil {
			next.Config = c
			id.log.Info().Str("file", id.cert).Msg("client certificate read again")
		} else {
			next.stamp = was.stamp // it is tried again
			id.log.Error().Err(err).Str("file", id.cert).Msg("the client certificate has changed and cannot be read; the one before stays in use")
		}
	}
	id.now.Store(next)
}
