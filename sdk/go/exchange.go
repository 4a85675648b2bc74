package wasmgate

import "wasmgate/sdk/abi"

// exchange is what requests and responses have in common.
type exchange struct {
	v       abi.View
	message uint32
	body    []byte // as far as it was read
	read    bool
	caller
}

func (x *exchange) begin(in []byte, message uint32) {
	x.v, x.message, x.read = abi.View(in), message, false
}

// Request is a request that is decided about. It is valid until the handler returns.
type Request struct{ exchange }

// Response is an answer on its way to the client, with the request that it answers as it was sent to the upstream.
// It is valid until the handler returns.
type Response struct{ exchange }

// Role says from which place of the configuration a handler is called.
type Role uint32

// The roles.
const (
	RoleRoute    = Role(abi.RoleRoute)    // in a route's plugin list
	RoleMatch    = Role(abi.RoleMatch)    // as a route's matcher
	RoleListener = Role(abi.RoleListener) // on a listener, before routes are matched
)

// Role is the place that the plugin is called from.
func (x *exchange) Role() Role { return Role(x.v.Head().Role) }

// Method is the request's method.
func (x *exchange) Method() string { return view(x.v.Field(abi.FieldMethod)) }

// Scheme is "http" or "https".
func (x *exchange) Scheme() string { return view(x.v.Field(abi.FieldScheme)) }

// Authority is the host and, if it was sent, the port that the client asked for.
func (x *exchange) Authority() string { return view(x.v.Field(abi.FieldAuthority)) }

// Host is Authority without the port, as it was sent: neither lower-cased nor without the brackets of an IPv6 address.
func (x *exchange) Host() string {
	s := x.Authority()
	for i := len(s) - 1; i >= 0 && s[i] != ']'; i-- {
		if s[i] == ':' {
			return s[:i]
		}
	}
	return s
}

// Path is the request's path.
func (x *exchange) Path() string { return view(x.v.Field(abi.FieldPath)) }

// Query is what follows the '?'; see HasQuery.
func (x *exchange) Query() string { return view(x.v.Field(abi.FieldQuery)) }

// HasQuery says whether the target has a '?', even if nothing follows it.
func (x *exchange) HasQuery() bool { return x.v.Head().Flags&abi.FlagHasQuery != 0 }

// Client is the client's address, without a port.
func (x *exchange) Client() string { return view(x.v.Field(abi.FieldClient)) }

// SNI is the server name of the client's TLS handshake; "" without one.
func (x *exchange) SNI() string { return view(x.v.Field(abi.FieldSNI)) }

// CertSubject is the subject of the client's verified TLS certificate; "" without one.
func (x *exchange) CertSubject() string { return view(x.v.Field(abi.FieldCertSubject)) }

// Route is the name of the route that matched; "" before that.
func (x *exchange) Route() string { return view(x.v.Field(abi.FieldRoute)) }

// Time is the time of the gateway's clock in Unix milliseconds, some milliseconds coarse.
func (x *exchange) Time() int64 { return x.v.Head().Time }

// Seed is a fresh random number.
func (x *exchange) Seed() uint64 { return x.v.Head().Seed }

// Sampled says whether the request is traced, so that span attributes are not in vain.
func (x *exchange) Sampled() bool { return x.v.Head().Flags&abi.FlagSampled != 0 }

// Context is the word that the request's handler left with SetContext.
func (x *exchange) Context() uint64 { return x.v.Head().Context }

func (x *exchange) slot(h Header) int {
	i := int(h.index)
	if h.response {
		i += len(plugin.manifest.RequestHeaders)
	}
	if i >= x.v.Slots() {
		return -1
	}
	return i
}

// Header is the first value of a declared header; "" if it is absent or empty.
func (x *exchange) Header(h Header) string { return x.HeaderAt(h, 0) }

// HeaderCount is how often a declared header occurs.
func (x *exchange) HeaderCount(h Header) int {
	if i := x.slot(h); i >= 0 {
		return x.v.Count(i)
	}
	return 0
}

// HeaderAt is a value of a declared header, from 0; "" beyond the last.
func (x *exchange) HeaderAt(h Header, k int) string {
	if i := x.slot(h); i >= 0 {
		return view(x.v.Value(i, k))
	}
	return ""
}

// LookupRequest asks the gateway for value k of any request header, declared or not, and appends it to dst. It costs
// a call of the gateway; declared headers cost nothing.
func (x *exchange) LookupRequest(dst []byte, name string, k int) (value []byte, ok bool) {
	return lookup(dst, abi.MessageRequest, name, k)
}

