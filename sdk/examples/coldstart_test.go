package examples

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/native"
	"wasmgate/sdk/toolchain"
)

// coldStarts is how often each start is measured; the median counts.
const coldStarts = 20

// coldBar is what a new instance of a module that is compiled may take.
var coldBar = map[toolchain.Language]time.Duration{
	toolchain.C: time.Millisecond, toolchain.Rust: time.Millisecond, toolchain.AssemblyScript: time.Millisecond, toolchain.Go: 10 * time.Millisecond,
}

// TestColdStart prints what it takes until the tenant router decides: where its module is compiled and an instance is made,
// and where the compiled code is on disk only, as after the gateway's start. An instance has a bar. The files are in the system's
// cache, as they are when a gateway is started again.
//
//	go test ./sdk/examples -run TestColdStart -measure -v
func TestColdStart(t *testing.T) {
	if !*measure {
		t.Skip("only with -measure: it tells nothing on a machine that does other things")
	}
	var table strings.Builder
	fmt.Fprintln(&table, "| | module | a new instance | from the cache on disk: load | and first decision |\n|---|---|---|---|---|")
	for _, l := range toolchain.Languages {
		b := module(t, example("tenant-router", l))
		c := newCold(t, b)
		instance := median(func() time.Duration { return c.instance() })
		var loads []time.Duration
		whole := median(func() time.Duration {
			load, whole := c.fromDisk()
			loads = append(loads, load)
			return whole
		})
		slices.Sort(loads)
		fmt.Fprintf(&table, "| `%s` | %s | %.2f ms | %.1f ms | %.1f ms |\n", l, size(int64(len(b))), ms(instance), ms(loads[len(loads)/2]), ms(whole))
		if bar, ok := coldBar[l]; ok && instance > bar {
			t.Errorf("%s: an instance takes %v, over %v", l, instance, bar)
		}
	}
	t.Logf("the tenant router's start, host included, on %s/%s, medians of %d:\n%s", runtime.GOOS, runtime.GOARCH, coldStarts, table.String())
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }

func median(of func() time.Duration) time.Duration {
	var times []time.Duration
	for range coldStarts {
		times = append(times, of())
	}
	slices.Sort(times)
	return times[len(times)/2]
}

// cold starts the tenant router.
type cold struct {
	*host
	binary []byte
	dir    string
	loaded *wasm.Compiled // by an engine that lives on
	engine *wasm.Engine
}

func newCold(t *testing.T, binary []byte) *cold {
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(func() { g.Close() })
	c := &cold{host: &host{t: t, loop: g.Loop(0), store: kv.New(kv.Options{MaxValue: 1000})}, binary: binary, dir: filepath.Join(t.TempDir(), "cache")}
	if err := os.Mkdir(c.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c.engine = c.open()
	c.loaded = c.compile(c.engine)
	t.Cleanup(c.loaded.Close)
	return c
}

func (c *cold) open() *wasm.Engine {
	e, err := wasm.New(wasm.Options{CacheDir: c.dir})
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

func (c *cold) compile(e *wasm.Engine) *wasm.Compiled {
	m, err := e.Compile(context.Background(), "example", c.binary, native.ABI, wasm.Limits{})
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

// decide makes a plugin of a module and asks it once. It returns when an instance was there.
func (c *cold) decide(m *wasm.Compiled) (ready time.Time) {
	s := suites[slices.IndexFunc(suites, func(s suite) bool { return s.name == measured[0].suite })]
	p, err := native.New(m, c.options(s.config))
	if err != nil {
		c.t.Fatal(err)
	}
	ready = time.Now()
	head := measured[0].message.request()
	c.on(func(task *netloop.Task) {
		x := &exchange.Exchange{Task: task}
		x.Reset()
		if _, err := x.Request.Parse(head, nil); err != nil {
			c.t.Error(err)
		}
		if v, err := p.Request(x, filter.Route, 0); err != nil || v != filter.Continue {
			c.t.Error(v, err)
		}
	})
	c.plugin = p
	return ready
}

// instance is what a new instance of a loaded module takes, with its configuration.
func (c *cold) instance() time.Duration {
	m := c.compile(c.engine)
	runtime.GC() // which would come in the middle
	begun := time.Now()
	ready := c.decide(m)
	c.plugin.Close()
	return ready.Sub(begun)
}

// fromDisk is what an engine takes that knows nothing yet: until the module is there, and until the first decision.
func (c *cold) fromDisk() (load, whole time.Duration) {
	runtime.GC()
	begun := time.Now()
	e := c.open()
	m := c.compile(e)
	load = time.Since(begun)
	c.decide(m)
	whole = time.Since(begun)
	c.plugin.Close()
	if err := e.Close(); err != nil {
		c.t.Error(err)
	}
	return load, whole
}
