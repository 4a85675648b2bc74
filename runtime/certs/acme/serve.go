package acme

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/mholt/acmez/v3"
)

// Protocol is what a client offers in ALPN, and nothing else, that is an issuer with a TLS-ALPN-01 challenge. A server must
// choose it in answer, and close the connection after the handshake.
const Protocol = acmez.ACMETLS1Protocol

// ErrUnknown is what GetCertificate says of a name that is not configured.
var ErrUnknown = errors.New("no certificate is configured for the name")

// sayEvery is how often it is said at most that a name that clients ask for has no certificate.
const sayEvery = time.Minute

// IsChallenge says whether a handshake is an issuer's challenge. It may be called on event loops.
func IsChallenge(hello *tls.ClientHelloInfo) bool {
	return len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == Protocol
}

// GetCertificate is for tls.Config: the certificate of the server name that a client asks for, or the answer to an
// issuer's challenge. There is no certificate for a name that is not configured, for one whose first is not there yet, and
// for a client that asks for none. It neither blocks nor allocates, and may be called on event loops.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	asked := canonical(hello.ServerName)
	if IsChallenge(hello) {
		if c := m.questions.certificate(asked); c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("no ACME challenge is open for %q", asked)
	}
	n := m.named(asked)
	if n == nil {
		return nil, ErrUnknown
	}
	if c := n.cert.Load(); c != nil {
		return c, nil
	}
	return nil, m.missing(n)
}

// Has says whether a name, in lower case, is configured. It may be called on event loops.
func (m *Manager) Has(name string) bool { return m.named(name) != nil }

// missing is why there is no certificate yet, and says it in the log, but not each time.
func (m *Manager) missing(n *name) error {
	n.mu.Lock()
	why := n.state.Error
	n.mu.Unlock()
	if why == "" {
		why = "it is being obtained"
	}
	now := time.Now().Unix()
	if last := n.missed.Load(); now-last >= int64(sayEvery/time.Second) && n.missed.CompareAndSwap(last, now) {
		m.log.Warn().Str("name", n.text).Str("reason", why).Msg("a handshake failed: the certificate of the name is not there yet")
	}
	return fmt.Errorf("there is no certificate for %s yet: %s", n.text, why)
}
