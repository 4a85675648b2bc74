package wasmgate

import "wasmgate/sdk/abi"

// Service is an upstream that the plugin sends requests of its own to: see Config.Service.
type Service uint32

// Service declares an upstream that the plugin sends requests of its own to. A configuration of the gateway that does not
// know or not grant it is refused.
func (c *Config) Service(name string) Service {
	return Service(declareName(&plugin.manifest.Calls, name))
}

// declareName is the place of a name in a list, which it is added to if it is new.
func declareName(names *[]string, name string) uint32 {
	for i, s := range *names {
		if s == name {
			return uint32(i) //nolint:gosec // some hundred
		}
	}
	*names = append(*names, string([]byte(name)))
	return uint32(len(*names) - 1) //nolint:gosec // the host refuses more than some hundred
}

// OutboundRequest is a request of the plugin's own. Zero values are the defaults.
type OutboundRequest struct {
	Method    string   // default GET
	Authority string   // default: the upstream's own
	Path      string   // default /
	Query     string   // without '?'
	Header    []string // names and values in turn
	Body      []byte
	Timeout   int // milliseconds for all of it; default 5000, at most 60,000
}

// OutboundResponse is the answer to an OutboundRequest. Its strings are views that are valid until the next call, or until
// the handler returns.
type OutboundResponse struct{ a abi.Answer }

// Status is the answer's status.
func (r *OutboundResponse) Status() int { return r.a.Status() }

// Took is how long the call took, in milliseconds.
func (r *OutboundResponse) Took() int { return int(r.a.Took()) }

// Body is the answer's body.
func (r *OutboundResponse) Body() string { return view(r.a.Body()) }

// Header is the first value of a field; "" if there is none. The name is in lower case.
func (r *OutboundResponse) Header(name string) string { return r.find(name, 0, r.a.Fields()) }

// Trailer is the first value of a field of the trailers; "" if there is none. The name is in lower case.
func (r *OutboundResponse) Trailer(name string) string {
	return r.find(name, r.a.Fields(), r.a.Fields()+r.a.Trailers())
}

func (r *OutboundResponse) find(name string, from, to int) string {
	for i := from; i < to; i++ {
		if n, v := r.a.Field(i); string(n) == name {
			return view(v)
		}
	}
	return ""
}

// Headers is how many fields the answer has, and HeaderAt one of them, with its name in lower case.
func (r *OutboundResponse) Headers() int { return r.a.Fields() }

// HeaderAt is a field of the answer, from 0.
func (r *OutboundResponse) HeaderAt(i int) (name, value string) {
	n, v := r.a.Field(i)
	return view(n), view(v)
}

// Result says why a call of the gateway came to nothing. It is an error, to be compared with those below.
type Result uint32

// What calls, and operations of stores, can come to.
const (
	ErrTimeout  = Result(abi.ResultTimeout)  // call: no whole answer in time
	ErrConnect  = Result(abi.ResultConnect)  // call: no connection to the upstream
	ErrDenied   = Result(abi.ResultDenied)   // it was tried while the plugin is being configured
	ErrTooLarge = Result(abi.ResultTooLarge) // call: the answer has more than 1 MiB; store: the key or the value is too long
	ErrInvalid  = Result(abi.ResultInvalid)  // call: the request is not valid; the gateway's log says why
	ErrFailed   = Result(abi.ResultFailed)   // call: the upstream broke off, or did not speak HTTP
	ErrLimit    = Result(abi.ResultLimit)    // call: the handler has made too many
	ErrMismatch = Result(abi.ResultMismatch) // store: the key has another version, or its value is no counter
	ErrFull     = Result(abi.ResultFull)     // store: it has no room
	ErrAbsent   = Result(abi.ResultAbsent)   // store: there is no such key
)

var resultTexts = [...]string{
	ErrTimeout: "no answer in time", ErrConnect: "no connection to the upstream", ErrDenied: "not while the plugin is configured",
	ErrTooLarge: "too large", ErrInvalid: "not a valid request", ErrFailed: "the upstream failed", ErrLimit: "too many calls",
	ErrMismatch: "another version", ErrFull: "the store is full", ErrAbsent: "no such key",
}

// Error describes the result.
func (r Result) Error() string {
	if int(r) < len(resultTexts) && resultTexts[r] != "" {
		return resultTexts[r]
	}
	return "failed"
}

// caller is what all handlers' arguments have in common: they may call.
type caller struct{}

// What calls use again and again: the request under way, the answer, and its reader.
var (
	callRequest []byte
	callAnswer  []byte
	theOutbound OutboundResponse
)

// Call sends a request to a service and returns when the answer is whole; the gateway serves others meanwhile. An answer of
// any status is no error. The error is a Result. Redirects are not followed.
func (caller) Call(s Service, r OutboundRequest) (*OutboundResponse, error) {
	b := callRequest[:0]
	for _, f := range [...]struct {
		k abi.Kind
		s string
	}{{abi.OpMethod, r.Method}, {abi.OpAuthority, r.Authority}, {abi.OpPath, r.Path}, {abi.OpQuery, r.Query}} {
		if f.s != "" {
			b = abi.AppendOpText(b, f.k, f.s)
		}
	}
	for i := 0; i+1 < len(r.Header); i += 2 {
		b = abi.AppendOpPair(b, abi.OpAppendHeader, r.Header[i], r.Header[i+1])
	}
	if len(r.Body) > 0 {
		b = abi.AppendOpText(b, abi.OpSetBody, r.Body)
	}
	if r.Timeout != 0 {
		b = abi.AppendOp32(b, abi.OpTimeout, uint32(r.Timeout)) //nolint:gosec // the host checks it
	}
	callRequest = b
	if callAnswer == nil {
		callAnswer = make([]byte, 8<<10)
	}
	result, n := abi.Unpack(hostCall(uint32(s), b, callAnswer))
	if result != 0 {
		return nil, Result(result)
	}
	if int(n) > len(callAnswer) {
		callAnswer = make([]byte, int(n)+int(n)/4)
		hostCallAnswer(callAnswer)
	}
	theOutbound.a = abi.Answer(callAnswer[:n:n])
	return &theOutbound, nil
}
