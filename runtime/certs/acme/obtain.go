package acme

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"
)

// refusals are the waits after answers of the issuer's that said no, in units of twelve times Options.Retry, a minute by
// default: Let's Encrypt takes five failed validations of a name in an hour, and no more.
var refusals = [...]time.Duration{1, 5, 15, 30, 60}

// have loads the certificate of a name, or obtains it: it goes on until there is one.
func (m *Manager) have(ctx context.Context, n *name) {
	refused := 0
	for tries := 1; ; tries++ {
		err := m.try(ctx, n)
		if err == nil || ctx.Err() != nil {
			return
		}
		if m.publish(n); n.cert.Load() != nil {
			return // it could not be renewed, which the library tries again
		}
		wait := min(m.o.Retry<<min(tries-1, 10), 60*m.o.Retry)
		if p := (acme.Problem{}); errors.As(err, &p) {
			refused++
			wait = 12 * m.o.Retry * refusals[min(refused, len(refusals))-1]
			if p.Type == acme.ProblemTypeRateLimited {
				wait = 12 * m.o.Retry * refusals[len(refusals)-1]
			}
		}
		wait += rand.N(wait/10 + 1)
		// The line first: who sees in the state that it failed finds in the log what it was.
		m.log.Warn().Str("name", n.text).Str("directory", m.o.Directory).Str("error", reason(err)).Int("tries", tries).Stringer("next", wait.Round(time.Second)).
			Msg("a certificate cannot be obtained: handshakes for the name fail until it is there")
		n.failed(err, time.Now().Add(wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// try is one attempt. Without an error the name has its certificate.
func (m *Manager) try(ctx context.Context, n *name) error {
	select {
	case m.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.slots }()
	if err := m.mend(ctx, n); err != nil {
		return err
	}
	if err := m.magic.Load().ManageSync(context.WithValue(ctx, ours{}, true), []string{n.text}); err != nil {
		return err
	}
	m.publish(n)
	return nil
}

// mend sees to it that what is stored of a name can be used, or is not there.
func (m *Manager) mend(ctx context.Context, n *name) error {
	kept, why, err := m.folder.setAside(ctx, m.issuer.key, n.text)
	if why != nil {
		m.log.Warn().Str("error", reason(why)).Str("name", n.text).Str("kept", kept).Msg("what is stored of a certificate is broken: another one is obtained")
	}
	return err
}

// The events of certmagic that are used, and what they say of themselves.
const (
	eventObtaining = "cert_obtaining"
	eventObtained  = "cert_obtained"
	eventFailed    = "cert_failed"
	dataName       = "identifier"
	dataRenewal    = "renewal"
	dataError      = "error"
)

var errNotWanted = errors.New("the name is not configured any more")

// event is called by certmagic, on goroutines of its own.
func (m *Manager) event(ctx context.Context, event string, data map[string]any) error {
	text, _ := data[dataName].(string)
	renewal, _ := data[dataRenewal].(bool)
	n := m.named(text)
	switch {
	case n == nil:
		if event == eventObtaining {
			return errNotWanted
		}
	case event == eventObtained:
		if n.succeeded(renewal); renewal {
			renewals.succeeded(text)
		}
		// certmagic puts it in place of the old one after this; what is in the folder is served now.
		if _, err := m.magic.Load().CacheManagedCertificate(ctx, text); err != nil {
			m.log.Error().Err(err).Str("name", text).Msg("a new certificate was stored, and cannot be read")
			return nil
		}
		m.publish(n)
		m.announce(n, renewal)
	case event == eventFailed && renewal:
		err, _ := data[dataError].(error)
		wait := m.o.Check
		if ctx.Value(ours{}) == nil { // the library has tried by itself
			wait += renewals.failed(text)
		}
		m.notRenewed(n, err, wait)
	}
	return nil
}

func (m *Manager) announce(n *name, renewal bool) {
	what := "a certificate was obtained"
	if renewal {
		what = "a certificate was renewed"
	}
	l := m.log.Info().Str("name", n.text).Str("directory", m.o.Directory)
	if c := n.cert.Load(); c != nil {
		l = l.Time("not_after", c.Leaf.NotAfter).Str("serial", c.Leaf.SerialNumber.Text(16))
	}
	l.Msg(what)
}

// notRenewed tells of a renewal that failed. wait is until the next attempt, at the latest.
func (m *Manager) notRenewed(n *name, err error, wait time.Duration) {
	if m.ctx.Err() != nil {
		return
	}
	l := m.log.Warn().Str("name", n.text).Str("directory", m.o.Directory).Str("error", reason(err)).Stringer("next", wait.Round(time.Second))
	if c := n.cert.Load(); c != nil {
		l = l.Time("not_after", c.Leaf.NotAfter)
	}
	l.Msg("a certificate cannot be renewed: the present one is served, and it is tried again")
	n.failed(err, time.Now().Add(wait)) // after the line, as above
}

func (n *name) failed(err error, next time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.Failed++
	n.state.Error, n.state.Next = reason(err), next
}

func (n *name) succeeded(renewal bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state.Error, n.state.Next = "", time.Time{}
	if renewal {
		n.state.Renewed++
	} else {
		n.state.Obtained++
	}
}

// maxReason bounds what is repeated of an issuer's words.
const maxReason = 1 << 10

// reason is an error in one line.
func reason(err error) string {
	if err == nil {
		return "not told"
	}
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "..."
	}
	return text
}
