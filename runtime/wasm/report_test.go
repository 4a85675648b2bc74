package wasm

import (
	"strings"
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
	if len(lines) != 2 || lines[0] != (Line{Plugin: "p", Phase: "request", Level: LogInfo, Text: "a", Guest: true, Suppressed: 1}) {
		t.Errorf("%+v", lines)
	}
	r.Guest(0, 1e9, "response", LogError, []byte("b"), 0)
	if len(lines) != 3 || lines[2].Suppressed != 8+8 || lines[2].Text != "b" {
		t.Errorf("%+v", lines[2:])
	}
	lines = nil
	for range 100 {
		r.Guest(NoLoop, 0, "start", LogWarn, []byte("\xff"), 0)
	}
	if len(lines) < 20 || len(lines) > 30 || lines[0].Text != "\uFFFD" {
		t.Errorf("%d lines while instances start", len(lines))
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
