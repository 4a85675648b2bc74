package wasm

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental/table"

	"wasmgate/runtime/wasm/meter"
)

// Shims are what compilers import beside an ABI's functions and beside WASI, as far as m imports it: AssemblyScript's
// env.abort, env.seed, env.trace, console, Date.now and Math, and what Emscripten expects of its JavaScript. Clocks and
// output are those of WASI. What cannot be done in a sandbox ends the guest's call and says what it was: abort says the
// guest's own message.
//
// They are in the module env, where an ABI may have functions too: see Merge.
func Shims(m *meter.Module) []HostModule {
	var hosts []HostModule
	for _, imp := range m.Imports {
		if call, fuel := shim(&imp); call != nil && plain(imp.Type) {
			hosts = append(hosts, HostModule{Name: imp.Module, Functions: []HostFunction{{
				Name: imp.Name, Params: imp.Type.Params, Results: imp.Type.Results, Fuel: fuel, Call: call,
			}}})
		}
	}
	return Merge(hosts)
}

type hostFunc = func(in *Instance, stack []uint64)

// shim returns the function for an import, or nil. AssemblyScript wrote "Date" "now" once, and writes "env" "Date.now" now.
func shim(imp *meter.Import) (call hostFunc, fuel int64) {
	name := imp.Name
	switch imp.Module {
	case "env":
	case "Date", "Math", "console", "performance", "process":
		name = imp.Module + "." + name
	default:
		return nil, 0
	}
	form := form(imp.Type)
	if call := shimsByForm[name+form]; call != nil {
		return call, 0
	}
	if f := mathFunctions[name]; f != nil && form == "(F)F" {
		return func(_ *Instance, a []uint64) { a[0] = math.Float64bits(f(math.Float64frombits(a[0]))) }, 0
	}
	switch {
	case strings.HasPrefix(name, "console."):
		return console(name, imp.Type)
	case strings.HasPrefix(name, "invoke_") && strings.HasPrefix(form, "(i"):
		return invoke(imp.Type), 2000
	case strings.HasSuffix(form, ")i") && (strings.HasPrefix(name, "__syscall") || name == "_mmap_js" || name == "_munmap_js" || name == "_msync_js"):
		return func(_ *Instance, a []uint64) { a[0] = uint64(1<<32 - wasiNoSys) }, 0
	}
	for _, t := range thrown {
		if t.name == name || strings.HasSuffix(t.name, "*") && strings.HasPrefix(name, t.name[:len(t.name)-1]) {
			return func(in *Instance, a []uint64) { in.abort("%s", t.says) }, 0
		}
	}
	return nil, 0
}

// form writes a type as "(iIfF)i".
func form(t meter.FuncType) string {
	letters := func(types []meter.ValueType) string {
		b := make([]byte, len(types))
		for i, v := range types {
			b[i] = "iIfF?"[slices.Index([]meter.ValueType{meter.I32, meter.I64, meter.F32, meter.F64, v}, v)]
		}
		return string(b)
	}
	return "(" + letters(t.Params) + ")" + letters(t.Results)
}

// abortError is a guest's own end: its message is the error's.
type abortError struct{ text string }

func (e *abortError) Error() string { return e.text }

// abort ends the guest's call. Unlike Fail it has the message say in which functions that was.
func (in *Instance) abort(format string, args ...any) {
	panic(&abortError{"the guest aborted: " + fmt.Sprintf(format, args...)})
}

// thrown are functions that end the guest's call, whatever their type; a name's * stands for any end.
var thrown = []struct{ name, says string }{
	{"abort", "abort() was called"}, {"_abort_js", "abort() was called"}, {"abortStackOverflow", "stack overflow"},
	{"abortOnCannotGrowMemory", "out of memory"}, {"__cxa_pure_virtual", "a pure virtual function was called"},
	{"__cxa_*", "a C++ exception, which the host cannot pass on"}, {"__resumeException", "a C++ exception, which the host cannot pass on"},
	{"llvm_eh_typeid_for", "a C++ exception, which the host cannot pass on"},
	{"_emscripten_throw_longjmp", "longjmp, which the host does not have"}, {"emscripten_longjmp*", "longjmp, which the host does not have"},
	{"__stack_chk_fail", "a stack was overwritten"},
}

func nothing(*Instance, []uint64) {}

func answers(v uint32) hostFunc { return func(_ *Instance, a []uint64) { a[0] = uint64(v) } }

func exit(in *Instance, a []uint64) { panic(&exitError{code: uint32(a[0])}) }

