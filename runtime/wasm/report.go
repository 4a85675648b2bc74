package wasm

import (
	"bytes"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wasmgate/runtime/fault"
)

// OnError is what happens to a request whose plugin failed.
type OnError uint8

// The policies.
const (
	FailClosed OnError = iota // 503
	FailOpen                  // it goes on as if the plugin were not there
)

// String is the policy's name in the configuration.
func (o OnError) String() string {
	if o == FailOpen {
		return "fail_open"
	}
	return "fail_closed"
}

// The levels of lines for the log.
const (
	LogDebug uint32 = iota
	LogInfo
	LogWarn
	LogError
	LogOff // as the least level that is kept: none
)

// Line is a line for the log.
type Line struct {
	Plugin     string
	Phase      string // start, configure, request, response, ...
	Level      uint32 // LogDebug to LogError
	Text       string
	Guest      bool         // the plugin wrote it; otherwise it is about the plugin
	Err        *fault.Error // of a failure
	Suppressed int64        // lines like this one that were held back since the last
}

const (
	// DefaultLogRate is how many lines a plugin may write in a second, all loops together.
	DefaultLogRate = 20
	// MaxLineText is how many bytes of a guest's line are kept.
	MaxLineText = 8 << 10
	// repeatEvery is how often the same failure of a plugin is logged.
	repeatEvery = 10 * time.Second
)

// NoLoop is where an instance runs that starts on an ordinary goroutine, instead of a loop's index.
const NoLoop = -1

// ReporterOptions says whose lines a Reporter takes and where they go.
type ReporterOptions struct {
	Plugin string
	Loops  int     // how many loops there are
	Level  uint32  // least level of the guest's lines that is kept; LogOff: none
	Rate   float64 // the guest's lines in a second, all loops together; 0: DefaultLogRate
	Log    Sink    // nil: nothing is said
}

// Sink takes a line. It is called on loops and must not block, and on other goroutines while instances start.
type Sink = func(Line)

// Reporter says what a plugin writes, within its rate, and what there is to say about it, once and then once every ten
// seconds with its count.
type Reporter struct {
	plugin  string
	level   uint32
	log     Sink
	repeats *Repeats
	rate    sharedRate
	cells   []reportCell // of the loops, and one for all other goroutines
	begun   time.Time

	mu    sync.Mutex // for lines from outside of loops, where a lock does no harm
	lines Limiter
}

// reportCell counts what one loop held back.
type reportCell struct {
	untold atomic.Int64 // since the last line that was written
	all    atomic.Int64
	_      [48]byte
}

func (c *reportCell) hold(n int64) {
	if n != 0 {
		c.untold.Add(n)
		c.all.Add(n)
	}
}

// NewReporter returns a Reporter.
func NewReporter(o ReporterOptions) *Reporter {
	o.Loops = max(o.Loops, 1)
	if o.Rate <= 0 {
		o.Rate = DefaultLogRate
	}
	if o.Log == nil {
		o.Log = func(Line) {}
	}
	r := &Reporter{
		plugin: o.Plugin, level: o.Level, log: o.Log, repeats: NewRepeats(int64(repeatEvery)), begun: time.Now(),
		cells: make([]reportCell, o.Loops+1), lines: Limiter{PerSecond: o.Rate, Burst: 5 * o.Rate},
	}
	r.rate.set(o.Rate)
	return r
}

// Level is the least level of the guest's lines that is kept.
func (r *Reporter) Level() uint32 { return r.level }

// Held is how many of the guest's lines were not written because there were too many. It may be called from any goroutine.
func (r *Reporter) Held() (n uint64) {
	for i := range r.cells {
		n += uint64(r.cells[i].all.Load()) //nolint:gosec // not negative
	}
	return n
}

// Guest takes a line of the guest's, on a loop or with NoLoop on any goroutine. now is the loop's clock. held is how many
// lines were held back before this one by others.
func (r *Reporter) Guest(loop int, now int64, phase string, level uint32, text []byte, held int64) {
	c := &r.cells[len(r.cells)-1]
	if loop != NoLoop {
		c = &r.cells[loop]
	}
	c.hold(held)
	switch {
	case level < r.level:
	case loop == NoLoop && r.outside() || loop != NoLoop && r.rate.allow(now):
		r.guestLine(phase, level, text)
	default:
		c.hold(1)
	}
}

// outside says whether there is room for a line of an instance that starts.
func (r *Reporter) outside() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	ok, _ := r.lines.Allow(int64(time.Since(r.begun)))
	return ok
}

func (r *Reporter) guestLine(phase string, level uint32, text []byte) {
	held := int64(0)
	for i := range r.cells {
		if c := &r.cells[i]; c.untold.Load() != 0 {
			held += c.untold.Swap(0)
		}
	}
	r.log(Line{Plugin: r.plugin, Phase: phase, Level: level, Text: LineText(text), Guest: true, Suppressed: held})
}

// sharedRate is a token bucket of all loops together, with one word: they agree without a lock, and who finds it empty
// only reads. It holds the tokens of a second, or one. Clocks that differ by a loop's turn do no harm.
type sharedRate struct {
	every int64        // nanoseconds that a token takes to come
	whole int64        // that a full bucket takes
	taken atomic.Int64 // the time up to which tokens were taken
}

func (s *sharedRate) set(perSecond float64) {
	s.every = max(1, int64(float64(time.Second)/perSecond))
	s.whole = max(s.every, int64(time.Second))
	s.taken.Store(math.MinInt64 / 2)
}

func (s *sharedRate) allow(now int64) bool {
	for {
		taken := s.taken.Load()
		next := max(taken, now-s.whole) + s.every
		if next > now {
			return false
		}
		if s.taken.CompareAndSwap(taken, next) {
			return true
		}
	}
}

// Failed says a failure. now is a clock of the caller's, the same for all calls.
func (r *Reporter) Failed(now int64, err *fault.Error) {
	if say, before := r.repeats.Note(now, err.Kind.String(), err.Phase); say {
		r.log(Line{Plugin: r.plugin, Phase: err.Phase, Level: LogError, Text: "plugin failed: " + err.Error(), Err: err, Suppressed: before})
	}
}

// Say says something about the plugin. What key names together is the same: lines of one key count as repeats.
func (r *Reporter) Say(now int64, phase string, level uint32, text string, key ...string) {
	if say, before := r.repeats.Note(now, key...); say {
		r.log(Line{Plugin: r.plugin, Phase: phase, Level: level, Text: text, Suppressed: before})
	}
}

// LineText copies a line of a guest's, and says so if it was cut.
func LineText(b []byte) string {
	if len(b) <= MaxLineText {
		return string(bytes.ToValidUTF8(b, []byte("\uFFFD")))
	}
	return fmt.Sprintf("%s… (cut: %d bytes)", bytes.ToValidUTF8(b[:MaxLineText], []byte("\uFFFD")), len(b))
}
