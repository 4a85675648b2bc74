//go:build !wasip1

package wasmgate

import (
	"errors"
	"fmt"
	"strings"

	"wasmgate/sdk/abi"
)

// Tester calls the registered handlers without a gateway and without WebAssembly, through the same encoding. It is
// for go test on the author's machine and is not part of a plugin's module. There is one plugin in a program, so
// Testers are used one after another, not at the same time.
//
// What the gateway gives a plugin is there: stores, which begin empty, bodies, and services, for each of which the test says
// what it answers. A service for which it says nothing cannot be reached.
type Tester struct {
	// Services answer what the plugin calls, by the service's name. An error that is no Result is ErrFailed.
	Services map[string]func(OutboundRequest) (TestResponse, error)
	// Now is the time that stores expire by, in milliseconds. Tests add to it.
	Now int64

	manifest *abi.Manifest
	stores   map[string]map[string]testValue
	version  uint32
	metrics  map[string][]float64
	answer   []byte // to the last call
	called   []string
}

// NewTester configures the plugin. The error is what the plugin says about the configuration.
func NewTester(config string) (*Tester, error) {
	logged, tester = nil, nil
	arg := abi.AppendConfig(nil, &abi.Config{
		Minor: abi.Minor, MaxAnswer: 1 << 20, Name: []byte("test"), Bytes: []byte(config), RequestBody: abi.MaxBody, ResponseBody: abi.MaxBody,
	})
	code, n := abi.Unpack(configure(arg))
	if abi.Code(code) != abi.CodeOK {
		return nil, errors.New(string(out.buf[:n]))
	}
	m, err := abi.ParseManifest(out.buf[:n])
	if err != nil {
		return nil, err
	}
	tester = &Tester{manifest: m, stores: map[string]map[string]testValue{}, metrics: map[string][]float64{}}
	return tester, nil
}

// TestMessage is what a handler is called with. Headers has names and values in turn.
type TestMessage struct {
	Role                                                             Role
	Method, Scheme, Authority, Path, Query, Client, SNI, Cert, Route string
	Headers                                                          []string
	TLS                                                              []string // for LookupTLS
	Time                                                             int64
	Seed, Context                                                    uint64
	Status                                                           int      // response handler
	ResponseHeaders                                                  []string // response handler
	Sampled, Local                                                   bool

	// Body is the message's body. A plugin that streams it sees Pieces instead, if there are any, and else the whole as one.
	Body     string
	Pieces   []string
	Trailers []string // names and values in turn
}

// TestAnswer is what a handler said, and what the gateway would do.
type TestAnswer struct {
	Decision string   // continue, no_match, route, deny, respond, error
	Upstream string   // by route
	Status   int      // by deny and respond
	Text     string   // by error and respond
	Edits    []string // such as "set_header x-tenant-id: acme", in order
	Logged   []string // such as "2 text", written with Log
	Called   []string // such as "authz POST /check", by Call

	// Body is what is sent on of a body that the plugin has a part in, and of a streamed one Pieces what each piece became.
	Body   string
	Pieces []string
}

var (
	current *TestMessage
	logged  []string
)

// Request calls the request handler, and with a body what has a part in it.
func (t *Tester) Request(m TestMessage) TestAnswer {
	return t.message(&m, abi.PhaseRequest, request, t.manifest.RequestBody)
}

// Response calls the response handler, and with a body what has a part in it.
func (t *Tester) Response(m TestMessage) TestAnswer {
	return t.message(&m, abi.PhaseResponse, response, t.manifest.ResponseBody)
}

// call calls fn with a view and reads its answer.
func (t *Tester) call(fn func([]byte) uint64, view []byte) TestAnswer {
	tester, logged, t.called = t, nil, nil
	code, value := abi.Unpack(fn(view))
	a := TestAnswer{Logged: logged, Called: t.called}
	switch abi.Code(code) {
	case abi.CodeContinue:
		a.Decision = "continue"
	case abi.CodeNoMatch:
		a.Decision = "no_match"
	case abi.CodeRoute:
		a.Decision, a.Upstream = "route", t.upstream(uint64(value))
	case abi.CodeDeny:
		a.Decision, a.Status = "deny", int(value)
		if value == 0 {
			a.Status = abi.DefaultDeny
		}
	case abi.CodeReplace:
		a.Decision, a.Body = "replace", string(out.buf[:value])
	case abi.CodeError:
		a.Decision, a.Text = "error", string(out.buf[:value])
	case abi.CodeOperations:
		t.operations(&a, out.buf[:value])
	}
	return a
}

func (t *Tester) upstream(id uint64) string {
	if id < uint64(len(t.manifest.Upstreams)) {
		return t.manifest.Upstreams[id]
	}
	return fmt.Sprintf("undeclared upstream %d", id)
}

