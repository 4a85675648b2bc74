package wasm

import (
	"bytes"
	crand "crypto/rand"
	"math/rand/v2"
	"time"
)

// Sys is what an instance's WASI functions give. Nothing is granted by default: no arguments, no environment, clocks
// that only count readings. There are no files and no sockets.
type Sys struct {
	Args  []string
	Env   []string // "NAME=value"
	Clock bool     // the real time; without it a clock begins at 2022-01-01 and goes on by 1 ms with each reading
	// Log gets what the guest writes to its standard output (stream 1) and standard error (stream 2), line by line,
	// without the line's end, cut at MaxLine bytes. line is valid during the call only. nil: it is dropped.
	//
	// It is called on the goroutine that runs the guest, at most Lines times a second; suppressed is the number of lines
	// that were held back since the last one.
	Log     func(in *Instance, stream int, line []byte, suppressed int64)
	MaxLine int     // default 1024
	Lines   float64 // default 20 a second, and 100 at once
}

// fakeStart is 2022-01-01T00:00:00Z, in Unix nanoseconds.
const fakeStart = 1_640_995_200_000_000_000

const fakeStep = int64(time.Millisecond)

// processStart is what monotonic time counts from.
var processStart = time.Now()

// sysState is an instance's part of WASI.
type sysState struct {
	sys     Sys
	random  *rand.ChaCha8
	fake    int64 // readings of the clock that were not granted, in nanoseconds
	slept   int64 // what the guest believes to have slept: its monotonic clock is ahead by it
	lines   [2][]byte
	over    [2]bool // the line is being cut
	limiter Limiter
	high    uint32 // the upper half of a result, as Emscripten passes it
}

func (s *sysState) init(sys *Sys) {
	if sys != nil {
		s.sys = *sys
	}
	if s.sys.MaxLine <= 0 {
		s.sys.MaxLine = 1024
	}
	if s.sys.Lines <= 0 {
		s.sys.Lines = 20
	}
	s.limiter = Limiter{PerSecond: s.sys.Lines, Burst: max(1, 5*s.sys.Lines)}
}

// fill fills b with random bytes: of a ChaCha8 generator for each instance, seeded by the system.
func (s *sysState) fill(b []byte) {
	if s.random == nil {
		var seed [32]byte
		_, _ = crand.Read(seed[:]) // never fails
		s.random = rand.NewChaCha8(seed)
	}
	_, _ = s.random.Read(b)
}

func (s *sysState) wall() int64 {
	if s.sys.Clock {
		return time.Now().UnixNano()
	}
	s.fake += fakeStep
	return fakeStart + s.fake + s.slept
}

func (s *sysState) monotonic() int64 {
	if s.sys.Clock {
		return int64(time.Since(processStart)) + s.slept
	}
	s.fake += fakeStep
	return s.fake + s.slept
}

// sleep makes the guest's monotonic clock go on by d. Nobody sleeps: the loop has others to serve.
func (s *sysState) sleep(d uint64) { s.slept += int64(min(d, uint64(100*365*24*time.Hour))) }

// write takes what the guest wrote and gives whole lines to Log.
func (in *Instance) write(stream int, b []byte) {
	s := &in.sys
	if s.sys.Log == nil {
		return
	}
	i := stream - 1
	for len(b) > 0 {
		part, rest, whole := bytes.Cut(b, []byte{'\n'})
		if room := s.sys.MaxLine - len(s.lines[i]); !s.over[i] {
			s.over[i] = len(part) > room
			s.lines[i] = append(s.lines[i], part[:min(len(part), room)]...)
		}
		if !whole {
			return
		}
		in.flush(stream)
		b = rest
	}
}

// flush says a line that is there.
func (in *Instance) flush(stream int) {
	s := &in.sys
	i := stream - 1
	if ok, suppressed := s.limiter.Allow(int64(time.Since(processStart))); ok {
		s.sys.Log(in, stream, bytes.TrimSuffix(s.lines[i], []byte{'\r'}), suppressed)
	}
	s.lines[i], s.over[i] = s.lines[i][:0], false
}

// flushAll says what the guest wrote last, without a line's end: before a crash this is often what matters.
func (in *Instance) flushAll() {
	if in.sys.sys.Log == nil {
		return
	}
	for stream := 1; stream <= 2; stream++ {
		if len(in.sys.lines[stream-1]) > 0 {
			in.flush(stream)
		}
	}
}
