package meter_test

import (
	"math/rand/v2"

	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// program generates modules that are valid, that end, and that count the instructions they execute: each statement adds
// the number of its instructions to a global, the counting itself left out.
type program struct {
	*rand.Rand
	functions int
	at        int      // the function being generated
	loops     []uint32 // locals that count loops, free ones
	labels    int      // open blocks
	targets   []int    // depths of blocks that may be left
	depth     int
	budget    int // statements
}

const (
	genLocals  = 6 // parameter included; hold values
	genCounter = 0 // the global that counts
	genValue   = 1 // a global with a value
)

// counted is a statement of n instructions, and their count.
func counted(n int, code ...any) []byte {
	return wt.Code(wt.GlobalGet(genCounter), wt.I64Const(int64(n)), wt.I64Add, wt.GlobalSet(genCounter), wt.Code(code...))
}

// generate returns a module whose export run takes and returns an i32.
func generate(seed uint64) []byte {
	p := &program{Rand: rand.New(rand.NewPCG(seed, 1))}
	p.functions = 1 + p.IntN(4)
	m := &wt.Module{}
	t := m.Type([]byte{wt.I32}, []byte{wt.I32})
	m.Type([]byte{wt.I32}, []byte{wt.I32}) // 1: for loops with a parameter
	p.budget = 60
	for p.at = range p.functions {
		locals := make([]byte, genLocals-1+4+4)
		for i := range locals {
			locals[i] = wt.I32
		}
		p.loops = []uint32{genLocals, genLocals + 1, genLocals + 2, genLocals + 3}
		p.targets, p.labels, p.depth = nil, 0, 0
		m.Func(t, locals, p.statements(1+p.IntN(5)), p.hash())
	}
	m.Table(wt.FuncRef, uint32(p.functions))
	m.Memory(1, 3)
	m.Global(wt.I64, true, wt.I64Const(0))
	m.Global(wt.I32, true, wt.I32Const(7))
	m.Export("run", 0, 0)
	m.Export("memory", 2, 0)
	m.Export("count", 3, genCounter)
	m.Export("value", 3, genValue)
	funcs := make([]uint32, p.functions)
	for i := range funcs {
		funcs[i] = uint32(i)
	}
	m.Elements(0, funcs...)
	return m.Bytes()
}

// hash leaves a value of all locals on the stack.
func (p *program) hash() []byte {
	b := counted(3*genLocals, wt.Get(0))
	for i := range uint32(genLocals) {
		b = wt.Code(b, wt.Get(i), wt.I32Add, wt.I32Const(31), wt.I32Mul)
	}
	return b
}

func (p *program) value() uint32 { return uint32(p.IntN(genLocals)) }

func (p *program) statements(n int) []byte {
	var b []byte
	for range n {
		if p.budget--; p.budget < 0 {
			break
		}
		b = append(b, p.statement()...)
	}
	return b
}

func (p *program) statement() []byte {
	k := p.IntN(18)
	if p.depth >= 4 {
		k = p.IntN(9)
	}
	switch k {
	case 0, 1, 2:
		ops := []int{wt.I32Add, wt.I32Sub, wt.I32Mul, wt.I32And, wt.I32Or, wt.I32Xor, wt.I32Shl, wt.I32ShrU}
		return counted(4, wt.Get(p.value()), wt.Get(p.value()), ops[p.IntN(len(ops))], wt.Set(p.value()))
	case 3:
		return counted(5, wt.Get(p.value()), wt.I32Const(0xffc), wt.I32And, wt.I32Load(uint32(p.IntN(64))), wt.Set(p.value()))
	case 4:
		return counted(5, wt.Get(p.value()), wt.I32Const(0xffc), wt.I32And, wt.Get(p.value()), wt.I32Store(uint32(p.IntN(64))))
	case 5:
		return counted(4, wt.GlobalGet(genValue), wt.Get(p.value()), wt.I32Add, wt.GlobalSet(genValue))
	case 6:
		return p.leave()
	case 7:
		return p.bulk()
	case 8:
		return p.call()
	case 9, 10:
		return p.block()
	case 11, 12:
		return p.branch()
	case 13, 14:
		return p.loop()
	case 15:
		return p.table()
	case 16:
		return p.typedLoop()
	default:
		return p.dispatch()
	}
}

func (p *program) bulk() []byte {
	switch p.IntN(4) {
	case 0:
		return counted(6, wt.Get(p.value()), wt.I32Const(0xfff), wt.I32And, wt.Get(p.value()), wt.I32Const(int32(p.IntN(300))), wt.MemoryFill)
	case 1:
		return counted(7, wt.Get(p.value()), wt.I32Const(0xfff), wt.I32And, wt.I32Const(40), wt.I32Const(int32(p.IntN(300))), wt.MemoryCopy, wt.Nop)
	case 2:
		return counted(3, wt.I32Const(int32(p.IntN(2))), wt.MemoryGrow, wt.Set(p.value()))
	default:
		return counted(2, wt.MemorySize, wt.Set(p.value()))
	}
}

func (p *program) call() []byte {
	if p.at+1 >= p.functions {
		return counted(1, wt.Nop)
	}
	f := uint32(p.at + 1 + p.IntN(p.functions-p.at-1))
	if p.IntN(2) == 0 {
		return counted(3, wt.Get(p.value()), wt.Call(f), wt.Set(p.value()))
	}
	return counted(4, wt.Get(p.value()), wt.I32Const(int32(f)), wt.IndirectOp, wt.U(0), wt.U(0), wt.Set(p.value()))
}

// inside generates what is in a block that may be left if leave is set.
func (p *program) inside(leave bool, n int) []byte {
	p.labels++
	p.depth++
	if leave {
		p.targets = append(p.targets, p.labels)
	}
	b := p.statements(n)
	if leave {
		p.targets = p.targets[:len(p.targets)-1]
	}
	p.depth--
	p.labels--
	return b
}

func (p *program) block() []byte { return counted(2, wt.Block(p.inside(true, 1+p.IntN(4)))) }

func (p *program) branch() []byte {
	then := p.inside(true, 1+p.IntN(3))
	if p.IntN(2) == 0 {
		return counted(3, wt.Get(p.value()), wt.If(then))
	}
	return counted(3, wt.Get(p.value()), wt.If(then, wt.ElseOp, p.inside(true, 1+p.IntN(3))))
}

// leave branches out of a block around, or returns.
func (p *program) leave() []byte {
	if len(p.targets) == 0 || p.IntN(8) == 0 {
		return counted(3, wt.Get(p.value()), wt.I32Const(3), wt.I32And, wt.I32Eqz, wt.If(wt.Get(p.value()), wt.ReturnOp))
	}
	label := uint32(p.labels - p.targets[p.IntN(len(p.targets))])
	if p.IntN(3) == 0 {
		return counted(2, wt.Get(p.value()), wt.If(wt.Br(label+1)))
	}
	return counted(2, wt.Get(p.value()), wt.BrIf(label))
}

func (p *program) loop() []byte {
	if len(p.loops) == 0 {
		return counted(1, wt.Nop)
	}
	c := p.loops[len(p.loops)-1]
	p.loops = p.loops[:len(p.loops)-1]
	defer func() { p.loops = append(p.loops, c) }()
	rounds := int32(1 + p.IntN(12))
	p.labels++ // the block around
	body := p.inside(p.IntN(2) == 0 && false, 1+p.IntN(4))
	p.labels--
	b := wt.Loop(counted(6, body, wt.Get(c), wt.I32Const(1), wt.I32Sub, wt.Tee(c), wt.BrIf(0)))
	return counted(2, wt.I32Const(rounds), wt.Set(c), wt.Block(b))
}

// typedLoop is a loop that takes and leaves a value.
func (p *program) typedLoop() []byte {
	if len(p.loops) == 0 {
		return counted(1, wt.Nop)
	}
	c := p.loops[len(p.loops)-1]
	p.loops = p.loops[:len(p.loops)-1]
	defer func() { p.loops = append(p.loops, c) }()
	if p.IntN(2) == 0 { // a result only
		body := p.inside(false, 1+p.IntN(3))
		loop := wt.Code(wt.LoopOp, wt.I32, counted(5, body, wt.Get(c), wt.I32Const(1), wt.I32Sub, wt.Tee(c), wt.BrIf(0), wt.Get(p.value())), wt.EndOp)
		return counted(4, wt.I32Const(int32(1+p.IntN(9))), wt.Set(c), loop, wt.Set(p.value()))
	}
	body := wt.Code(wt.I32Const(3), wt.I32Add, wt.Get(c), wt.I32Const(1), wt.I32Sub, wt.Tee(c), wt.BrIf(0))
	loop := wt.Code(wt.LoopOp, wt.S(1), counted(7, body), wt.EndOp)
	return counted(5, wt.I32Const(int32(1+p.IntN(9))), wt.Set(c), wt.Get(p.value()), loop, wt.Set(p.value()))
}

// table is a br_table out of nested blocks.
func (p *program) table() []byte {
	n := 1 + p.IntN(3)
	labels := make([]uint32, 1+p.IntN(5))
	for i := range labels {
		labels[i] = uint32(p.IntN(n))
		if len(p.targets) > 0 && p.IntN(4) == 0 {
			labels[i] = uint32(p.labels+n) - uint32(p.targets[p.IntN(len(p.targets))])
		}
	}
	b := wt.Code(wt.Get(p.value()), wt.I32Const(7), wt.I32And, wt.BrTable(labels...))
	for i := range n {
		p.labels += n - i - 1
		b = wt.Block(b)
		if i < n-1 {
			b = wt.Code(b, p.statements(p.IntN(2)))
		}
		p.labels -= n - i - 1
	}
	return counted(4+n, b)
}

// dispatch is a loop as Go's compiler makes them: basic blocks that jump to each other by number.
func (p *program) dispatch() []byte {
	if len(p.loops) < 2 {
		return counted(1, wt.Nop)
	}
	pc, steps := p.loops[len(p.loops)-1], p.loops[len(p.loops)-2]
	p.loops = p.loops[:len(p.loops)-2]
	defer func() { p.loops = append(p.loops, steps, pc) }()
	n := 2 + p.IntN(4)
	labels := make([]uint32, n+1)
	for i := range labels {
		labels[i] = uint32(i)
	}
	b := wt.Block(wt.Get(pc), wt.BrTable(labels...))
	for i := range n {
		// Block i runs inside of n-i blocks, the loop and the block around it.
		inner := uint32(n - i)
		p.labels += int(inner) + 2
		p.depth += 2
		code := p.statements(p.IntN(3))
		p.depth -= 2
		p.labels -= int(inner) + 2
		jump := wt.Code(wt.I32Const(int32(p.IntN(n+1))), wt.Set(pc), wt.Br(inner))
		switch p.IntN(4) {
		case 0: // conditional
			jump = wt.Code(wt.Get(p.value()), wt.If(wt.I32Const(int32(p.IntN(n))), wt.Set(pc), wt.Br(inner+1)))
		case 1: // to an unknown block
			jump = wt.Code(wt.Get(p.value()), wt.I32Const(3), wt.I32And, wt.Set(pc), wt.Get(p.value()), wt.BrIf(inner))
		}
		stop := wt.Code(wt.Get(steps), wt.I32Const(1), wt.I32Sub, wt.Tee(steps), wt.I32Eqz, wt.BrIf(inner+1))
		b = wt.Block(b, counted(9, code, stop, jump))
	}
	return counted(6, wt.I32Const(int32(1+p.IntN(40))), wt.Set(steps), wt.I32Const(0), wt.Set(pc), wt.Block(wt.Loop(b)))
}
