package meter

// body is one function's code, read and not yet written.
type body struct {
	groups []byte // the local declarations, count excluded
	count  uint32 // of groups
	locals uint32 // parameters included: the index of the first added local
	bulk   bool   // it has bulk operations: a local is added for their length
	credit bool   // it has loops that run on credit: a local is added for it
	code   []byte // the instructions, the final end included
	at     int    // where they are in the code section's content
	marks  []mark // in order of their place
}

// mark is a place where the rewritten code differs: code[at:end] is replaced, or something is inserted where at == end.
type mark struct {
	at, end  int
	kind     markKind
	arg      uint32
	from, to int32    // of a branch: the points whose code it leaves, and where it goes
	cost     int64    // of a charge: what it takes; of markOpen: what it buys
	labels   []uint32 // of markTable
}

type markKind uint8

const (
	markNothing markKind = iota
	markEntry            // charge cost at the function's entry; arg is the credit that is part of it
	markPrepaid          // nothing to charge: the callers pay; arg is the credit
	markCharge           // charge cost
	markSpend            // take cost from the credit, or go back to where it is bought: arg levels out
	markOpen             // begin the loop around a loop that buys credit; arg is the end of the loop's type
	markClose            // end it
	markCall             // replace the operand: function arg
	markRefFunc
	markLength // charge by length; arg is the shift
	markGrow
	markLabel // replace a label: arg
	markTable // replace the labels of a br_table
)

// point is where code is paid for: the function's entry (the first), or a loop.
type point struct {
	cost     int64
	parent   int32
	params   int
	head     int   // the mark of the loop's head
	open     int   // the marks around the loop
	calls    bool  // there are calls in it, nested loops included, so that another call does no harm
	credit   bool  // it runs on credit
	entered  bool  // it is paid for by what precedes it
	credits  int32 // how many loops on credit surround the code, itself included
	dispatch int32 // the dispatch loop that it is, or -1
}

// frame is an open block.
type frame struct {
	op    byte
	point int32 // who pays for the code in it
	arity uint32
	owner int32 // the dispatch loop that it is a block of, or -1
}

// scanner reads one function. It is used again for the next one.
type scanner struct {
	w      *rewriter
	r      reader
	base   int // of body.code in the binary
	body   *body
	frames []frame
	points []point

	locals   uint64
	blocks   uint64
	carried  uint64 // values over all branches
	straight bool   // nothing but plain instructions since the entry
	onlyLoop int32  // the loop that the entry runs straight into; 0: none

	dispatches   []dispatch
	open         []int32 // the dispatch loops that have begun and not ended
	forming      forming
	formingFrame int
	formingOn    uint32
	labels       []uint32 // of the br_table being read
	past         recent
}

func (w *rewriter) codeSection(s *reader) {
	w.codeStart = s.at
	n := s.count("function bodies", maxFunctions)
	if n != len(w.funcTypes) {
		s.fail("%d functions are declared and %d have code", len(w.funcTypes), n)
		return
	}
	w.code = make([]body, n)
	w.free = make([]uint8, n)
	sc := &scanner{w: w}
	tables := w.mayBeInTables()
	limit := func(i int) int64 {
		if tables[uint32(i+len(w.imports))] {
			return freeInTables
		}
		return free
	}
	begin := s.at
	for i := range w.code { // first what each function costs its callers
		if !w.functionBody(s, sc, i) {
			return
		}
		w.free[i] = uint8(sc.settle(limit(i)))
	}
	s.at = begin
	for i := range w.code {
		w.code[i] = body{}
		if !w.functionBody(s, sc, i) {
			return
		}
		sc.settle(limit(i))
	}
	w.function = -1
}

func (w *rewriter) functionBody(s *reader, sc *scanner, i int) bool {
	w.function = len(w.imports) + i
	size := s.u32()
	if size > maxFunctionBytes {
		s.fail("a function of %d bytes, more than %d", size, maxFunctionBytes)
	}
	b := s.sub(int(size))
	if s.err != nil {
		return false
	}
	sc.scan(b, &w.code[i], w.types[w.funcTypes[i]])
	s.err = sc.r.err
	return s.err == nil
}

