// conformance is the conformance plugin of the Go SDK: it does what the commands in x-cmd say, as
// sdk/conformance/README.md lists them.
package main

import (
	"errors"
	"strconv"
	"strings"

	wasmgate "wasmgate/sdk/go"
)

var (
	command       = wasmgate.RequestHeader("x-cmd")
	answerCommand = wasmgate.ResponseHeader("x-cmd")
	headers       []wasmgate.Header // those that the configuration declares, in its order
	services      []wasmgate.Service
	stores        []wasmgate.Store
	metrics       []func(float64)
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision { return run(r, r, nil, command) })
	wasmgate.HandleResponse(func(r *wasmgate.Response) wasmgate.Decision { return run(r, nil, r, answerCommand) })
}

func configure(c *wasmgate.Config) error {
	headers, services, stores, metrics = nil, nil, nil, nil
	for line := range strings.Lines(c.Raw()) {
		word, arg, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "request-header":
			headers = append(headers, wasmgate.RequestHeader(arg))
		case "response-header":
			headers = append(headers, wasmgate.ResponseHeader(arg))
		case "upstream":
			c.Upstream(arg)
		case "fail":
			return errors.New("as the configuration says")
		default:
			if !configureMore(c, word, arg) {
				return errors.New("unknown line")
			}
		}
	}
	return nil
}

// exchange is what requests and responses have in common.
type exchange interface {
	Role() wasmgate.Role
	Method() string
	Scheme() string
	Authority() string
	Host() string
	Path() string
	Query() string
	HasQuery() bool
	Client() string
	SNI() string
	CertSubject() string
	Route() string
	Time() int64
	Seed() uint64
	Sampled() bool
	Context() uint64
	HeaderCount(h wasmgate.Header) int
	HeaderAt(h wasmgate.Header, k int) string
	LookupRequest(dst []byte, name string, k int) ([]byte, bool)
	SetHeader(name, value string)
	AppendHeader(name, value string)
	RemoveHeader(name string)
	Attribute(key, value string)
	Log(level wasmgate.Level, text string)
	Respond(status int, body string, fields ...string) wasmgate.Decision
	Call(s wasmgate.Service, r wasmgate.OutboundRequest) (*wasmgate.OutboundResponse, error)
	HasBody() bool
	BodyIsPart() bool
	Body() []byte
	SetBody(body []byte)
	WantBody()
	LookupTrailer(dst []byte, name string, k int) ([]byte, bool)
	LookupTLS(dst []byte, name string, k int) ([]byte, bool)
}

// run does the commands, each a value of the header. One of req and resp is nil.
func run(x exchange, req *wasmgate.Request, resp *wasmgate.Response, commands wasmgate.Header) wasmgate.Decision {
	d := wasmgate.Continue
	for k := range x.HeaderCount(commands) {
		word, arg, _ := strings.Cut(x.HeaderAt(commands, k), " ")
		if edit(x, resp, word, arg) || call(x, word, arg) || state(x, word, arg) || body(x, word, arg) || req != nil && editRequest(req, word, arg) {
			continue
		}
		switch word {
		case "continue":
			d = wasmgate.Continue
		case "no-match":
			d = wasmgate.NoMatch
		case "route":
			d = wasmgate.RouteTo(wasmgate.Upstream(number(arg))) //nolint:gosec // the kit's own numbers
		case "deny":
			d = wasmgate.Deny(int(number(arg))) //nolint:gosec // see above
		case "respond":
			status, body, _ := strings.Cut(arg, " ")
			d = x.Respond(int(number(status)), body, "x-conformance", "yes", "x-empty", "") //nolint:gosec // see above
		case "body":
			d = x.Respond(200, strings.Repeat("y", int(number(arg)))) //nolint:gosec // see above
		case "echo":
			d = echo(x, resp)
		case "trap":
			panic("as the command says")
		case "fail":
			d = wasmgate.Fail(arg)
		default:
			d = wasmgate.Fail("unknown command")
		}
	}
	return d
}

func number(s string) uint64 {
	n, _ := strconv.ParseUint(s, 10, 64)
	return n
}