func (t *Tester) encode(m *TestMessage, phase uint32) []byte {
	h := abi.Head{Flags: held.flags, Role: uint32(m.Role), Phase: phase, Time: m.Time, Seed: m.Seed, Context: m.Context, Status: uint32(m.Status)} //nolint:gosec // a status
	for _, f := range [...]struct {
		on  bool
		bit uint32
	}{{m.Query != "", abi.FlagHasQuery}, {m.Sampled, abi.FlagSampled}, {m.Local, abi.FlagLocal}} {
		if f.on {
			h.Flags |= f.bit
		}
	}
	nreq, n := len(t.manifest.RequestHeaders), len(t.manifest.RequestHeaders)
	if phase == abi.PhaseResponse {
		n += len(t.manifest.ResponseHeaders)
	}
	buf := make([]byte, 1<<20)
	var w abi.ViewWriter
	w.Begin(buf, &h, n)
	for f, s := range [...]string{m.Method, m.Scheme, m.Authority, m.Path, m.Query, m.Client, m.SNI, m.Cert, m.Route} {
		if s != "" {
			w.FieldString(abi.Field(f), s) //nolint:gosec // an index
		}
	}
	for i := range n {
		name, fields := "", m.Headers
		if i < nreq {
			name = t.manifest.RequestHeaders[i]
		} else {
			name, fields = t.manifest.ResponseHeaders[i-nreq], m.ResponseHeaders
		}
		switch values := valuesOf(fields, name); len(values) {
		case 0:
		case 1:
			w.Slot(i, []byte(values[0]))
		default:
			w.Slot(i, []byte(values[0]))
			at := w.List(i, len(values))
			for k, v := range values[1:] {
				w.Item(at, k+1, []byte(v))
			}
		}
	}
	return buf[:w.Need()]
}

func valuesOf(fields []string, name string) (values []string) {
	for i := 0; i+1 < len(fields); i += 2 {
		if strings.EqualFold(fields[i], name) {
			values = append(values, fields[i+1])
		}
	}
	return values
}

var editNames = map[abi.Kind]string{
	abi.OpAddress: "address", abi.OpTimeout: "timeout", abi.OpHashKey: "hash_key", abi.OpMethod: "method",
	abi.OpAuthority: "authority", abi.OpPath: "path", abi.OpQuery: "query", abi.OpSetHeader: "set_header",
	abi.OpAppendHeader: "append_header", abi.OpRemoveHeader: "remove_header", abi.OpAttribute: "attribute",
	abi.OpLog: "log", abi.OpContext: "context", abi.OpRematch: "rematch", abi.OpWantBody: "want_body", abi.OpKeep: "keep",
}

func (t *Tester) operations(a *TestAnswer, list []byte) {
	a.Decision = "continue"
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			a.Decision, a.Text = "error", err.Error()
		}
		if !ok {
			return
		}
		name := editNames[op.Kind]
		switch op.Kind {
		case abi.OpUpstream:
			a.Decision, a.Upstream = "route", t.upstream(op.Number)
		case abi.OpRespond:
			a.Decision, a.Status, a.Text = "respond", int(op.Number), string(op.Value) //nolint:gosec // a status
			for n, v, more := op.Fields.Next(); more; n, v, more = op.Fields.Next() {
				a.Edits = append(a.Edits, fmt.Sprintf("respond_header %s: %s", n, v))
			}
		case abi.OpSetHeader, abi.OpAppendHeader, abi.OpAttribute:
			a.Edits = append(a.Edits, fmt.Sprintf("%s %s: %s", name, op.Name, op.Value))
		case abi.OpRemoveHeader:
			a.Edits = append(a.Edits, fmt.Sprintf("%s %s", name, op.Name))
		case abi.OpSetBody:
			held.set, held.text = true, string(op.Value)
		case abi.OpTimeout, abi.OpHashKey, abi.OpContext, abi.OpKeep:
			switch op.Kind {
			case abi.OpContext:
				held.word = op.Number
			case abi.OpKeep:
				held.keep = int(op.Number) //nolint:gosec // a length
			}
			a.Edits = append(a.Edits, fmt.Sprintf("%s %d", name, op.Number))
		case abi.OpLog:
			a.Logged = append(a.Logged, fmt.Sprintf("%d %s", op.Number, op.Value))
		case abi.OpRematch, abi.OpWantBody:
			held.wanted = held.wanted || op.Kind == abi.OpWantBody
			a.Edits = append(a.Edits, name)
		default:
			a.Edits = append(a.Edits, fmt.Sprintf("%s %s", name, op.Value))
		}
	}
}

// Log writes a line to the gateway's log at once. The gateway limits how many lines a plugin writes.
func Log(level Level, text string) { logged = append(logged, fmt.Sprintf("%d %s", level, text)) }

func lookup(dst []byte, message uint32, name string, k int) ([]byte, bool) {
	if current == nil {
		return dst, false
	}
	fields := current.Headers
	switch {
	case message == abi.MessageResponse:
		fields = current.ResponseHeaders
	case message == abi.MessageTLS:
		fields = current.TLS
	case message >= abi.MessageRequestTrailers && held.trailers:
		fields = current.Trailers
	case message >= abi.MessageRequestTrailers:
		fields = nil
	}
	if values := valuesOf(fields, name); k >= 0 && k < len(values) {
		return append(dst, values[k]...), true
	}
	return dst, false
}
