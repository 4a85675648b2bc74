package gateway

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/http3"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/tcp"
)

// blueprint is a listener of a config: one of its two modes.
type blueprint struct {
	name string
	http *server.Snapshot
	tcp  *tcp.Snapshot
	set  *certs.Set // of its certificates; nil: it speaks cleartext

	http3       *http3.Settings // nil: it speaks none
	alternative *config.HTTP3   // what its clients are told
}

// listener is a socket and who serves it.
type listener struct {
	socket *netloop.Listener
	http   *server.Server
	tcp    *tcp.Server

	certs   atomic.Pointer[certs.Set] // of its TLS, for HTTP/3
	http3   *http3.Listener           // nil: it speaks none
	parting *http3.Listener           // that it had, and that may have connections still
}

// buildListener completes common, which has what all listeners share, or makes the listener one of TCP mode.
func (g *Gateway) buildListener(s *state, i int, common *server.Snapshot) (blueprint, error) {
	l := &s.config.Listeners[i]
	b := blueprint{name: l.Name}
	if b.name == "" {
		b.name = l.Address
	}
	loops := len(g.group.Loops())
	if l.Mode == config.ModeTCP {
		snap, err := s.tcpListener(fmt.Sprintf("listeners[%d]", i), l)
		if err != nil {
			return b, err
		}
		snap.Name, snap.HelloTimeout = b.name, common.HeadTimeout
		b.tcp = snap.Prepare(loops)
		return b, nil
	}
	common.Name = b.name
	common.KeepAlive = server.KeepAlive{
		Enabled: l.KeepAlive.Enabled, IdleTimeout: l.KeepAlive.IdleTimeout.Std(), MaxRequests: uint64(l.KeepAlive.MaxRequests),
		MaxAge: l.KeepAlive.MaxAge.Std(), Advertise: l.AdvertiseKeepAlive,
	}
	common.HTTP2 = server.HTTP2{
		Enabled: l.HTTP2.Enabled, Only: l.HTTP2.Only, MaxStreams: l.HTTP2.MaxStreams, StreamWindow: int(l.HTTP2.StreamWindow), ConnWindow: int(l.HTTP2.ConnectionWindow),
		MaxNuisance: l.HTTP2.ControlFrames, PingInterval: l.HTTP2.PingInterval.Std(), PingTimeout: l.HTTP2.PingTimeout.Std(),
	}
	common.Trusted, common.AcceptProxy, common.Filters = l.TrustedProxies, l.ProxyProtocol, s.chain(l.Plugins)
	common.Forwarded = server.Forwarded{
		XForwarded: l.Forwarded.Headers == config.ForwardedX || l.Forwarded.Headers == config.ForwardedBoth,
		RFC7239:    l.Forwarded.Headers == config.ForwardedRFC || l.Forwarded.Headers == config.ForwardedBoth,
		Except:     l.Forwarded.Except,
	}
	if err := g.secured(s, i, &b, common); err != nil {
		return b, err
	}
	b.http = common.Prepare(loops)
	b.http3, b.alternative = http3Settings(l, common), &l.HTTP3
	return b, nil
}

