package meter

// write returns the rewritten module. Everything read is valid by then, so that it cannot fail.
func (w *rewriter) write() (*Module, error) {
	out := make([]byte, 0, len(w.r.b)+len(w.r.b)/4+1024)
	out = append(out, "\x00asm\x01\x00\x00\x00"...)
	var buf []byte
	debug := w.debugInfo()
	if debug != nil {
		w.offsets = &Offsets{}
	}
	for _, id := range [...]byte{
		secType, secImport, secFunction, secTable, secMemory, secGlobal, secExport, secStart, secElement, secDataCount, secCode, secData,
	} {
		buf = w.appendSection(buf[:0], id)
		if len(buf) > 0 {
			out = append(appendU32(append(out, id), uint32(len(buf))), buf...)
		}
	}
	if buf = w.appendNames(buf[:0]); len(buf) > 0 {
		out = append(appendU32(append(out, secCustom), uint32(len(buf))), buf...)
	}
	if debug != nil {
		out = appendPointer(out, w.offsets.end)
	}
	m := &Module{
		Named: w.named, Debug: debug, Offsets: w.offsets,
		Binary: out, Name: w.moduleName, Names: w.movedNames(), Imports: w.imports, Exports: w.exports,
		MemoryMin: w.memoryMin, MemoryMax: w.memoryMax, HasMemory: w.hasMemory, GrowsMemory: w.growsMemory, Functions: len(w.funcTypes),
	}
	for i := range m.Exports {
		if e := &m.Exports[i]; e.Kind == KindFunction {
			e.Empty = int(e.Index) >= len(w.imports) && len(w.code[int(e.Index)-len(w.imports)].code) == 1 // its end
			e.Index = w.moved(e.Index)
		}
	}
	return m, nil
}

func (w *rewriter) appendSection(b []byte, id byte) []byte {
	switch id {
	case secType:
		b = appendU32(b, uint32(len(w.types)+2))
		b = append(b, w.rawTypes...)
		b = append(b, 0x60, 0, 0)                          // () -> ()
		return append(b, 0x60, 1, byte(I32), 1, byte(I32)) // (i32) -> (i32)
	case secImport:
		b = append(appendU32(b, uint32(len(w.imports))+w.added()), w.rawImports...)
		b = appendName(appendName(b, ImportModule), Refill)
		b = appendU32(append(b, 0), uint32(len(w.types)))
		if w.growsMemory {
			b = appendName(appendName(b, ImportModule), MemoryGrow)
			b = appendU32(append(b, 0), uint32(len(w.types)+1))
		}
		return b
	case secFunction:
		b = appendU32(b, uint32(len(w.funcTypes)))
		for _, t := range w.funcTypes {
			b = appendU32(b, t)
		}
		return b
	case secTable:
		return w.appendTables(b)
	case secMemory:
		if w.hasMemory {
			b = appendU32(appendU32(append(b, 1, 1), w.memoryMin), w.memoryMax)
		}
		return b
	case secGlobal:
		return w.appendGlobals(b)
	case secExport:
		return w.appendExports(b)
	case secStart:
		if w.start >= 0 {
			b = appendU32(b, w.moved(uint32(w.start)))
		}
		return b
	case secElement:
		return w.appendElements(b)
	case secDataCount:
		if w.dataCount >= 0 {
			b = appendU32(b, uint32(w.dataCount))
		}
		return b
	case secCode:
		return w.appendCode(b)
	}
	return append(b, w.rawData...)
}

func (w *rewriter) appendTables(b []byte) []byte {
	if len(w.tables) == 0 {
		return b
	}
	b = appendU32(b, uint32(len(w.tables)))
	for _, t := range w.tables {
		b = appendU32(appendU32(append(b, byte(t.ref), 1), t.min), t.max)
	}
	return b
}

func (w *rewriter) appendConst(b []byte, e constExpr) []byte {
	if e.refFunc >= 0 {
		b = appendU32(append(b, opRefFunc), w.moved(uint32(e.refFunc)))
	} else {
		b = append(b, e.raw...)
	}
	return append(b, opEnd)
}

