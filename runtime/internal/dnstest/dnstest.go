// Package dnstest is a real name server on loopback, UDP and TCP, for tests: what it answers is changed while it runs, and
// it counts what it was asked. The protocol is github.com/miekg/dns's, as in the resolver under test.
package dnstest

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// SRV is one record of a service.
type SRV struct {
	Priority, Weight, Port uint16
	Target                 string
}

// Handler makes the answer m to the question q, in place of what the server knows. It reports whether m is to be sent.
type Handler func(q, m *dns.Msg, tcp bool) bool

// Server is a name server. A name that it was not told of does not exist (NXDOMAIN). Its methods may be called at any
// time from any goroutine; what they change holds from the next question on. Names are given with or without the last dot.
type Server struct {
	addr    string
	mu      sync.Mutex
	names   map[string]*entry
	queries map[string]int
	silent  bool
	glue    bool
	handler Handler
	held    chan struct{} // not nil: answers wait until it is closed
}

// entry is what is known of one name.
type entry struct {
	ttl    uint32
	addrs  []netip.Addr
	each   int // how many of addrs one answer has, in turn; 0: all
	turn   map[uint16]int
	srv    []SRV
	cname  string
	rcode  int
	broken bool // answers rcode
}

// New starts a server, which closes with the test.
func New(t testing.TB) *Server {
	t.Helper()
	return NewAt(t, "127.0.0.1:0")
}

// NewAt is New with the address to listen at, for servers that differ in their IP address only.
func NewAt(t testing.TB, addr string) *Server {
	t.Helper()
	pc, ln := samePort(t, addr)
	s := &Server{addr: pc.LocalAddr().String(), names: map[string]*entry{}, queries: map[string]int{}, glue: true}
	for _, d := range []*dns.Server{{PacketConn: pc, Handler: s.serve(false)}, {Listener: ln, Handler: s.serve(true)}} {
		started := make(chan struct{})
		d.NotifyStartedFunc = func() { close(started) }
		go func() { _ = d.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = d.Shutdown() })
	}
	t.Cleanup(s.Release) // before the servers shut down, which wait for the answers under way
	return s
}

// samePort opens a port that is free for UDP and for TCP.
func samePort(t testing.TB, addr string) (net.PacketConn, net.Listener) {
	t.Helper()
	for {
		pc, err := net.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		_ = pc.Close()
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// Addr is the server's address, host:port, the same for UDP and TCP.
func (s *Server) Addr() string { return s.addr }

// Set makes the name stand for the addresses, IPv4 and IPv6 mixed. Without addresses the name exists and its answers are
// empty. The TTL is in whole seconds.
func (s *Server) Set(name string, ttl time.Duration, addrs ...string) {
	s.Rotate(name, ttl, 0, addrs...)
}

// Rotate makes each answer have k of the addresses, in turn: the next answer begins where the last one ended.
func (s *Server) Rotate(name string, ttl time.Duration, k int, addrs ...string) {
	e := &entry{ttl: uint32(ttl / time.Second), each: k, turn: map[uint16]int{}}
	for _, a := range addrs {
		e.addrs = append(e.addrs, netip.MustParseAddr(a))
	}
	s.put(name, e)
}

// SetSRV makes the name a service. The addresses of targets that the server knows come along in the additional section,
// unless Glue(false) was called.
func (s *Server) SetSRV(name string, ttl time.Duration, records []SRV) {
	s.put(name, &entry{ttl: uint32(ttl / time.Second), srv: append([]SRV(nil), records...)})
}

// SetCNAME makes the name stand for another one.
func (s *Server) SetCNAME(name string, ttl time.Duration, target string) {
	s.put(name, &entry{ttl: uint32(ttl / time.Second), cname: dns.Fqdn(target)})
}

// Fail makes every answer about the name an error: dns.RcodeServerFailure, dns.RcodeNameError. Set ends it.
func (s *Server) Fail(name string, rcode int) { s.put(name, &entry{rcode: rcode, broken: true}) }

// Remove forgets the name: it does not exist any more.
func (s *Server) Remove(name string) { s.put(name, nil) }

// Silence makes the server answer nothing, or answer again. Questions are counted all the same.
func (s *Server) Silence(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent = on
}

// Glue says whether answers about a service have the addresses of its targets. They do at first.
func (s *Server) Glue(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.glue = on
}

// Handle puts h in the place of what the server knows; nil ends it. It may be called by several goroutines at once.
func (s *Server) Handle(h Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handler = h
}

// Hold makes answers wait until Release. They say what was known when the question came.
func (s *Server) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = make(chan struct{})
	}
}

