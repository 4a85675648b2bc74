package meter

// The sections of a module, in the order in which they must come: the format's ids are not in order.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
	secTag
)

var sectionOrder = [...]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secTag: 6, secGlobal: 7, secExport: 8,
	secStart: 9, secElement: 10, secDataCount: 11, secCode: 12, secData: 13,
}

// rewriter holds what was read of a module, until it is written.
type rewriter struct {
	options  Options
	r        reader
	function int // the function being read, for errors; -1: none

	types       []FuncType
	rawTypes    []byte // the entries, as they were
	imports     []Import
	rawImports  []byte
	funcTypes   []uint32 // of defined functions
	tables      []table
	hasMemory   bool
	memoryMin   uint32
	memoryMax   uint32
	globals     []global
	exports     []Export
	start       int64 // -1: none
	elements    []element
	elemItems   int
	rawData     []byte // the section's payload, count included
	dataCount   int64  // -1: no such section
	dataSeen    int
	code        []body
	free        []uint8 // by defined function: what its callers pay for it, because it does not itself
	growsMemory bool
	funcRefs    map[uint32]uint32 // function index → index of the global that holds its reference
	refOrder    []uint32
	moduleName  string
	names       []string // by the original function index
	nameSection []byte
	named       bool // the name section has functions
	codeStart   int  // of the code section's content in the binary
	debugged    map[string][]byte
	offsets     *Offsets // nil: nobody asks for it
}

type table struct {
	ref      ValueType
	min, max uint32
}

type global struct {
	typ     ValueType
	mutable bool
	init    constExpr
}

// constExpr is a constant expression: one instruction, as it was, or a function reference.
type constExpr struct {
	raw     []byte // without the final end
	refFunc int64  // -1: not a function reference
}

type element struct {
	flags  uint32
	table  uint32
	offset constExpr
	kind   byte
	ref    ValueType
	funcs  []uint32
	exprs  []constExpr
}

// added is the number of functions that are imported on top of the module's own, which is how far indices move.
func (w *rewriter) added() uint32 {
	if w.growsMemory {
		return 2
	}
	return 1
}

// moved is a function's index in the rewritten module.
func (w *rewriter) moved(f uint32) uint32 {
	if f < uint32(len(w.imports)) {
		return f
	}
	return f + w.added()
}

func (w *rewriter) functions() int { return len(w.imports) + len(w.funcTypes) }

func (w *rewriter) parse() error {
	w.start, w.dataCount = -1, -1
	r := &w.r
	head := r.bytes(8)
	switch {
	case r.err != nil || string(head[:4]) != "\x00asm":
		return &Error{Function: -1, Detail: "not a WebAssembly binary"}
	case string(head[4:]) == "\x0d\x00\x01\x00":
		return &Error{Function: -1, Feature: "components", Detail: "the binary is a component; build a core module"}
	case string(head[4:]) != "\x01\x00\x00\x00":
		return &Error{Function: -1, Detail: "not version 1 of the binary format"}
	}
	last := 0
	for r.more() {
		id := r.byte()
		size := r.u32()
		if int64(size) > int64(len(r.b)-r.at) {
			r.fail("section %d is longer than the module", id)
			break
		}
		s := r.sub(int(size))
		if r.err != nil {
			break
		}
		if id == secCustom {
			w.custom(&s)
		} else {
			if int(id) >= len(sectionOrder) {
				r.fail("section %d is not known", id)
				break
			}
			if sectionOrder[id] <= last {
				r.fail("section %d is out of order or there twice", id)
				break
			}
			last = sectionOrder[id]
			w.section(id, &s)
		}
		if s.err == nil && s.at != len(s.b) {
			s.fail("section %d has bytes left", id)
		}
		if s.err != nil {
			r.err = s.err
		}
	}
	if r.err == nil {
		w.check()
	}
	if r.err != nil {
		if r.err.Function < 0 {
			r.err.Function = w.function
		}
		return r.err
	}
	w.readNames()
	return nil
}

func (w *rewriter) section(id byte, s *reader) {
	switch id {
	case secType:
		w.typeSection(s)
	case secImport:
		w.importSection(s)
	case secFunction:
		w.functionSection(s)
	case secTable:
		w.tableSection(s)
	case secMemory:
		w.memorySection(s)
	case secTag:
		s.unsupported("exceptions", "the module has a tag section")
	case secGlobal:
		w.globalSection(s)
	case secExport:
		w.exportSection(s)
	case secStart:
		w.start = int64(s.u32())
	case secElement:
		w.elementSection(s)
	case secDataCount:
		w.dataCount = int64(s.u32())
		if w.dataCount > maxDataSegments {
			s.fail("%d data segments, more than %d", w.dataCount, maxDataSegments)
		}
	case secCode:
		w.codeSection(s)
	case secData:
		w.dataSection(s)
	}
}

