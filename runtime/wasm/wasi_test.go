package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	wt "wasmgate/runtime/wasm/internal/wasmtest"
	"wasmgate/runtime/wasm/meter"
)

// wasiModule imports every function of WASI and exports each under its own name, with the same parameters.
func wasiModule() []byte {
	return module(func(m *wt.Module) {
		host := WASI()
		types := make([]uint32, len(host.Functions))
		for i, f := range host.Functions {
			types[i] = m.Type(codes(f.Params), codes(f.Results))
			m.Import(host.Name, f.Name, types[i])
		}
		m.Memory(1)
		for i, f := range host.Functions {
			var body []byte
			for p := range f.Params {
				body = append(body, wt.Get(uint32(p))...)
			}
			m.Export(f.Name, 0, m.Func(types[i], nil, body, wt.Call(uint32(i))))
		}
	})
}

func codes(types []meter.ValueType) []byte {
	b := make([]byte, len(types))
	for i, t := range types {
		b[i] = byte(t)
	}
	return b
}

// guest is an instance of wasiModule.
type guest struct {
	t  *testing.T
	in *Instance
}

func newGuest(t *testing.T, s *Sys) guest {
	return guest{t, start(t, compile(t, newEngine(t, Options{}), wasiModule(), Limits{}, WASI()), InstanceOptions{Sys: s})}
}

// call calls a function that must answer errno.
func (g guest) call(errno uint64, name string, args ...uint64) {
	g.t.Helper()
	if v := must(g.t, g.in, name, args...); v != errno {
		g.t.Errorf("%s%v answers %d, not %d", name, args, v, errno)
	}
}

func (g guest) u32(at uint32) uint32 { return uint32(g.u64(at)) }

func (g guest) u64(at uint32) uint64 {
	b, _ := g.in.Bytes(at, 8)
	return binary.LittleEndian.Uint64(b)
}

// put writes words of 32 bits.
func (g guest) put(at uint32, words ...uint32) {
	for i, w := range words {
		g.in.put32(at+uint32(4*i), w)
	}
}

const farOut = 1<<32 - 2 // an address outside of every memory

func TestWASIClocksAreFixedUnlessGranted(t *testing.T) {
	g := newGuest(t, nil)
	g.call(wasiOK, "clock_time_get", 0, 0, 8)
	if v := g.u64(8); v != fakeStart+uint64(fakeStep) {
		t.Errorf("the first reading is %d", v)
	}
	g.call(wasiOK, "clock_time_get", 0, 0, 8)
	if v := g.u64(8); v != fakeStart+2*uint64(fakeStep) {
		t.Errorf("the second reading is %d", v)
	}
	g.call(wasiOK, "clock_time_get", 1, 0, 8)
	if v := g.u64(8); v != 3*uint64(fakeStep) {
		t.Errorf("monotonic time is %d", v)
	}
	g.call(wasiOK, "clock_res_get", 0, 8)
	g.call(wasiInval, "clock_time_get", 7, 0, 8)
	g.call(wasiFault, "clock_time_get", 0, 0, farOut)

	g = newGuest(t, &Sys{Clock: true})
	before := time.Now()
	g.call(wasiOK, "clock_time_get", 0, 0, 8)
	if v := time.Unix(0, int64(g.u64(8))); v.Before(before.Round(0)) || v.After(time.Now().Round(0)) {
		t.Errorf("the time is %v", v)
	}
	g.call(wasiOK, "clock_time_get", 1, 0, 8)
	first := g.u64(8)
	// One second of sleep takes no time, and the guest's clock has gone on by it.
	for i := range uint32(12) {
		g.put(64+4*i, 0)
	}
	g.put(64+16, 1)             // the monotonic clock
	g.put(64+24, 1_000_000_000) // from now
	g.call(wasiOK, "poll_oneoff", 64, 128, 1, 200)
	g.call(wasiOK, "clock_time_get", 1, 0, 8)
	if d := g.u64(8) - first; d < 1e9 || d > 60e9 || g.u32(200) != 1 {
		t.Errorf("slept for %d ns, %d events", d, g.u32(200))
	}
	g.call(wasiInval, "poll_oneoff", 64, 128, 0, 200)
	g.call(wasiFault, "poll_oneoff", farOut, 128, 1, 200)
	g.call(wasiOK, "sched_yield")
}

func TestWASIRandomIsRandom(t *testing.T) {
	g, other := newGuest(t, nil), newGuest(t, nil)
	g.call(wasiOK, "random_get", 0, 64)
	other.call(wasiOK, "random_get", 0, 64)
	a, _ := g.in.Bytes(0, 64)
	b, _ := other.in.Bytes(0, 64)
	first := bytes.Clone(a)
	if bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 64)) {
		t.Errorf("random bytes are %x and %x", a, b)
	}
	g.call(wasiOK, "random_get", 0, 64)
	if bytes.Equal(first, a) {
		t.Error("the same bytes again")
	}
	g.call(wasiFault, "random_get", 0, farOut)
	g.call(wasiOK, "random_get", 0, 1<<16)
	if g.in.FuelUsed() < 1<<16 {
		t.Errorf("64 KiB for %d units", g.in.FuelUsed())
	}
}