// now is the time in milliseconds, as JavaScript has it.
func now(clock func(s *sysState) int64) hostFunc {
	return func(in *Instance, a []uint64) { a[0] = math.Float64bits(float64(clock(&in.sys)) / 1e6) }
}

// shimsByForm are the functions with one type, by name and type.
var shimsByForm = map[string]hostFunc{
	// AssemblyScript
	"abort(iiii)": func(in *Instance, a []uint64) {
		in.abort("%s, at %s:%d:%d", in.utf16(uint32(a[0])), in.utf16(uint32(a[1])), uint32(a[2]), uint32(a[3]))
	},
	"seed()F":            seed,
	"trace(iiFFFFF)":     trace,
	"Date.now()F":        now((*sysState).wall),
	"performance.now()F": now((*sysState).monotonic),
	"process.exit(i)":    exit,
	"Math.random()F":     random,
	"Math.atan2(FF)F":    float2(math.Atan2),
	"Math.hypot(FF)F":    float2(math.Hypot),
	"Math.max(FF)F":      float2(math.Max),
	"Math.min(FF)F":      float2(math.Min),
	"Math.pow(FF)F":      float2(math.Pow),

	// Emscripten
	"emscripten_notify_memory_growth(i)":     nothing,
	"emscripten_memcpy_big(iii)":             copyMemory,
	"emscripten_memcpy_big(iii)i":            copyMemory,
	"emscripten_memcpy_js(iii)":              copyMemory,
	"_emscripten_memcpy_js(iii)":             copyMemory,
	"memcpy_js(iii)":                         copyMemory,
	"memcpy_big(iii)":                        copyMemory,
	"emscripten_memset_big(iii)":             fillMemory,
	"emscripten_memset_js(iii)":              fillMemory,
	"emscripten_resize_heap(i)i":             resizeHeap,
	"emscripten_get_heap_max()i":             heapMax,
	"emscripten_get_now()F":                  now((*sysState).monotonic),
	"emscripten_date_now()F":                 now((*sysState).wall),
	"emscripten_get_now_res()F":              func(_ *Instance, a []uint64) { a[0] = math.Float64bits(1e-6) },
	"_emscripten_get_now_is_monotonic()i":    answers(1),
	"emscripten_get_now_is_monotonic()i":     answers(1),
	"_emscripten_runtime_keepalive_clear()":  nothing,
	"__emscripten_runtime_keepalive_clear()": nothing,
	"emscripten_random()f":                   func(in *Instance, a []uint64) { a[0] = uint64(math.Float32bits(float32(fraction(in)))) },
	"getentropy(ii)i":                        func(in *Instance, a []uint64) { a[0] = uint64(wasiRandom(in, a)) },
	"exit(i)":                                exit,
	"_exit(i)":                               exit,
	"emscripten_force_exit(i)":               exit,
	"__assert_fail(iiii)":                    assertFail,
	"__cxa_allocate_exception(i)i":           allocateException,
	"__cxa_throw(iii)":                       throwException,
	"__cxa_atexit(iii)i":                     answers(0),
	"__cxa_thread_atexit(iii)i":              answers(0),
	"__cxa_uncaught_exception()i":            answers(0),
	"__cxa_uncaught_exceptions()i":           answers(0),
	"setThrew(ii)":                           nothing,
	"setTempRet0(i)":                         func(in *Instance, a []uint64) { in.sys.high = uint32(a[0]) },
	"getTempRet0()i":                         func(in *Instance, a []uint64) { a[0] = uint64(in.sys.high) },
	"__lock(i)":                              nothing,
	"__unlock(i)":                            nothing,
	"pthread_equal(ii)i":                     func(_ *Instance, a []uint64) { a[0] = uint64(b2i(uint32(a[0]) == uint32(a[1]))) },
	"_tzset_js(iii)":                         nothing, // UTC: what is written is zero
	"_tzset_js(iiii)":                        nothing,
	"_setitimer_js(iF)i":                     answers(1<<32 - wasiNoSys),
	"emscripten_stack_snapshot()i":           answers(0),
	"emscripten_return_address(i)i":          answers(0),
	"emscripten_console_log(i)":              func(in *Instance, a []uint64) { in.say(1, in.text(uint32(a[0]))) },
	"emscripten_out(i)":                      func(in *Instance, a []uint64) { in.say(1, in.text(uint32(a[0]))) },
	"emscripten_err(i)":                      func(in *Instance, a []uint64) { in.say(2, in.text(uint32(a[0]))) },
	"emscripten_console_error(i)":            func(in *Instance, a []uint64) { in.say(2, in.text(uint32(a[0]))) },
	"emscripten_console_warn(i)":             func(in *Instance, a []uint64) { in.say(2, in.text(uint32(a[0]))) },
	"emscripten_sleep(i)":                    func(in *Instance, a []uint64) { in.sys.sleep(uint64(uint32(a[0])) * 1e6) },
}

