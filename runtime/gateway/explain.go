package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"wasmgate/config"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/tcp"
	"wasmgate/runtime/wasm"
)

// Explain says what would come of a request, and why, without sending it. It is rehearsed on a loop of the gateway by the
// code that serves requests (server.Rehearse): with the listeners, routes and upstreams in force, and with instances of
// the plugins that no request uses. What these keep in stores and shared data is a copy of what is there now, so that
// a limit counts nothing and denies whom it would deny; their ticks do not run, and calls of theirs are refused unless
// they are asked for. One explanation is made at a time.
//
// It works on a gateway that was not started too; that runs its loops from then on, but listens nowhere. The error is an
// explain.Mistake for what is wrong with what is asked.
func (g *Gateway) Explain(ctx context.Context, r explain.Request) (*explain.Explanation, error) {
	select {
	case g.explaining <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	e, fresh, err := g.explainerNow()
	var f *finding
	var asked *server.Asked
	if err == nil {
		f, asked, err = newFinding(e.of, &r)
	}
	if err != nil {
		<-g.explaining
		return nil, err
	}
	f.result.Live = g.current.Load() != nil
	found := make(chan error, 1)
	go func() {
		err := g.find(e, f, asked)
		<-g.explaining
		found <- err
	}()
	select {
	case err = <-found:
	case <-ctx.Done(): // a plugin waits for what it calls, perhaps; then so does the next explanation
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if fresh {
		f.noteFirst()
	}
	if report := e.of.report; report != nil {
		f.result.Locate(func(path string) string { return report.At(path).String() })
	}
	return f.result, nil
}

// find rehearses the request on a loop, and waits for that.
func (g *Gateway) find(e *explainer, f *finding, asked *server.Asked) error {
	if snap := e.state.listeners[f.listener].http; snap != nil {
		switch {
		case snap.TLS == nil && f.url.Scheme == "https":
			f.result.Notes = append(f.result.Notes, "the listener speaks no TLS: this is for a client whose TLS ends before it; any other gets no answer that it understands")
		case snap.TLS == nil || asked.Cleartext || f.url.Scheme == "":
		case !f.negotiate(asked, snap.TLS):
			return nil
		}
	}
	g.group.Start()
	l, done := g.group.Loop(0), make(chan error, 1)
	e.copyStores(g)
	e.now.Store(f)
	defer e.now.Store(nil)
	l.Post(func() {
		l.Go(func(t *netloop.Task) {
			err := errors.New("the explanation failed; the log says why") // by a panic, which is logged
			defer func() { done <- err }()
			if b := &e.of.listeners[f.listener]; b.tcp != nil {
				f.pass(b, l, asked.Client)
			} else {
				f.explain(server.Rehearse(t, e.state.listeners[f.listener].http, silent{g.observers[l.Index()]}, asked, f))
			}
			err = nil
		})
	})
	select {
	case err := <-done:
		return err
	case <-l.Ended():
		return errors.New("the gateway is stopping")
	}
}

// explainerNow returns the explainer of the state in force, which is kept for the next explanation, and whether it is new.
// Whoever calls it has g.explaining.
func (g *Gateway) explainerNow() (e *explainer, fresh bool, err error) {
	g.mu.Lock()
	s := g.state
	if g.closed {
		g.mu.Unlock()
		return nil, false, errors.New("the gateway is stopping")
	}
	if g.explainer != nil && g.explainer.of == s {
		g.mu.Unlock()
		return g.explainer, false, nil
	}
	modules := map[string]*wasm.Compiled{} // of a state that is in force, and so not closed
	for name, p := range s.plugins {
		if p.present() {
			modules[name] = p.compiled.Again(name)
		}
	}
	g.mu.Unlock()
	g.forgetExplainer()
	g.explainer, err = g.newExplainer(s, modules)
	return g.explainer, true, err
}

// forgetExplainer closes what explanations have of their own. Whoever calls it has g.explaining.
func (g *Gateway) forgetExplainer() {
	if g.explainer != nil {
		g.explainer.close()
		g.explainer = nil
	}
}

// endExplainer is forgetExplainer for a state that is not in force any more; nil: for any.
func (g *Gateway) endExplainer(of *state) {
	g.explaining <- struct{}{}
	if g.explainer != nil && (of == nil || g.explainer.of == of) {
		g.forgetExplainer()
	}
	<-g.explaining
}

// newFinding begins an explanation.
func newFinding(s *state, r *explain.Request) (*finding, *server.Asked, error) {
	u, err := explain.ParseURL(r.URL)
	if err != nil {
		return nil, nil, err
	}
	client, err := explain.ParseClient(r.Client)
	if err != nil {
		return nil, nil, err
	}
	shown, err := shownBy(r.ClientCertificate)
	if err != nil {
		return nil, nil, err
	}
	at, why, err := s.listenerFor(r, &u)
	if err != nil {
		return nil, nil, err
	}
	l := &s.config.Listeners[at]
	f := &finding{state: s, asked: *r, url: u, listener: at, shown: shown, result: &explain.Explanation{Client: client.String(), Steps: []explain.Step{}}}
	f.result.Listener = explain.Listener{
		Name: s.listeners[at].name, Address: l.Address, Mode: s.listeners[at].mode(), Why: why, Place: explain.Place{Path: fmt.Sprintf("listeners[%d]", at)},
	}
	if s.listeners[at].tcp != nil {
		f.result.Request = explain.Message{Line: "a connection for " + u.Authority, Fields: []explain.Field{}}
		return f, &server.Asked{Client: client}, nil
	}
	b, err := r.Bytes(u)
	if err != nil {
		return nil, nil, err
	}
	head := bytes.Index(b, []byte("\r\n\r\n")) + 4
	f.result.Request = *explain.NewMessage(b, head)
	asked := &server.Asked{Bytes: b, Client: client, Local: localOf(l)}
	if _, port, _ := net.SplitHostPort(l.Address); u.Scheme == "http" && port == strconv.Itoa(int(u.Port)) {
		asked.Cleartext = true
	}
	return f, asked, nil
}

// localOf is the address that a client of the listener has connected to, as far as the config says.
func localOf(l *config.Listener) netip.AddrPort {
	host, port, _ := net.SplitHostPort(l.Address)
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	n, _ := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(addr, uint16(n))
}

// listenerFor finds who takes the request.
func (s *state) listenerFor(r *explain.Request, u *explain.URL) (at int, why string, err error) {
	if len(s.listeners) == 0 {
		return 0, "", explain.Mistake("there is no listener")
	}
	var names []string
	for i := range s.listeners {
		c := &s.config.Listeners[i]
		if names = append(names, s.listeners[i].name); r.Listener != "" && (r.Listener == s.listeners[i].name || r.Listener == c.Address) {
			return i, "it was asked for", nil
		}
	}
	if r.Listener != "" {
		return 0, "", explain.Mistake("no listener is called " + r.Listener + "; there are: " + strings.Join(names, ", "))
	}
	wanted := config.ModeHTTP
	if u.Scheme == "tls" || u.Scheme == "tcp" {
		wanted = config.ModeTCP
	}
	port := strconv.Itoa(int(u.Port))
	first, secure := -1, -1
	for i := range s.listeners {
		c := &s.config.Listeners[i]
		if _, p, _ := net.SplitHostPort(c.Address); u.Port != 0 && p == port && (c.Mode == wanted || u.Scheme == "https") {
			return i, "it has port " + port, nil
		}
		if c.Mode == wanted {
			if first < 0 {
				first = i
			}
			if secure < 0 && c.TLS != nil {
				secure = i
			}
		}
	}
	if u.Scheme == "https" && secure >= 0 && len(s.listeners) > 1 {
		return secure, fmt.Sprintf("none has port %s, and it is the first that speaks TLS; --listener names another", port), nil
	}
	if first < 0 {
		return 0, "", explain.Mistake(fmt.Sprintf("there is no listener in mode %s; there are: %s", wanted, strings.Join(names, ", ")))
	}
	if u.Port == 0 || len(s.listeners) == 1 {
		return first, fmt.Sprintf("it is the first one in mode %s", wanted), nil
	}
	return first, fmt.Sprintf("none in mode %s has port %s, and it is the first; --listener names another", wanted, port), nil
}

// pass explains a listener in mode tcp.
func (f *finding) pass(b *blueprint, l *netloop.Loop, client netip.AddrPort) {
	e := f.result
	name := ""
	if f.url.Scheme == "tls" || f.url.Scheme == "https" {
		name = strings.ToLower(f.url.Host)
	}
	if n := len(b.tcp.Filters); n > 0 {
		for _, p := range f.state.config.Listeners[f.listener].Plugins {
			e.Notes = append(e.Notes, "plugin "+p+" sees the connection's bytes, and may close it: it was not asked")
		}
	}
	u, err := b.tcp.Choose([]byte(name))
	if err != nil {
		e.Outcome, e.Error, e.Kind = explain.Closed, err.Error(), err.Kind.String()
		return
	}
	why := "it is the listener's upstream"
	if name != "" && (b.tcp.Default == nil || u != b.tcp.Default) {
		why = "by the server name " + name
	}
	e.Outcome = explain.Passed
	e.Upstream = f.upstream(u.Name(), why)
	c := f.state.upstreams[u.Name()].config
	e.Upstream.Rules = []explain.Rule{
		{Key: "timeouts.connect", Value: duration(c.Timeouts.Connect.Std())}, {Key: "idle_timeout", Value: duration(b.tcp.IdleTimeout)},
	}
	r := tunnelFor(tcp.Request{Client: client})
	p := f.state.upstreams[u.Name()].Preview(l, &r)
	f.members(&p)
}
