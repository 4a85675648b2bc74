package certs

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"time"

	"wasmgate/runtime/watch"
)

// Options are how a listener speaks TLS.
type Options struct {
	Name       string // of the listener, for the log
	Pairs      []Pair
	Source     Source // may be nil
	Ready      bool   // Source does not block: it is asked on the loop
	MinVersion uint16
	Protocols  []string // ALPN, the preferred one first
	Tickets    bool     // sessions can be resumed
	Staple     bool     // OCSP
	ClientAuth tls.ClientAuthType
	ClientCA   string // file of PEM; needed unless ClientAuth is tls.NoClientCert
}

// Open reads the certificates of a listener, and follows their files until Close. Each error is an *Error, several of them
// are joined.
func (s *Store) Open(o Options) (*Set, error) {
	set := &Set{store: s, options: o, pairs: make([]*pair, len(o.Pairs)), broken: map[string]string{}}
	s.start()
	s.watch(o) // before they are read, so that no change is missed
	if err := set.read(true); err != nil {
		s.soon()
		return nil, err
	}
	s.mu.Lock()
	s.sets[set] = struct{}{}
	s.mu.Unlock()
	if o.Tickets {
		s.tickets.give(set.Config()) // there may have been a new key before the set was known
	}
	s.soon()
	return set, nil
}

// read reads the files. first: every error counts, otherwise what cannot be used leaves what was there before, and is logged.
func (s *Set) read(first bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	var fresh []*pair
	changed := first
	next := slices.Clone(s.pairs)
	for i, from := range s.options.Pairs {
		p, err := load(i, from, s.pairs[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		delete(s.broken, from.Cert)
		if p != next[i] {
			if s.options.Staple {
				p = s.store.known(p)
			}
			next[i], changed = p, true
			fresh = append(fresh, p)
		}
	}
	// The lines come last: who reads that a certificate was replaced sees it.
	defer func() {
		for _, p := range fresh {
			s.tell(p, first)
		}
		if !first {
			s.complain(errs)
		}
	}()
	ca, pool, err := s.clientCA()
	if err != nil {
		errs = append(errs, err)
	}
	if first && len(errs) > 0 {
		return errors.Join(errs...)
	}
	if changed {
		s.pairs = next
		s.index.Store(newIndex(slices.Clone(next)))
	}
	if err == nil && (first || !bytes.Equal(ca, s.ca)) {
		s.ca = ca
		s.config.Store(s.newConfig(pool, ca))
	}
	return nil
}

// complain logs what could not be read anew, once for each reason.
func (s *Set) complain(errs []error) {
	for _, err := range errs {
		var e *Error
		if !errors.As(err, &e) {
			continue
		}
		about := e.File
		if e.Pair >= 0 {
			about = s.options.Pairs[e.Pair].Cert
		}
		if s.broken[about] != e.Error() {
			s.broken[about] = e.Error()
			s.store.log.Error().Str("listener", s.options.Name).Str("file", e.File).Err(e.Err).Msg("the files of a certificate have changed and cannot be used: the one from before stays")
		}
	}
}

// tell logs that a certificate is in use from now on, and what may be wrong with it.
func (s *Set) tell(p *pair, first bool) {
	leaf := p.cert.Leaf
	if !first {
		s.store.log.Info().Str("listener", s.options.Name).Str("cert", p.from.Cert).Time("not_after", leaf.NotAfter).Msg("certificate replaced: new connections see it")
	}
	s.warn(p, time.Now())
}

func (s *Set) clientCA() (text []byte, pool *x509.CertPool, err error) {
	file := s.options.ClientCA
	if s.options.ClientAuth == tls.NoClientCert {
		return nil, nil, nil
	}
	if text, err = os.ReadFile(file); err != nil {
		return nil, nil, &Error{Pair: -1, Key: "client_ca", File: file, Err: plain(err)}
	}
	if pool = x509.NewCertPool(); !pool.AppendCertsFromPEM(text) {
		return nil, nil, &Error{Pair: -1, Key: "client_ca", File: file, Err: errors.New("there is no certificate in PEM in it")}
	}
	return text, pool, nil
}

// newConfig makes what crypto/tls needs. A client that offers protocols and none of ours is refused by it (RFC 7301).
func (s *Set) newConfig(clients *x509.CertPool, ca []byte) *tls.Config {
	o := &s.options
	c := &tls.Config{
		MinVersion: o.MinVersion, NextProtos: o.Protocols, GetCertificate: s.get,
		ClientAuth: o.ClientAuth, ClientCAs: clients, SessionTicketsDisabled: !o.Tickets,
	}
	if o.Source != nil {
		challenge := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{ChallengeProtocol}, GetCertificate: s.get, SessionTicketsDisabled: true}
		c.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			if isChallenge(h) { // whoever asks has no certificate of its own
				return challenge, nil
			}
			return nil, nil
		}
	}
	if o.Tickets {
		bind(c, ca)
		s.store.tickets.give(c)
	}
	return c
}

// start begins what the store does by itself, with the first set.
func (s *Store) start() {
	s.started.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.closed {
			return
		}
		var err error
		if s.watcher, err = watch.New(&s.log); err != nil {
			s.log.Warn().Err(err).Msg("cannot watch the files of certificates: they are read again every hour, and when the configuration is")
		}
		s.ended.Add(2)
		go s.run()
		go s.keepStapled()
	})
}

// watch follows the files of all sets, and of one that is about to be opened.
func (s *Store) watch(with ...Options) {
	if s.watcher == nil {
		return
	}
	var files []string
	for _, set := range s.open() {
		with = append(with, set.options)
	}
	for i := range with {
		for _, p := range with[i].Pairs {
			files = append(files, p.Cert, p.Key)
		}
		if with[i].ClientCA != "" {
			files = append(files, with[i].ClientCA)
		}
	}
	s.watcher.Watch(files)
}

// open are the sets that are open.
func (s *Store) open() []*Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Set, 0, len(s.sets))
	for set := range s.sets {
		list = append(list, set)
	}
	return list
}

// soon has the store look at its sets.
func (s *Store) soon() {
	select {
	case s.ask <- struct{}{}:
	default:
	}
}

// run follows files and rotates the keys of tickets, until the store is closed.
func (s *Store) run() {
	defer s.ended.Done()
	rotate, hourly := time.NewTicker(rotateTickets), time.NewTicker(time.Hour)
	defer rotate.Stop()
	defer hourly.Stop()
	var changed <-chan struct{}
	if s.watcher != nil {
		defer s.watcher.Close()
		changed = s.watcher.Changed()
	}
	for {
		select {
		case <-s.stop:
			return
		case <-changed:
			s.readAll()
		case <-s.ask: // a set was opened or closed
			s.watch()
		case <-rotate.C:
			s.tickets.rotate()
			for _, set := range s.open() {
				if set.options.Tickets {
					s.tickets.give(set.config.Load())
				}
			}
			continue
		case <-hourly.C:
			s.readAll()
			s.warnAll(time.Now())
		}
		select {
		case s.restaple <- struct{}{}:
		default:
		}
	}
}

func (s *Store) readAll() {
	for _, set := range s.open() {
		_ = set.read(false)
	}
}
