package main

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const head = "4711 (a (strange) name) S 1 4711 4711 0 -1 4194560 1000 0 3 0 "
	if got, err := parseStat(head + "250 125 7 8 20 0 1 0 12345 1000000 500\n"); err != nil || got != 375 {
		t.Errorf("got %d ticks, %v; want 375", got, err)
	}
	for _, text := range []string{"", "1 (x) S 1 2 3", head + "many 5 7 8"} {
		if got, err := parseStat(text); err == nil {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

func TestParsePss(t *testing.T) {
	const text = "00400000-7ffd rollup ---p 00000000 00:00 0 [rollup]\nRss:     8192 kB\nPss:     3072 kB\nPss_Anon:   512 kB\n"
	if got := parsePss(text); got != 3<<20 {
		t.Errorf("got %d bytes, want %d", got, 3<<20)
	}
	if got := parsePss("Rss: 1 kB\n"); got != 0 {
		t.Errorf("got %d bytes of nothing", got)
	}
}

// TestTree: what a process has started counts as its own, and ends with it.
func TestTree(t *testing.T) {
	need(t, tools("taskset", "sh", "sleep"))
	p, err := start("0", []string{"sh", "-c", "sleep 1000 & sleep 1000 & wait"}, t.TempDir()+"/log")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	eventually(t, "a shell with two children", func() bool { return len(p.tree()) == 3 })
	if n := p.memory(); n <= 0 {
		t.Errorf("memory is %d bytes", n)
	}
	if d, err := p.cpu(); err != nil || d < 0 || d > 10*time.Second {
		t.Errorf("CPU time is %s, %v", d, err)
	}
	pids := p.tree()
	p.stop()
	if got := p.tree(); got != nil {
		t.Errorf("after the end the tree is %v", got)
	}
	eventually(t, "the children have ended", func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return alive(pid) })
	})
}

// alive says whether there is a process that has not ended; one that its parent has not waited for has.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := cutLast(string(b), ")")
	return len(rest) > 1 && rest[1] != 'Z'
}
