package wasm

import (
	"bytes"
	"context"
	"debug/dwarf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm/meter"
)

// linesModule compiles testdata/lines.c.
func linesModule(t *testing.T, options ...string) []byte {
	t.Helper()
	for _, program := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("WASMGATE_TEST_ALL") != "" {
				t.Fatalf("%s is not installed, and WASMGATE_TEST_ALL is set", program)
			}
			t.Skipf("needs %s, which is not installed", program)
		}
	}
	out := filepath.Join(t.TempDir(), "lines.wasm")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	args := append([]string{"--target=wasm32", "-nostdlib", "-Wl,--no-entry", "-o", out, "testdata/lines.c"}, options...)
	if text, err := exec.CommandContext(ctx, "clang", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lineOf is the number of the line of testdata/lines.c that ends with a comment.
func lineOf(t *testing.T, comment string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/lines.c")
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if bytes.HasSuffix(line, []byte("// "+comment)) {
			return fmt.Sprintf("testdata/lines.c:%d", i+1)
		}
	}
	t.Fatalf("no line has the comment %s", comment)
	return ""
}

var trapWays = []struct {
	export string
	arg    uint64
	kind   fault.Kind
	frames [][2]string // function, and the comment of its line
}{
	{"write", 3, fault.PluginTrap, [][2]string{{"store", "store"}, {"twice", "called"}, {"exported_write", "inlined"}}},
	{"divide", 3, fault.PluginTrap, [][2]string{{"divide", "divide"}, {"exported_divide", "divided"}}},
	{"trap", 3, fault.PluginTrap, [][2]string{{"exported_trap", "trap"}}},
	{"spin", 3, fault.PluginFuel, [][2]string{{"spin", ""}, {"exported_spin", "spinning"}}},
}

// TestTrapsTellLines compiles a module with debugging information, in both versions of the format that are around and
// with and without optimisation, and has it trap in the ways there are.
func TestTrapsTellLines(t *testing.T) {
	for _, options := range [][]string{
		{"-O2", "-g"}, {"-O2", "-gdwarf-5"}, {"-O0", "-g"}, {"-Os", "-gline-tables-only"}, {"-O2", "-g", "-ffile-prefix-map=testdata=/home/me/plugin/testdata"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "cache")
			module := linesModule(t, options...)
			for _, run := range []string{"compiled", "from the cache"} {
				c := compile(t, newEngine(t, Options{CacheDir: dir}), module, Limits{})
				for _, way := range trapWays {
					_, err := call(start(t, c, InstanceOptions{}), way.export, way.arg)
					var want []string
					for _, f := range way.frames {
						if f[1] == "" { // any line of the loop
							wantFault(t, err, way.kind, "in "+f[0]+" (testdata/lines.c:4")
							continue
						}
						want = append(want, fmt.Sprintf("%s (%s)", f[0], lineOf(t, f[1])))
					}
					wantFault(t, err, way.kind, strings.Join(want, " < "))
				}
				if t.Failed() {
					t.Fatal(run)
				}
			}
		})
	}
}

// TestTrapsTellNames is about modules without lines, and without names.
func TestTrapsTellNames(t *testing.T) {
	module := linesModule(t, "-O2")
	c := compile(t, newEngine(t, Options{}), module, Limits{})
	_, err := call(start(t, c, InstanceOptions{}), "write", 3)
	wantFault(t, err, fault.PluginTrap, ", in store < exported_write")

	stripped := linesModule(t, "-O2", "-Wl,--strip-all")
	c = compile(t, newEngine(t, Options{}), stripped, Limits{})
	_, err = call(start(t, c, InstanceOptions{}), "write", 3)
	wantFault(t, err, fault.PluginTrap, ", in function 1 < write (no names: build without -s / --strip)")
}

// TestLinesCostNoFuel compares what a call costs with debugging information and without.
func TestLinesCostNoFuel(t *testing.T) {
	var used [2]int64
	for i, debug := range []string{"-g0", "-g"} {
		in := start(t, compile(t, newEngine(t, Options{}), linesModule(t, "-O2", debug), Limits{}), InstanceOptions{})
		if _, err := call(in, "write", 2); err != nil {
			t.Fatal(err)
		}
		used[i] = in.FuelUsed()
	}
	if used[0] != used[1] {
		t.Errorf("%d units without, %d with", used[0], used[1])
	}
}

// TestHostileDebuggingInformation spoils the sections in many ways. Whatever they say, it is a text or nothing.
func TestHostileDebuggingInformation(t *testing.T) {
	module := linesModule(t, "-O2", "-g")
	m, err := meter.Rewrite(module, meter.Options{Debug: true})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for seed := range uint32(300) {
		debug := map[string][]byte{}
		for name, content := range m.Debug {
			b := bytes.Clone(content)
			for k := range seed % 8 {
				at := (seed*2654435761 + k*40503) % uint32(len(b))
				b[at] = byte(seed>>3) ^ byte(k*37)
			}
			if seed%5 == 1 {
				b = b[:len(b)/2]
			}
			debug[name] = b
		}
		spoiled := *m
		spoiled.Debug = debug
		s := newSymbols(&spoiled)
		for at := uint32(0); at < m.Offsets.End()+10; at += 7 {
			for _, f := range s.frames("f", at) {
				if f.place != "" {
					told++
				}
				if len(f.String()) > 2*maxLineText+20 {
					t.Fatalf("seed %d: %d bytes for a frame", seed, len(f.String()))
				}
			}
		}
	}
	if told == 0 {
		t.Error("no place was told: the test does not try what it should")
	}
}

func TestPlaces(t *testing.T) {
	for name, want := range map[string]string{
		"main.c":                           "main.c:7",
		"src/lib.rs":                       "src/lib.rs:7",
		"/home/ann/router/main.go":         "router/main.go:7",
		"/home/ann/router/src/lib.rs":      "router/src/lib.rs:7",
		"/home/ann/router/src/match/mod.c": "match/mod.c:7",
		"../router/src/lib.rs":             "router/src/lib.rs:7",
		"../src/lib.rs":                    "src/lib.rs:7",
		"/src/lib.rs":                      "src/lib.rs:7",
		"/lib.rs":                          "/lib.rs:7",
		`C:\router\src\lib.rs`:             "C:/router/src/lib.rs:7",
	} {
		if got := placeOf(&dwarf.LineFile{Name: name}, 7); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if got := placeOf(&dwarf.LineFile{Name: "/a/b/c.c"}, 0); got != "b/c.c" {
		t.Errorf("without a line: %s", got)
	}
}
