package proxywasm

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
)

// The module's memory: what it says, and where the host puts what it is asked for.
const (
	textAt = 0x100
	outAt  = 0x800
	heapAt = 0x1000
)

// handmade is a module that is built by hand, for what no compiler of today makes.
type handmade struct {
	wt.Module
	imports map[string]uint32
	texts   []byte
}

func (m *handmade) imp(module, name string, params, results []byte) {
	if m.imports == nil {
		m.imports = map[string]uint32{}
	}
	m.imports[name] = m.Import(module, name, m.Type(params, results))
}

func i32types(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = wt.I32
	}
	return b
}

// text returns where a text lies, and how long it is.
func (m *handmade) text(s string) []byte {
	at := textAt + len(m.texts)
	m.texts = append(m.texts, s...)
	return wt.Code(wt.I32Const(int32(at)), wt.I32Const(int32(len(s))))
}

func (m *handmade) log(s string) []byte {
	return wt.Code(wt.I32Const(2), m.text(s), wt.Call(m.imports["proxy_log"]), wt.Drop)
}

// logStatus logs a digit: what is on the stack.
func (m *handmade) logStatus() []byte {
	return wt.Code(wt.Set(0), wt.I32Const(outAt+64), wt.Get(0), wt.I32Const('0'), wt.I32Add, 0x3a, 0, 0, // i32.store8
		wt.I32Const(2), wt.I32Const(outAt+64), wt.I32Const(1), wt.Call(m.imports["proxy_log"]), wt.Drop)
}

func (m *handmade) export(name string, params int, results []byte, body ...any) {
	m.Export(name, 0, m.Func(m.Type(i32types(params), results), nil, body...))
}

// finish adds what every module has: a memory, an allocator, and its version.
func (m *handmade) finish(version, malloc string) []byte {
	m.Memory(1)
	m.Export("memory", 2, 0)
	if malloc != "" {
		m.export(malloc, 1, []byte{wt.I32}, wt.I32Const(heapAt))
	}
	if version != "" {
		m.export("proxy_abi_version_"+version, 0, nil)
	}
	m.Data(textAt, m.texts)
	return m.Bytes()
}

// TestVersion010: callbacks for headers have two parameters, configurations come by get_configuration, and a field that is
// missing is empty. Some functions have no result there.
func TestVersion010(t *testing.T) {
	m := &handmade{}
	m.imp("env", "proxy_log", i32types(3), []byte{wt.I32})
	m.imp("env", "proxy_get_configuration", i32types(2), []byte{wt.I32})
	m.imp("env", "proxy_get_header_map_value", i32types(5), []byte{wt.I32})
	m.imp("env", "proxy_continue_request", nil, nil)
	m.imp("env", "proxy_continue_response", nil, []byte{wt.I32})
	m.imp("env", "proxy_clear_route_cache", nil, nil)
	// said logs what the host has put at the heap's begin, so many bytes of it.
	said := wt.Code(wt.I32Const(2), wt.I32Const(outAt), wt.I32Load(0), wt.I32Const(outAt+4), wt.I32Load(0), wt.Call(m.imports["proxy_log"]), wt.Drop)
	configuration := wt.Code(wt.I32Const(outAt), wt.I32Const(outAt+4), wt.Call(m.imports["proxy_get_configuration"]), wt.Drop, said)
	m.export("proxy_on_vm_start", 2, []byte{wt.I32}, configuration, wt.I32Const(1))
	m.export("proxy_on_configure", 2, []byte{wt.I32}, configuration, wt.I32Const(1))
	m.export("proxy_on_request_headers", 2, []byte{wt.I32},
		wt.I32Const(0), m.text("x-tenant"), wt.I32Const(outAt), wt.I32Const(outAt+4), wt.Call(m.imports["proxy_get_header_map_value"]), m.logStatus(), said,
		wt.I32Const(0), m.text("x-nope"), wt.I32Const(outAt), wt.I32Const(outAt+4), wt.Call(m.imports["proxy_get_header_map_value"]), m.logStatus(),
		wt.Call(m.imports["proxy_continue_request"]), wt.Call(m.imports["proxy_clear_route_cache"]), wt.I32Const(1)) // Pause, and yet it goes on
	m.export("proxy_on_response_headers", 2, []byte{wt.I32}, wt.Call(m.imports["proxy_continue_response"]), m.logStatus(), wt.I32Const(0))
	b := newBench(t)
	p := b.mustLoad(m.finish("0_1_0", "malloc"), Options{Config: []byte("its own"), VMConfig: []byte("the machine's")}, wasm.Limits{})
	b.wantSays("the machine's", "its own")
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil || r.got != "hello" {
		t.Errorf("%v %q", r.err, r.got)
	}
	b.wantSays("0", "acme", "0", "0")
}

