package route

import (
	"fmt"
	"regexp"
	"regexp/syntax"
)

// Bounds of an expression's program and of the memory of a run: states times positions, in bits.
const (
	maxStates = 2000
	maxVisits = 32 << 20
)

// program is a compiled regular expression.
type program struct {
	prog     *syntax.Prog
	anchored bool
	captures int
	names    []string
}

func compile(expr string) (*program, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	if len(prog.Inst) > maxStates {
		return nil, fmt.Errorf("the expression needs %d states; %d is the limit", len(prog.Inst), maxStates)
	}
	p := &program{prog: prog, captures: re.NumSubexp() + 1, names: re.SubexpNames()}
	p.anchored = prog.StartCond()&syntax.EmptyBeginText != 0
	return p, nil
}

// machine runs programs. It backtracks, but visits each state at each position at most once, so a run is bounded by
// their product. Its memory is used again.
type machine struct {
	visited []uint64
	stack   []step
}

// step is a place to go on from: a state at a position, or a capture to restore.
type step struct {
	state, pos int32
	slot       int32 // -1: not a restore; otherwise captures[slot] = pos
}

// run looks for the leftmost match, preferring as Perl does, and leaves its captures in caps.
func (m *machine) run(p *program, text []byte, caps *[]int32) bool {
	bits := len(p.prog.Inst) * (len(text) + 1)
	if bits > maxVisits {
		return false
	}
	words := (bits + 63) / 64
	if cap(m.visited) < words {
		m.visited = make([]uint64, words)
	}
	m.visited = m.visited[:words]
	clear(m.visited)
	c := (*caps)[:0]
	for range 2 * p.captures {
		c = append(c, -1)
	}
	*caps = c
	last := len(text)
	if p.anchored {
		last = 0
	}
	for at := 0; at <= last; at++ {
		if m.from(p, text, int32(at), c) {
			c[0] = int32(at)
			return true
		}
	}
	*caps = c[:0]
	return false
}

// from looks for a match that begins at a position. States visited from an earlier one led nowhere, and stay visited.
func (m *machine) from(p *program, text []byte, at int32, caps []int32) bool {
	width := int32(len(text) + 1)
	m.stack = append(m.stack[:0], step{int32(p.prog.Start), at, -1})
	for len(m.stack) > 0 {
		s := m.stack[len(m.stack)-1]
		m.stack = m.stack[:len(m.stack)-1]
		if s.slot >= 0 {
			caps[s.slot] = s.pos
			continue
		}
		state, pos := s.state, s.pos
		for alive := true; alive; {
			bit := state*width + pos
			if m.visited[bit/64]&(1<<(bit%64)) != 0 {
				break
			}
			m.visited[bit/64] |= 1 << (bit % 64)
			inst := &p.prog.Inst[state]
			switch inst.Op {
			case syntax.InstMatch:
				caps[1] = pos
				return true
			case syntax.InstFail:
				alive = false
			case syntax.InstAlt, syntax.InstAltMatch:
				m.stack = append(m.stack, step{int32(inst.Arg), pos, -1})
			case syntax.InstCapture:
				if int(inst.Arg) < len(caps) {
					m.stack = append(m.stack, step{0, caps[inst.Arg], int32(inst.Arg)})
					caps[inst.Arg] = pos
				}
			case syntax.InstEmptyWidth:
				alive = syntax.EmptyOp(inst.Arg)&^context(text, pos) == 0
			case syntax.InstNop:
			default: // a rune; paths are ASCII, so bytes are runes
				alive = int(pos) < len(text) && inst.MatchRune(rune(text[pos]))
				pos++
			}
			state = int32(inst.Out)
		}
	}
	return false
}

// context is which empty-width conditions hold at a position.
func context(text []byte, pos int32) syntax.EmptyOp {
	before, after := rune(-1), rune(-1)
	if pos > 0 {
		before = rune(text[pos-1])
	}
	if int(pos) < len(text) {
		after = rune(text[pos])
	}
	return syntax.EmptyOpContext(before, after)
}
