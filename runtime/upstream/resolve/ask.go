package resolve

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	udpSize    = 1232                   // that an answer may have by UDP without being split up on its way; more comes by TCP
	readSize   = 4096                   // that is taken all the same
	nextServer = 300 * time.Millisecond // without an answer, until the next server is asked as well
	sendAgain  = time.Second            // without an answer, until the same server is asked again; the first time after nextServer
	maxStrays  = 64                     // datagrams that are no answer to the question
	shunned    = 30 * time.Second       // how long a server that was silent is asked last
)

// errNXDOMAIN is an answer that says that there is no such name, whatever kind of record is asked for.
var errNXDOMAIN = fmt.Errorf("NXDOMAIN: %w", errNoSuchName)

// failure is that one or all servers gave no usable answer.
type failure struct {
	what   string
	silent bool // not even one that says no
}

func (f *failure) Error() string { return f.what }

// reply is what came of asking one server.
type reply struct {
	server int
	m      *dns.Msg
	err    *failure
}

// ask puts a question to the servers until one answers it: with records or none, or that the name does not exist
// (errNXDOMAIN). The error is a *failure if they all fail.
func (l *lookUp) ask(ctx context.Context, name string, kind uint16) (*dns.Msg, string, error) {
	list := l.inOrder(l.servers.addrs)
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	replies, turn := make(chan reply, len(list)), make(chan struct{}, 1)
	begun, stop := 0, func() bool { return true }
	next := func() {
		stop()
		if begun == len(list) {
			return
		}
		i := begun
		begun++
		stop = l.Resolver.options.Clock.AfterFunc(nextServer, func() {
			select {
			case turn <- struct{}{}:
			default:
			}
		})
		asking.Go(func() {
			m, err := l.exchange(ctx, list[i], name, kind)
			replies <- reply{i, m, err}
		})
	}
	defer func() { stop() }()
	failed := make([]*failure, len(list))
	next()
	for ended := 0; ended < len(list); {
		select {
		case <-turn:
			next()
		case r := <-replies:
			if r.err == nil {
				l.judge(list, failed, r.server)
				return verdict(r.m, list[r.server], name)
			}
			failed[r.server] = r.err
			ended++
			next()
		}
	}
	if ctx.Err() == nil {
		l.judge(list, failed, len(list))
	}
	return nil, "", allFailed(failed)
}

// verdict is what an answer says of the name.
func verdict(m *dns.Msg, server, name string) (*dns.Msg, string, error) {
	if m.Rcode == dns.RcodeNameError {
		return nil, server, fmt.Errorf("%s answered for %s %w", server, name, errNXDOMAIN)
	}
	return m, server, nil
}

func allFailed(failed []*failure) error {
	all := &failure{silent: true}
	whats := make([]string, len(failed))
	for i, f := range failed {
		whats[i] = f.what
		all.silent = all.silent && f.silent
	}
	all.what = strings.Join(whats, "; ")
	return all
}

// inOrder puts servers that were silent a short while ago last.
func (r *Resolver) inOrder(list []string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Clock.Now()
	last := func(s string) int {
		if at, ok := r.silent[s]; ok && now.Sub(at) < shunned {
			return 1
		}
		return 0
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b string) int { return last(a) - last(b) })
	return list
}

// judge remembers which servers were silent: those asked before the one that answered, and no others.
func (r *Resolver) judge(list []string, failed []*failure, answered int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.options.Clock.Now()
	for s, at := range r.silent {
		if now.Sub(at) >= shunned {
			delete(r.silent, s)
		}
	}
	for i, s := range list[:answered] {
		if failed[i] == nil || failed[i].silent {
			r.silent[s] = now
		}
	}
	if answered < len(list) {
		delete(r.silent, list[answered])
	}
}

