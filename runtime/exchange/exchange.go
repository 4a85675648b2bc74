// Package exchange is one request and its answer in flight: both messages, what was decided, the attempts, the timings.
//
// The packages on a request's way write facts here; nobody interprets them before the end, when telemetry reads them
// once. An Exchange belongs to one loop and is used again for the next request, so nothing may keep a reference to it,
// or to a byte slice taken from it, after the request has ended.
package exchange

import (
	"net/netip"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// NoUpstream is the upstream id of an exchange for which none was chosen.
const NoUpstream = -1

// Exchange is one request and its answer. All times are of the loop's clock (netloop.Loop.Now), in nanoseconds.
type Exchange struct {
	Task *netloop.Task // the coroutine that serves it

	Request  http1.Request
	Response http1.Response

	Client Client
	Asked  Asked
	Trace  Trace
	Target Target

	RPC          RPC
	Route        string // the name of the route that matched
	Plugin       string // whose request it is, if that is not a client's (package filter, Caller)
	CallsDropped int    // calls that Calls has no room for
	// Held is how many filters keep something for the exchange that others wait for, such as an instance of their guest: then
	// an upstream is not waited for on behalf of a client that has gone.
	Held   int
	words  []uint64 // of filters, by their place
	states []any
	// RequestBody is there while filters see the request, ResponseBody while they see the answer.
	RequestBody, ResponseBody Body
	Local                     LocalResponse // an answer of our own, instead of an upstream's

	Attempts []Attempt    // one for each time the request was given to an upstream, in order
	Calls    []PluginCall // recorded only while Trace.Recorded(), by AddCall
	Tags     []Tag        // span attributes that plugins set; recorded only while Trace.Sampled

	Started     int64 // the first byte of the head was there
	HeadRead    int64 // the head was parsed
	Matched     int64 // the route was found, for the last time if filters sent the request back to the routes
	Routed      int64 // route and request filters were done
	FirstByte   int64 // the head of the answer was there
	Ended       int64
	Tunnel      Tunnel
	BytesIn     int64 // body bytes from the client, or what it has sent through the tunnel
	BytesOut    int64 // body bytes to the client
	StatusSent  int   // 0: nothing was sent
	WallStarted int64 // Started, as Unix nanoseconds
	Err         *fault.Error

	// What content codings did to the answer for the client, and to bodies for filters.
	Compressed, Decompressed Recoded
}

// The versions of HTTP, as OpenTelemetry's network.protocol.version has them.
const (
	HTTP10 = "1.0"
	HTTP11 = "1.1"
	HTTP2  = "2"
	HTTP3  = "3"
)

// Recoded is what a content coding did to bodies.
type Recoded struct {
	Coding  string // as Content-Encoding has it; "": nothing was done
	In, Out int64  // bytes before and after
}

// Tunnel is what a request becomes whose protocol was switched (RFC 9110 section 7.8).
type Tunnel struct {
	Protocol string // one of the Tunnel protocols; "": it was not
	Began    int64
	Why      string // it has ended: one of the End reasons
}

// What tunnels are told apart by.
const (
	TunnelWebSocket = "websocket"
	TunnelOther     = "other" // whatever else a route allows
)

// TunnelProtocols are both.
var TunnelProtocols = []string{TunnelWebSocket, TunnelOther}

// RPC is what there is to know of a request that is a call of gRPC, or of gRPC-Web.
type RPC struct {
	Is     bool
	Known  bool // how it went
	Status uint8
}

// Ended notes with which status of gRPC the call has ended.
func (r *RPC) Ended(status uint8) { r.Known, r.Status = true, status }

// Client is the peer that sent the request.
type Client struct {
	Conn    uint64         // the connection's id
	Ordinal uint64         // which request of the connection this is; from 1
	Peer    netip.AddrPort // the other end of the socket
	Addr    netip.Addr     // who asked: Peer, or what a trusted proxy said
	Local   netip.AddrPort
	Scheme  string // "http" or "https"
	Version string // of HTTP: HTTP10, HTTP11, HTTP2 or HTTP3
	Server  string // the listener's name
	TLS     *TLS   // nil: the connection is cleartext
	Line    Line   // says when the client goes; nil: nobody knows
}

// VersionOf is the version of a request of HTTP/1.
func VersionOf(r *http1.Request) string {
	if r.Minor == 0 {
		return HTTP10
	}
	return HTTP11
}

// Protocol is the version as a request line of HTTP/1 has it, and as logs have it: HTTP/2.0.
func (c *Client) Protocol() string {
	switch c.Version {
	case HTTP10:
		return "HTTP/1.0"
	case HTTP2:
		return "HTTP/2.0"
	case HTTP3:
		return "HTTP/3.0"
	}
	return "HTTP/1.1"
}

// Asked is the request line as the client sent it, before routes and plugins changed it. It is recorded only while
// something will tell of it: a sampled trace, an access log. Its slices are the exchange's own, until Reset.
type Asked struct {
	Method, Authority, Path, Query []byte
	buf                            []byte
	noted                          []span
}

// span is a part of buf; negative: the field was not there.
type span struct{ from, to int }

// Record copies the parts of the request line.
func (a *Asked) Record(method, authority, path, query []byte) {
	b := append(append(append(append(a.buf[:0], method...), authority...), path...), query...)
	m, h, p := len(method), len(method)+len(authority), len(method)+len(authority)+len(path)
	*a = Asked{Method: b[:m:m], Authority: b[m:h:h], Path: b[h:p:p], Query: b[p:len(b):len(b)], buf: b, noted: a.noted[:0]}
}

// Note copies, after Record, the values of all fields of a name, joined by ", " (RFC 9110 section 5.3): of each at most so
// many bytes, and no further one behind so many. What was noted first is Noted(0), and so on.
func (a *Asked) Note(h *http1.Head, name string, most int) {
	from := len(a.buf)
	i := h.Find(0, name)
	if i < 0 {
		from = -1
	}
	for n := 0; i >= 0 && len(a.buf)-from < most; i, n = h.Find(i+1, name), n+1 {
		if n > 0 {
			a.buf = append(a.buf, ", "...)
		}
		v := h.Value(i)
		a.buf = append(a.buf, v[:min(len(v), most)]...)
	}
	a.noted = append(a.noted, span{from, len(a.buf)})
}

// Noted returns what was noted at this place, and whether there was such a field.
func (a *Asked) Noted(i int) ([]byte, bool) {
	if i >= len(a.noted) || a.noted[i].from < 0 {
		return nil, false
	}
	return a.buf[a.noted[i].from:a.noted[i].to], true
}

// Trace is the trace context of the request. With Told false nothing else is filled in, until the end.
type Trace struct {
	Sampled bool // it is exported
	// Tail: it is not sampled, but may be kept when it has ended, if it failed or was slow. What a trace is made of is noted
	// down, and those whom the request is sent to are told its ids and that it is not sampled.
	Tail    bool
	Local   bool   // it may be kept for who looks at the gateway itself; those behind are told nothing
	Debug   bool   // B3: its caller wants all of it
	Kept    string // why it was kept, although it was not sampled; known at the end
	TraceID [16]byte
	Parent  [8]byte // the caller's span; zero if the trace begins here
	Server  [8]byte // our server span
	State   string  // tracestate as received, of a sampled one
}

// Recorded says whether what a trace is made of is to be noted down.
func (t *Trace) Recorded() bool { return t.Sampled || t.Tail || t.Local }

// Told says whether those behind are told of the trace.
func (t *Trace) Told() bool { return t.Sampled || t.Tail }

// Target is where the request shall go: set by the route, overridden by plugins.
type Target struct {
	Upstream int           // id in the snapshot; NoUpstream: none
	Dynamic  []byte        // host:port of a dynamic upstream, owned by the exchange; empty where the upstream's own targets are used
	HashKey  uint64        // for balancing by a consistent hash; 0: none
	Session  []byte        // the token of a sticky session, valid until the request is changed; empty: none
	Timeout  time.Duration // the whole request; 0: the route's
}

// LocalResponse is an answer given by the gateway or by a plugin. Its fields are in Exchange.Response.Head.
type LocalResponse struct {
	Set    bool
	Status int
	Body   []byte // owned by the exchange: appended to, kept for the next request
	// Trailers are sent after the body, which then goes in chunks; not to an HTTP/1.0 client, nor without a body.
	Trailers http1.Head
}

// Attempt is one time that the request was given to an upstream.
type Attempt struct {
	Number    int    // from 1, in the order in which they were begun
	Why       string // one of the Again reasons; "" for the first
	SpanID    [8]byte
	Upstream  string
	Host      string
	Address   netip.AddrPort
	TLS       bool   // the connection is encrypted
	Secured   string // by this version of TLS: "1.2" or "1.3"; "" without
	HTTP2     bool   // the upstream was spoken to in HTTP/2
	ConnID    uint64
	ConnTrace [16]byte // the connection's span, which this attempt links to
	ConnSpan  [8]byte
	Ordinal   uint64 // which request of the connection; from 1
	Reused    bool
	WhyNew    string         // why no pooled connection was used; "" if one was
	Age       time.Duration  // of the connection when it was taken
	Idle      time.Duration  // how long it had been idle
	PoolWait  time.Duration  // time in Acquire, dialling included
	Queued    time.Duration  // of that, in the queue for a connection
	DNSAge    time.Duration  // age of the DNS answer the connection was dialled by
	Setup     Setup          // of a connection that was opened for it
	Chosen    string         // how its server was chosen: a word of package facts
	Passed    int            // servers that were tried in vain, or were full, before it
	Failed    []*fault.Error // of those tried in vain, the first few; nobody changes them any more
	Ejected   bool           // with its status or its error after it had a connection, its server's address had failed too often
	Started   int64
	Acquired  int64
	Sent      int64 // the request head was written, and what was at hand of the body
	BodySent  int64 // the rest of the body was written; 0: there was no rest, or not all of it was
	FirstByte int64
	Ended     int64
	Status    int
	Err       *fault.Error
	// The codes of the RST_STREAM that ended its stream of HTTP/2, by RFC 9113's names; "": there was none.
	ResetSent, ResetReceived string
	WhyClosed                string // why the connection did not go back to the pool; "" if it did
	Refused                  string // why there was no attempt after it, although it failed: one of the Refused reasons; "" for all others
}

// Setup is how long each step of opening a connection took; 0: there was no such step, or the connection was another's.
type Setup struct{ DNS, Connect, TLS time.Duration }

// Why a request was not sent again after an attempt that failed.
const (
	RefusedKind     = "not_configured" // nothing that retries.on names
	RefusedAttempts = "attempts"       // as often as allowed
	RefusedTime     = "no_time"        // its whole time was over, or the gateway is stopping
	RefusedUnsafe   = "not_repeatable" // a part of its body is gone, or the upstream may have acted on what it got
	RefusedBudget   = "budget"         // the upstream's budget for sending again was used up
)

// Why there was an attempt after the first. Each is a metric label, a span attribute and a log field.
const (
	AgainRetry = "retry"            // the one before failed, or its answer was not wanted
	AgainStale = "stale_connection" // the one before met a pooled connection that its peer had just closed: it counts for nothing
	AgainHedge = "hedge"            // the one before was slow to answer; this one is beside it
)

// AddAttempt adds an attempt and returns it; it may move those before it. It is filled in where it lies: built elsewhere and
// copied, narrow writes followed by wide reads stall.
func (x *Exchange) AddAttempt() *Attempt {
	n := len(x.Attempts)
	if n == cap(x.Attempts) {
		x.Attempts = append(x.Attempts, Attempt{})
	} else {
		x.Attempts = x.Attempts[:n+1]
		x.Attempts[n] = Attempt{}
	}
	x.Attempts[n].Number = n + 1
	return &x.Attempts[n]
}

// PluginCall is one call into a guest.
type PluginCall struct {
	Plugin  string
	Phase   string
	Started int64
	Took    time.Duration
	Fuel    int64
	Outcome string // the decision in a word: continue, route, respond, ...
	Err     *fault.Error
}

// MaxCalls is how many calls of guests are noted down of a request: a large body may be shown in ever so many pieces.
const MaxCalls = 64

// AddCall notes a call of a guest down, if there is room for it. One that failed takes the last one's place.
func (x *Exchange) AddCall(c PluginCall) {
	switch {
	case len(x.Calls) < MaxCalls:
		x.Calls = append(x.Calls, c)
		return
	case c.Err != nil:
		x.Calls[MaxCalls-1] = c
	}
	x.CallsDropped++
}

// Tag is a span attribute.
type Tag struct{ Key, Value string }

// Reset makes x ready for the next request of the same loop and keeps its storage. Field by field: the messages are
// large, and copying them would cost more than the rest of a request's bookkeeping.
func (x *Exchange) Reset() {
	x.Request.Reset()
	x.Response.Reset()
	x.Trace = Trace{}
	x.Asked = Asked{buf: x.Asked.buf, noted: x.Asked.noted[:0]}
	x.Target = Target{Upstream: NoUpstream, Dynamic: x.Target.Dynamic[:0], Session: x.Target.Session[:0]}
	x.RPC = RPC{}
	x.RequestBody, x.ResponseBody = nil, nil
	clear(x.states)
	x.words, x.states = x.words[:0], x.states[:0]
	x.CallsDropped, x.Held = 0, 0
	x.Route, x.Plugin, x.Local = "", "", LocalResponse{Body: x.Local.Body[:0]}
	x.Attempts, x.Calls, x.Tags = x.Attempts[:0], x.Calls[:0], x.Tags[:0]
	x.Started, x.HeadRead, x.Matched, x.Routed, x.FirstByte, x.Ended, x.WallStarted = 0, 0, 0, 0, 0, 0, 0
	x.BytesIn, x.BytesOut, x.StatusSent, x.Err, x.Tunnel = 0, 0, 0, nil, Tunnel{}
	x.Compressed, x.Decompressed = Recoded{}, Recoded{}
}

// Word is the context word of the filter at a place: 0 until that sets it. It is valid until the next call of Word.
func (x *Exchange) Word(place int) *uint64 {
	for len(x.words) <= place {
		x.words = append(x.words, 0)
	}
	return &x.words[place]
}

// State is what the filter at a place keeps for the exchange, where a word is too small: nil until that sets it. It is
// valid until the next call of State.
func (x *Exchange) State(place int) *any {
	for len(x.states) <= place {
		x.states = append(x.states, nil)
	}
	return &x.states[place]
}

// Forget clears words and states from a place on.
func (x *Exchange) Forget(place int) {
	if place < len(x.words) {
		x.words = x.words[:place]
	}
	if place < len(x.states) {
		clear(x.states[place:])
		x.states = x.states[:place]
	}
}

// Attempt returns the attempt under way, or nil before the first.
func (x *Exchange) Attempt() *Attempt {
	if len(x.Attempts) == 0 {
		return nil
	}
	return &x.Attempts[len(x.Attempts)-1]
}
