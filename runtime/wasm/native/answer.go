package native

import (
	"errors"
	"fmt"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/sdk/abi"
)

// grants is what a plugin may choose. It is immutable.
type grants struct {
	ids     []int // the gateway's upstream by the guest's id
	dynamic int   // the upstream through which addresses are chosen
	allow   func(hostport []byte) bool
	calls   []int // the gateway's upstream by the guest's id for calls
	caller  filter.Caller
	stores  []*kv.Store // by the guest's id
}

// judge checks an operation list against what its message, phase and grants allow. A list is applied only after all of
// it was checked.
type judge struct {
	x           *exchange.Exchange
	g           *grants
	m           *abi.Manifest
	phase, role uint32
	body        *held // nil: the phase has no part in the body
	piece       int   // bytes of the piece that may be kept; -1: it is the last

	edits, bytes, attributes  int
	responds, bodies          int
	rematch, wantBody, change bool
}

var (
	errUpstream  = errors.New("an upstream id that the manifest does not declare")
	errNoAddress = errors.New("the configuration does not allow the plugin to choose an address")
	errTimeout   = fmt.Errorf("a timeout that is not 1 to %d ms", abi.MaxTimeout)
	errMethod    = errors.New("not a valid method, or one that cannot be changed to: CONNECT; HEAD from another; another from HEAD")
	errAuthority = errors.New("not a valid authority: host or host:port")
	errPath      = errors.New("not a valid path: it begins with '/', has no '?', '#' or control character, and its dot segments are resolved")
	errQuery     = errors.New("not a valid query")
	errTooLong   = errors.New("longer than allowed")
	errName      = errors.New("not a valid field name")
	errField     = errors.New("a field about framing or the connection, or Host, which are the gateway's own (set the authority instead of Host)")
	errValue     = errors.New("not a valid field value: a control character, or white space around it")
	errEdits     = fmt.Errorf("more than %d header fields, or more than %d bytes of them", abi.MaxHeaderEdits, abi.MaxHeaderBytes)
	errStatus    = errors.New("a status that an answer cannot have")
	errBody      = errors.New("a body with a status that has none, or one that is longer than allowed")
	errResponds  = errors.New("a second answer")
	errKey       = fmt.Errorf("not a valid attribute: a key has 1 to %d printable ASCII characters, a value at most %d bytes, a list at most %d of them",
		abi.MaxAttributeKey, abi.MaxAttribute, abi.MaxAttributes)
	errLevel   = errors.New("an unknown log level")
	errRematch = errors.New("routes are matched again only for a plugin in a route's list")
	errNoBody  = errors.New("there is no body to set: none is held, or not all of it")
	errBodies  = errors.New("a second body")
	errWant    = errors.New("the manifest does not have the body on demand, or it is there already, or the routes are matched again")
	errKeep    = fmt.Errorf("more than the piece has, or than %d bytes, is kept; of the last piece nothing can be", abi.MaxKeep)
	errMetric  = errors.New("a metric that the manifest does not declare")
	errMeasure = errors.New("a value that a metric cannot have: it is a number, and what a counter adds is not negative")
)

// in are the phases that an operation is for, as bits.
type in uint8

const (
	inRequest  in = 1 << abi.PhaseRequest
	inResponse in = 1 << abi.PhaseResponse
	inPieces   in = 1<<phaseRequestBody | 1<<phaseResponseBody
	inTick     in = 1 << phaseTick
	inMessages    = inRequest | inResponse
)

// phasesOf are the phases of an operation; those that are not listed are for requests.
func (j *judge) phasesOf(k abi.Kind) in {
	switch k {
	case abi.OpSetHeader, abi.OpAppendHeader, abi.OpRemoveHeader, abi.OpRespond, abi.OpWantBody:
		return inMessages
	case abi.OpAttribute, abi.OpSetBody:
		return inMessages | inPieces
	case abi.OpLog, abi.OpMetric:
		return inMessages | inPieces | inTick
	case abi.OpKeep:
		return inPieces
	case abi.OpContext:
		if j.m.ResponseBody.Mode == abi.BodyStreamed {
			return inMessages | inPieces
		}
		return inRequest | inPieces
	}
	return inRequest
}

// check judges a whole list.
func (j *judge) check(list []byte) error {
	ops := abi.ReadOperations(list)
	var op abi.Operation
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			return err
		}
		if !ok {
			if j.wantBody && j.rematch {
				return errWant
			}
			return nil
		}
		if err := j.operation(&op); err != nil {
			return fmt.Errorf("operation %d (%s)%s: %w", ops.Index(), op.Kind, subject(&op), err)
		}
	}
}

// subject names the header or attribute of an operation, bounded.
func subject(op *abi.Operation) string {
	if len(op.Name) == 0 {
		return ""
	}
	return fmt.Sprintf(" %.64q", op.Name)
}

