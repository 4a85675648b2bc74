package wasm

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"wasmgate/runtime/fault"
)

func TestReporterHoldsAPluginToItsRate(t *testing.T) {
	var lines []Line
	r := NewReporter(ReporterOptions{Plugin: "p", Loops: 2, Level: LogInfo, Rate: 4, Log: func(l Line) { lines = append(lines, l) }})
	for range 10 {
		r.Guest(0, 0, "request", LogInfo, []byte("a"), 1)
		r.Guest(1, 0, "request", LogDebug, []byte("too little"), 0)
	}
	if len(lines) != 4 || lines[0] != (Line{Plugin: "p", Phase: "request", Level: LogInfo, Text: "a", Guest: true, Suppressed: 1}) {
		t.Errorf("%+v", lines)
	}
	r.Guest(0, 1e9, "response", LogError, []byte("b"), 0)
	if len(lines) != 5 || lines[4].Suppressed != 6+6 || lines[4].Text != "b" || r.Held() != 10+6 {
		t.Errorf("%+v, %d held", lines[4:], r.Held())
	}
	lines = nil
	for range 100 {
		r.Guest(NoLoop, 0, "start", LogWarn, []byte("\xff"), 0)
	}
	if len(lines) < 20 || len(lines) > 30 || lines[0].Text != "\uFFFD" {
		t.Errorf("%d lines while instances start", len(lines))
	}
}

// TestTheRateIsThatOfAllLoopsTogether: one loop may use all of it, and all of them have no more.
func TestTheRateIsThatOfAllLoopsTogether(t *testing.T) {
	const loops, rate, seconds, offered = 16, 20, 3, 1000
	var lines, told atomic.Int64
	r := NewReporter(ReporterOptions{Loops: loops, Rate: rate, Log: func(l Line) {
		lines.Add(1)
		told.Add(l.Suppressed)
	}})
	for range rate {
		r.Guest(3, 1e12, "request", LogInfo, []byte("of one request"), 0)
	}
	if n := lines.Load(); n != rate {
		t.Errorf("one loop wrote %d lines of %d at once", n, rate)
	}
	for second := range int64(seconds) {
		var all sync.WaitGroup
		for loop := range loops {
			all.Go(func() {
				for i := range int64(offered) {
					r.Guest(loop, 1e12+second*1e9+i*1e6, "request", LogInfo, nil, 0)
				}
			})
		}
		all.Wait()
	}
	n := lines.Load()
	if n < rate*seconds-1 || n > rate*(seconds+1) {
		t.Errorf("%d lines in %d seconds", n, seconds)
	}
	r.Guest(5, 2e12, "request", LogInfo, nil, 0)
	if all := int64(rate + seconds*loops*offered); n+told.Load() != all || n+int64(r.Held()) != all { //nolint:gosec // small
		t.Errorf("%d lines, %d told to be held, %d held, of %d", n, told.Load(), r.Held(), all)
	}
	r = NewReporter(ReporterOptions{Rate: 1e-9})
	if n := testing.AllocsPerRun(100, func() { r.Guest(0, 1, "request", LogInfo, []byte("too many"), 0) }); n != 0 {
		t.Errorf("a line that is held back allocates %v times", n)
	}
}

func TestReporterSaysAFailureOnceAndThenHowOften(t *testing.T) {
	var lines []Line
	r := NewReporter(ReporterOptions{Plugin: "p", Log: func(l Line) { lines = append(lines, l) }})
	f := fault.New(fault.PluginTrap, fault.Plugin, 503, "it fell")
	f.Phase = "request"
	for now := range int64(5) {
		r.Failed(now, f)
		r.Say(now, "start", LogWarn, "it lacks something", "lack")
	}
	r.Failed(int64(repeatEvery), f)
	if len(lines) != 3 || lines[0].Err != f || !strings.Contains(lines[0].Text, "it fell") || lines[1].Text != "it lacks something" || lines[2].Suppressed != 4 {
		t.Errorf("%+v", lines)
	}
	NewReporter(ReporterOptions{}).Failed(0, f) // nobody listens
}

func TestLongLinesAreCut(t *testing.T) {
	if s := LineText([]byte(strings.Repeat("x", MaxLineText+1))); !strings.HasSuffix(s, "x… (cut: 8193 bytes)") {
		t.Errorf("…%s", s[len(s)-40:])
	}
	if OnError.String(FailOpen) != "fail_open" || FailClosed.String() != "fail_closed" {
		t.Error("the policies' names")
	}
}