// mathFunctions are those of JavaScript's Math that take and give one number.
var mathFunctions = map[string]func(float64) float64{
	"Math.abs": math.Abs, "Math.acos": math.Acos, "Math.acosh": math.Acosh, "Math.asin": math.Asin, "Math.asinh": math.Asinh,
	"Math.atan": math.Atan, "Math.atanh": math.Atanh, "Math.cbrt": math.Cbrt, "Math.ceil": math.Ceil, "Math.cos": math.Cos,
	"Math.cosh": math.Cosh, "Math.exp": math.Exp, "Math.expm1": math.Expm1, "Math.floor": math.Floor, "Math.log": math.Log,
	"Math.log10": math.Log10, "Math.log1p": math.Log1p, "Math.log2": math.Log2, "Math.sin": math.Sin, "Math.sinh": math.Sinh,
	"Math.sqrt": math.Sqrt, "Math.tan": math.Tan, "Math.tanh": math.Tanh, "Math.trunc": math.Trunc,
	"Math.round": func(x float64) float64 { return math.Floor(x + 0.5) },
	"Math.sign": func(x float64) float64 {
		if x == 0 || x != x {
			return x
		}
		return math.Copysign(1, x)
	},
}

func float2(f func(x, y float64) float64) hostFunc {
	return func(_ *Instance, a []uint64) {
		a[0] = math.Float64bits(f(math.Float64frombits(a[0]), math.Float64frombits(a[1])))
	}
}

func b2i(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// fraction is a random number from 0 to below 1.
func fraction(in *Instance) float64 {
	var b [8]byte
	in.sys.fill(b[:])
	return float64(binary.LittleEndian.Uint64(b[:])>>11) / (1 << 53)
}

func random(in *Instance, a []uint64) { a[0] = math.Float64bits(fraction(in)) }

// seed gives a number whose bits AssemblyScript makes its own generator of: none of them is the same each time.
func seed(in *Instance, a []uint64) { a[0] = math.Float64bits(fraction(in) * (1 << 53)) }

// maxText is how much of a guest's text a message takes.
const maxText = 512

// utf16 reads a string of AssemblyScript's: UTF-16, its length in bytes in the four bytes before it.
func (in *Instance) utf16(at uint32) string {
	if at < 4 {
		return "null"
	}
	n, ok := in.Bytes(at-4, 4)
	if !ok || len(n) < 4 {
		return fmt.Sprintf("(no string at 0x%x)", at)
	}
	size := binary.LittleEndian.Uint32(n)
	b, ok := in.Bytes(at, size&^1)
	if !ok {
		return fmt.Sprintf("(no string at 0x%x)", at)
	}
	units := make([]uint16, min(len(b)/2, maxText))
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return printable(string(utf16.Decode(units)), len(units) < len(b)/2)
}

// text reads a string of C's: bytes that end with a zero.
func (in *Instance) text(at uint32) string {
	if at == 0 {
		return "null"
	}
	var b []byte
	for len(b) <= maxText {
		c, ok := in.Bytes(at+uint32(len(b)), 1)
		if !ok || len(c) < 1 {
			return fmt.Sprintf("(no string at 0x%x)", at)
		}
		if c[0] == 0 {
			return printable(string(b), false)
		}
		b = append(b, c[0])
	}
	return printable(string(b[:maxText]), true)
}

// printable makes a line of a guest's text.
func printable(s string, cut bool) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if cut {
		s += "…"
	}
	return s
}

// say writes a line as if the guest had written it to standard output or error.
func (in *Instance) say(stream int, line string) {
	in.Charge(int64(len(line)) + 1000)
	in.write(stream, append([]byte(line), '\n'))
}

// console is console.log and its kin: of one string, or of numbers.
func console(name string, t meter.FuncType) (call hostFunc, fuel int64) {
	if len(t.Results) > 0 {
		return nil, 0
	}
	stream := 1
	switch name {
	case "console.warn", "console.error":
		stream = 2
	case "console.assert":
		if form(t) != "(ii)" {
			return nil, 0
		}
		return func(in *Instance, a []uint64) {
			if uint32(a[0]) == 0 {
				in.say(2, "Assertion failed: "+in.utf16(uint32(a[1])))
			}
		}, 0
	}
	if form(t) == "(i)" {
		return func(in *Instance, a []uint64) { in.say(stream, in.utf16(uint32(a[0]))) }, 0
	}
	return func(in *Instance, a []uint64) {
		words := make([]string, len(t.Params))
		for i, v := range t.Params {
			words[i] = number(v, a[i])
		}
		in.say(stream, strings.Join(words, " "))
	}, 0
}