// check is what can only be said when all sections are there.
func (w *rewriter) check() {
	n := w.functions()
	switch {
	case w.start >= int64(n):
		w.r.fail("the start function %d does not exist", w.start)
	case len(w.code) != len(w.funcTypes):
		w.r.fail("%d functions are declared and %d have code", len(w.funcTypes), len(w.code))
	case w.dataCount >= 0 && int(w.dataCount) != w.dataSeen:
		w.r.fail("%d data segments are declared and %d are there", w.dataCount, w.dataSeen)
	}
	declared := w.declared()
	for _, f := range w.refOrder {
		if !declared[f] {
			w.r.fail("code takes a reference to function %d, which no export, global or element segment has", f)
		}
	}
}

// declared are the functions that code may take references to. Where it does, the rewrite puts the reference into a
// global, which would declare it.
func (w *rewriter) declared() map[uint32]bool {
	if len(w.refOrder) == 0 {
		return nil
	}
	return w.mayBeInTables()
}

// mayBeInTables are the functions that are in an element segment, or that code may take references to.
func (w *rewriter) mayBeInTables() map[uint32]bool {
	set := map[uint32]bool{}
	for _, e := range w.exports {
		if e.Kind == KindFunction {
			set[e.Index] = true
		}
	}
	add := func(e constExpr) {
		if e.refFunc >= 0 {
			set[uint32(e.refFunc)] = true
		}
	}
	for _, g := range w.globals {
		add(g.init)
	}
	for _, e := range w.elements {
		for _, f := range e.funcs {
			set[f] = true
		}
		for _, x := range e.exprs {
			add(x)
		}
	}
	return set
}

func (w *rewriter) typeSection(s *reader) {
	n := s.count("types", maxTypes)
	begin := s.at
	for range n {
		switch form := s.byte(); form {
		case 0x60:
		case 0x4e, 0x4f, 0x50, 0x5e, 0x5f:
			s.unsupported("garbage-collected references", "type form 0x%02x", form)
		default:
			s.fail("0x%02x is not a function type", form)
		}
		t := FuncType{Params: s.valueTypes("parameters"), Results: s.valueTypes("results")}
		if s.err != nil {
			return
		}
		w.types = append(w.types, t)
	}
	w.rawTypes = s.b[begin:s.at]
}

func (r *reader) valueTypes(what string) []ValueType {
	n := r.count(what, maxParams)
	if n == 0 {
		return nil
	}
	types := make([]ValueType, n)
	for i := range types {
		types[i] = r.valueType()
	}
	return types
}

func (w *rewriter) importSection(s *reader) {
	n := s.count("imports", maxImports)
	begin := s.at
	for range n {
		module, name := s.name(), s.name()
		kind := s.byte()
		if s.err == nil && module == ImportModule {
			s.fail("the import module %s is reserved", ImportModule)
		}
		switch kind {
		case 0:
			t := s.u32()
			if s.err == nil && int(t) >= len(w.types) {
				s.fail("import %s.%s has the unknown type %d", module, name, t)
			}
			if s.err != nil {
				return
			}
			w.imports = append(w.imports, Import{Module: module, Name: name, Type: w.types[t]})
		case 1:
			s.unsupported("imported tables", "%s.%s", module, name)
		case 2:
			s.unsupported("imported memories", "%s.%s; let the module define and export its memory", module, name)
		case 3:
			s.unsupported("imported globals", "%s.%s", module, name)
		case 4:
			s.unsupported("exceptions", "the module imports the tag %s.%s", module, name)
		default:
			s.fail("import %s.%s is of the unknown kind %d", module, name, kind)
		}
		if s.err != nil {
			return
		}
	}
	w.rawImports = s.b[begin:s.at]
}

func (w *rewriter) functionSection(s *reader) {
	n := s.count("functions", maxFunctions)
	w.funcTypes = make([]uint32, n)
	for i := range w.funcTypes {
		t := s.u32()
		if int(t) >= len(w.types) {
			s.fail("a function has the unknown type %d", t)
			return
		}
		w.funcTypes[i] = t
	}
}

func (w *rewriter) tableSection(s *reader) {
	n := s.count("tables", maxTables)
	for range n {
		if s.at < len(s.b) && s.b[s.at] == 0x40 {
			s.unsupported("typed function references", "a table has an initial value")
			return
		}
		t := table{ref: s.refType()}
		flags := s.byte()
		switch {
		case flags > 1 && flags&4 != 0:
			s.unsupported("64-bit tables", "table flags 0x%02x", flags)
		case flags > 1:
			s.unsupported("shared tables", "table flags 0x%02x", flags)
		}
		t.min, t.max = s.u32(), w.options.TableElements
		if flags&1 != 0 {
			declared := s.u32()
			if s.err == nil && declared < t.min {
				s.fail("a table's maximum %d is below its minimum %d", declared, t.min)
			}
			t.max = min(declared, t.max)
		}
		if s.err == nil && t.min > w.options.TableElements {
			s.fail("a table begins with %d elements, more than the limit of %d", t.min, w.options.TableElements)
		}
		w.tables = append(w.tables, t)
	}
}

