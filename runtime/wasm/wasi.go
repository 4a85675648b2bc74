package wasm

import (
	"encoding/binary"

	"wasmgate/runtime/wasm/meter"
)

// WASI's error numbers, as far as they are answered.
const (
	wasiOK     = 0
	wasiBadFD  = 8
	wasiFault  = 21
	wasiInval  = 28
	wasiNoSys  = 52
	wasiNotSup = 58
)

// wasiCall does the work of a function; what it returns is the error number.
type wasiCall func(in *Instance, a []uint64) uint32

// WASI is the host module wasi_snapshot_preview1 without files and sockets: arguments, environment, clocks, randomness,
// exit, standard output and error as log lines. Nobody sleeps: poll_oneoff and sched_yield return at once, and the
// guest's monotonic clock goes on by what it wanted to sleep. A descriptor other than 1 and 2 is not there (EBADF), and
// everything else is not implemented (ENOSYS).
func WASI() HostModule { return wasi("wasi_snapshot_preview1", subscription1) }

// WASIUnstable is the host module wasi_unstable: WASI as it was before preview 1, which old compilers import. Of what is
// there at all only a subscription of poll_oneoff differs.
func WASIUnstable() HostModule { return wasi("wasi_unstable", subscription0) }

func wasi(name string, s subscription) HostModule {
	m := HostModule{Name: name}
	add := func(name, params string, fuel int64, call wasiCall) {
		f := HostFunction{Name: name, Params: wasiTypes(params), Results: wasiTypes("i"), Fuel: fuel}
		f.Call = func(in *Instance, stack []uint64) { stack[0] = uint64(call(in, stack)) }
		m.Functions = append(m.Functions, f)
	}
	add("args_get", "ii", 0, func(in *Instance, a []uint64) uint32 { return in.putStrings(in.sys.sys.Args, a) })
	add("args_sizes_get", "ii", 0, func(in *Instance, a []uint64) uint32 { return in.putSizes(in.sys.sys.Args, a) })
	add("environ_get", "ii", 0, func(in *Instance, a []uint64) uint32 { return in.putStrings(in.sys.sys.Env, a) })
	add("environ_sizes_get", "ii", 0, func(in *Instance, a []uint64) uint32 { return in.putSizes(in.sys.sys.Env, a) })
	add("clock_res_get", "ii", 0, func(in *Instance, a []uint64) uint32 { return in.put64(uint32(a[1]), 1) })
	add("clock_time_get", "iIi", 0, wasiClock)
	add("fd_write", "iiii", 0, wasiWrite)
	add("poll_oneoff", "iiii", 1000, func(in *Instance, a []uint64) uint32 { return s.poll(in, a) })
	add("random_get", "ii", 0, wasiRandom)
	add("sched_yield", "", 1000, func(*Instance, []uint64) uint32 { return wasiOK })
	add("fd_fdstat_get", "ii", 0, wasiFDStat)
	for name, params := range wasiAbsent {
		answer := uint32(wasiNoSys)
		if len(name) > 3 && name[:3] == "fd_" {
			answer = wasiBadFD
		}
		add(name, params, 0, func(*Instance, []uint64) uint32 { return answer })
	}
	m.Functions = append(m.Functions, HostFunction{
		Name: "proc_exit", Params: wasiTypes("i"),
		Call: func(_ *Instance, stack []uint64) { panic(&exitError{code: uint32(stack[0])}) },
	})
	return m
}

// wasiAbsent are the functions that are there to be imported, with their parameters: i is i32, I is i64, f is f32, F is f64.
var wasiAbsent = map[string]string{
	"fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i", "fd_fdstat_set_flags": "ii",
	"fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii", "fd_filestat_set_size": "iI", "fd_filestat_set_times": "iIIi",
	"fd_pread": "iiiIi", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi", "fd_read": "iiii",
	"fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii", "fd_sync": "i", "fd_tell": "ii",
	"path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi", "path_link": "iiiiiii",
	"path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii", "path_rename": "iiiiii",
	"path_symlink": "iiiii", "path_unlink_file": "iii", "proc_raise": "i", "sock_accept": "iii", "sock_recv": "iiiiii",
	"sock_send": "iiiii", "sock_shutdown": "ii",
}

func wasiTypes(s string) []meter.ValueType {
	types := make([]meter.ValueType, len(s))
	for i := range types {
		switch s[i] {
		case 'I':
			types[i] = meter.I64
		case 'f':
			types[i] = meter.F32
		case 'F':
			types[i] = meter.F64
		default:
			types[i] = meter.I32
		}
	}
	return types
}

// bytesUnits is what moving n bytes costs, in units.
func bytesUnits(n uint32) int64 { return int64(n) / meter.BytesPerUnit }

func (in *Instance) put32(at, v uint32) uint32 {
	b, ok := in.Bytes(at, 4)
	if !ok || len(b) < 4 {
		return wasiFault
	}
	binary.LittleEndian.PutUint32(b, v)
	return wasiOK
}

