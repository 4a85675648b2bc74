package main

import (
	"math/bits"
	"regexp/syntax"
)

// program is an expression as instructions. Package regexp is not used: in a module each of its many calls costs hundreds of
// instructions, some ten thousand for a byte of a path; the one loop below takes a hundredth of that, and can be told to stop.
// Package syntax reads the expressions and compiles them.
type program struct {
	ins    []instruction
	start  uint16
	names  []string // of the captures
	prefix string   // what all that matches begins with
}

type instruction struct {
	op       op
	out, arg uint16
	set      [2]uint64 // the ASCII characters
}

type op uint8

const (
	opFail op = iota
	opAlt
	opCapture
	opSet
	opBegin
	opEnd
	opNop
	opMatch
)

const (
	maxInstructions = 500
	maxVisits       = 1 << 20 // instructions times places in a path
	maxStack        = 1 << 13
)

// compile reads an expression (RE2). The problem is for the one who wrote it.
func compile(expr string) (p *program, problem string) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return nil, err.Error()
	}
	names := re.CapNames()
	prog, err := syntax.Compile(re.Simplify())
	if err != nil {
		return nil, err.Error()
	}
	if len(prog.Inst) > maxInstructions {
		return nil, "it is too long"
	}
	p = &program{start: uint16(prog.Start), names: names} //nolint:gosec // within the instructions
	p.prefix, _ = prog.Prefix()
	for i := range prog.Inst {
		in := &prog.Inst[i]
		out := instruction{out: uint16(in.Out), arg: uint16(in.Arg)} //nolint:gosec // see above
		switch in.Op {
		case syntax.InstAlt, syntax.InstAltMatch:
			out.op = opAlt
		case syntax.InstCapture:
			out.op = opCapture
		case syntax.InstNop:
			out.op = opNop
		case syntax.InstMatch:
			out.op = opMatch
		case syntax.InstFail:
		case syntax.InstEmptyWidth:
			switch syntax.EmptyOp(in.Arg) { //nolint:gosec // bits
			case syntax.EmptyBeginText, syntax.EmptyBeginLine:
				out.op = opBegin
			case syntax.EmptyEndText, syntax.EmptyEndLine:
				out.op = opEnd
			default:
				return nil, `\b and \B are not known here`
			}
		default:
			out.op = opSet
			for c := range rune(128) {
				if in.Op == syntax.InstRuneAny || in.Op == syntax.InstRuneAnyNotNL || in.MatchRune(c) {
					out.set[c>>6] |= 1 << (c & 63)
				}
			}
		}
		p.ins = append(p.ins, out)
	}
	return p, ""
}

// job is where to go on where a way ended: an instruction and a place, or a capture that is what it was.
type job struct {
	pc, slot uint16
	at       int32
}

const restore = 1<<16 - 1

var (
	visited  = make([]uint64, 0, maxVisits/64)
	stack    [maxStack]job
	captures [2*maxCaptures + 2]int32 // of the last match: from and to, in turn; -1 if there is none
)

// match says whether a path matches from its beginning, by the way that a backtracking matcher would prefer; but it comes by each
// instruction at each place once only. It takes a step for each of them from left, and gives up when there is none.
func (p *program) match(s string, left *int) (ok bool) {
	row := len(s) + 1
	if len(p.ins)*row > maxVisits {
		*left = -1
		return false
	}
	seen := visited[:(len(p.ins)*row+63)/64]
	clear(seen)
	for i := range captures {
		captures[i] = -1
	}
	steps := *left - bits.Len(uint(row)) - len(seen)/64
	stack[0] = job{pc: p.start}
	for n := 1; n > 0 && steps >= 0; {
		n--
		pc, at := int(stack[n].pc), int(stack[n].at)
		if pc == restore {
			captures[stack[n].slot] = stack[n].at
			continue
		}
		for {
			visit := pc*row + at
			if steps--; steps < 0 || seen[visit>>6]&(1<<(visit&63)) != 0 {
				break
			}
			seen[visit>>6] |= 1 << (visit & 63)
			in := &p.ins[pc]
			if in.op == opSet {
				if at == len(s) || s[at] >= 128 || in.set[s[at]>>6]&(1<<(s[at]&63)) == 0 {
					break
				}
				at++
			} else if in.op == opAlt {
				if n == maxStack {
					steps = -1
					break
				}
				stack[n] = job{pc: in.arg, at: int32(at)} //nolint:gosec // within a path
				n++
			} else if in.op == opCapture {
				if int(in.arg) < len(captures) {
					if n == maxStack {
						steps = -1
						break
					}
					stack[n] = job{restore, in.arg, captures[in.arg]}
					n++
					captures[in.arg] = int32(at) //nolint:gosec // see above
				}
			} else if in.op == opMatch {
				*left = steps
				captures[0], captures[1] = 0, int32(at) //nolint:gosec // see above
				return true
			} else if in.op == opFail || in.op == opBegin && at > 0 || in.op == opEnd && at < len(s) {
				break
			}
			pc = int(in.out)
		}
	}
	*left = steps
	return false
}
