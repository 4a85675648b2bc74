package meter

import "slices"

// Go's compiler writes every function with control flow as one loop around a br_table that jumps to a basic block by
// number, and each jump of the program, forward or back, as a branch to the head of that loop with the next block's
// number in a local:
//
//	loop
//	  block … block
//	    local.get $pc
//	    br_table 0 1 2 …
//	  end
//	  (block 0) … i32.const 2  local.set $pc  br $loop …
//	  end
//	  (block 1) …
//
// To charge the whole body for each jump would make such programs up to a hundred times as expensive as they are. So the
// edges pay instead of the head. Within one round control moves forward only, so that code position is a potential: from
// where a round began to where it ends the code between them is paid for at most once. What precedes the loop pays for
// one pass over the whole body, a branch back to a known block for the code between that block and the branch, a branch
// forward for nothing, and a branch to an unknown block for the whole body. A round trip always contains a branch that
// is not forward, and pays.

// dispatch is a loop of that form.
type dispatch struct {
	frame   int    // of the loop
	point   int32  // of the loop
	local   uint32 // that holds the next block's number
	labels  []uint32
	starts  []int64 // by block: the cost of the loop's code before it, -1 while that has not been read
	edges   []edge
	known   int // edges whose target is known, forward ones included
	unknown int
	seen    int // the offset of the last br_table that leads back here
}

// edge is a branch to the head of a dispatch loop that pays.
type edge struct {
	mark  int
	label uint32
	from  int32
	cost  int64 // -1: the whole body
}

// forming is how much of a dispatch loop's beginning has been read.
type forming uint8

const (
	formingNone forming = iota
	formingBlocks
	formingLocal
)

// recent is what the last two instructions were, as far as it matters.
type recent struct {
	number, set bool // an i32.const; an i32.const and a local.set
	value       uint32
	local       uint32
}

// form follows the beginning of a loop, and notes the loop as one of dispatch when it has seen enough. labels is the
// br_table's; nil for other instructions.
func (s *scanner) form(op byte, local uint32, labels []uint32) {
	was := s.forming
	s.forming = formingNone
	switch {
	case op == opBlock && was == formingBlocks && s.top().arity == 0:
		s.forming = formingBlocks
	case op == opLocalGet && was == formingBlocks && s.formingFrame < len(s.frames)-1:
		s.forming, s.formingOn = formingLocal, local
	case op == opBrTable && was == formingLocal:
		if slices.Contains(labels, uint32(len(s.frames)-1-s.formingFrame)) {
			return // it may go round without ever leaving its head
		}
		id := int32(len(s.dispatches))
		d := dispatch{frame: s.formingFrame, point: s.frames[s.formingFrame].point, local: s.formingOn, labels: slices.Clone(labels)}
		d.starts = make([]int64, len(s.frames)-1-d.frame)
		for i := range d.starts {
			d.starts[i] = -1
			s.frames[d.frame+1+i].owner = id
		}
		s.points[d.point].dispatch = id
		s.open = append(s.open, id)
		s.dispatches = append(s.dispatches, d)
	}
}

// back notes a branch to the head of a dispatch loop: the instruction at that offset, whose recent past tells where it
// goes if it is a plain br.
func (s *scanner) back(id int32, label uint32, at int, plain bool, past recent) {
	d := &s.dispatches[id]
	cost := int64(-1)
	if plain && past.set && past.local == d.local && s.open[len(s.open)-1] == id {
		d.known++
		if cost = s.costTo(d, past.value); cost == 0 {
			return
		}
	} else {
		d.unknown++
	}
	d.edges = append(d.edges, edge{mark: s.mark(at, at, mark{}), label: label, from: s.top().point, cost: cost})
}

// costDispatch is what it takes to get from the head of the loop into a block.
const costDispatch = 4

// costTo is what a branch to the block of that number pays: 0 if it is forward.
func (s *scanner) costTo(d *dispatch, number uint32) int64 {
	label := d.labels[min(int64(number), int64(len(d.labels)-1))]
	block := len(d.starts) - 1 - int(label)
	if block < 0 || d.starts[block] < 0 { // out of the loop, or forward
		return 0
	}
	return s.points[d.point].cost - d.starts[block] + costDispatch
}

// closeDispatch decides, at the end of what may be a dispatch loop, whether it is one, and reports whether anything in
// it pays. If it is not what it looked like, its head pays, as in every other loop.
func (s *scanner) closeDispatch(p *point) bool {
	d := &s.dispatches[p.dispatch]
	if d.known < d.unknown {
		return true
	}
	p.entered = true
	p.credit = !p.calls && d.unknown == 0 && len(d.edges) > 0
	for _, e := range d.edges {
		if e.cost < 0 {
			e.cost = p.cost
		}
		m := &s.body.marks[e.mark]
		m.kind, m.cost = markCharge, e.cost
		if p.credit {
			m.kind, m.arg, m.from, m.to = markSpend, e.label, e.from, d.point
		}
	}
	s.points[p.parent].cost += p.cost
	return len(d.edges) > 0
}