// TestHowModulesStart: a reactor's _initialize and then main, or a command's _start.
func TestHowModulesStart(t *testing.T) {
	for name, c := range map[string]struct {
		build func(m *handmade)
		want  string
	}{
		"a command": {func(m *handmade) { m.export("_start", 0, nil, m.log("start")) }, "start"},
		"a reactor": {func(m *handmade) {
			m.export("_initialize", 0, nil, m.log("initialize"))
			m.export("_start", 0, nil, m.log("start"))
		}, "initialize"},
		"a reactor with main": {func(m *handmade) {
			m.export("_initialize", 0, nil, m.log("initialize"))
			m.export("main", 2, []byte{wt.I32}, m.log("main"), wt.I32Const(0))
		}, "initialize main"},
		"a reactor with main of no arguments": {func(m *handmade) {
			m.export("_initialize", 0, nil, m.log("initialize"))
			m.export("__main_void", 0, []byte{wt.I32}, m.log("main"), wt.I32Const(0))
		}, "initialize main"},
		"main of another kind": {func(m *handmade) { m.export("main", 5, nil, m.log("main")) }, ""},
		"a start section": {func(m *handmade) {
			m.Start(m.Func(m.Type(nil, nil), nil, m.log("section")))
		}, "section"},
	} {
		t.Run(name, func(t *testing.T) {
			m := &handmade{}
			m.imp("env", "proxy_log", i32types(3), []byte{wt.I32})
			c.build(m)
			b := newBench(t)
			p := b.mustLoad(m.finish("0_2_0", "proxy_on_memory_allocate"), Options{}, wasm.Limits{})
			if got := strings.Join(b.says(), " "); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil || r.got != "hello" {
				t.Errorf("%v %q", r.err, r.got)
			}
		})
	}
}

// TestImportsThatNobodyHas are answered for, and named.
func TestImportsThatNobodyHas(t *testing.T) {
	m := &handmade{}
	m.imp("env", "proxy_log", i32types(3), []byte{wt.I32})
	m.imp("env", "proxy_grpc_call", i32types(10), []byte{wt.I32}) // as an old SDK has it
	m.imp("env", "proxy_redis_init", i32types(7), []byte{wt.I32})
	m.imp("env", "wide", []byte{wt.I64, wt.F64}, []byte{wt.I64})
	m.imp("env", "many", nil, []byte{wt.F32, wt.I32})
	m.imp("other", "silent", []byte{wt.F32}, nil)
	m.imp("wasi_snapshot_preview1", "from_the_future", i32types(1), []byte{wt.I32})
	m.imp("wasi_unstable", "fd_write", i32types(4), []byte{wt.I32})
	m.imp("env", "emscripten_notify_memory_growth", i32types(1), nil)
	ten := wt.Code()
	for range 10 {
		ten = wt.Code(ten, wt.I32Const(0))
	}
	m.export("proxy_on_request_headers", 3, []byte{wt.I32}, ten, wt.Call(m.imports["proxy_grpc_call"]), wt.I32Const(12), wt.I32Sub, m.logStatus(),
		wt.I64Const(1), 0x44, make([]byte, 8), wt.Call(m.imports["wide"]), wt.Drop, wt.Call(m.imports["many"]), wt.Drop, wt.Drop, 0x43, make([]byte, 4), wt.Call(m.imports["silent"]),
		wt.I32Const(0), wt.Call(m.imports["from_the_future"]), wt.I32Const(52), wt.I32Sub, m.logStatus(), wt.I32Const(0))
	b := newBench(t)
	p := b.mustLoad(m.finish("0_2_1", "malloc"), Options{}, wasm.Limits{})
	says := strings.Join(b.says(), "\n")
	for _, name := range []string{"env.proxy_grpc_call(", "env.proxy_redis_init(", "env.wide(", "env.many(", "other.silent(", "wasi_snapshot_preview1.from_the_future("} {
		if !strings.Contains(says, name) {
			t.Errorf("%s is not named: %s", name, says)
		}
	}
	for _, name := range []string{"proxy_log", "fd_write", "emscripten"} {
		if strings.Contains(says, name) {
			t.Errorf("%s is named: %s", name, says)
		}
	}
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil {
		t.Errorf("%v", r.err)
	}
	b.wantSays("0", "0")
}