func TestWASIHasNoFiles(t *testing.T) {
	g := newGuest(t, &Sys{Args: []string{"p"}, Env: []string{"A=1", "BB=22"}})
	g.call(wasiBadFD, "fd_prestat_get", 3, 0)
	g.call(wasiBadFD, "fd_read", 0, 0, 0, 0)
	g.call(wasiBadFD, "fd_write", 3, 0, 0, 0)
	g.call(wasiBadFD, "fd_fdstat_get", 0, 0)
	g.call(wasiOK, "fd_fdstat_get", 1, 0)
	g.call(wasiFault, "fd_fdstat_get", 2, farOut)
	for name, params := range wasiAbsent {
		want := uint64(wasiNoSys)
		if strings.HasPrefix(name, "fd_") {
			want = wasiBadFD
		}
		g.call(want, name, make([]uint64, len(params))...)
	}

	g.call(wasiOK, "environ_sizes_get", 0, 8)
	if g.u32(0) != 2 || g.u32(8) != 10 {
		t.Errorf("%d variables of %d bytes", g.u32(0), g.u32(8))
	}
	g.call(wasiOK, "environ_get", 0, 100)
	if b, _ := g.in.Bytes(100, 10); string(b) != "A=1\x00BB=22\x00" || g.u32(0) != 100 || g.u32(4) != 104 {
		t.Errorf("the variables are %q at %d and %d", b, g.u32(0), g.u32(4))
	}
	g.call(wasiOK, "args_get", 0, 100)
	g.call(wasiOK, "args_sizes_get", 0, 8)
	g.call(wasiFault, "environ_get", 0, farOut)
	g.call(wasiFault, "environ_get", farOut, 100)
	g.call(wasiFault, "environ_sizes_get", farOut, 0)
}

// TestOutputBecomesBoundedLines writes to both streams: whole lines arrive, long ones are cut, many are held back and
// counted, and what was written last is heard when the guest dies.
func TestOutputBecomesBoundedLines(t *testing.T) {
	var got []string
	g := newGuest(t, &Sys{MaxLine: 10, Lines: 1e-9, Log: func(in *Instance, stream int, line []byte, suppressed int64) {
		got = append(got, fmt.Sprintf("%d %s %d %s", stream, line, suppressed, in.Plugin()))
	}})
	g.in.sys.limiter.Burst = 4
	write := func(fd uint64, parts ...string) {
		t.Helper()
		at := uint32(1024)
		for i, p := range parts {
			g.put(uint32(8*i), at, uint32(len(p)))
			b, _ := g.in.Bytes(at, uint32(len(p)))
			copy(b, p)
			at += uint32(len(p))
		}
		g.call(wasiOK, "fd_write", fd, 0, uint64(len(parts)), 512)
		if n := g.u32(512); n != uint32(len(strings.Join(parts, ""))) {
			t.Errorf("%d bytes written", n)
		}
	}
	write(1, "hel", "lo\r\nwor")
	write(2, "panic: 0123456789")
	write(1, "ld\n")
	write(2, "more\n\n")
	for range 50 {
		write(1, "again\n")
	}
	want := []string{"1 hello 0 p", "1 world 0 p", "2 panic: 012 0 p", "2  0 p"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	g.in.sys.limiter.tokens = 1
	write(2, "fatal")
	_, err := call(g.in, "proc_exit", 2)
	wantFault(t, err, fault.PluginTrap, "exited with code 2")
	if last := got[len(got)-1]; last != "2 fatal 50 p" {
		t.Errorf("the last words are %q", last)
	}

	g = newGuest(t, &Sys{Log: func(*Instance, int, []byte, int64) { t.Error("a line") }})
	g.put(0, farOut, 10)
	g.call(wasiFault, "fd_write", 1, 0, 1, 512)
	g.call(wasiFault, "fd_write", 1, farOut, 1, 512)
	g.put(0, 0, 1<<16)
	newGuest(t, nil).call(wasiOK, "fd_write", 1, 0, 1, 512) // dropped
}

// TestOutputAtALowRateIsHeard checks that a rate below one line in five seconds does not mean none at all.
func TestOutputAtALowRateIsHeard(t *testing.T) {
	lines := 0
	g := newGuest(t, &Sys{Lines: 0.01, Log: func(*Instance, int, []byte, int64) { lines++ }})
	g.in.write(1, []byte("a\nb\n"))
	if lines != 1 {
		t.Errorf("%d lines", lines)
	}
}

// TestExitEndsTheCallAlone lets one instance exit; another one of the module goes on.
func TestExitEndsTheCallAlone(t *testing.T) {
	c := compile(t, newEngine(t, Options{}), wasiModule(), Limits{}, WASI())
	one, two := start(t, c, InstanceOptions{}), start(t, c, InstanceOptions{})
	_, err := call(one, "proc_exit", 0)
	wantFault(t, err, fault.PluginTrap, "the guest exited with code 0", "proc_exit")
	must(t, two, "sched_yield")
}
