package telemetry

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/mattn/go-isatty"
	"github.com/rs/zerolog"
)

// LogOptions say how the process' own log is written.
type LogOptions struct {
	Output io.Writer
	Level  string // trace, debug, info, warn, error, off; empty: info. SetLevel changes it
	Format string // "json", "console", or "auto", which is console on a terminal and JSON elsewhere; empty: auto
	Color  bool   // for console on a terminal; NO_COLOR is the caller's business
}

// Log is the process' own log. Loops may write to it too: its lines go through a queue to a goroutine that writes
// them, and when the output does not keep up, lines are dropped and counted rather than waited for.
type Log struct {
	zerolog.Logger
	least   levelGate
	queue   chan *[]byte
	out     io.Writer
	dropped atomic.Uint64
	done    chan struct{}
	flush   chan chan struct{}
	close   sync.Once
}

// logQueue is how many lines of the process' log may wait to be written.
const logQueue = 1024

var logLines = sync.Pool{New: func() any { return new([]byte) }}

// NewLog starts the process' log. Close ends it.
func NewLog(o LogOptions) (*Log, error) {
	level, err := logLevel(cmp.Or(o.Level, "info"))
	if err != nil {
		return nil, err
	}
	out, terminal := o.Output, false
	if f, ok := o.Output.(*os.File); ok {
		terminal = isatty.IsTerminal(f.Fd())
	}
	switch o.Format {
	case "json":
	case "console", "", "auto":
		if o.Format == "console" || terminal {
			out = zerolog.ConsoleWriter{Out: o.Output, NoColor: !o.Color || !terminal, TimeFormat: "15:04:05.000", TimeLocation: nil}
		}
	default:
		return nil, fmt.Errorf("log format %q is not known: json, console or auto", o.Format)
	}
	l := &Log{queue: make(chan *[]byte, logQueue), out: out, done: make(chan struct{}), flush: make(chan chan struct{})}
	l.least.set(level)
	l.Logger = zerolog.New(logSink{l}).Sample(&l.least).With().Timestamp().Logger()
	go l.run()
	return l, nil
}

// logSink is what zerolog writes to.
type logSink struct{ l *Log }

// Write never waits and never fails.
func (s logSink) Write(line []byte) (int, error) {
	b := logLines.Get().(*[]byte)
	*b = append((*b)[:0], line...)
	select {
	case s.l.queue <- b:
	default:
		s.l.dropped.Add(1)
		logLines.Put(b)
	}
	return len(line), nil
}

// Dropped is how many lines were lost because the output did not keep up.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

func (l *Log) run() {
	defer close(l.done)
	for {
		select {
		case b := <-l.queue:
			l.write(b)
		case end := <-l.flush:
			for {
				select {
				case b := <-l.queue:
					l.write(b)
					continue
				default:
				}
				break
			}
			close(end)
			return
		}
	}
}

func (l *Log) write(b *[]byte) {
	if _, err := l.out.Write(*b); err != nil {
		l.dropped.Add(1) // there is nowhere left to say so
	}
	if cap(*b) <= 16<<10 {
		logLines.Put(b)
	}
}

// Close writes what is in the queue and ends the log. Lines written later are dropped. It waits for the output: call it
// last, before the process exits.
func (l *Log) Close() {
	l.close.Do(func() {
		end := make(chan struct{})
		l.flush <- end
		<-end
	})
	<-l.done
}