// LookupTLS asks the gateway for what is known of the client's TLS connection, and appends it to dst: value k of version, cipher,
// alpn, server-name, resumed, and of the client's verified certificate subject, issuer, serial, sha256, dns, uri, email, ip,
// not-before, not-after and certificate (PEM). Not ok: it was not agreed on, the client has shown no certificate, or there is no TLS.
func (x *exchange) LookupTLS(dst []byte, name string, k int) (value []byte, ok bool) {
	return lookup(dst, abi.MessageTLS, name, k)
}

// SetHeader replaces all fields of the name by one: of the request in its handler, of the answer in the answer's.
func (x *exchange) SetHeader(name, value string) {
	out.buf = abi.AppendOpPair(out.buf, abi.OpSetHeader, name, value)
}

// AppendHeader adds a field.
func (x *exchange) AppendHeader(name, value string) {
	out.buf = abi.AppendOpPair(out.buf, abi.OpAppendHeader, name, value)
}

// RemoveHeader removes all fields of the name.
func (x *exchange) RemoveHeader(name string) {
	out.buf = abi.AppendOpText(out.buf, abi.OpRemoveHeader, name)
}

// Attribute sets an attribute of the request's span.
func (x *exchange) Attribute(key, value string) {
	out.buf = abi.AppendOpPair(out.buf, abi.OpAttribute, key, value)
}

// Log writes a line to the gateway's log together with the decision, if the decision is one that carries edits. The
// gateway limits how many lines a plugin writes. See the function Log for a line that is written at once.
func (x *exchange) Log(level Level, text string) {
	out.buf = abi.AppendLog(out.buf, uint32(level), text)
}

// Respond answers the client: no upstream is asked, or its answer is replaced. fields has names and values in turn.
func (x *exchange) Respond(status int, body string, fields ...string) Decision {
	out.buf = abi.AppendRespond(out.buf, uint32(status), body, fields...) //nolint:gosec // the host checks it
	return Decision{code: abi.CodeOperations}
}

// SetMethod replaces the method.
func (r *Request) SetMethod(s string) { out.buf = abi.AppendOpText(out.buf, abi.OpMethod, s) }

// SetAuthority replaces the authority: host, or host:port.
func (r *Request) SetAuthority(s string) { out.buf = abi.AppendOpText(out.buf, abi.OpAuthority, s) }

// SetPath replaces the path and leaves the query alone.
func (r *Request) SetPath(s string) { out.buf = abi.AppendOpText(out.buf, abi.OpPath, s) }

// SetQuery replaces the query, without '?'; "" removes it.
func (r *Request) SetQuery(s string) { out.buf = abi.AppendOpText(out.buf, abi.OpQuery, s) }

// SetAddress sends the request to an address, host:port, where the configuration allows it.
func (r *Request) SetAddress(s string) { out.buf = abi.AppendOpText(out.buf, abi.OpAddress, s) }

// SetTimeout limits the whole request, in milliseconds.
func (r *Request) SetTimeout(ms int) {
	out.buf = abi.AppendOp32(out.buf, abi.OpTimeout, uint32(ms)) //nolint:gosec // the host checks it
}

// SetHashKey sets the key by which consistent balancing picks a target.
func (r *Request) SetHashKey(k uint64) { out.buf = abi.AppendOp64(out.buf, abi.OpHashKey, k) }

// SetContext leaves a word for the response handler; see HandleMarkedResponse.
func (r *Request) SetContext(w uint64) { out.buf = abi.AppendOp64(out.buf, abi.OpContext, w) }

// Rematch asks for the routes to be matched again, by the new path and authority.
func (r *Request) Rematch() { out.buf = abi.AppendOp(out.buf, abi.OpRematch) }

// Status is the status of the answer.
func (r *Response) Status() int { return int(r.v.Head().Status) }

// Local says whether the answer was made by the gateway or a plugin and not by an upstream.
func (r *Response) Local() bool { return r.v.Head().Flags&abi.FlagLocal != 0 }

// LookupResponse is LookupRequest for the answer's headers.
func (r *Response) LookupResponse(dst []byte, name string, k int) (value []byte, ok bool) {
	return lookup(dst, abi.MessageResponse, name, k)
}

// Level is a log level.
type Level uint32

// The levels.
const (
	Debug = Level(abi.LogDebug)
	Info  = Level(abi.LogInfo)
	Warn  = Level(abi.LogWarn)
	Error = Level(abi.LogError)
)

// PathUnder says whether path is prefix or lies below it: "/admin" and "/admin/x" are under "/admin", "/administer"
// is not. The prefix has no '/' at its end.
func PathUnder(path, prefix string) bool {
	return len(path) >= len(prefix) && path[:len(prefix)] == prefix && (len(path) == len(prefix) || path[len(prefix)] == '/')
}