// appendGlobals writes the module's globals, the counter, and the references that its code takes.
func (w *rewriter) appendGlobals(b []byte) []byte {
	b = appendU32(b, uint32(len(w.globals)+1+len(w.refOrder)))
	for _, g := range w.globals {
		mutable := byte(0)
		if g.mutable {
			mutable = 1
		}
		b = w.appendConst(append(b, byte(g.typ), mutable), g.init)
	}
	b = append(b, byte(I64), 1, opI64Const, 0, opEnd)
	for _, f := range w.refOrder {
		b = appendU32(append(b, byte(FuncRef), 0, opRefFunc), w.moved(f))
		b = append(b, opEnd)
	}
	return b
}

func (w *rewriter) appendExports(b []byte) []byte {
	b = appendU32(b, uint32(len(w.exports)+1))
	for _, e := range w.exports {
		i := e.Index
		if e.Kind == KindFunction {
			i = w.moved(i)
		}
		b = appendU32(append(appendName(b, e.Name), byte(e.Kind)), i)
	}
	return appendU32(append(appendName(b, Fuel), byte(KindGlobal)), w.fuel())
}

// fuel is the counter's index.
func (w *rewriter) fuel() uint32 { return uint32(len(w.globals)) }

func (w *rewriter) appendElements(b []byte) []byte {
	if len(w.elements) == 0 {
		return b
	}
	b = appendU32(b, uint32(len(w.elements)))
	for _, e := range w.elements {
		b = appendU32(b, e.flags)
		if e.flags&1 == 0 {
			if e.flags&2 != 0 {
				b = appendU32(b, e.table)
			}
			b = w.appendConst(b, e.offset)
		}
		if e.flags&3 != 0 {
			if e.flags&4 != 0 {
				b = append(b, byte(e.ref))
			} else {
				b = append(b, e.kind)
			}
		}
		b = appendU32(b, uint32(len(e.funcs)+len(e.exprs)))
		for _, f := range e.funcs {
			b = appendU32(b, w.moved(f))
		}
		for _, x := range e.exprs {
			b = w.appendConst(b, x)
		}
	}
	return b
}

func (w *rewriter) appendCode(b []byte) []byte {
	if len(w.code) == 0 {
		return b
	}
	b = appendU32(b, uint32(len(w.code)))
	var buf []byte
	for i := range w.code {
		first := w.offsets.count()
		buf = w.appendBody(buf[:0], &w.code[i])
		b = appendU32(b, uint32(len(buf)))
		w.offsets.move(first, len(b))
		b = append(b, buf...)
	}
	if w.offsets != nil {
		w.offsets.end = uint32(len(b))
	}
	return b
}

// appendBody writes a function's code with its differences.
func (w *rewriter) appendBody(b []byte, f *body) []byte {
	length, credit := f.locals, f.locals // the added locals
	groups := f.count
	if f.bulk {
		groups++
		credit++
	}
	if f.credit {
		groups++
	}
	b = append(appendU32(b, groups), f.groups...)
	if f.bulk {
		b = append(b, 1, byte(I32))
	}
	if f.credit {
		b = append(b, 1, byte(I64))
	}
	done := 0
	w.offsets.note(len(b), f.at, false)
	for i := range f.marks {
		m := &f.marks[i]
		b = append(b, f.code[done:m.at]...)
		done = m.end
		w.offsets.note(len(b), f.at+m.stands(), true)
		b = w.appendMark(b, f, m, length, credit)
		w.offsets.note(len(b), f.at+done, false)
	}
	return append(b, f.code[done:]...)
}

// stands is the place in the original of what a mark adds. What is put around a loop stands for the loop's first
// instruction: the line of that is the loop's.
func (m *mark) stands() int {
	if m.kind == markOpen {
		return int(m.arg)
	}
	return m.at
}

func (w *rewriter) appendMark(b []byte, f *body, m *mark, length, credit uint32) []byte {
	switch m.kind {
	case markEntry, markPrepaid:
		if m.kind == markEntry {
			b = w.appendCharge(b, m.cost)
		}
		if m.arg > 0 {
			b = appendU32(append(appendS64(append(b, opI64Const), int64(m.arg)), opLocalSet), credit)
		}
	case markCharge:
		b = w.appendCharge(b, m.cost)
	case markSpend:
		b = appendU32(append(b, opLocalGet), credit)
		b = append(appendS64(append(b, opI64Const), m.cost), opI64Sub)
		b = appendU32(append(b, opLocalTee), credit)
		b = append(b, opI64Const, 0, opI64GeS, opIf, 0x40, opElse)
		b = append(appendU32(append(b, opBr), m.arg+2), opEnd)
	case markOpen:
		b = append(b, f.code[m.at:m.arg]...)
		b = w.appendBuy(b, m, credit)
	case markClose:
		b = append(b, opEnd)
	case markLength:
		b = appendU32(append(b, opLocalTee), length)
		b = appendU32(append(b, opGlobalGet), w.fuel())
		b = appendU32(append(b, opLocalGet), length)
		b = append(b, opI64ExtendU)
		if m.arg > 0 {
			b = append(b, opI64Const, byte(m.arg), opI64ShrU)
		}
		b = w.appendTake(b)
	case markCall, markLabel:
		i := m.arg
		if m.kind == markCall {
			i = w.moved(i)
		}
		b = appendU32(b, i)
	case markTable:
		for _, l := range m.labels {
			b = appendU32(b, l)
		}
	case markGrow:
		b = appendU32(append(b, opCall), uint32(len(w.imports)+1))
	case markRefFunc:
		b = appendU32(append(b, opGlobalGet), w.funcRefs[m.arg])
	}
	return b
}

// appendBuy moves credit from the counter into the local if that is below zero. A loop begins with what earlier loops of
// the call left.
func (w *rewriter) appendBuy(b []byte, m *mark, credit uint32) []byte {
	b = appendU32(append(b, opLocalGet), credit)
	b = append(b, opI64Const, 0, opI64LtS, opIf, 0x40)
	b = appendU32(append(b, opLocalGet), credit)
	b = append(appendS64(append(b, opI64Const), m.cost), opI64Add)
	b = appendU32(append(b, opLocalSet), credit)
	return append(w.appendCharge(b, m.cost), opEnd)
}

func (w *rewriter) appendCharge(b []byte, cost int64) []byte {
	b = appendU32(append(b, opGlobalGet), w.fuel())
	return w.appendTake(appendS64(append(b, opI64Const), cost))
}

// appendTake subtracts the two values on the stack, keeps the result as the counter, and asks for more below zero. The
// call is in the else so that wazero lays registers out for the way without it.
func (w *rewriter) appendTake(b []byte) []byte {
	b = appendU32(append(b, opI64Sub, opGlobalSet), w.fuel())
	b = appendU32(append(b, opGlobalGet), w.fuel())
	b = append(b, opI64Const, 0, opI64GeS, opIf, 0x40, opElse)
	return append(appendU32(append(b, opCall), uint32(len(w.imports))), opEnd)
}

func (w *rewriter) movedNames() []string {
	names := make([]string, 0, len(w.names)+int(w.added()))
	names = append(names, w.names[:len(w.imports)]...)
	names = append(names, ImportModule+"."+Refill)
	if w.growsMemory {
		names = append(names, ImportModule+"."+MemoryGrow)
	}
	return append(names, w.names[len(w.imports):]...)
}

// appendNames writes the functions' names. The module's own would be put before each of them in a trap's stack.
func (w *rewriter) appendNames(b []byte) []byte {
	b = appendName(b, "name")
	var s []byte
	n := 0
	for i, name := range w.movedNames() {
		if name != "" {
			s = appendName(appendU32(s, uint32(i)), name)
			n++
		}
	}
	head := appendU32(nil, uint32(n))
	b = appendU32(append(b, 1), uint32(len(head)+len(s)))
	return append(append(b, head...), s...)
}
