package gateway_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/internal/testkit"
)

// distinct is the module with a custom section of its own, so that it is compiled, and cached, apart from the others.
func distinct(module []byte, n int) []byte {
	name := []byte("number")
	var b bytes.Buffer
	b.Write(module)
	b.WriteByte(0) // a custom section
	b.WriteByte(byte(1 + len(name) + 4))
	b.WriteByte(byte(len(name)))
	b.Write(name)
	_ = binary.Write(&b, binary.LittleEndian, uint32(n))
	return b.Bytes()
}

// TestAThousandPlugins: all of them are configured, ten are used. Those that are idle have no instance, and no memory of
// one; a start with a filled cache takes a moment for each.
func TestAThousandPlugins(t *testing.T) {
	leavesNothing(t)
	count := 1000
	if raceEnabled || testing.Short() || portableLoops {
		count = 100
	}
	router, err := os.ReadFile(module(t, conformance))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var text bytes.Buffer
	fmt.Fprintf(&text, "loops: 2\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\ntelemetry: { access_log: { output: 'off' } }\nadmin: { address: '' }\nplugin_cache: { dir: %q }\nplugins:\n", filepath.Join(dir, "cache"))
	for i := range count {
		path := filepath.Join(dir, fmt.Sprintf("p%d.wasm", i))
		if err := os.WriteFile(path, distinct(router, i), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "  p%d: { module: %q, config: '' }\n", i, path)
	}
	text.WriteString("routes:\n")
	for i := range count {
		fmt.Fprintf(&text, "  - { match: { path: /p%[1]d }, plugins: [p%[1]d], respond: { status: 200 } }\n", i)
	}
	start := func() (*gateway.Gateway, time.Duration) {
		c, _, err := config.Load(config.Source{File: "many.yaml", Data: text.Bytes()})
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		g, err := gateway.New(gateway.Options{Config: c, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Start(); err != nil {
			t.Fatal(err)
		}
		return g, time.Since(begun)
	}
	g, cold := start()
	g.Close()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	g, warm := start()
	defer g.Close()
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := int64(after.HeapInuse-before.HeapInuse) / int64(count)
	t.Logf("%d plugins: start in %v, with a filled cache in %v (%v each); %d KiB of heap each", count, cold.Round(time.Millisecond),
		warm.Round(time.Millisecond), (warm / time.Duration(count)).Round(time.Microsecond), each>>10)
	if n := g.Instances(); n != 0 {
		t.Errorf("%d instances before the first request", n)
	}
	if each > 200<<10 {
		t.Errorf("an idle plugin has %d bytes of heap", each)
	}
	for i := range 10 {
		for range 4 {
			if resp, _ := do(t, "http://"+g.Addr("test").String()+fmt.Sprintf("/p%d", i), "x-cmd", "deny 418"); resp.StatusCode != 418 {
				t.Errorf("plugin %d: %d", i, resp.StatusCode)
			}
		}
	}
	if n := g.Instances(); n < 10 || n > 20 {
		t.Errorf("%d instances of ten plugins on two loops", n)
	}
}

// TestManyHotSwaps: a plugin's module is changed again and again under requests, and nothing of what was is left. With
// WASMGATE_SWAPS=10000 it is changed that often.
func TestManyHotSwaps(t *testing.T) {
	leavesNothing(t)
	swaps := 100
	if text := os.Getenv("WASMGATE_SWAPS"); text != "" {
		if _, err := fmt.Sscan(text, &swaps); err != nil {
			t.Fatal(err)
		}
	}
	router, err := os.ReadFile(module(t, conformance))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p.wasm")
	write := func(n int) *config.Config {
		if err := os.WriteFile(path, distinct(router, n), 0o600); err != nil {
			t.Fatal(err)
		}
		return load(t, fmt.Sprintf("loops: 2\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\nplugins: { p: { module: %q, config: '' } }\nroutes: [{ plugins: [p], respond: { status: 200 } }]\n", path))
	}
	g, err := gateway.New(gateway.Options{Config: write(0), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	settled := func() (memory uint64) {
		testkit.Eventually(t, "only the last one's instances are there", func() bool { return g.Instances() <= 2 })
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	var early uint64
	for n := 1; n <= swaps; n++ {
		if err := g.Reload(write(n)); err != nil {
			t.Fatal(err)
		}
		if resp, _ := do(t, "http://"+g.Addr("test").String(), "x-cmd", "deny 418"); resp.StatusCode != 418 {
			t.Fatalf("after %d: %d", n, resp.StatusCode)
		}
		if n == swaps/10 {
			early = settled()
		}
	}
	var late uint64
	testkit.Eventually(t, fmt.Sprintf("no more than 8 MiB are added to %d KiB of heap by %d swaps", early>>10, swaps*9/10), func() bool {
		late = settled() // what the last ones had may be let go of a moment later
		return late <= early+8<<20
	})
	t.Logf("%d swaps: %d KiB of heap after a tenth of them, %d KiB after all", swaps, early>>10, late>>10)
}
