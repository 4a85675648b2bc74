package meter

// body is one function's code, read and not yet written.
type body struct {
	index  uint32 // in the original module
	groups []byte // the local declarations, count excluded
	count  uint32 // of groups
	temp   uint32 // the index of the added local; used if bulk
	bulk   bool   // the function has bulk operations, and needs the added local
	code   []byte // the instructions, the final end included
	marks  []mark // in order of their place
}

// mark is a place where the rewritten code differs.
type mark struct {
	at, end int // the part of body.code that is replaced; at == end: something is inserted
	kind    markKind
	arg     uint32
	cost    int64 // of a charge
}

type markKind uint8

const (
	markCharge markKind = iota // insert a charge of cost
	markCall                   // replace the operand: function arg
	markRefFunc
	markLength // insert a charge by length; arg is the shift
	markGrow
)

// noPoint is the charge point of code that is never charged on its own.
const noPoint = -1

// frame is an open block.
type frame struct {
	op    byte
	point int32 // who pays for the code in it
	arity uint32
}

// scanner reads one function. It is used again for the next one.
type scanner struct {
	w      *rewriter
	r      reader
	base   int // of body.code in the binary
	frames []frame
	costs  []int64 // by charge point; 0 is the function's entry
	places []int32 // by charge point: the index of its mark
	body   *body

	locals     uint64
	blocks     uint64
	carried    uint64 // values over all branches
	straight   bool   // nothing but plain instructions since the entry
	onlyLoop   int32  // the charge point of the loop that the entry runs straight into; noPoint: none
	loopedCost int64  // of all loops
}

func (w *rewriter) codeSection(s *reader) {
	n := s.count("function bodies", maxFunctions)
	if n != len(w.funcTypes) {
		s.fail("%d functions are declared and %d have code", len(w.funcTypes), n)
		return
	}
	w.code = make([]body, n)
	sc := &scanner{w: w}
	for i := range w.code {
		size := s.u32()
		if size > maxFunctionBytes {
			s.fail("a function of %d bytes, more than %d", size, maxFunctionBytes)
		}
		w.function = len(w.imports) + i
		w.code[i].index = uint32(w.function)
		b := s.sub(int(size))
		if s.err != nil {
			return
		}
		sc.scan(b, &w.code[i], w.types[w.funcTypes[i]])
		if sc.r.err != nil {
			s.err = sc.r.err
			return
		}
	}
	w.function = -1
}

// scan reads a function's locals and instructions, and notes where the rewritten code will differ.
func (s *scanner) scan(r reader, b *body, t FuncType) {
	s.r, s.body = r, b
	s.frames, s.costs, s.places = s.frames[:0], s.costs[:0], s.places[:0]
	s.blocks, s.carried, s.straight, s.onlyLoop, s.loopedCost = 0, 0, true, noPoint, 0
	s.readLocals(len(t.Params))
	if s.r.err != nil {
		return
	}
	b.temp = uint32(s.locals)
	s.base = s.r.at
	b.code = s.r.b[s.base:]
	entry := s.point(s.base)
	s.push(opBlock, entry, len(t.Results))
	for len(s.frames) > 0 && s.r.err == nil {
		s.instruction()
	}
	if s.r.err == nil && s.r.at != len(s.r.b) {
		s.r.fail("the function goes on behind its end")
	}
	if s.r.err == nil {
		s.settle()
	}
}

func (s *scanner) readLocals(params int) {
	s.locals = uint64(params)
	n := s.r.count("groups of locals", maxLocals)
	begin := s.r.at
	for range n {
		s.locals += uint64(s.r.u32())
		if s.locals > maxLocals {
			s.r.fail("more than %d locals", maxLocals)
		}
		s.r.valueType()
		if s.r.err != nil {
			return
		}
	}
	s.body.groups, s.body.count = s.r.b[begin:s.r.at], uint32(n)
}

// point adds a charge point at that offset of the binary.
func (s *scanner) point(at int) int32 {
	s.costs = append(s.costs, 0)
	s.places = append(s.places, int32(len(s.body.marks)))
	s.mark(mark{at: at - s.base, end: at - s.base, kind: markCharge})
	return int32(len(s.costs) - 1)
}

func (s *scanner) mark(m mark) { s.body.marks = append(s.body.marks, m) }

func (s *scanner) push(op byte, point int32, arity int) {
	if len(s.frames) >= maxNesting {
		s.r.fail("blocks are nested more than %d deep", maxNesting)
		return
	}
	if s.blocks++; s.blocks*(s.locals+1) > maxLocalBlocks {
		s.r.fail("%d locals and %d blocks in one function", s.locals, s.blocks)
		return
	}
	s.frames = append(s.frames, frame{op: op, point: point, arity: uint32(arity)})
}

