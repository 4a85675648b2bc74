package abi

import "math"

// Kind is the kind of an operation.
type Kind uint16

// The operations. Body of each: in its comment.
const (
	OpUpstream Kind = 0x01 // u32 id: choose a declared upstream
	OpAddress  Kind = 0x02 // string host:port: choose an address; only where the configuration allows it
	OpTimeout  Kind = 0x03 // u32 milliseconds, 1 to MaxTimeout: for the whole request
	OpHashKey  Kind = 0x04 // u64: the key of consistent balancing

	OpMethod    Kind = 0x10 // string
	OpAuthority Kind = 0x11 // string host or host:port
	OpPath      Kind = 0x12 // string, begins with '/'
	OpQuery     Kind = 0x13 // string without '?'; empty: no query

	OpSetHeader    Kind = 0x20 // string name, string value: replaces all fields of the name
	OpAppendHeader Kind = 0x21 // string name, string value: adds a field
	OpRemoveHeader Kind = 0x22 // string name: removes all fields of the name

	OpRespond Kind = 0x30 // u32 status, string body, u32 n, n × (string name, string value)

	OpAttribute Kind = 0x40 // string key, string value: of the span
	OpLog       Kind = 0x41 // u32 level, string

	OpContext Kind = 0x50 // u64: the word that the response phase sees
	OpRematch Kind = 0x51 // nothing: match the routes again, with the new path and authority

	OpSetBody  Kind = 0x60 // string: instead of the body that is held, or of the piece
	OpWantBody Kind = 0x61 // nothing: where the manifest says that bodies come on demand
	OpKeep     Kind = 0x62 // u32 bytes: the piece's end that comes again, before the next piece

	OpMetric Kind = 0x70 // u32 id, f64
)

// Operation is one decoded operation; its slices are views into the list. Which fields are used depends on Kind.
type Operation struct {
	Kind   Kind
	Number uint64 // id, milliseconds, key, status, level, word, bytes
	Float  float64
	Name   []byte // header name; attribute key
	Value  []byte // header or attribute value; text; body
	Fields Pairs  // of OpRespond
}

// Pairs is an encoded sequence of name and value strings, as checked by the decoder.
type Pairs struct {
	N    uint32
	rest []byte
}

// Next takes the first pair off; ok is false when none is left.
func (p *Pairs) Next() (name, value []byte, ok bool) {
	if p.N == 0 {
		return nil, nil, false
	}
	p.N--
	name, p.rest, _ = cutString(p.rest)
	value, p.rest, _ = cutString(p.rest)
	return name, value, true
}

// Operations walks over an operation list. It checks the structure of each record; what the strings may hold is for
// the host to judge.
type Operations struct{ r records }

// ReadOperations starts at the beginning of a list.
func ReadOperations(list []byte) Operations { return Operations{records{rest: list}} }

// Index is the number of records read so far.
func (o *Operations) Index() int { return o.r.n }

// Next reads the next operation into op; ok is false at the end of the list and with an error.
func (o *Operations) Next(op *Operation) (ok bool, err error) {
	kind, body, ok, err := o.r.next()
	if !ok {
		return false, err
	}
	if o.r.n > MaxOperations {
		return false, problem("more than ", MaxOperations, " operations")
	}
	*op = Operation{Kind: Kind(kind)}
	switch op.Kind {
	case OpUpstream, OpTimeout, OpKeep:
		ok = op.word32(&body)
	case OpMetric:
		if ok = len(body) == 12; ok {
			op.Number, op.Float, body = uint64(le.Uint32(body)), math.Float64frombits(le.Uint64(body[4:])), nil
		}
	case OpHashKey, OpContext:
		ok = len(body) == 8
		if ok {
			op.Number, body = le.Uint64(body), nil
		}
	case OpAddress, OpMethod, OpAuthority, OpPath, OpQuery, OpSetBody:
		op.Value, body, ok = cutString(body)
	case OpSetHeader, OpAppendHeader, OpAttribute:
		if op.Name, body, ok = cutString(body); ok {
			op.Value, body, ok = cutString(body)
		}
	case OpRemoveHeader:
		op.Name, body, ok = cutString(body)
	case OpLog:
		if ok = op.word32(&body); ok {
			op.Value, body, ok = cutString(body)
		}
	case OpRespond:
		ok = op.respond(&body)
	case OpRematch, OpWantBody:
	default:
		return false, problem("record ", o.r.n, ": unknown operation ", kind)
	}
	if !ok || len(body) != 0 {
		return false, problem("record ", o.r.n, " (operation ", kind, "): the body is not what the operation takes")
	}
	return true, nil
}