// scan reads a function's locals and instructions, and notes where the rewritten code will differ.
func (s *scanner) scan(r reader, b *body, t FuncType) {
	s.r, s.body = r, b
	s.frames, s.points = s.frames[:0], s.points[:0]
	s.blocks, s.carried, s.straight, s.onlyLoop = 0, 0, true, 0
	s.dispatches, s.open, s.forming, s.past = s.dispatches[:0], s.open[:0], formingNone, recent{}
	s.readLocals(len(t.Params))
	if s.r.err != nil {
		return
	}
	b.locals = uint32(s.locals)
	s.base = s.r.at
	b.code, b.at = s.r.b[s.base:], s.base-s.w.codeStart
	s.points = append(s.points, point{dispatch: -1})
	s.mark(s.base, s.base, mark{kind: markEntry})
	s.push(opBlock, 0, len(t.Results))
	for len(s.frames) > 0 && s.r.err == nil {
		s.instruction()
	}
	if s.r.err == nil && s.r.at != len(s.r.b) {
		s.r.fail("the function goes on behind its end")
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

// mark notes a difference between two offsets of the binary, and returns its number.
func (s *scanner) mark(at, end int, m mark) int {
	m.at, m.end = at-s.base, end-s.base
	s.body.marks = append(s.body.marks, m)
	return len(s.body.marks) - 1
}

func (s *scanner) push(op byte, point int32, arity int) {
	if len(s.frames) >= maxNesting {
		s.r.fail("blocks are nested more than %d deep", maxNesting)
		return
	}
	if s.blocks++; s.blocks*(s.locals+1) > maxLocalBlocks {
		s.r.fail("%d locals and %d blocks in one function", s.locals, s.blocks)
		return
	}
	s.frames = append(s.frames, frame{op: op, point: point, arity: uint32(arity), owner: -1})
}

func (s *scanner) top() *frame { return &s.frames[len(s.frames)-1] }

// here is the point that pays for the code being read.
func (s *scanner) here() *point { return &s.points[s.top().point] }

// called notes that the code being read calls something.
func (s *scanner) called() { s.straight, s.here().calls = false, true }

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
	s.here().cost += int64(o.cost)
	past := s.past
	s.past = recent{}
	if o.imm != immBlock && o.imm != immLocal && o.imm != immBrTable {
		s.forming = formingNone
	}
	switch o.imm {
	case immNone:
		if op == opReturn || op == opUnreachable {
			s.straight = false
		}
	case immBlock, immElse, immEnd, immLabel, immBrTable:
		s.control(op, o.imm, at, past)
	case immI32:
		s.past = recent{number: true, value: uint32(s.r.signed(32))}
	case immLocal:
		s.local(op, past)
	case immCall, immCallIndirect, immRefFunc, immGlobal, immTable:
		s.indexed(op, o.imm, at)
	case immMemory:
		s.memory(op, at)
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

func (s *scanner) local(op byte, past recent) {
	i := s.r.u32()
	if uint64(i) >= s.locals {
		s.r.fail("there is no local %d", i)
		return
	}
	if op == opLocalSet && past.number {
		s.past = recent{set: true, value: past.value, local: i}
	}
	s.form(op, i, nil)
}

func (s *scanner) memory(op byte, at int) {
	if s.r.byte() != 0 || !s.w.hasMemory {
		s.r.fail("an instruction for a memory that does not exist")
	}
	if op == opMemoryGrow {
		s.called()
		s.w.growsMemory = true
		s.mark(at, s.r.at, mark{kind: markGrow})
	}
}

func (s *scanner) indexed(op byte, imm immediate, at int) {
	operand := s.r.at
	i := s.r.u32()
	ok := s.r.err == nil
	switch imm {
	case immCall:
		ok = ok && int64(i) < int64(s.w.functions())
		s.called()
		if local := int64(i) - int64(len(s.w.imports)); ok && local >= 0 {
			s.here().cost += int64(s.w.free[local])
		}
		s.mark(operand, s.r.at, mark{kind: markCall, arg: i})
	case immRefFunc:
		ok = ok && int64(i) < int64(s.w.functions())
		if ok {
			s.w.needRef(i)
		}
		s.mark(at, s.r.at, mark{kind: markRefFunc, arg: i})
	case immCallIndirect:
		s.called()
		ok = ok && int64(i) < int64(len(s.w.types)) && int64(s.r.u32()) < int64(len(s.w.tables))
	case immGlobal:
		ok = ok && int64(i) < int64(len(s.w.globals))
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
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
		return
	case bulkDataDrop, bulkElemDrop, bulkTableGrow, bulkTableSize, bulkTableFill, bulkMemoryFill:
		operands = 1
	case bulkMemoryInit, bulkMemoryCopy, bulkTableInit, bulkTableCopy:
		operands = 2
	case 19, 20, 21, 22:
		s.r.unsupported("wide arithmetic", "instruction 0xfc %d", sub)
		return
	default:
		s.r.fail("instruction 0xfc %d is not known", sub)
		return
	}
	for range operands {
		s.r.u32()
	}
	if shift, ok := bulkShift(sub); ok {
		s.called()
		s.body.bulk = true
		s.here().cost += costBulk
		s.mark(at, at, mark{kind: markLength, arg: uint32(shift)})
	}
}

// needRef notes that code takes a reference to f. The compiler's runtime allocates something for each execution of
// ref.func, for as long as the instance lives: the rewrite makes it once, in a global.
func (w *rewriter) needRef(f uint32) {
	if w.funcRefs == nil {
		w.funcRefs = map[uint32]uint32{}
	}
	if _, ok := w.funcRefs[f]; !ok {
		w.funcRefs[f] = uint32(len(w.globals) + 1 + len(w.refOrder))
		w.refOrder = append(w.refOrder, f)
	}
}
