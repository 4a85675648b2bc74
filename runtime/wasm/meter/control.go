package meter

func (s *scanner) control(op byte, imm immediate) {
	wasStraight := s.straight
	s.straight = false
	switch imm {
	case immBlock:
		params, results := s.blockType()
		if s.r.err != nil {
			return
		}
		if op != opLoop {
			s.push(op, s.top().point, results)
			return
		}
		depth := len(s.frames)
		p := s.point(s.r.at)
		s.push(op, p, params)
		if wasStraight && depth == 1 {
			s.onlyLoop = p
		}
	case immElse:
		if s.top().op != opIf {
			s.r.fail("an else without its if")
			return
		}
		s.top().op = opElse
		s.blocks++
	case immEnd:
		s.frames = s.frames[:len(s.frames)-1]
	case immLabel:
		s.branch(s.r.u32())
	case immBrTable:
		n := s.r.count("branch targets", maxBranchTargets)
		for range n + 1 {
			s.branch(s.r.u32())
			if s.r.err != nil {
				return
			}
		}
	}
}

// branch checks a label and counts what is carried over it.
func (s *scanner) branch(label uint32) {
	if int64(label) >= int64(len(s.frames)) {
		s.r.fail("a branch leaves %d blocks of %d", label, len(s.frames))
		return
	}
	if s.carried += uint64(s.frames[len(s.frames)-1-int(label)].arity); s.carried > maxBranchValues {
		s.r.fail("the function's branches carry more than %d values", maxBranchValues)
	}
}

// blockType reads a block's type and returns how many values go in and come out.
func (s *scanner) blockType() (params, results int) {
	if s.r.at < len(s.r.b) {
		switch c := s.r.b[s.r.at]; {
		case c == 0x40:
			s.r.at++
			return 0, 0
		case c > 0x40 && c < 0x80:
			s.r.valueType()
			return 0, 1
		}
	}
	i := s.r.signed(33)
	if s.r.err == nil && (i < 0 || i >= int64(len(s.w.types))) {
		s.r.fail("a block has the unknown type %d", i)
	}
	if s.r.err != nil {
		return 0, 0
	}
	t := s.w.types[i]
	return len(t.Params), len(t.Results)
}

// foldable is the most that an entry may cost to be paid for by the loop that follows it.
const foldable = 24

// settle writes the costs into the marks, when the whole function has been read.
func (s *scanner) settle() {
	var looped int64
	for _, c := range s.costs[1:] {
		looped += c
	}
	// A stack frame holds at most sixteen bytes for each local and each value: it is paid for once 256 bytes.
	frame := (int64(s.locals) + looped) / 16
	fold := s.onlyLoop != noPoint && s.costs[0]+frame <= foldable
	if fold {
		s.costs[s.onlyLoop] += s.costs[0]
	} else {
		s.costs[0] += frame
	}
	marks := s.body.marks
	for p, i := range s.places {
		marks[i].cost = s.costs[p]
	}
	if fold {
		s.body.marks = marks[1:]
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