func (j *judge) operation(op *abi.Operation) error {
	if j.phasesOf(op.Kind)&(1<<j.phase) == 0 {
		return fmt.Errorf("not an operation of the %s phase", phaseNames[j.phase])
	}
	switch op.Kind {
	case abi.OpSetHeader, abi.OpAppendHeader:
		return j.field(op.Name, op.Value)
	case abi.OpRemoveHeader:
		return j.field(op.Name, nil)
	case abi.OpRespond:
		return j.respond(op)
	case abi.OpAttribute:
		j.attributes++
		if j.attributes > abi.MaxAttributes || len(op.Value) > abi.MaxAttribute || !validKey(op.Name) {
			return errKey
		}
		return nil
	case abi.OpLog:
		if op.Number > uint64(abi.LogError) {
			return errLevel
		}
		return nil
	case abi.OpSetBody, abi.OpWantBody, abi.OpKeep:
		return j.content(op)
	case abi.OpMetric:
		return checkMetric(j.m, op.Number, op.Float)
	}
	return j.target(op)
}

// content judges what is about the body.
func (j *judge) content(op *abi.Operation) error {
	switch op.Kind {
	case abi.OpSetBody:
		j.bodies++
		j.change = true
		switch {
		case j.bodies > 1:
			return errBodies
		case 1<<j.phase&inMessages != 0 && (j.body == nil || !j.body.there || !j.body.whole):
			return errNoBody
		}
	case abi.OpWantBody:
		j.wantBody = true
		if j.body == nil || !j.body.onDemand || j.body.there {
			return errWant
		}
	case abi.OpKeep:
		if j.piece < 0 && op.Number > 0 || op.Number > uint64(max(j.piece, 0)) || op.Number > abi.MaxKeep {
			return errKeep
		}
	}
	return nil
}

// target judges what says where the request goes.
func (j *judge) target(op *abi.Operation) error {
	switch op.Kind {
	case abi.OpUpstream:
		if op.Number >= uint64(len(j.g.ids)) {
			return errUpstream
		}
	case abi.OpAddress:
		if j.g.allow == nil {
			return errNoAddress
		}
		if len(op.Value) > abi.MaxAuthority || !http1.ValidAuthority(op.Value) || !hasPort(op.Value) {
			return errAuthority
		}
		if !j.g.allow(op.Value) {
			return fmt.Errorf("address %q: the upstream's allow list does not have it", op.Value)
		}
	case abi.OpTimeout:
		if op.Number == 0 || op.Number > abi.MaxTimeout {
			return errTimeout
		}
	case abi.OpMethod:
		if !http1.ValidMethod(op.Value) || string(op.Value) == "CONNECT" || (string(op.Value) == "HEAD") != (string(j.x.Request.Method) == "HEAD") {
			return errMethod
		}
	case abi.OpAuthority:
		if len(op.Value) > abi.MaxAuthority || !http1.ValidAuthority(op.Value) {
			return errAuthority
		}
	case abi.OpPath:
		if len(op.Value) > abi.MaxTarget {
			return errTooLong
		}
		if f := j.x.Request.Form; f != http1.Origin && f != http1.Absolute || !http1.ValidPath(op.Value) {
			return errPath
		}
	case abi.OpQuery:
		if len(op.Value) > abi.MaxTarget {
			return errTooLong
		}
		if !http1.ValidQuery(op.Value) {
			return errQuery
		}
	case abi.OpRematch:
		if j.role != abi.RoleRoute {
			return errRematch
		}
		j.rematch = true
	}
	return nil
}

// hasPort says whether a valid authority ends with a port.
func hasPort(a []byte) bool {
	for i := len(a) - 1; i > 0; i-- {
		switch a[i] {
		case ':':
			return i < len(a)-1
		case ']':
			return false
		}
	}
	return false
}

func (j *judge) field(name, value []byte) error {
	j.edits++
	j.bytes += len(name) + len(value)
	switch {
	case j.edits > abi.MaxHeaderEdits || j.bytes > abi.MaxHeaderBytes:
		return errEdits
	case len(name) > abi.MaxHeaderName || !http1.ValidFieldName(name):
		return errName
	case http1.Reserved(name):
		return errField
	case len(value) > abi.MaxHeaderValue:
		return errTooLong
	case !http1.ValidFieldValue(value):
		return errValue
	}
	return nil
}

func (j *judge) respond(op *abi.Operation) error {
	j.responds++
	switch {
	case j.responds > 1:
		return errResponds
	case op.Number < 200 || op.Number > 599:
		return errStatus
	case len(op.Value) > maxAnswer || len(op.Value) > 0 && (op.Number == 204 || op.Number == 205 || op.Number == 304):
		return errBody
	}
	fields := op.Fields
	for name, value, ok := fields.Next(); ok; name, value, ok = fields.Next() {
		if err := j.field(name, value); err != nil {
			return fmt.Errorf("field %.64q: %w", name, err)
		}
	}
	return nil
}

func validKey(key []byte) bool {
	if len(key) == 0 || len(key) > abi.MaxAttributeKey {
		return false
	}
	for _, c := range key {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return true
}
