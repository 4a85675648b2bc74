package server

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"

	"wasmgate/runtime/compress"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/route"
)

// routing is what matching a request leaves behind: the captures for templates.
type routing struct{ match route.Match }

// admit checks what no route may change, removes what must not cross, and says who the client is.
func (s *Session) admit(w *work, snap *Snapshot) *fault.Error {
	x := &w.x
	req := &x.Request
	if req.Form == http1.Authority {
		return fault.New(fault.Unsupported, fault.Client, 405, "CONNECT is not served here")
	}
	if http1.HasToken(req.Upgrade, "h2c") {
		req.Upgrade = nil // a tunnel of HTTP/2 would take requests past every route
	}
	if err := s.acceptable(w, snap); err != nil {
		return err
	}
	if k := req.Framing.Kind; k == http1.Chunked || k == http1.Length && req.Framing.Length > 0 {
		req.Upgrade = nil // where the body ends and the tunnel begins, two may see differently
	}
	req.StripHopByHop()
	if snap.Compresses {
		w.coded().accepts = compress.Accepts(&req.Head)
	}
	s.identify(w, snap)
	return nil
}

// identify removes the forwarding fields of a peer that is not trusted, and adds ours. Hop-by-hop fields are gone by
// then, so that no Connection field can take away what is added here.
func (s *Session) identify(w *work, snap *Snapshot) {
	x := &w.x
	req := &x.Request
	trusted := contains(snap.Trusted, x.Client.Peer.Addr())
	if trusted {
		x.Client.Addr = s.clientBehind(w, snap)
	} else {
		removeIdentity(&req.Head, snap.Identity)
	}
	if snap.TLS != nil && s.TLS != nil && s.TLS.Peer != nil {
		snap.TLS.Headers.apply(w, s.TLS.Peer, trusted)
	}
	f := &snap.Forwarded
	tell := !contains(f.Except, x.Client.Peer.Addr())
	if f.XForwarded {
		if tell {
			w.scratch = w.scratch[:0]
			if trusted {
				if w.scratch = req.AppendList(w.scratch, http1.FieldXForwardedFor); len(w.scratch) > 0 {
					w.scratch = append(w.scratch, ", "...)
				}
			}
			w.scratch = append(w.scratch, s.peer...)
			req.SetID(http1.FieldXForwardedFor, w.scratch)
		}
		if _, ok := req.GetID(http1.FieldXForwardedProto); !ok {
			w.scratch = append(w.scratch[:0], s.Scheme...)
			req.SetID(http1.FieldXForwardedProto, w.scratch)
		}
		if _, ok := req.GetID(http1.FieldXForwardedHost); !ok {
			req.SetID(http1.FieldXForwardedHost, req.Authority)
		}
	}
	if f.RFC7239 && tell {
		req.SetID(http1.FieldForwarded, s.forwarded(w, trusted))
	}
}

// identity are the fields by which upstreams learn who asked, besides all that begin with X-Forwarded-; only the
// gateway, or a proxy that it trusts, may say so.
var identity = [...]string{"X-Real-IP", "Forwarded", "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For"}

const identityPrefix = "X-Forwarded-"

// removeIdentity deletes the identity fields in every spelling. Most requests have none: a name that begins with
// neither x nor f is passed over by its first letter. more are names of fields that are the gateway's own too.
func removeIdentity(h *http1.Head, more [][]byte) {
	for _, own := range more {
		for i := h.Len() - 1; i >= 0; i-- {
			if sameSpelling(h.Name(i), own) {
				h.DelAt(i)
			}
		}
	}
	for i := 0; i < h.Len(); i++ {
		if c := h.Name(i)[0] | 0x20; c != 'x' && c != 'f' {
			continue
		}
		if isIdentity(h.Name(i)) {
			h.DelAt(i)
			i--
		}
	}
}

func isIdentity(name []byte) bool {
	if n := len(identityPrefix); len(name) > n && sameSpelling(name[:n], identityPrefix) {
		return true
	}
	for _, own := range identity {
		if sameSpelling(name, own) {
			return true
		}
	}
	return false
}