// Release sends what Hold held back, and ends it.
func (s *Server) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		close(s.held)
		s.held = nil
	}
}

// Queries is how many questions there were about the name so far, of every kind (a look-up of both address families asks
// two), by UDP and TCP.
func (s *Server) Queries(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[key(name)]
}

func key(name string) string { return strings.ToLower(dns.Fqdn(name)) }

func (s *Server) put(name string, e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e == nil {
		delete(s.names, key(name))
		return
	}
	s.names[key(name)] = e
}

// serve answers what came by UDP or by TCP.
func (s *Server) serve(tcp bool) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) != 1 {
			return
		}
		send, held := s.answer(q, m, tcp)
		if held != nil {
			<-held
		}
		if send {
			_ = w.WriteMsg(m)
		}
	}
}

func (s *Server) answer(q, m *dns.Msg, tcp bool) (send bool, held chan struct{}) {
	s.mu.Lock()
	s.queries[key(q.Question[0].Name)]++
	handler, held := s.handler, s.held
	if s.silent {
		s.mu.Unlock()
		return false, nil
	}
	if handler != nil {
		s.mu.Unlock()
		return handler(q, m, tcp), held
	}
	defer s.mu.Unlock()
	s.fill(q.Question[0], m)
	if !tcp {
		size := dns.MinMsgSize
		if o := q.IsEdns0(); o != nil {
			size = max(size, int(o.UDPSize()))
			m.SetEdns0(o.UDPSize(), false)
		}
		m.Truncate(size)
	}
	return true, held
}

// fill answers by what is known; s.mu is held.
func (s *Server) fill(q dns.Question, m *dns.Msg) {
	name := q.Name
	for range 10 {
		e := s.names[key(name)]
		if e == nil {
			m.Rcode = dns.RcodeNameError
			return
		}
		if e.broken {
			m.Rcode = e.rcode
			return
		}
		if e.cname == "" {
			s.records(e, name, q.Qtype, m)
			return
		}
		m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(name, dns.TypeCNAME, e.ttl), Target: e.cname})
		name = e.cname
	}
}

func (s *Server) records(e *entry, name string, kind uint16, m *dns.Msg) {
	if kind != dns.TypeSRV {
		m.Answer = append(m.Answer, e.next(name, kind)...)
		return
	}
	for _, r := range e.srv {
		m.Answer = append(m.Answer, &dns.SRV{Hdr: header(name, dns.TypeSRV, e.ttl), Priority: r.Priority, Weight: r.Weight, Port: r.Port, Target: dns.Fqdn(r.Target)})
		if t := s.names[key(r.Target)]; t != nil && s.glue {
			m.Extra = append(m.Extra, t.next(dns.Fqdn(r.Target), dns.TypeA)...)
			m.Extra = append(m.Extra, t.next(dns.Fqdn(r.Target), dns.TypeAAAA)...)
		}
	}
}

// next is the records of one kind for the next answer.
func (e *entry) next(name string, kind uint16) []dns.RR {
	var all []dns.RR
	for _, a := range e.addrs {
		switch {
		case a.Is4() && kind == dns.TypeA:
			all = append(all, &dns.A{Hdr: header(name, kind, e.ttl), A: a.AsSlice()})
		case a.Is6() && kind == dns.TypeAAAA:
			all = append(all, &dns.AAAA{Hdr: header(name, kind, e.ttl), AAAA: a.AsSlice()})
		}
	}
	if e.each == 0 || e.each >= len(all) {
		return all
	}
	some := make([]dns.RR, 0, e.each)
	for i := range e.each {
		some = append(some, all[(e.turn[kind]+i)%len(all)])
	}
	e.turn[kind] = (e.turn[kind] + e.each) % len(all)
	return some
}

func header(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}