// exchange asks one server: by UDP, and by TCP if the answer was too large for that.
func (l *lookUp) exchange(ctx context.Context, server, name string, kind uint16) (*dns.Msg, *failure) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := fmt.Errorf("no answer in %s", l.servers.listen)
	stop := l.Resolver.options.Clock.AfterFunc(l.servers.listen, func() { cancel(limit) })
	defer stop()
	q := new(dns.Msg).SetQuestion(name, kind)
	q.SetEdns0(udpSize, false)
	m, err := l.udp(ctx, server, q)
	if err == nil && (m.Rcode == dns.RcodeFormatError || m.Rcode == dns.RcodeNotImplemented) {
		q.Extra, q.Id = nil, dns.Id() // a server from before EDNS
		m, err = l.udp(ctx, server, q)
	}
	if err == nil && m.Truncated {
		m, err = byTCP(ctx, server, q)
	}
	switch {
	case err != nil && ctx.Err() != nil:
		what := server + ": " + context.Cause(ctx).Error()
		if !errors.Is(err, errBroken) { // why what came was not taken
			what += " (" + err.Error() + ")"
		}
		return nil, &failure{what, true}
	case err != nil:
		return nil, &failure{server + ": " + err.Error(), true}
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, &failure{fmt.Sprintf("%s answered %s for %s", server, rcode(m.Rcode), name), false}
	}
	return m, nil
}

func rcode(n int) string {
	if text, ok := dns.RcodeToString[n]; ok {
		return text
	}
	return fmt.Sprintf("RCODE %d", n)
}

// errBroken is that the wait for an answer was broken off, with nothing to say about what came until then.
var errBroken = errors.New("broken off")

// udp sends the question until an answer comes, or ctx ends.
func (l *lookUp) udp(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	packet, err := q.Pack()
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	again := resend{clock: l.Resolver.options.Clock, send: func() { _, _ = c.Write(packet) }}
	again.in(nextServer)
	defer again.end()
	if _, err := c.Write(packet); err != nil {
		return nil, err
	}
	buf, stray := make([]byte, readSize), errBroken
	for range maxStrays {
		n, err := c.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil, stray
			}
			return nil, err
		}
		m, err := parse(buf[:n], q)
		if err == nil {
			return m, nil
		}
		stray = err
	}
	return nil, fmt.Errorf("%d datagrams that are no answer, the last: %w", maxStrays, stray)
}

// resend sends again, every second.
type resend struct {
	clock Clock
	send  func()
	mu    sync.Mutex
	ended bool
	stop  func() bool
}

func (s *resend) in(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.stop = s.clock.AfterFunc(d, func() {
		s.send()
		s.in(sendAgain)
	})
}

func (s *resend) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.stop != nil {
		s.stop()
	}
}

// byTCP asks once; whatever goes wrong is an error.
func byTCP(ctx context.Context, server string, q *dns.Msg) (*dns.Msg, error) {
	packet, err := q.Pack()
	if err != nil {
		return nil, err
	}
	c, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...)); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	buf := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, buf); err != nil {
		return nil, err
	}
	m, err := parse(buf, q)
	if err == nil && m.Truncated {
		return nil, errors.New("a truncated answer by TCP")
	}
	return m, err
}

// parse reads an answer to q, and nothing else.
func parse(b []byte, q *dns.Msg) (*dns.Msg, error) {
	m := new(dns.Msg)
	switch err := m.Unpack(b); {
	case err != nil && !m.Truncated: // what was cut off is not looked at
		return nil, fmt.Errorf("a malformed answer: %w", err)
	case !m.Response || m.Opcode != dns.OpcodeQuery:
		return nil, errors.New("not an answer")
	case m.Id != q.Id:
		return nil, errors.New("an answer with another number")
	case len(m.Question) != 1 || m.Question[0].Qtype != q.Question[0].Qtype || m.Question[0].Qclass != dns.ClassINET ||
		!strings.EqualFold(m.Question[0].Name, q.Question[0].Name):
		return nil, errors.New("an answer to another question")
	}
	return m, nil
}