// sameSpelling compares names without regard to case, with '_' and '-' alike, as many applications do.
func sameSpelling[T string | []byte](name []byte, as T) bool {
	if len(name) != len(as) {
		return false
	}
	for i, c := range name {
		d := as[i]
		if c == '_' {
			c = '-'
		}
		if d == '_' {
			d = '-'
		}
		if c != d && c|0x20 != d|0x20 {
			return false
		}
	}
	return true
}

// forwarded makes the value of the Forwarded field (RFC 7239), extended if the peer is trusted.
func (s *Session) forwarded(w *work, trusted bool) []byte {
	req := &w.x.Request
	b := w.scratch[:0]
	if trusted {
		if b = req.AppendList(b, http1.FieldForwarded); len(b) > 0 {
			b = append(b, ", "...)
		}
	}
	if w.x.Client.Peer.Addr().Is4() {
		b = append(append(b, "for="...), s.peer...)
	} else {
		b = append(append(append(b, `for="[`...), s.peer...), `]"`...)
	}
	b = append(append(append(b, `;host="`...), req.Authority...), `";proto=`...)
	b = append(b, s.Scheme...)
	w.scratch = b
	return b
}

// clientBehind is the last address of X-Forwarded-For that is not a trusted proxy's.
func (s *Session) clientBehind(w *work, snap *Snapshot) netip.Addr {
	at := w.x.Client.Peer.Addr()
	w.scratch = w.x.Request.AppendList(w.scratch[:0], http1.FieldXForwardedFor) // all lines: a proxy may add one of its own
	list := w.scratch
	for len(list) > 0 && contains(snap.Trusted, at) {
		i := len(list) - 1
		for i >= 0 && list[i] != ',' {
			i--
		}
		addr, err := netip.ParseAddr(string(trim(list[i+1:])))
		if err != nil {
			break
		}
		at = addr
		list = list[:max(i, 0)]
	}
	return at
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

func contains(list []netip.Prefix, a netip.Addr) bool {
	for _, p := range list {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// maxRematch bounds how often filters may send a request back to the routes.
const maxRematch = 4

// decide finds the route and lets the filters speak. Afterwards the exchange has a local answer, or a target.
func (s *Session) decide(t *netloop.Task, w *work, snap *Snapshot) (*Route, *fault.Error) {
	x := &w.x
	w.offer(t, snap.Filters)
	v, n, err := snap.Filters.Request(x, filter.Listener, 0, 0)
	if w.passed.listener = n; err != nil || v == filter.Respond {
		w.passed.listener = n - 1
		return nil, asFault(err)
	}
	next := 0
	for range maxRematch {
		if w.why != nil {
			w.why.Round(x)
		}
		r, err := s.match(w, snap)
		if err != nil {
			return nil, err
		}
		x.Matched = t.Loop().Now()
		if x.Local.Set { // the matcher has answered
			w.leave(snap)
			x.Route = r.Name
			return r, nil
		}
		if r != w.entered { // else its chain goes on
			w.leave(snap)
			x.Route, w.entered, next = r.Name, r, 0
		}
		if err := w.apply(r); err != nil {
			return r, err
		}
		w.offer(t, r.Chain)
		if r.Decompress.Requests != nil {
			w.showPlain(t, r.Decompress.Requests)
		}
		v, after, ferr := r.Chain.Request(x, filter.Route, snap.chainPlace(), next)
		w.shown(t)
		next, w.passed.route = after, after
		switch {
		case ferr != nil:
			w.passed.route--
			return r, fault.From(ferr)
		case v == filter.Respond:
			w.passed.route--
			return r, nil
		case v == filter.Rematch:
			w.rewind()
			continue
		}
		if r.Respond != nil {
			setLocal(x, r.Respond)
			return r, nil
		}
		if x.Target.Upstream == exchange.NoUpstream {
			return r, fault.New(fault.NoRoute, fault.Gateway, 502, "route %s has no upstream, and no plugin chose one", r.Name)
		}
		r.Request.apply(&x.Request.Head)
		return r, nil
	}
	return nil, fault.New(fault.Denied, fault.Plugin, 508, "plugins sent the request back to the routes %d times", maxRematch)
}

// offer lets the filters of a chain have the request's body.
func (w *work) offer(t *netloop.Task, c filter.Chain) {
	if len(c) > 0 && w.x.RequestBody == nil {
		w.request.Init(t, w.flight.Input(), w.x.Request.Framing, false)
		w.x.RequestBody = &w.request
	}
}

func asFault(err error) *fault.Error {
	if err == nil {
		return nil
	}
	return fault.From(err)
}

// Places of filters: those of the listener first, then the matcher that is asked, then the route's chain.
func (snap *Snapshot) matcherPlace() int { return len(snap.Filters) }
func (snap *Snapshot) chainPlace() int   { return len(snap.Filters) + 1 }

// leave tells the filters of the route that the request has come to that it has nothing more to do with them.
func (w *work) leave(snap *Snapshot) {
	if r := w.entered; r != nil {
		w.entered, w.passed.route = nil, 0
		r.Chain.End(&w.x, snap.chainPlace())
		w.x.Forget(snap.chainPlace())
		if t := &w.x.Target; w.ownUpstream && t.Upstream == r.Upstream { // the route's, not a plugin's choice
			t.Upstream, t.Dynamic = exchange.NoUpstream, t.Dynamic[:0]
		}
	}
}

// rewind gives the request the target back that it had before the route rewrote it, unless a plugin has set another: what
// routes match is what clients ask for.
func (w *work) rewind() {
	r := &w.x.Request
	if !w.rewritten.is(r) {
		return
	}
	if r.SetPath(w.asFound.path); w.asFound.hasQuery {
		r.SetQuery(w.asFound.query)
	} else {
		r.DelQuery()
	}
}

// target is path and query of a request; views of its memory.
type target struct {
	path, query []byte
	hasQuery    bool
}

func targetOf(r *http1.Request) target { return target{r.Path, r.Query(), r.HasQuery()} }

func (t *target) is(r *http1.Request) bool {
	return t.path != nil && bytes.Equal(t.path, r.Path) && bytes.Equal(t.query, r.Query()) && t.hasQuery == r.HasQuery()
}

// match returns the first route that is for the request.
func (s *Session) match(w *work, snap *Snapshot) (*Route, *fault.Error) {
	x := &w.x
	for from := 0; ; from++ {
		asked := from
		from = snap.Routes.Match(&x.Request, from, &w.routing.match)
		if w.why != nil {
			w.why.Tried(&x.Request, asked, from)
		}
		if from < 0 {
			return nil, fault.New(fault.NoRoute, fault.Client, 404, "no route matches")
		}
		r := snap.Routes.At(from)
		if r.Matcher == nil {
			return r, nil
		}
		v, err := r.Matcher.Request(x, filter.Match, snap.matcherPlace())
		if e, ok := r.Matcher.(filter.Ender); ok {
			e.End(x, snap.matcherPlace())
		}
		x.Forget(snap.matcherPlace())
		switch {
		case err != nil:
			return nil, fault.From(err)
		case v == filter.Respond:
			return &Route{Name: r.Name, Upstream: exchange.NoUpstream}, nil
		case v != filter.NoMatch:
			return r, nil
		}
	}
}

// apply does what the route says about the target: path, query, upstream, authority.
func (w *work) apply(r *Route) *fault.Error {
	x := &w.x
	req := &x.Request
	if w.ownUpstream = x.Target.Upstream == exchange.NoUpstream || w.ownUpstream && x.Target.Upstream == r.Upstream; w.ownUpstream {
		x.Target.Upstream = r.Upstream
	}
	if r.Authority != nil {
		var err error
		if x.Target.Dynamic, err = r.Authority.AppendAuthority(x.Target.Dynamic[:0], &w.routing.match); err != nil {
			return fault.New(fault.Denied, fault.Client, 403, "route %s: %s", r.Name, err)
		}
	}
	rw := &r.Rewrite
	w.rewritten = target{}
	if rw.Path == nil && rw.Query == nil && len(rw.StripPrefix) == 0 && len(rw.AddPrefix) == 0 {
		return nil
	}
	// Both are expanded before either is set: captures point into what was matched.
	path, n := w.scratch[:0], 0
	if rw.Path != nil {
		path = rw.Path.Append(path, &w.routing.match)
	} else {
		path = rewritePrefix(path, req.Path, rw)
	}
	n = len(path)
	if rw.Query != nil {
		path = rw.Query.Append(path, &w.routing.match)
	}
	w.scratch = path
	if !http1.ValidPath(path[:n]) || !http1.ValidQuery(path[n:]) {
		return fault.New(fault.Denied, fault.Client, 400, "route %s: the rewritten target is not valid", r.Name)
	}
	w.asFound = targetOf(req)
	req.SetPath(path[:n])
	if rw.Query != nil {
		req.SetQuery(path[n:])
	}
	w.rewritten = targetOf(req)
	return nil
}

// rewritePrefix takes a prefix off on a segment boundary and puts another in front.
func rewritePrefix(dst, path []byte, rw *Rewrite) []byte {
	dst = append(dst, rw.AddPrefix...)
	if p := rw.StripPrefix; len(p) > 0 && len(path) >= len(p) && string(path[:len(p)]) == string(p) &&
		(len(path) == len(p) || path[len(p)] == '/' || p[len(p)-1] == '/') {
		path = path[len(p):]
	}
	slash := len(dst) > 0 && dst[len(dst)-1] == '/'
	switch {
	case slash && len(path) > 0 && path[0] == '/':
		path = path[1:]
	case !slash && (len(path) == 0 && len(dst) == 0 || len(path) > 0 && path[0] != '/'):
		dst = append(dst, '/')
	}
	return append(dst, path...)
}

// setHost writes the Host that the upstream sees, by the upstream's policy.
func (w *work) setHost(h *HostPolicy, u *Upstream) {
	req := &w.x.Request
	switch h.Mode {
	case LiteralHost:
		req.SetAuthority(h.Literal)
	case UpstreamHost:
		if d := w.x.Target.Dynamic; len(d) > 0 {
			req.SetAuthority(d)
		} else {
			req.SetAuthority(u.Authority())
		}
	}
}

// forward gives the request to its upstream and relays the answer.
func (s *Session) forward(t *netloop.Task, w *work, snap *Snapshot, r *Route) outcome {
	x, l, f := &w.x, t.Loop(), &w.flight
	u := s.address(l, w, snap, r)
	if w.why != nil {
		return s.rehearse(t, w)
	}
	if f.Options.Owned && !slices.Contains(s.told, u.Upstream) {
		s.told = append(s.told, u.Upstream)
	}
	w.side.SetReadDeadline(0)
	w.hold()
	defer w.letGo()
	if err := f.Forward(t); err != nil {
		return s.refuse(t, w, err)
	}
	x.FirstByte = l.Now()
	return s.relay(t, w, snap, r)
}

// address makes the request, and its flight, ready for the upstream that it goes to.
func (s *Session) address(l *netloop.Loop, w *work, snap *Snapshot, r *Route) *Upstream {
	x := &w.x
	u := &snap.Upstreams[x.Target.Upstream]
	options, timeout, host := r.plan(u, w, x)
	if req := &x.Request; req.Upgrade != nil && !r.Upgrades.allow(req.Upgrade) {
		req.Upgrade = nil
	}
	w.setHost(host, u)
	w.belong(&u.Affinity)
	f := &w.flight
	f.Upstream, f.Options, f.Deadline, f.Filtered = u.Upstream, options, 0, nil
	if x.RequestBody != nil {
		f.Filtered = &w.request
	}
	if timeout > 0 {
		f.Deadline = x.Started + int64(timeout)
	}
	if f.Impatient = false; w.call.kind != grpc.None {
		w.addressCall(u)
	}
	if s.server.observers != nil {
		f.Observer = s.server.observers[l.Index()]
	}
	return u
}

func headReadError(err error) *fault.Error {
	if errors.Is(err, netloop.ErrDeadline) {
		return fault.New(fault.ClientTimeout, fault.Client, 408, "the request's head was not whole in time (limits.head_timeout)")
	}
	if errors.Is(err, io.EOF) {
		return fault.New(fault.ClientClosed, fault.Client, 400, "closed before the request's head was whole")
	}
	return &fault.Error{Kind: fault.ClientClosed, Source: fault.Client, Err: err}
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }
