package meter

// elementSection reads the eight forms of an element segment.
func (w *rewriter) elementSection(s *reader) {
	n := s.count("element segments", maxElemSegments)
	for range n {
		e := element{flags: s.u32(), ref: FuncRef}
		if s.err == nil && e.flags > 7 {
			s.fail("an element segment has the flags 0x%x", e.flags)
		}
		if e.flags&1 == 0 { // active
			if e.flags&2 != 0 {
				e.table = s.u32()
			}
			if s.err == nil && int(e.table) >= len(w.tables) {
				s.fail("an element segment is for table %d, which does not exist", e.table)
			}
			e.offset = w.constExpr(s)
		}
		if e.flags&3 != 0 {
			if e.flags&4 != 0 {
				e.ref = s.refType()
			} else if e.kind = s.byte(); s.err == nil && e.kind != 0 {
				s.fail("an element segment is of kind %d", e.kind)
			}
		}
		items := s.count("elements", maxElemItems)
		if w.elemItems += items; w.elemItems > maxElemItems {
			s.fail("more than %d elements in all segments", maxElemItems)
		}
		if s.err != nil {
			return
		}
		w.elementItems(s, &e, items)
		if s.err != nil {
			return
		}
		w.elements = append(w.elements, e)
	}
}

func (w *rewriter) elementItems(s *reader, e *element, items int) {
	if e.flags&4 != 0 {
		e.exprs = make([]constExpr, 0, items)
		for range items {
			e.exprs = append(e.exprs, w.constExpr(s))
			if s.err != nil {
				return
			}
		}
		return
	}
	e.funcs = make([]uint32, 0, items)
	for range items {
		f := s.u32()
		if int64(f) >= int64(w.functions()) {
			s.fail("an element is of function %d, which does not exist", f)
			return
		}
		e.funcs = append(e.funcs, f)
	}
}

// dataSection checks the segments' shape. They are written as they were: no index in them moves.
func (w *rewriter) dataSection(s *reader) {
	begin := s.at
	n := s.count("data segments", maxDataSegments)
	for range n {
		switch flags := s.u32(); flags {
		case 0:
			w.constExpr(s)
		case 1:
		case 2:
			if m := s.u32(); s.err == nil && m != 0 {
				s.unsupported("several memories", "a data segment is for memory %d", m)
			}
			w.constExpr(s)
		default:
			s.fail("a data segment has the flags 0x%x", flags)
		}
		s.bytes(int(s.u32()))
		if s.err != nil {
			return
		}
	}
	w.dataSeen = n
	w.rawData = s.b[begin:s.at]
}

// custom keeps the first name section, and debugging information if it is wanted, and skips all others.
func (w *rewriter) custom(s *reader) {
	n := s.u32()
	name := s.bytes(int(n))
	if s.err == nil && w.nameSection == nil && string(name) == "name" {
		w.nameSection = s.b[s.at:]
	}
	if s.err == nil {
		w.debug(string(name), s.b[s.at:])
	}
	s.at = len(s.b)
}

// readNames takes the module's and the functions' names. Names are a help and no more: a section that is malformed is
// used as far as it goes.
func (w *rewriter) readNames() {
	w.names = make([]string, w.functions())
	r := reader{b: w.nameSection}
	for r.more() {
		id := r.byte()
		s := r.sub(int(r.u32()))
		switch {
		case r.err != nil:
		case id == 0:
			w.moduleName = s.debugName()
		case id == 1:
			w.functionNames(&s)
		}
	}
	for _, e := range w.exports {
		if e.Kind == KindFunction && w.names[e.Index] == "" {
			w.names[e.Index] = cut([]byte(e.Name))
		}
	}
	for i, imp := range w.imports {
		if w.names[i] == "" {
			w.names[i] = cut([]byte(imp.Module + "." + imp.Name))
		}
	}
}

func (w *rewriter) functionNames(s *reader) {
	for range s.u32() {
		f := s.u32()
		name := s.debugName()
		if s.err != nil {
			return
		}
		if int64(f) < int64(len(w.names)) {
			w.names[f] = name
			w.named = true
		}
	}
}

func (r *reader) debugName() string { return cut(r.bytes(int(r.u32()))) }

// cut returns a name of at most maxDebugNameBytes, printable as it stands: it goes into logs.
func cut(b []byte) string {
	name := make([]byte, 0, min(len(b), maxDebugNameBytes))
	for _, r := range string(b[:min(len(b), maxDebugNameBytes)]) {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			r = '?'
		}
		name = append(name, string(r)...)
	}
	return string(name)
}
