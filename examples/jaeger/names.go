package main

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is a name server on loopback, over UDP. Its methods may be called from any goroutine; what Set changes holds from
// the next question on.
type Names struct {
	conn net.PacketConn
	slow time.Duration // before each answer
	ttl  time.Duration
	done chan struct{}

	mu    sync.Mutex
	names map[string]netip.Addr
}

// NewNames starts a name server that takes its time for each answer.
func NewNames(slow, ttl time.Duration) (*Names, error) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n := &Names{conn: conn, slow: slow, ttl: ttl, done: make(chan struct{}), names: map[string]netip.Addr{}}
	go n.serve()
	return n, nil
}

// Addr is where it listens.
func (n *Names) Addr() string { return n.conn.LocalAddr().String() }

// Set gives a name its one address. Names that were given none do not exist.
func (n *Names) Set(name string, addr netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.names[strings.ToLower(name)+"."] = addr
}

// Close ends the server.
func (n *Names) Close() {
	_ = n.conn.Close()
	<-n.done
}

func (n *Names) serve() {
	defer close(n.done)
	b := make([]byte, 4096)
	for {
		size, from, err := n.conn.ReadFrom(b)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		answer, err := n.answer(b[:size])
		if err != nil {
			continue // no question: no answer
		}
		time.AfterFunc(n.slow, func() { _, _ = n.conn.WriteTo(answer, from) })
	}
}

// answer makes the answer to a question (RFC 1035 §4.1).
func (n *Names) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	addr, known := n.names[strings.ToLower(q.Name.String())]
	n.mu.Unlock()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if !known {
		m.RCode = dnsmessage.RCodeNameError
		return m.Pack()
	}
	record := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: uint32(n.ttl / time.Second)}
	switch {
	case q.Type == dnsmessage.TypeA && addr.Is4():
		m.Answers = []dnsmessage.Resource{{Header: record, Body: &dnsmessage.AResource{A: addr.As4()}}}
	case q.Type == dnsmessage.TypeAAAA && addr.Is6():
		m.Answers = []dnsmessage.Resource{{Header: record, Body: &dnsmessage.AAAAResource{AAAA: addr.As16()}}}
	}
	return m.Pack()
}