func (s *scanner) top() *frame { return &s.frames[len(s.frames)-1] }

func (s *scanner) instruction() {
	at := s.r.at
	op := s.r.byte()
	o := opcodes[op]
	if s.r.err != nil {
		return
	}
	if o.imm == immUnknown {
		s.r.at = at
		if f := featureOf(op); f != "" {
			s.r.unsupported(f, "instruction 0x%02x", op)
		} else {
			s.r.fail("instruction 0x%02x is not known", op)
		}
		return
	}
	s.costs[s.top().point] += int64(o.cost)
	switch o.imm {
	case immNone:
		if op == opReturn || op == opUnreachable {
			s.straight = false
		}
	case immBlock, immElse, immEnd, immLabel, immBrTable:
		s.control(op, o.imm)
	case immCall, immCallIndirect, immRefFunc, immGlobal, immLocal, immTable:
		s.indexed(op, o.imm)
	case immMemory:
		if s.r.byte() != 0 || !s.w.hasMemory {
			s.r.fail("an instruction for a memory that does not exist")
		}
		if op == opMemoryGrow {
			s.straight = false
			s.w.growsMemory = true
			s.mark(mark{at: at - s.base, end: s.r.at - s.base, kind: markGrow})
		}
	case immBulk:
		s.bulk(at)
	case immVector:
		if sub := s.r.u32(); !vectorImmediate(&s.r, sub) {
			s.r.unsupported("relaxed SIMD", "vector instruction %d", sub)
		}
	default:
		s.operand(o.imm)
	}
}

// operand reads what the rewrite takes over as it is.
func (s *scanner) operand(imm immediate) {
	switch imm {
	case immMemArg:
		s.r.memArg()
	case immI32:
		s.r.signed(32)
	case immI64:
		s.r.signed(64)
	case immF32:
		s.r.bytes(4)
	case immF64:
		s.r.bytes(8)
	case immSelect:
		for range s.r.count("types of a select", 1) {
			s.r.valueType()
		}
	case immRefNull:
		s.r.refType()
	}
}

func (s *scanner) indexed(op byte, imm immediate) {
	at := s.r.at
	i := s.r.u32()
	ok := s.r.err == nil
	switch imm {
	case immCall, immRefFunc:
		ok = ok && int64(i) < int64(s.w.functions())
		kind := markCall
		if imm == immRefFunc {
			at, kind = at-1, markRefFunc // the opcode is replaced too
			if ok {
				s.w.needRef(i)
			}
		} else {
			s.straight = false
		}
		s.mark(mark{at: at - s.base, end: s.r.at - s.base, kind: kind, arg: i})
	case immCallIndirect:
		s.straight = false
		ok = ok && int64(i) < int64(len(s.w.types)) && int64(s.r.u32()) < int64(len(s.w.tables))
	case immGlobal:
		ok = ok && int64(i) < int64(len(s.w.globals))
	case immLocal:
		ok = ok && uint64(i) < s.locals
	case immTable:
		ok = ok && int64(i) < int64(len(s.w.tables))
	}
	if !ok {
		s.r.fail("instruction 0x%02x: index %d is out of range", op, i)
	}
}

func (s *scanner) bulk(at int) {
	sub := s.r.u32()
	if s.r.err != nil {
		return
	}
	operands := 0
	switch {
	case sub <= 7, sub == bulkDataDrop, sub == bulkElemDrop, sub == bulkTableGrow, sub == bulkTableSize, sub == bulkTableFill, sub == bulkMemoryFill:
		operands = 1
	case sub == bulkMemoryInit, sub == bulkMemoryCopy, sub == bulkTableInit, sub == bulkTableCopy:
		operands = 2
	case sub >= 19 && sub <= 22:
		s.r.unsupported("wide arithmetic", "instruction 0xfc %d", sub)
		return
	default:
		s.r.fail("instruction 0xfc %d is not known", sub)
		return
	}
	if sub <= 7 { // saturating conversions
		return
	}
	for range operands {
		s.r.u32()
	}
	shift, ok := bulkShift(sub)
	if !ok {
		return
	}
	s.straight = false
	s.body.bulk = true
	s.costs[s.top().point] += costBulk
	s.mark(mark{at: at - s.base, end: at - s.base, kind: markLength, arg: uint32(shift)})
}