// tcpListener is a listener that passes bytes. path is its place in the config.
func (s *state) tcpListener(path string, l *config.Listener) (*tcp.Snapshot, error) {
	snap := &tcp.Snapshot{AcceptProxy: l.ProxyProtocol, IdleTimeout: l.IdleTimeout.Std()}
	var errs []error
	for i, name := range l.Plugins {
		n, wrong := s.plugins[name].network(name)
		if wrong != nil {
			wrong.Path = fmt.Sprintf("%s.plugins[%d]", path, i)
			errs = append(errs, wrong)
		}
		snap.Filters = append(snap.Filters, n)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if l.Upstream != "" {
		snap.Default = bytesTo{s.upstreams[l.Upstream].Upstream}
	}
	if len(l.SNI) == 0 {
		return snap, nil
	}
	var routes []tcp.Route
	for _, r := range l.SNI {
		routes = append(routes, tcp.Route{Hosts: r.Host, Upstream: bytesTo{s.upstreams[r.Upstream].Upstream}})
	}
	var err error
	if snap.SNI, err = tcp.NewNames(routes); err != nil {
		return nil, fmt.Errorf("%s.sni: %w", path, err)
	}
	return snap, nil
}

// listenerKeys are what each listener of a config is known by over reloads: its address, which only port 0 may have twice.
func listenerKeys(c *config.Config) []string {
	keys, seen := make([]string, len(c.Listeners)), map[string]int{}
	for i := range c.Listeners {
		a := c.Listeners[i].Address
		keys[i] = a
		if seen[a]++; seen[a] > 1 {
			keys[i] = a + "#" + strconv.Itoa(seen[a])
		}
	}
	return keys
}

// openListeners opens those that the state has and we have not. If one fails, those opened here are closed again.
func (g *Gateway) openListeners(s *state) error {
	var opened []string
	var joined []*listener // that speak HTTP/3 from now on
	undo := func() {
		for _, k := range opened {
			g.closeListener(k)
		}
		for _, l := range joined {
			l.drainHTTP3()
		}
	}
	keys := listenerKeys(s.config)
	for i, b := range s.listeners {
		key, address := keys[i], s.config.Listeners[i].Address
		if was := g.listeners[key]; was != nil {
			if (was.tcp != nil) == (b.tcp != nil) {
				if did, err := g.openHTTP3(was, address, &b); err != nil {
					undo()
					return fmt.Errorf("listeners[%d].http3 %s: %w", i, address, err)
				} else if did {
					joined = append(joined, was)
				}
				continue
			}
			g.closeListener(key) // it changes its mode: sessions under way go on in the old one
		}
		l := &listener{}
		if what, err := l.bind(g, address, &b); err != nil {
			undo()
			return fmt.Errorf("listeners[%d].%s %s: %w", i, what, address, err)
		}
		g.listeners[key] = l
		opened = append(opened, key)
		if l.http != nil {
			l.useHTTP3(&b)
		}
		g.log.Info().Str("listener", b.name).Str("mode", b.mode()).Stringer("address", l.socket.Addr()).Msg("listening")
	}
	s.bound = s.bound[:0]
	for _, key := range keys {
		s.bound = append(s.bound, g.listeners[key].socket.Addr())
	}
	return nil
}

// bind opens its sockets: that of TCP, and of UDP where it speaks HTTP/3. With an error none stays open, and what is the key of the
// configuration that it is about.
func (l *listener) bind(g *Gateway, address string, b *blueprint) (what string, err error) {
	accept := l.serve(g, *b)
	for try := 1; ; try++ {
		if l.socket, err = g.group.Listen(address, netloop.ListenOptions{Accept: accept, Refusal: b.refusal()}); err != nil {
			return "address", err
		}
		if _, err = g.openHTTP3(l, address, b); err == nil {
			return "", nil
		}
		if !anyPort(address) || !errors.Is(err, syscall.EADDRINUSE) || try == 10 {
			l.drain()
			return "http3", err
		}
		_ = l.socket.Close() // somebody has the same port of UDP: another one will do
	}
}

// anyPort says whether the address leaves the port to the system.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// serve makes the server for a listener's mode, and returns what takes its connections.
func (l *listener) serve(g *Gateway, b blueprint) func(*netloop.Conn) {
	if b.tcp != nil {
		l.tcp = tcp.New(g.group, b.tcp, observersAs[tcp.Observer](g))
		g.passing = append(slices.DeleteFunc(g.passing, (*tcp.Server).Ended), l.tcp)
		return l.tcp.Accept
	}
	l.http = server.New(g.group, b.http, observersAs[server.Observer](g))
	return l.http.Accept
}

func (b *blueprint) mode() string {
	switch {
	case b.tcp != nil:
		return "tcp"
	case b.set != nil:
		return "https"
	}
	return "http"
}

// refusal is what a connection over the limit is told: in TCP mode nothing that a protocol would have to understand.
func (b *blueprint) refusal() []byte {
	if b.tcp != nil || b.set != nil {
		return nil
	}
	return server.Refusal()
}

// use makes the listener follow a blueprint of its mode.
func (l *listener) use(b blueprint) {
	if l.tcp != nil {
		l.tcp.Use(b.tcp)
		return
	}
	l.http.Use(b.http)
	l.useHTTP3(&b)
}

// retire calls done on each loop once no request or session of it can need what the blueprint leads to.
func (b *blueprint) retire(g *netloop.Group, done func()) {
	if b.tcp != nil {
		b.tcp.Retire(g, done)
		return
	}
	b.http.Retire(g, done)
}

// drain stops accepting, and lets end what is under way.
func (l *listener) drain() {
	_ = l.socket.Close()
	if l.tcp != nil {
		l.tcp.Drain()
		return
	}
	l.http.Drain()
	l.drainHTTP3()
}

// cutSessions ends what is left of TCP mode, so that each session has its account.
func (g *Gateway) cutSessions() {
	for _, s := range g.passing {
		s.Cut()
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Second); slices.ContainsFunc(g.passing, func(s *tcp.Server) bool { return s.Sessions() > 0 }); <-tick.C {
		if time.Now().After(end) {
			return
		}
	}
}

func (g *Gateway) closeListener(key string) {
	g.listeners[key].drain()
	delete(g.listeners, key)
}
