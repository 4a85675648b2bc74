package wasm

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/wasm/meter"
)

// Compiled is a handle of a compiled module, for one plugin.
type Compiled struct {
	unit   *unit
	name   string
	closed atomic.Bool
}

// Func is an exported function, as an index that is the same for all instances of a module.
type Func int

// Name is the plugin's name.
func (c *Compiled) Name() string { return c.name }

// Module is what is known about the module: imports, exports, names. It must not be changed.
func (c *Compiled) Module() *meter.Module { return c.unit.module }

// Limits are those that the module was compiled with, defaults filled in.
func (c *Compiled) Limits() Limits { return c.unit.limits }

// Func returns the exported function of that name and type.
func (c *Compiled) Func(name string, params, results []meter.ValueType) (Func, error) {
	e, ok := c.unit.module.Export(name)
	if !ok || e.Kind != meter.KindFunction {
		return 0, fmt.Errorf("the module does not export the function %s", name)
	}
	if have, want := signature(e.Type.Params, e.Type.Results), signature(params, results); have != want {
		return 0, fmt.Errorf("the module exports %s%s, not %s%s", name, have, name, want)
	}
	f, _ := c.Lookup(name)
	return f, nil
}

// Lookup returns the exported function of that name, whatever its type.
func (c *Compiled) Lookup(name string) (Func, bool) { return c.unit.lookup(name) }

func (u *unit) lookup(name string) (Func, bool) {
	for i, n := range u.functions {
		if n == name {
			return Func(i), true
		}
	}
	return 0, false
}

// Again returns another handle of the same module, for a plugin of this name. c must not be closed at the time.
func (c *Compiled) Again(name string) *Compiled {
	c.unit.retain()
	return &Compiled{unit: c.unit, name: name}
}

// Close gives the handle back. What was compiled is closed with the last handle and the last instance. Closing twice
// does nothing.
func (c *Compiled) Close() {
	if c.closed.CompareAndSwap(false, true) {
		c.unit.release()
	}
}

// unit is a compiled module and the runtime that it lives in: one wazero runtime for each module, so that closing it
// frees everything that belongs to it, and nothing that goes wrong in it reaches another module.
type unit struct {
	engine    *Engine
	key       unitKey
	limits    Limits
	ready     chan struct{}
	err       error
	refs      int // handles and instances; guarded by Engine.mu
	module    *meter.Module
	functions []string // exported functions, by Func
	runtime   wazero.Runtime
	cache     wazero.CompilationCache
	compiled  wazero.CompiledModule
	symbols   *symbols // nil: the module says nothing about its lines
	start     Func     // _initialize
	hasStart  bool
}

// Features are those of WebAssembly 2.0: what package meter lets through.
const features = api.CoreFeaturesV2

func (u *unit) build(ctx context.Context, binary []byte, abi ABI) (err error) {
	defer func() { // as in compileModule
		if v := recover(); v != nil {
			u.shut()
			err = fmt.Errorf("reading the module failed: %v", v)
		}
	}()
	o := meter.Options{MemoryPages: u.limits.MemoryPages, TableElements: u.limits.TableElements, Debug: true}
	var kept entry
	var cached bool
	if u.engine.cache != nil {
		kept, cached = u.engine.cache.entry(cacheKey(u.key.digest, o))
	}
	m := kept.module()
	if m == nil {
		if m, err = meter.Rewrite(binary, o); err != nil {
			return err
		}
	}
	u.module, u.symbols = m, newSymbols(m)
	var hosts []HostModule
	if abi.Hosts != nil {
		if hosts, err = abi.Hosts(m); err != nil {
			return err
		}
	}
	if err := provide(m, hosts); err != nil {
		return err
	}
	for _, e := range m.Exports {
		if e.Kind == meter.KindFunction {
			u.functions = append(u.functions, e.Name)
		}
	}
	u.start, u.hasStart = u.lookup("_initialize")
	if err := ctx.Err(); err != nil {
		return err
	}
	if cached {
		if err = u.open(hosts, kept.dir); err == nil {
			kept.keep(m)
			kept.seal()
			u.finish()
			return nil
		}
		u.shut() // an entry that cannot be read or written is no reason not to run: compile without it
	}
	if err := u.open(hosts, ""); err != nil {
		u.shut()
		return err
	}
	u.finish()
	return nil
}

// open makes the runtime with its host modules, and compiles the module in it.
func (u *unit) open(hosts []HostModule, dir string) (err error) {
	ctx := context.Background()
	c := wazero.NewRuntimeConfig().WithCoreFeatures(features).WithDebugInfoEnabled(u.symbols != nil).WithMemoryLimitPages(u.limits.MemoryPages)
	if dir != "" {
		if u.cache, err = wazero.NewCompilationCacheWithDir(dir); err != nil {
			return err
		}
		c = c.WithCompilationCache(u.cache)
	}
	u.runtime = wazero.NewRuntimeWithConfig(ctx, c)
	if err := instantiateHost(ctx, u.runtime, meterHost); err != nil {
		return err
	}
	for _, h := range hosts {
		if err := instantiateHost(ctx, u.runtime, h); err != nil {
			return err
		}
	}
	u.compiled, err = compileModule(ctx, u.runtime, u.module.Binary)
	return err
}

// compileModule is CompileModule. A module is a stranger's work, and one that a compiler's author did not think of must not
// end the gateway.
func compileModule(ctx context.Context, r wazero.Runtime, binary []byte) (c wazero.CompiledModule, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the compiler failed: %v", v)
		}
	}()
	return r.CompileModule(ctx, binary)
}

// finish drops what was needed for compiling only, and has wazero make now what it would make at the first trap.
func (u *unit) finish() {
	u.compiled.ExportedFunctions()
	u.module.Binary = nil
}

func (u *unit) shut() {
	ctx := context.Background()
	if u.runtime != nil {
		_ = u.runtime.Close(ctx)
	}
	if u.cache != nil {
		_ = u.cache.Close(ctx)
	}
	u.runtime, u.cache, u.compiled = nil, nil, nil
}

func (u *unit) retain() {
	u.engine.mu.Lock()
	u.refs++
	u.engine.mu.Unlock()
}

func (u *unit) release() {
	e := u.engine
	e.mu.Lock()
	u.refs--
	last := u.refs == 0
	if last {
		e.live--
		delete(e.units, u.key)
	}
	e.mu.Unlock()
	if last {
		u.shut()
	}
}