func number(t meter.ValueType, v uint64) string {
	switch t {
	case meter.F64:
		return strconv.FormatFloat(math.Float64frombits(v), 'g', -1, 64)
	case meter.F32:
		return strconv.FormatFloat(float64(math.Float32frombits(uint32(v))), 'g', -1, 32)
	case meter.I64:
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatInt(int64(int32(v)), 10)
}

// trace is trace(message, n, five numbers).
func trace(in *Instance, a []uint64) {
	line := "trace: " + in.utf16(uint32(a[0]))
	for i := range min(max(int32(a[1]), 0), 5) {
		line += " " + number(meter.F64, a[2+i])
	}
	in.say(1, line)
}

// copyMemory is memcpy(to, from, n), which answers to in some versions.
func copyMemory(in *Instance, a []uint64) {
	n := uint32(a[2])
	in.Charge(bytesUnits(n))
	to, ok := in.Bytes(uint32(a[0]), n)
	from, ok2 := in.Bytes(uint32(a[1]), n)
	if !ok || !ok2 {
		in.abort("memcpy of %d bytes from 0x%x to 0x%x, which are not all in its memory", n, uint32(a[1]), uint32(a[0]))
	}
	copy(to, from)
}

func fillMemory(in *Instance, a []uint64) {
	n := uint32(a[2])
	in.Charge(bytesUnits(n))
	to, ok := in.Bytes(uint32(a[0]), n)
	if !ok {
		in.abort("memset of %d bytes at 0x%x, which are not all in its memory", n, uint32(a[0]))
	}
	for i := range to {
		to[i] = byte(a[1])
	}
}

// resizeHeap grows the memory to that many bytes, and answers whether it did.
func resizeHeap(in *Instance, a []uint64) {
	want, have := int64(uint32(a[0])), in.MemoryBytes()
	a[0] = 0
	if in.memory != nil && (want <= have || in.growMemory(uint32((want-have+0xffff)>>16)) != 1<<32-1) {
		a[0] = 1
	}
}

func heapMax(in *Instance, a []uint64) { a[0] = min(uint64(in.unit.module.MemoryMax)<<16, 1<<32-1<<16) }

func assertFail(in *Instance, a []uint64) {
	in.abort("assertion failed: %s, at %s:%d, %s", in.text(uint32(a[0])), in.text(uint32(a[1])), uint32(a[2]), in.text(uint32(a[3])))
}

// allocateException gives memory for an exception, so that throwException can say what it was.
func allocateException(in *Instance, a []uint64) {
	f, ok := in.unit.lookup("malloc")
	e, _ := in.unit.module.Export("malloc")
	if !ok || form(e.Type) != "(i)i" {
		in.abort("a C++ exception, which the host cannot pass on")
	}
	stack := [1]uint64{uint64(uint32(a[0]))}
	in.nested(in.Call(f, stack[:]))
	a[0] = stack[0]
}

// throwException says the exception's type: the second word of its description is the name.
func throwException(in *Instance, a []uint64) {
	name := "of an unknown type"
	if b, ok := in.Bytes(uint32(a[1])+4, 4); ok && len(b) == 4 {
		name = in.text(binary.LittleEndian.Uint32(b))
	}
	in.abort("a C++ exception (%s), which the host cannot pass on", name)
}

// nested ends the guest's call with the error of a call that it was the reason for.
func (in *Instance) nested(err error) {
	if err != nil {
		panic(err)
	}
}

// invoke is invoke_*: a call of a function of the table, as code does it that would catch an exception. There are none that
// could be caught.
func invoke(t meter.FuncType) hostFunc {
	params, results := valueTypes(t.Params[1:]), valueTypes(t.Results)
	return func(in *Instance, a []uint64) {
		at := uint32(a[0])
		copy(a, a[1:])
		in.nested(in.callTable(at, params, results, a))
	}
}

func (in *Instance) callTable(at uint32, params, results []api.ValueType, stack []uint64) error {
	if in.depth >= maxNested {
		return errDepth
	}
	fn := table.LookupFunction(in.mod, 0, at, params, results)
	for len(in.functions) <= in.depth {
		in.functions = append(in.functions, make([]api.Function, len(in.unit.functions)))
	}
	in.running[in.depth] = fn
	in.depth++
	err := fn.CallWithStack(&in.ctx, stack)
	in.depth--
	return err
}
