package native

import (
	"errors"
	"fmt"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/sdk/abi"
)

// grants is what a plugin may choose. It is immutable.
type grants struct {
	ids     []int // the gateway's upstream by the guest's id
	dynamic int   // the upstream through which addresses are chosen
	allow   func(hostport []byte) bool
}

// judge checks an operation list against what its message, phase and grants allow. A list is applied only after all of
// it was checked.
type judge struct {
	x           *exchange.Exchange
	g           *grants
	phase, role uint32

	edits, bytes, attributes int
	responds                 int
	rematch                  bool
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
	errPhase   = errors.New("not an operation of the response phase")
)

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
			return nil
		}
		if err := j.operation(&op); err != nil {
			return fmt.Errorf("operation %d (0x%02x)%s: %w", ops.Index(), uint16(op.Kind), subject(&op), err)
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
	}
	if j.phase != abi.PhaseRequest {
		return errPhase
	}
	return j.target(op)
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
	case reserved(name):
		return errField
	case len(value) > abi.MaxHeaderValue:
		return errTooLong
	case !http1.ValidFieldValue(value):
		return errValue
	}
	return nil
}

// reserved says whether a field is the gateway's own business: framing, the connection, Host. An underscore counts as
// a hyphen, because servers that turn names into variables do not tell them apart.
func reserved(name []byte) bool {
	var spelled [32]byte // longer than every such name
	if len(name) > len(spelled) {
		return false
	}
	for i, c := range name {
		if c == '_' {
			c = '-'
		}
		spelled[i] = c
	}
	id := http1.LookupField(string(spelled[:len(name)]))
	return http1.IsHopByHop(id) || http1.IsFraming(id) || id == http1.FieldHost || id == http1.FieldTrailer || id == http1.FieldExpect
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
