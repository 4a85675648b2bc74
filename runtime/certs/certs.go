// Package certs has the certificates of listeners: it reads them from files, chooses one for each handshake, follows the
// files when they change, staples what their authorities say of them (OCSP), and makes and rotates the keys of session
// tickets. TLS itself is crypto/tls's; the files are watched by package watch, and OCSP's messages are read by
// golang.org/x/crypto/ocsp, because both are known to be right and neither is in the standard library.
//
// A Store has what outlives a configuration: the keys of tickets, the watch. A Set has the certificates of one listener of one
// configuration. What a handshake needs is in a value that is replaced whole, so that any number of loops look at it without a lock.
package certs

import (
	"crypto/tls"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/secure"
	"wasmgate/runtime/watch"
)

// Source has certificates that are in no file. It is asked for a name that none of the files is for, and for every handshake of
// TLS-ALPN-01 (RFC 8737). It may block, unless Options.Ready says that it does not: it runs off the loop, and the handshake
// waits. nil and nil: it has none.
type Source func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// ChallengeProtocol is what a client that validates names by TLS-ALPN-01 offers, and nothing else.
const ChallengeProtocol = "acme-tls/1"

// Store keeps what the sets of a process share. Its methods may be called from any goroutine.
type Store struct {
	log     zerolog.Logger
	tickets tickets
	started sync.Once
	ended   sync.WaitGroup
	stop    chan struct{}
	ask     chan struct{} // something is to be looked at soon
	watcher *watch.Watcher

	restaple      chan struct{} // so is what is stapled
	stapleTimeout time.Duration
	retryStaple   time.Duration

	mu     sync.Mutex
	sets   map[*Set]struct{}
	closed bool
}

// New makes a store. It does nothing until the first set is opened.
func New(log zerolog.Logger) *Store {
	return &Store{
		log: log, stop: make(chan struct{}), ask: make(chan struct{}, 1), sets: map[*Set]struct{}{},
		restaple: make(chan struct{}, 1), stapleTimeout: stapleTimeout, retryStaple: retryStaple,
	}
}

// Close ends what the store does by itself. Sets that are open still give certificates.
func (s *Store) Close() {
	s.mu.Lock()
	defer s.ended.Wait()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.stop)
	}
}

// Set is the certificates of one listener, and how it speaks TLS.
type Set struct {
	store   *Store
	options Options
	config  atomic.Pointer[tls.Config]
	index   atomic.Pointer[index]

	mu     sync.Mutex // guards what follows: one look at the files at a time
	pairs  []*pair    // beside options.Pairs
	ca     []byte     // what client_ca had when config was made
	broken map[string]string
}

// Config is how a connection that begins now speaks TLS. It changes when the files do; it must not be changed.
func (s *Set) Config() *tls.Config { return s.config.Load() }

// Close ends the following of files. Connections may go on with what Config has returned.
func (s *Set) Close() {
	s.store.mu.Lock()
	delete(s.store.sets, s)
	s.store.mu.Unlock()
	s.store.soon()
}

// Info tells of a certificate that is in use.
type Info struct {
	File      string // it was read from
	Name      string // the first that it is for
	NotAfter  time.Time
	NotBefore time.Time
	Stapled   bool
}

// Certificates tells of those in use, in the order of Options.Pairs.
func (s *Set) Certificates() []Info {
	var list []Info
	for _, p := range s.index.Load().pairs {
		leaf := p.cert.Leaf
		i := Info{File: p.from.Cert, Name: leaf.Subject.CommonName, NotAfter: leaf.NotAfter, NotBefore: leaf.NotBefore, Stapled: p.cert.OCSPStaple != nil}
		if len(p.names) > 0 {
			i.Name = p.names[0]
		}
		list = append(list, i)
	}
	return list
}

// index finds certificates. It is immutable.
type index struct {
	pairs    []*pair
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // by what follows "*."
	fallback *tls.Certificate
}

func newIndex(pairs []*pair) *index {
	ix := &index{pairs: pairs, exact: map[string][]*tls.Certificate{}, wildcard: map[string][]*tls.Certificate{}}
	for _, ecdsa := range []bool{true, false} { // in what is for the same name, RSA comes last
		for _, p := range pairs {
			if p.isRSA() == ecdsa {
				continue
			}
			for _, name := range p.names {
				if suffix, is := strings.CutPrefix(name, "*."); is {
					ix.wildcard[suffix] = append(ix.wildcard[suffix], p.cert)
				} else {
					ix.exact[name] = append(ix.exact[name], p.cert)
				}
			}
		}
	}
	for _, p := range pairs {
		if p.from.Default {
			ix.fallback = p.cert
		}
	}
	return ix
}

// find returns those for a server name, or for the address that a client without one has connected to.
func (ix *index) find(h *tls.ClientHelloInfo) []*tls.Certificate {
	name := h.ServerName
	if name == "" {
		return ix.exact[localAddr(h.Conn)]
	}
	name = strings.ToLower(name)
	if list := ix.exact[name]; list != nil {
		return list
	}
	_, suffix, _ := strings.Cut(name, ".")
	return ix.wildcard[suffix]
}

// localAddr is the address that a connection was made to, as names of certificates have it.
func localAddr(c net.Conn) string {
	if c != nil {
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
			if ip, ok := netip.AddrFromSlice(a.IP); ok {
				return ip.Unmap().String()
			}
		}
	}
	return ""
}

// get is the GetCertificate of every configuration of the set. nil and nil has crypto/tls end the handshake with the alert
// unrecognized_name.
func (s *Set) get(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	source := s.options.Source
	if source != nil && isChallenge(h) {
		return s.ask(h)
	}
	ix := s.index.Load()
	switch list := ix.find(h); {
	case len(list) == 1:
		return list[0], nil
	case len(list) > 1:
		for _, c := range list {
			if h.SupportsCertificate(c) == nil {
				return c, nil
			}
		}
		return list[0], nil // crypto/tls says what does not fit
	}
	if source != nil && h.ServerName != "" {
		if c, err := s.ask(h); c != nil || err != nil {
			return c, err
		}
	}
	return ix.fallback, nil
}

func isChallenge(h *tls.ClientHelloInfo) bool {
	return len(h.SupportedProtos) == 1 && h.SupportedProtos[0] == ChallengeProtocol
}

// ask asks the source, off the loop if the handshake is on one and the source may block.
func (s *Set) ask(h *tls.ClientHelloInfo) (c *tls.Certificate, err error) {
	source := s.options.Source
	if t := secure.Task(h.Context()); t != nil && !s.options.Ready {
		t.Await(func() { c, err = source(h) })
		return c, err
	}
	return source(h)
}
