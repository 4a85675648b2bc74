package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rs/zerolog"
)

// LogLevels are the levels of lines, and off, the level of none.
var LogLevels = strings.Fields("trace debug info warn error off")

// logLevel reads a level's name.
func logLevel(name string) (zerolog.Level, error) {
	switch {
	case !slices.Contains(LogLevels, name):
		return 0, fmt.Errorf("log level %q is not known: trace, debug, info, warn, error or off", name)
	case name == "off":
		return zerolog.Disabled, nil
	}
	return zerolog.ParseLevel(name)
}

// levelGate lets lines through that have a level at least. It is zerolog's sampler, since that is asked by all loggers that
// were made of one, before anything of a line is written; their own level is a copy each.
type levelGate struct{ least atomic.Int32 }

func (g *levelGate) set(l zerolog.Level) { g.least.Store(int32(l)) }

// Sample implements zerolog.Sampler.
func (g *levelGate) Sample(l zerolog.Level) bool { return int32(l) >= g.least.Load() }

// SetLevel changes the least level of lines that are written, at once and for all loggers made of this one. It may be called
// from any goroutine.
func (l *Log) SetLevel(name string) error {
	level, err := logLevel(name)
	if err == nil {
		l.least.set(level)
	}
	return err
}

// LevelName is the least level of lines that are written.
func (l *Log) LevelName() string {
	if level := zerolog.Level(l.least.least.Load()); level != zerolog.Disabled { //nolint:gosec // it was one
		return level.String()
	}
	return "off"
}