// edit does a command that both messages take; false if it is none.
func edit(x exchange, resp *wasmgate.Response, word, arg string) bool {
	first, rest, _ := strings.Cut(arg, " ")
	switch word {
	case "set":
		x.SetHeader(first, rest)
	case "append":
		x.AppendHeader(first, rest)
	case "remove":
		x.RemoveHeader(arg)
	case "attribute":
		x.Attribute(first, rest)
	case "log":
		x.Log(wasmgate.Level(number(first)), rest) //nolint:gosec // the kit's own numbers
	case "log-now":
		wasmgate.Log(wasmgate.Level(number(first)), rest) //nolint:gosec // see above
	case "fill":
		x.SetHeader("x-fill", strings.Repeat("x", int(number(arg)))) //nolint:gosec // see above
	case "lookup":
		x.AppendHeader("x-lookup", lookup(x, resp, first, rest))
	default:
		return false
	}
	return true
}

func editRequest(r *wasmgate.Request, word, arg string) bool {
	switch word {
	case "method":
		r.SetMethod(arg)
	case "authority":
		r.SetAuthority(arg)
	case "path":
		r.SetPath(arg)
	case "query":
		r.SetQuery(arg)
	case "address":
		r.SetAddress(arg)
	case "timeout":
		r.SetTimeout(int(number(arg))) //nolint:gosec // the kit's own numbers
	case "hash":
		r.SetHashKey(number(arg))
	case "context":
		r.SetContext(number(arg))
	case "rematch":
		r.Rematch()
	default:
		return false
	}
	return true
}

func lookup(x exchange, resp *wasmgate.Response, message, args string) string {
	k, name, _ := strings.Cut(args, " ")
	v, ok := []byte(nil), false
	switch {
	case message == "0":
		v, ok = x.LookupRequest(nil, name, int(number(k))) //nolint:gosec // the kit's own numbers
	case message == "4":
		v, ok = x.LookupTLS(nil, name, int(number(k))) //nolint:gosec // see above
	case message != "1":
		v, ok = x.LookupTrailer(nil, name, int(number(k))) //nolint:gosec // see above
	case resp != nil:
		v, ok = resp.LookupResponse(nil, name, int(number(k))) //nolint:gosec // see above
	}
	if !ok {
		return "none"
	}
	return strconv.Itoa(len(v)) + ":" + string(v)
}

func echo(x exchange, resp *wasmgate.Response) wasmgate.Decision {
	var b []byte
	num := func(name string, v uint64) {
		b = append(strconv.AppendUint(append(append(b, name...), '='), v, 10), '\n')
	}
	yes := func(name string, v bool) {
		if v {
			num(name, 1)
		} else {
			num(name, 0)
		}
	}
	// A string comes with its length, so that it may hold anything.
	str := func(name, v string) {
		b = strconv.AppendInt(append(append(b, name...), '='), int64(len(v)), 10)
		b = append(append(append(b, ':'), v...), '\n')
	}
	num("role", uint64(x.Role()))
	yes("response", resp != nil)
	yes("sampled", x.Sampled())
	yes("local", resp != nil && resp.Local())
	num("time", uint64(x.Time())) //nolint:gosec // after 1970
	num("seed", x.Seed())
	num("context", x.Context())
	status := 0
	if resp != nil {
		status = resp.Status()
	}
	num("status", uint64(status)) //nolint:gosec // a status
	yes("has_query", x.HasQuery())
	str("method", x.Method())
	str("scheme", x.Scheme())
	str("authority", x.Authority())
	str("host", x.Host())
	str("path", x.Path())
	str("query", x.Query())
	str("client", x.Client())
	str("sni", x.SNI())
	str("certificate", x.CertSubject())
	str("route", x.Route())
	for _, h := range headers {
		num("header", uint64(x.HeaderCount(h))) //nolint:gosec // a count
		for k := range x.HeaderCount(h) {
			str("value", x.HeaderAt(h, k))
		}
	}
	return x.Respond(200, string(b))
}

func main() {} // never called: everything is registered in init