func (in *Instance) put64(at uint32, v uint64) uint32 {
	b, ok := in.Bytes(at, 8)
	if !ok || len(b) < 8 {
		return wasiFault
	}
	binary.LittleEndian.PutUint64(b, v)
	return wasiOK
}

// putStrings writes a table of pointers and, elsewhere, the strings it points to, each ended by a zero.
func (in *Instance) putStrings(list []string, a []uint64) uint32 {
	table, at := uint32(a[0]), uint32(a[1])
	for i, s := range list {
		in.Charge(bytesUnits(uint32(len(s))) + 1)
		b, ok := in.Bytes(at, uint32(len(s)+1))
		if !ok || len(b) <= len(s) || in.put32(table+uint32(4*i), at) != wasiOK {
			return wasiFault
		}
		copy(b, s)
		b[len(s)] = 0
		at += uint32(len(b))
	}
	return wasiOK
}

func (in *Instance) putSizes(list []string, a []uint64) uint32 {
	total := 0
	for _, s := range list {
		total += len(s) + 1
	}
	return max(in.put32(uint32(a[0]), uint32(len(list))), in.put32(uint32(a[1]), uint32(total)))
}

func wasiClock(in *Instance, a []uint64) uint32 {
	switch uint32(a[0]) {
	case 0: // realtime
		return in.put64(uint32(a[2]), uint64(in.sys.wall()))
	case 1: // monotonic
		return in.put64(uint32(a[2]), uint64(in.sys.monotonic()))
	}
	return wasiInval
}

func wasiRandom(in *Instance, a []uint64) uint32 {
	n := uint32(a[1])
	b, ok := in.Bytes(uint32(a[0]), n)
	if !ok {
		return wasiFault
	}
	in.Charge(int64(n)) // about a nanosecond a byte
	in.sys.fill(b)
	return wasiOK
}

// wasiFDStat says of standard output and error that they are character devices that can be written to.
func wasiFDStat(in *Instance, a []uint64) uint32 {
	if fd := uint32(a[0]); fd != 1 && fd != 2 {
		return wasiBadFD
	}
	b, ok := in.Bytes(uint32(a[1]), 24)
	if !ok || len(b) < 24 {
		return wasiFault
	}
	clear(b)
	b[0] = 2                                   // character device
	b[2] = 1                                   // append
	binary.LittleEndian.PutUint64(b[8:], 1<<6) // the right to write
	return wasiOK
}

func wasiWrite(in *Instance, a []uint64) uint32 {
	fd, vectors, n := uint32(a[0]), uint32(a[1]), uint32(a[2])
	if fd != 1 && fd != 2 {
		return wasiBadFD
	}
	total := uint32(0)
	for i := range n {
		in.Charge(10)
		v, ok := in.Bytes(vectors+8*i, 8)
		if !ok || len(v) < 8 {
			return wasiFault
		}
		at, size := binary.LittleEndian.Uint32(v), binary.LittleEndian.Uint32(v[4:])
		b, ok := in.Bytes(at, size)
		if !ok || total+size < total {
			return wasiFault
		}
		in.Charge(int64(size)) // looked through for lines, copied, and maybe logged
		in.write(int(fd), b)
		total += size
	}
	return in.put32(uint32(a[3]), total)
}

// subscription is where what poll_oneoff waits for is found in memory: the offsets of a clock's fields, and the whole.
type subscription struct{ clock, timeout, flags, size uint32 }

var (
	subscription0 = subscription{24, 32, 48, 56}
	subscription1 = subscription{16, 24, 40, 48}
)

// poll answers all subscriptions at once: clocks have run out, descriptors are not there.
func (p subscription) poll(in *Instance, a []uint64) uint32 {
	const event = 32
	from, to, n := uint32(a[0]), uint32(a[1]), uint32(a[2])
	if n == 0 {
		return wasiInval
	}
	var sleep uint64
	slept := false
	for i := range n {
		in.Charge(10)
		s, ok := in.Bytes(from+p.size*i, p.size)
		if !ok || len(s) < int(p.size) || uint64(from)+uint64(p.size)*uint64(n) > 1<<32 {
			return wasiFault
		}
		var answer [event]byte
		copy(answer[:8], s[:8])
		switch answer[10] = s[8]; s[8] {
		case 0:
			d := binary.LittleEndian.Uint64(s[p.timeout:])
			if s[p.flags]&1 != 0 { // an absolute time
				d = in.sys.until(binary.LittleEndian.Uint32(s[p.clock:]), d)
			}
			if !slept || d < sleep {
				sleep, slept = d, true
			}
		default:
			binary.LittleEndian.PutUint16(answer[8:], wasiBadFD)
		}
		e, ok := in.Bytes(to+event*i, event)
		if !ok || len(e) < event {
			return wasiFault
		}
		copy(e, answer[:])
	}
	in.sys.sleep(sleep)
	return in.put32(uint32(a[3]), n)
}

// until is how long it is until that time of that clock.
func (s *sysState) until(clock uint32, at uint64) uint64 {
	now := s.monotonic()
	if clock == 0 {
		now = s.wall()
	}
	if at <= uint64(now) {
		return 0
	}
	return at - uint64(now)
}