func (op *Operation) word32(body *[]byte) bool {
	if len(*body) < 4 {
		return false
	}
	op.Number, *body = uint64(le.Uint32(*body)), (*body)[4:]
	return true
}

func (op *Operation) respond(body *[]byte) (ok bool) {
	if !op.word32(body) {
		return false
	}
	if op.Value, *body, ok = cutString(*body); !ok || len(*body) < 4 {
		return false
	}
	op.Fields.N, *body = le.Uint32(*body), (*body)[4:]
	op.Fields.rest = *body
	if op.Fields.N > MaxHeaderEdits {
		return false
	}
	for range 2 * op.Fields.N {
		if _, *body, ok = cutString(*body); !ok {
			return false
		}
	}
	return true
}

// AppendOp appends an operation without a body: OpRematch, OpWantBody.
func AppendOp(dst []byte, k Kind) []byte { return appendHeader(dst, uint16(k), 0) }

// AppendOp32 appends an operation with a 32-bit number: OpUpstream, OpTimeout, OpKeep.
func AppendOp32(dst []byte, k Kind, v uint32) []byte {
	return le.AppendUint32(appendHeader(dst, uint16(k), 4), v)
}

// AppendOp64 appends an operation with a 64-bit number: OpHashKey, OpContext.
func AppendOp64(dst []byte, k Kind, v uint64) []byte {
	return le.AppendUint64(appendHeader(dst, uint16(k), 8), v)
}

// AppendOpText appends an operation with one string: OpAddress, OpMethod, OpAuthority, OpPath, OpQuery, OpRemoveHeader,
// OpSetBody.
func AppendOpText[T Text](dst []byte, k Kind, s T) []byte {
	return appendText(appendHeader(dst, uint16(k), 4+len(s)), s)
}

// AppendOpPair appends an operation with two strings: OpSetHeader, OpAppendHeader, OpAttribute.
func AppendOpPair[N, V Text](dst []byte, k Kind, name N, value V) []byte {
	return appendText(appendText(appendHeader(dst, uint16(k), 8+len(name)+len(value)), name), value)
}

// AppendMetric appends OpMetric.
func AppendMetric(dst []byte, id uint32, v float64) []byte {
	return le.AppendUint64(le.AppendUint32(appendHeader(dst, uint16(OpMetric), 12), id), math.Float64bits(v))
}

// AppendLog appends OpLog.
func AppendLog[T Text](dst []byte, level uint32, s T) []byte {
	return appendText(le.AppendUint32(appendHeader(dst, uint16(OpLog), 8+len(s)), level), s)
}

// AppendRespond appends OpRespond; fields has names and values in turn.
func AppendRespond[T Text](dst []byte, status uint32, body T, fields ...string) []byte {
	n := 12 + len(body)
	for _, s := range fields {
		n += 4 + len(s)
	}
	dst = le.AppendUint32(appendHeader(dst, uint16(OpRespond), n), status)
	dst = appendText(dst, body)
	dst = le.AppendUint32(dst, uint32(len(fields)/2)) //nolint:gosec // see appendHeader
	for _, s := range fields {
		dst = appendText(dst, s)
	}
	return dst
}
