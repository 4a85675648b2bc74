package meter

func (s *scanner) control(op byte, imm immediate, at int, past recent) {
	wasStraight := s.straight
	s.straight = false
	switch imm {
	case immBlock:
		s.block(op, at, wasStraight)
	case immElse:
		if s.top().op != opIf {
			s.r.fail("an else without its if")
			return
		}
		s.top().op = opElse
		s.blocks++
	case immEnd:
		last := len(s.frames) - 1
		f := s.frames[last]
		s.frames = s.frames[:last]
		s.closed(f, last)
	case immLabel:
		s.branchOp(op, at, past)
	case immBrTable:
		s.table(at)
	}
}

func (s *scanner) block(op byte, at int, wasStraight bool) {
	params, results := s.blockType()
	if s.r.err != nil {
		return
	}
	if op != opLoop {
		s.push(op, s.top().point, results)
		s.form(op, 0, nil)
		return
	}
	depth, p := len(s.frames), int32(len(s.points))
	pt := point{parent: s.top().point, params: params, dispatch: -1}
	pt.open = s.mark(at, at, mark{arg: uint32(s.r.at - s.base)})
	pt.head = s.mark(s.r.at, s.r.at, mark{})
	s.points = append(s.points, pt)
	s.push(op, p, params)
	if wasStraight && depth == 1 {
		s.onlyLoop = p
	}
	if params == 0 && results == 0 {
		s.forming, s.formingFrame = formingBlocks, depth
	}
}

// branchOp reads a br or br_if.
func (s *scanner) branchOp(op byte, at int, past recent) {
	operand := s.r.at
	label := s.r.u32()
	to := s.branch(label)
	if to < 0 {
		return
	}
	if d := s.leadsBack(label); d >= 0 {
		s.back(d, label, at, op == opBr, past)
	}
	if from := s.top().point; from != to {
		s.mark(operand, s.r.at, mark{kind: markLabel, arg: label, from: from, to: to})
	}
}

func (s *scanner) table(at int) {
	n := s.r.count("branch targets", maxBranchTargets)
	operands := s.r.at
	forming := s.forming == formingLocal
	s.forming = formingNone
	s.labels = s.labels[:0]
	leaves := false
	for range n + 1 {
		label := s.r.u32()
		to := s.branch(label)
		if to < 0 {
			return
		}
		leaves = leaves || to != s.top().point
		if d := s.leadsBack(label); d >= 0 && s.dispatches[d].seen != at {
			s.dispatches[d].seen = at
			s.back(d, label, at, false, recent{})
		}
		s.labels = append(s.labels, label)
	}
	if leaves {
		// The labels come first and the points that they go to second, until both are known.
		labels := make([]uint32, 0, 2*len(s.labels))
		labels = append(labels, s.labels...)
		for _, l := range s.labels {
			labels = append(labels, uint32(s.frames[len(s.frames)-1-int(l)].point))
		}
		s.mark(operands, s.r.at, mark{kind: markTable, labels: labels, from: s.top().point})
	}
	if forming {
		s.forming = formingLocal
		s.form(opBrTable, 0, s.labels)
	}
}

// branch checks a label and counts what is carried over it. It returns the point of the block that it leads to, or -1.
func (s *scanner) branch(label uint32) int32 {
	if s.r.err != nil || int64(label) >= int64(len(s.frames)) {
		s.r.fail("a branch leaves %d blocks of %d", label, len(s.frames))
		return -1
	}
	f := &s.frames[len(s.frames)-1-int(label)]
	if s.carried += uint64(f.arity); s.carried > maxBranchValues {
		s.r.fail("the function's branches carry more than %d values", maxBranchValues)
		return -1
	}
	return f.point
}

// leadsBack is the dispatch loop whose head that label is, or -1.
func (s *scanner) leadsBack(label uint32) int32 {
	if f := &s.frames[len(s.frames)-1-int(label)]; f.op == opLoop {
		return s.points[f.point].dispatch
	}
	return -1
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

// closed notes the end of a block.
func (s *scanner) closed(f frame, index int) {
	if f.owner >= 0 { // what follows is the code of a dispatch loop's block
		d := &s.dispatches[f.owner]
		d.starts[index-d.frame-1] = s.points[d.point].cost
	}
	if f.op != opLoop {
		return
	}
	p := &s.points[f.point]
	pays := true
	if p.dispatch >= 0 {
		s.open = s.open[:len(s.open)-1]
		pays = s.closeDispatch(p)
	}
	if !p.entered {
		p.credit = !p.calls && p.params == 0
	}
	end := s.mark(s.r.at, s.r.at, mark{})
	if p.credit {
		s.body.credit = true
		s.body.marks[p.open].kind, s.body.marks[end].kind = markOpen, markClose
	}
	parent := &s.points[p.parent]
	parent.calls = parent.calls || p.calls || pays && !p.credit
}
