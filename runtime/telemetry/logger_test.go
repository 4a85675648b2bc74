package telemetry

import (
	"bytes"
	"strings"
	"testing"
)

// The process' own log is JSON for machines and text for people, from the level that is asked for.
func TestTheProcessLog(t *testing.T) {
	for _, c := range []struct {
		level, format string
		json          bool
		want          []string
	}{
		{"", "", true, []string{"info", "warn"}},
		{"debug", "json", true, []string{"debug", "info", "warn"}},
		{"warn", "auto", true, []string{"warn"}},
		{"info", "console", false, []string{"info", "warn"}},
	} {
		var out bytes.Buffer
		l, err := NewLog(LogOptions{Output: &out, Level: c.level, Format: c.format})
		if err != nil {
			t.Fatal(err)
		}
		l.Debug().Msg("about debug")
		l.Info().Str("path", "\x1b[31m\n").Msg("about info")
		l.Warn().Msg("about warn")
		l.Close()
		l.Close()
		if n := strings.Count(out.String(), "\n"); n != len(c.want) {
			t.Errorf("%+v: %d lines: %q", c, n, out.String())
		}
		for _, w := range c.want {
			if !strings.Contains(out.String(), "about "+w) {
				t.Errorf("%+v: nothing about %s in %q", c, w, out.String())
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%+v: the terminal is steered by what is logged: %q", c, out.String())
		}
		if c.json {
			logLinesOf(t, out.Bytes())
		}
	}
	for _, o := range []LogOptions{{Level: "loud"}, {Format: "xml"}} {
		if _, err := NewLog(o); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// A log that nobody reads costs lines, which are counted, and makes nobody wait.
func TestASlowProcessLogNeverBlocks(t *testing.T) {
	out := newStuck()
	l, err := NewLog(LogOptions{Output: out, Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	l.Info().Msg("the first")
	<-out.began
	for l.Dropped() < 5 {
		l.Info().Msg("one more")
	}
	close(out.hold)
	l.Close()
	if n := len(logLinesOf(t, out.got)); n != logQueue+1 {
		t.Errorf("%d lines written, want %d", n, logQueue+1)
	}
}
