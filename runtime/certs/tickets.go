package certs

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"sync"
	"time"
)

// rotateTickets is how often the keys of session tickets are made anew; keepTickets are as many as are known, the newest of
// which makes tickets. A ticket is good for at most rotateTickets*keepTickets.
const (
	rotateTickets = 8 * time.Hour
	keepTickets   = 3
)

// tickets has the keys of session tickets. They are the process's: every listener and loop takes a ticket that another has
// made, as far as bind allows it. They are in memory only, so that nobody can read with them later what was recorded before.
type tickets struct {
	mu   sync.Mutex
	keys [][32]byte
}

// give makes a configuration use the keys.
func (t *tickets) give(c *tls.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 {
		t.add()
	}
	c.SetSessionTicketKeys(t.keys)
}

// rotate makes a new key, and forgets the oldest.
func (t *tickets) rotate() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add()
}

func (t *tickets) add() {
	var key [32]byte
	_, _ = rand.Read(key[:]) // never fails
	t.keys = append([][32]byte{key}, t.keys[:min(len(t.keys), keepTickets-1)]...)
}

// ticketMark begins our part of a session; the number is the version of its form.
const ticketMark = "wasmgate:1:"

// bind has a session resumed only under the circumstances that it began in: for the same server name, with the same demands
// on the client's certificate, verified against the same authorities. The keys are shared by listeners that demand
// different things, and crypto/tls looks at none of this.
func bind(c *tls.Config, ca []byte) {
	h := sha256.New()
	h.Write([]byte{byte(c.ClientAuth)})
	h.Write(ca)
	demands := ticketMark + string(h.Sum(nil))
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		ss.Extra = append(ss.Extra, []byte(demands+cs.ServerName))
		return c.EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		ss, err := c.DecryptTicket(identity, cs)
		if ss == nil || err != nil {
			return nil, err
		}
		for _, e := range ss.Extra {
			if bytes.HasPrefix(e, []byte(ticketMark)) {
				if string(e) != demands+cs.ServerName {
					return nil, nil
				}
				return ss, nil
			}
		}
		return nil, nil
	}
}
