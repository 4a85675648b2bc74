package wasm

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm/meter"
)

// DefaultMemoryTotal is the memory that all instances of a process may have together: 1 GiB.
const DefaultMemoryTotal = 1 << 30

// Options says how an Engine works. The zero value is good.
type Options struct {
	// CacheDir is where compiled code is kept between runs. "" is the directory wasmgate/wasm in os.UserCacheDir. The
	// code found there is run, so the directory must belong to this user alone (0700): New refuses one that does not.
	CacheDir string
	NoCache  bool // compile anew in each process
	// MemoryTotal bounds the memory of all instances together, in bytes. 0: DefaultMemoryTotal.
	MemoryTotal int64
}

// Limits are what a plugin may use. Zero values mean the defaults.
type Limits struct {
	MemoryPages   uint32 // of 64 KiB, for each instance; default meter.DefaultMemoryPages, 16 MiB
	TableElements uint32 // of each table; default meter.DefaultTableElements
	Fuel          int64  // units for each call; default DefaultFuel
	StartFuel     int64  // units for the start of an instance; default DefaultStartFuel
	StackBytes    int    // of native stack; default DefaultStackBytes
}

// The defaults of Limits.
const (
	DefaultFuel       = 5_000_000   // about 2.5 ms
	DefaultStartFuel  = 500_000_000 // a Go guest's start takes about ten million
	DefaultStackBytes = 1 << 20
)

func (l Limits) withDefaults() Limits {
	def := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.MemoryPages, meter.DefaultMemoryPages)
	l.MemoryPages = min(l.MemoryPages, 1<<16-1)
	def(&l.TableElements, meter.DefaultTableElements)
	if l.Fuel <= 0 {
		l.Fuel = DefaultFuel
	}
	if l.StartFuel <= 0 {
		l.StartFuel = DefaultStartFuel
	}
	if l.StackBytes <= 0 {
		l.StackBytes = DefaultStackBytes
	}
	l.Fuel, l.StartFuel = min(l.Fuel, meter.MaxSlice), min(l.StartFuel, meter.MaxSlice)
	return l
}

// ABI is what a module is compiled for.
type ABI struct {
	// Name tells ABIs apart: a module that is compiled for two of them is compiled twice.
	Name string
	// Hosts returns the host modules for a module, given what it imports and exports. The functions are shared by all
	// plugins of that module; what belongs to one plugin or request is reached through Instance.Owner. nil: none.
	Hosts func(m *meter.Module) ([]HostModule, error)
}

// Engine compiles modules and accounts for their memory.
type Engine struct {
	cache     *cache
	limit     int64
	inUse     atomic.Int64 // bytes of guest memory
	instances atomic.Int64
	mu        sync.Mutex
	units     map[unitKey]*unit
	live      int // units not yet closed, for Close
	closed    bool
}

type unitKey struct {
	digest [sha256.Size]byte
	abi    string
	limits Limits
}

// New returns an engine, or an error if the cache directory cannot be used.
func New(o Options) (*Engine, error) {
	e := &Engine{limit: o.MemoryTotal, units: map[unitKey]*unit{}}
	if e.limit <= 0 {
		e.limit = DefaultMemoryTotal
	}
	if !o.NoCache {
		c, err := openCache(o.CacheDir)
		if err != nil {
			return nil, err
		}
		e.cache = c
	}
	return e, nil
}

// MemoryInUse is the memory of all instances, in bytes.
func (e *Engine) MemoryInUse() int64 { return e.inUse.Load() }

// Instances is how many instances are not closed.
func (e *Engine) Instances() int64 { return e.instances.Load() }

// Close refuses further compilations. Modules that are still in use live on until their last handle and instance are
// closed; it returns an error that says how many there are.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.live > 0 {
		return fmt.Errorf("%d compiled modules are still in use", e.live)
	}
	return nil
}

// Compile meters and compiles a module, or finds it compiled: handles of the same binary, limits and ABI share it. name
// is the plugin's, for messages. The error is a *fault.Error of kind PluginUnavailable that says what is wrong with the
// module. ctx is looked at between the steps only. Close the handle when it is no longer needed.
func (e *Engine) Compile(ctx context.Context, name string, binary []byte, abi ABI, limits Limits) (*Compiled, error) {
	limits = limits.withDefaults()
	u, err := e.unit(ctx, unitKey{sha256.Sum256(binary), abi.Name, limits}, binary, abi)
	if err != nil {
		f := fault.New(fault.PluginUnavailable, fault.Plugin, 503, "the module cannot be used")
		f.Plugin, f.Phase, f.Err = name, "compile", err
		return nil, f
	}
	return &Compiled{unit: u, name: name}, nil
}

// unit returns the compiled module with one reference taken for the caller.
func (e *Engine) unit(ctx context.Context, key unitKey, binary []byte, abi ABI) (*unit, error) {
	for {
		e.mu.Lock()
		if e.closed {
			e.mu.Unlock()
			return nil, errors.New("the engine is closed")
		}
		u := e.units[key]
		if u == nil {
			u = &unit{engine: e, key: key, limits: key.limits, ready: make(chan struct{}), refs: 1}
			e.units[key] = u
			e.live++
			e.mu.Unlock()
			u.err = u.build(ctx, binary, abi)
			close(u.ready)
			if u.err != nil {
				u.release()
				return nil, u.err
			}
			return u, nil
		}
		u.refs++
		e.mu.Unlock()
		select {
		case <-u.ready:
		case <-ctx.Done():
			u.release()
			return nil, ctx.Err()
		}
		if u.err == nil {
			return u, nil
		}
		err := u.err
		u.release()
		if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
		if ctx.Err() != nil { // the other caller gave up, and so do we
			return nil, ctx.Err()
		}
	}
}

// reserve takes n bytes of guest memory, or says that there are none.
func (e *Engine) reserve(n int64) bool {
	if e.inUse.Add(n) > e.limit {
		e.inUse.Add(-n)
		return false
	}
	return true
}

// provide checks that hosts has every function that m imports, with its type, and returns an error that lists all that
// are missing.
func provide(m *meter.Module, hosts []HostModule) error {
	var missing []string
	have := functionsOf(hosts)
	for _, imp := range Missing(m, hosts) {
		text := ImportName(&imp)
		if f := have[functionName{imp.Module, imp.Name}]; f != nil {
			text += " (it is " + signature(f.Params, f.Results) + ")"
		}
		missing = append(missing, text)
	}
	if len(missing) > 0 {
		return fmt.Errorf("the module imports what the host does not have: %s", strings.Join(missing, ", "))
	}
	return nil
}

var typeNames = map[meter.ValueType]string{
	meter.I32: "i32", meter.I64: "i64", meter.F32: "f32", meter.F64: "f64", meter.V128: "v128", meter.FuncRef: "funcref", meter.ExternRef: "externref",
}

func signature(params, results []meter.ValueType) string {
	list := func(types []meter.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = typeNames[t]
		}
		return "(" + strings.Join(names, ",") + ")"
	}
	return list(params) + "->" + list(results)
}
