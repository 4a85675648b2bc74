package server

import (
	"net/netip"
	"time"

	"wasmgate/runtime/compress"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxy"
	"wasmgate/runtime/route"
	"wasmgate/runtime/upstream"
)

// Snapshot is the configuration of a listener at one moment. It is immutable once a Server uses it.
type Snapshot struct {
	Name        string
	Limits      *http1.Limits
	MaxBody     int64 // bytes; 0: no limit
	HeadTimeout time.Duration
	BodyIdle    time.Duration
	KeepAlive   KeepAlive
	HTTP2       HTTP2
	AcceptProxy []netip.Prefix // peers that must begin with a PROXY protocol header; from others it is not read
	Tunnels     Tunnels
	Trusted     []netip.Prefix // peers whose forwarding fields are believed
	Forwarded   Forwarded
	Challenges  Challenges   // before everything else; nil: there are none
	TLS         *TLS         // nil: clients speak cleartext
	Redirect    int          // the port of https that every request is sent to instead; 0: none
	Identity    [][]byte     // names of fields that only the gateway, or a peer that it trusts, may write
	Filters     filter.Chain // before routes are matched
	Routes      *route.Table[*Route]
	Upstreams   []Upstream // by id
	Compresses  bool       // one of the routes does

	users netloop.Users
}

// KeepAlive is the reuse of client connections, which has nothing to do with that of upstream connections.
type KeepAlive struct {
	Enabled     bool
	IdleTimeout time.Duration
	MaxRequests uint64        // for each connection; 0: no limit
	MaxAge      time.Duration // a connection older than that is closed after its next answer; 0: no limit
	// Advertise tells clients of HTTP/1.1 too, by Connection and Keep-Alive, that their connection stays open, for how long
	// (IdleTimeout) and for how many requests (what is left of MaxRequests). Clients of HTTP/1.0 are always told.
	Advertise bool
}

// Forwarded says which fields tell the upstream about the client.
type Forwarded struct {
	XForwarded, RFC7239 bool
	// Except are peers whose addresses are not told: nothing is added to X-Forwarded-For and Forwarded for them. What such a
	// peer sends itself is removed like anybody's, unless it is trusted too.
	Except []netip.Prefix
}

// Upstream is an upstream with its rules for requests.
type Upstream struct {
	*upstream.Upstream
	Plan
	// Authorities of all its targets, as host or host:port: what Rewrite.Reverse takes for the upstream besides the Host that
	// it was sent, and the name and address that the connection was made to.
	Authorities []string
}

// Plan is how requests are given to an upstream.
type Plan struct {
	proxy.Options
	Timeout  time.Duration // of the whole request; 0: none
	GRPCWeb  bool          // it speaks gRPC, and requests of gRPC-Web are translated for it
	Host     HostPolicy
	Affinity Affinity
}

// HostPolicy says which Host field the upstream sees.
type HostPolicy struct {
	Mode    HostMode
	Literal []byte
}

// HostMode is the kind of a HostPolicy.
type HostMode uint8

// The host modes.
const (
	PreserveHost HostMode = iota // the client's
	UpstreamHost                 // the target's
	LiteralHost                  // HostPolicy.Literal
)

// Route is what a route does with the requests that it matches.
type Route struct {
	Name      string
	Matcher   filter.Filter // asked last whether the route is for the request; may be nil
	Chain     filter.Chain
	Respond   *Response // an answer of our own; an excluded route has one too
	Rewrite   Rewrite
	Request   Edits
	Response  Edits
	Upgrades  Upgrades
	Upstream  int             // exchange.NoUpstream: a plugin must choose
	Authority *route.Template // of a dynamic upstream; may be nil
	Override  *Override       // what it changes of its upstream's plan; nil: nothing

	Compression *compress.Rules // of answers; nil: none
	Decompress  Decompress
}

// Override is what a route changes of a plan; nil fields change nothing.
type Override struct {
	Connect, ResponseHeader, IdleRead, TunnelIdle, TunnelMax, Request *time.Duration
	PerTry                                                            *time.Duration
	Attempts                                                          *int
	Host                                                              *HostPolicy
}

// Response is an answer from the configuration.
type Response struct {
	Status int
	Fields []Field
	Body   []byte
}

// Field is a header field of the configuration.
type Field struct{ Name, Value []byte }

// Rewrite is how the target of a request changes on its way.
type Rewrite struct {
	StripPrefix, AddPrefix []byte
	Path, Query            *route.Template // instead of the whole; nil: as it is
	// Reverse maps the upstream's answer back: Location, Content-Location, Refresh, URI, and Domain and Path of Set-Cookie
	// that speak of the upstream's own authority and paths speak of the client's instead (see reversal). It takes
	// StripPrefix and AddPrefix back; Path has no inverse, so with it only scheme and authority are mapped, and of cookies the
	// domain. An upstream that builds public URLs itself, prefix and all, from the client's Host, needs none of it.
	Reverse bool
}

// Edits are changes to header fields: first what is removed, then what is set, then what is added.
type Edits struct {
	Remove   [][]byte
	Set, Add []Field
}

// apply changes a message's fields.
func (e *Edits) apply(h *http1.Head) {
	for _, name := range e.Remove {
		h.DelBytes(name)
	}
	for i := range e.Set {
		h.SetBytes(e.Set[i].Name, e.Set[i].Value)
	}
	for i := range e.Add {
		h.AddBytes(e.Add[i].Name, e.Add[i].Value)
	}
}

// plan returns the rules for a request of r that goes to u, in w's storage where the route changes them.
func (r *Route) plan(u *Upstream, w *work, x *exchange.Exchange) (*proxy.Options, time.Duration, *HostPolicy) {
	options, timeout, host := &u.Options, u.Timeout, &u.Host
	if o := r.Override; o != nil {
		w.options = u.Options
		options = &w.options
		if o.Connect != nil {
			options.Connect = *o.Connect
		}
		if o.ResponseHeader != nil {
			options.ResponseHeader = *o.ResponseHeader
		}
		if o.IdleRead != nil {
			options.IdleRead = *o.IdleRead
		}
		if o.TunnelIdle != nil {
			options.TunnelIdle = *o.TunnelIdle
		}
		if o.TunnelMax != nil {
			options.TunnelMax = *o.TunnelMax
		}
		if o.Request != nil {
			timeout = *o.Request
		}
		if o.PerTry != nil {
			options.PerTry = *o.PerTry
		}
		if o.Attempts != nil {
			options.Attempts = *o.Attempts
		}
		if o.Host != nil {
			host = o.Host
		}
	}
	if x.Target.Timeout > 0 {
		timeout = x.Target.Timeout
	}
	return options, timeout, host
}

// Prepare makes the snapshot ready for so many loops; it must be called before a Server uses it.
func (s *Snapshot) Prepare(loops int) *Snapshot {
	s.users = netloop.NewUsers(loops)
	return s
}

// Retire calls done on each loop once no request of that loop uses the snapshot any more. No Server may use it for new
// requests by then. It may be called from any goroutine.
func (s *Snapshot) Retire(g *netloop.Group, done func()) { s.users.Retire(g, done) }
