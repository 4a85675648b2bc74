package meter

import "fmt"

// Version is that of what Rewrite returns for a binary: who keeps it makes it anew when this is another one. A test knows
// when it must be raised.
const Version = 1

// The names that the rewrite adds. A module that already uses one of them is refused.
const (
	ImportModule = "wasmgate_meter"      // the module that the host provides
	Refill       = "refill"              // () -> (): adds to the counter, or traps
	MemoryGrow   = "memory_grow"         // (i32) -> (i32): memory.grow; imported only by a module that grows its memory
	Fuel         = "wasmgate_meter_fuel" // the export: the counter, a mutable i64
)

// What one unit of fuel pays for, apart from an instruction.
const (
	BytesPerUnit = 8       // of memory.fill, memory.copy and memory.init
	MaxSlice     = 1 << 40 // the most that a host may set the counter to
)

// Bounds of a module. They are wide for what compilers write and narrow for what a compiler can be killed with.
const (
	DefaultMaxModuleBytes = 32 << 20
	DefaultMemoryPages    = 256 // 16 MiB
	DefaultTableElements  = 1 << 16

	maxTypes          = 20_000
	maxParams         = 1_000
	maxImports        = 10_000
	maxFunctions      = 200_000
	maxFunctionBytes  = 4 << 20
	maxLocals         = 50_000
	maxTables         = 16
	maxGlobals        = 50_000
	maxExports        = 50_000
	maxElemSegments   = 50_000
	maxElemItems      = 500_000
	maxDataSegments   = 100_000
	maxBranchTargets  = 65_520
	maxNesting        = 50_000
	maxLocalBlocks    = 1 << 26 // locals × blocks of one function: what a compiler's merging of values grows with
	maxBranchValues   = 1 << 22 // values carried over all branches of one function
	maxNameBytes      = 1_024   // a name of an import or export
	maxDebugNameBytes = 256     // a function's name, kept for messages; longer ones are cut
)

// Options says what a module may have. Zero values mean the defaults.
type Options struct {
	MemoryPages    uint32 // the memory's maximum, in pages of 64 KiB; a module that begins with more is refused
	TableElements  uint32 // the maximum of each table; a module that begins with more is refused
	MaxModuleBytes int    // the size of the binary
	Debug          bool   // keep what the module says about its sources' lines
}

func (o Options) withDefaults() Options {
	if o.MemoryPages == 0 {
		o.MemoryPages = DefaultMemoryPages
	}
	if o.TableElements == 0 {
		o.TableElements = DefaultTableElements
	}
	if o.MaxModuleBytes == 0 {
		o.MaxModuleBytes = DefaultMaxModuleBytes
	}
	return o
}

// ValueType is the type of a parameter, a result or a global, as the binary format writes it.
type ValueType byte

// The value types.
const (
	I32       ValueType = 0x7f
	I64       ValueType = 0x7e
	F32       ValueType = 0x7d
	F64       ValueType = 0x7c
	V128      ValueType = 0x7b
	FuncRef   ValueType = 0x70
	ExternRef ValueType = 0x6f
)

// Kind is the kind of an export.
type Kind byte

// The kinds of exports.
const (
	KindFunction Kind = iota
	KindTable
	KindMemory
	KindGlobal
)

// FuncType is the signature of a function.
type FuncType struct{ Params, Results []ValueType }

// Import is a function that the module as it was written wants from the host. Other imports are refused.
type Import struct {
	Module, Name string
	Type         FuncType
}

// Export is something that the module as it was written exports. Type and Empty are set for functions.
type Export struct {
	Name  string
	Kind  Kind
	Index uint32 // in the rewritten module
	Type  FuncType
	Empty bool // it does nothing at all
}

// Module is a rewritten module. It shares no memory with the binary that it was made of.
type Module struct {
	Binary      []byte
	Name        string   // from the name section
	Names       []string // of the rewritten module's functions, imports first; "" where there is none
	Imports     []Import
	Exports     []Export
	MemoryMin   uint32 // pages
	MemoryMax   uint32 // pages, the cap applied
	HasMemory   bool
	GrowsMemory bool // it imports MemoryGrow
	Functions   int  // defined in the module
	Named       bool // it names functions, besides what it imports and exports
	// With Options.Debug, of a module that has such sections: the debugging information as it was, by section, and the
	// way back to the offsets that it uses. nil if there is none.
	Debug   map[string][]byte
	Offsets *Offsets
}

// Export returns the export of that name.
func (m *Module) Export(name string) (Export, bool) {
	for _, e := range m.Exports {
		if e.Name == name {
			return e, true
		}
	}
	return Export{}, false
}

// Original is the number, in the module as it was written, of a function of the rewritten one; -1 for one that was added.
func (m *Module) Original(function int) int {
	added := 1
	if m.GrowsMemory {
		added = 2
	}
	switch n := len(m.Imports); {
	case function < n:
		return function
	case function < n+added:
		return -1
	}
	return function - added
}

// Error says why a module was refused.
type Error struct {
	Offset   int    // in the binary
	Function int    // the function's index, or -1
	Feature  string // the feature that is not metered; "" if the binary is malformed or over a bound
	Detail   string
}

// Error says where, and what.
func (e *Error) Error() string {
	where := fmt.Sprintf("wasm: offset 0x%x", e.Offset)
	if e.Function >= 0 {
		where += fmt.Sprintf(", function %d", e.Function)
	}
	if e.Feature != "" {
		return fmt.Sprintf("%s: %s not supported: %s", where, e.Feature, e.Detail)
	}
	return where + ": " + e.Detail
}

// Rewrite returns the module with its counter, or an *Error. It is deterministic, keeps no reference to binary, and is
// safe for concurrent use.
func Rewrite(binary []byte, o Options) (*Module, error) {
	o = o.withDefaults()
	if len(binary) > o.MaxModuleBytes {
		return nil, &Error{Function: -1, Detail: fmt.Sprintf("the module has %d bytes, more than %d", len(binary), o.MaxModuleBytes)}
	}
	rw := &rewriter{options: o, function: -1, r: reader{b: binary}}
	if err := rw.parse(); err != nil {
		return nil, err
	}
	return rw.write()
}