func (w *rewriter) memorySection(s *reader) {
	n := s.count("memories", 1<<10)
	if s.err == nil && n > 1 {
		s.unsupported("several memories", "the module has %d", n)
	}
	if n == 0 || s.err != nil {
		return
	}
	flags := s.byte()
	switch {
	case flags&2 != 0:
		s.unsupported("threads", "the memory is shared")
	case flags&4 != 0:
		s.unsupported("64-bit memories", "memory flags 0x%02x", flags)
	case flags > 1:
		s.unsupported("custom page sizes", "memory flags 0x%02x", flags)
	}
	w.hasMemory = true
	w.memoryMin, w.memoryMax = s.u32(), w.options.MemoryPages
	if flags&1 != 0 {
		declared := s.u32()
		if s.err == nil && (declared < w.memoryMin || declared > 1<<16) {
			s.fail("the memory's maximum %d is below its minimum %d or above 65536", declared, w.memoryMin)
		}
		w.memoryMax = min(declared, w.memoryMax)
	}
	if s.err == nil && w.memoryMin > w.options.MemoryPages {
		s.fail("the memory begins with %d pages of 64 KiB, more than the limit of %d", w.memoryMin, w.options.MemoryPages)
	}
}

func (w *rewriter) globalSection(s *reader) {
	n := s.count("globals", maxGlobals)
	for range n {
		g := global{typ: s.valueType()}
		switch m := s.byte(); m {
		case 0, 1:
			g.mutable = m == 1
		case 2, 3:
			s.unsupported("threads", "a global is shared")
		default:
			s.fail("a global's mutability is 0x%02x", m)
		}
		g.init = w.constExpr(s)
		if s.err != nil {
			return
		}
		w.globals = append(w.globals, g)
	}
}

// constExpr reads one constant expression: one instruction and an end.
func (w *rewriter) constExpr(s *reader) constExpr {
	begin := s.at
	e := constExpr{refFunc: -1}
	switch op := s.byte(); op {
	case 0x41:
		s.signed(32)
	case 0x42:
		s.signed(64)
	case 0x43:
		s.bytes(4)
	case 0x44:
		s.bytes(8)
	case 0xfd:
		if s.u32() != 12 {
			s.fail("an instruction that is not constant")
		}
		s.bytes(16)
	case 0xd0:
		s.refType()
	case 0xd2:
		f := s.u32()
		if s.err == nil && int(f) >= w.functions() {
			s.fail("function %d does not exist", f)
		}
		e.refFunc = int64(f)
	case 0x23:
		s.unsupported("extended constant expressions", "a constant refers to a global, and globals cannot be imported")
	default:
		s.fail("instruction 0x%02x is not constant", op)
	}
	e.raw = s.b[min(begin, len(s.b)):min(s.at, len(s.b))]
	switch op := s.byte(); {
	case s.err != nil || op == 0x0b:
	case op == 0x41 || op == 0x42 || op == 0x23 || op >= 0x6a && op <= 0x6c || op >= 0x7c && op <= 0x7e:
		s.unsupported("extended constant expressions", "a constant of several instructions")
	default:
		s.fail("a constant of several instructions")
	}
	return e
}

func (w *rewriter) exportSection(s *reader) {
	n := s.count("exports", maxExports)
	seen := make(map[string]bool, n)
	for range n {
		e := Export{Name: s.name(), Kind: Kind(s.byte()), Index: s.u32()}
		if s.err != nil {
			return
		}
		limit := 0
		switch e.Kind {
		case KindFunction:
			limit = w.functions()
		case KindTable:
			limit = len(w.tables)
		case KindMemory:
			if w.hasMemory {
				limit = 1
			}
		case KindGlobal:
			limit = len(w.globals)
		case 4:
			s.unsupported("exceptions", "the module exports the tag %s", e.Name)
			return
		}
		switch {
		case int64(e.Index) >= int64(limit):
			s.fail("export %s is of nothing that exists", e.Name)
		case seen[e.Name]:
			s.fail("there are two exports of the name %s", e.Name)
		case e.Name == Fuel:
			s.fail("the export %s is reserved", Fuel)
		}
		if s.err != nil {
			return
		}
		seen[e.Name] = true
		if e.Kind == KindFunction {
			e.Type = w.typeOf(e.Index)
		}
		w.exports = append(w.exports, e)
	}
}

func (w *rewriter) typeOf(f uint32) FuncType {
	if int(f) < len(w.imports) {
		return w.imports[f].Type
	}
	return w.types[w.funcTypes[int(f)-len(w.imports)]]
}