func TestModulesThatAreRefused(t *testing.T) {
	for want, build := range map[string]func() []byte{
		"exports nothing that begins with proxy_abi_version_": func() []byte { return (&handmade{}).finish("", "malloc") },
		"(proxy_abi_version_0_3_0) other than":                func() []byte { return (&handmade{}).finish("0_3_0", "malloc") },
		"exports neither proxy_on_memory_allocate nor malloc": func() []byte { return (&handmade{}).finish("0_2_0", "") },
		`does not export its memory as "memory"`:              func() []byte { m := &handmade{}; m.export("proxy_abi_version_0_2_0", 0, nil); return m.Bytes() },
		"proxy_on_tick, but not with the type that it has":    func() []byte { m := &handmade{}; m.export("proxy_on_tick", 2, nil); return m.finish("0_2_0", "malloc") },
		"proxy_on_log, but not with the type that it has": func() []byte {
			m := &handmade{}
			m.Export("proxy_on_log", 0, m.Func(m.Type([]byte{wt.I64}, nil), nil))
			return m.finish("0_2_0", "malloc")
		},
		"proxy_on_request_headers, but not with the type that": func() []byte {
			m := &handmade{}
			m.export("proxy_on_request_headers", 4, nil)
			return m.finish("0_2_0", "malloc")
		},
	} {
		b := newBench(t)
		p, err := b.load(build(), Options{}, wasm.Limits{})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || fault.From(err).Kind != fault.PluginUnavailable {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b := newBench(t)
	both := &handmade{}
	both.export("proxy_abi_version_0_1_0", 0, nil)
	p := b.mustLoad(both.finish("0_2_100", "malloc"), Options{}, wasm.Limits{})
	if v := p.core.group.version; v != versionHigress {
		t.Errorf("version %d", v)
	}
	// A plugin without a callback is passed by.
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil || r.got != "hello" || p.WantsResponse() || p.SpeaksTCP() || p.OnlyTCP() || p.Name() != "p" {
		t.Errorf("%v %q", r.err, r.got)
	}
	for request, only := range map[string]bool{"": true, "proxy_on_request_headers": false, "proxy_on_response_trailers": false} {
		m := &handmade{}
		m.export("proxy_on_new_connection", 1, []byte{wt.I32}, wt.I32Const(0))
		if request != "" {
			m.export(request, 2, []byte{wt.I32}, wt.I32Const(0))
		}
		if p := b.mustLoad(m.finish("0_2_1", "malloc"), Options{}, wasm.Limits{}); !p.SpeaksTCP() || p.OnlyTCP() != only {
			t.Errorf("with %q: for connections only: %v", request, p.OnlyTCP())
		}
	}
}

// FuzzModule changes bytes of modules that are good: what is still taken must not harm the host.
func FuzzModule(f *testing.F) {
	var modules [][]byte
	for _, name := range []string{"tenant", "fuzz", "probe"} {
		module, err := os.ReadFile("testdata/" + name + ".wasm")
		if err != nil {
			f.Fatal(err)
		}
		modules = append(modules, module)
	}
	for i := range 30 {
		f.Add(uint64(i), uint8(i), uint8(1+i%5))
	}
	b := newBench(f)
	e, _ := engine()
	f.Fuzz(func(t *testing.T, seed uint64, which, n uint8) {
		module := append([]byte(nil), modules[int(which)%len(modules)]...)
		random := rand.New(rand.NewPCG(seed, uint64(n)))
		for range n {
			at := 8 + random.IntN(len(module)-8)
			switch random.IntN(3) {
			case 0:
				module[at] = byte(random.Uint32())
			case 1:
				module[at] ^= 1 << random.IntN(8)
			default:
				if at+4 < len(module) {
					binary.LittleEndian.PutUint32(module[at:], random.Uint32())
				}
			}
		}
		c, err := compile(t, module, wasm.Limits{Fuel: 300_000, StartFuel: 3_000_000})
		if err != nil {
			return
		}
		p, err := New(c, Options{Group: b.group, Config: module[:min(len(module), 500)], Backoff: &wasm.Backoff{}, MaxPause: 1e6})
		if err != nil {
			return
		}
		p.core.group.grace = 1e6
		b.on(func(task *netloop.Task) {
			for range 2 {
				r := b.begin(task, message{head: post, body: []string{"ab", "cd"}, chunked: true})
				r.ask(filter.Route, p)
				if r.err == nil && r.verdict != filter.Respond {
					if r.forward(task); r.sendErr == nil {
						r.reply(task, okAnswer, p)
					}
				}
				r.end(p)
			}
		})
		p.Close()
		if n := e.Instances(); n != 0 {
			t.Errorf("%d instances are left", n)
		}
	})
}
