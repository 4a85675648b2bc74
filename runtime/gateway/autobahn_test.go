package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// autobahn is the cases of the Autobahn suite, as they are, with the runner that .ci/test-tools installs.
func autobahn(t *testing.T) func(addr, dir string, which ...string) map[string]map[string]any {
	t.Helper()
	pinned, err := os.ReadFile("testdata/autobahn/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(cache, "wasmgate", "test-tools", strings.Replace(strings.TrimSpace(string(pinned)), "==", "-", 1))
	if _, err := os.Stat(folder); err != nil {
		missing(t, "the Autobahn suite: .ci/test-tools installs it")
	}
	python := need(t, "python3")
	return func(addr, dir string, which ...string) map[string]map[string]any {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
		defer cancel()
		args := append([]string{"-c", "from kosoku._cli import main; main()", "-p", "8", "-o", dir}, which...)
		cmd := exec.CommandContext(ctx, python, append(args, addr)...)
		cmd.Env = append(os.Environ(), "PYTHONPATH="+folder)
		out, err := cmd.CombinedOutput() // which fails if one case does: the reports say which
		list, _ := filepath.Glob(filepath.Join(dir, "*_case_*.json"))
		if len(list) == 0 {
			t.Fatalf("no reports: %v\n%s", err, out)
		}
		return reports(t, list)
	}
}

// reports are the reports of cases, by the cases' names.
func reports(t *testing.T, files []string) map[string]map[string]any {
	t.Helper()
	all := map[string]map[string]any{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var report map[string]any
		if err := json.Unmarshal(text, &report); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[fmt.Sprint(report["id"])] = report
	}
	return all
}

// sameEverywhere is what a report says that does not depend on how fast things went.
var sameEverywhere = []string{"behavior", "behaviorClose", "result", "resultClose", "received", "remoteCloseCode", "remoteCloseReason", "localCloseCode",
	"wasClean", "closedByMe", "failedByMe", "droppedByMe", "rxFrameStats", "txFrameStats"}

// TestAutobahn: the cases of the Autobahn suite come out through the gateway as they do without it, each of them, also what was
// received, in how many frames, and how the connection ended. The long ones with compression (12 and 13) are only sampled,
// unless WASMGATE_AUTOBAHN is set.
func TestAutobahn(t *testing.T) {
	if raceEnabled {
		t.Skip("without the race detector: it is the suite that takes the time")
	}
	run := autobahn(t)
	which := []string{"-x", "12.*", "-x", "13.*"}
	sample := []string{"-i", "12.1.1", "-i", "12.1.10", "-i", "12.5.3", "-i", "13.3.2", "-i", "13.7.5"}
	if os.Getenv("WASMGATE_AUTOBAHN") != "" {
		sample = []string{"-i", "12.*", "-i", "13.*"}
	}
	e := startWebSockets(t)
	g := start(t, "upstreams: { app: { targets: ['http://"+e.addr+"'] } }\nroutes: [{ upstream: app }]\n")
	for _, part := range [][]string{which, sample} {
		sameReports(t, run(e.addr, t.TempDir(), part...), run(g.addr.String(), t.TempDir(), part...))
	}
}

// sameReports wants the same of each case.
func sameReports(t *testing.T, direct, through map[string]map[string]any) {
	t.Helper()
	passed := 0
	for id, want := range direct {
		if through[id] == nil {
			t.Errorf("case %s: no report of it through the gateway", id)
			continue
		}
		for _, key := range sameEverywhere {
			if got := through[id][key]; !reflect.DeepEqual(got, want[key]) {
				t.Errorf("case %s, %s: %.300v through the gateway, %.300v without it", id, key, got, want[key])
			}
		}
		if want["behavior"] == "OK" && want["behaviorClose"] == "OK" {
			passed++
		}
	}
	t.Logf("%d cases, %d of them OK with the server alone", len(direct), passed)
	if len(through) != len(direct) || passed*2 < len(direct) {
		t.Errorf("%d cases without the gateway, %d through it, %d passed", len(direct), len(through), passed)
	}
}

// TestAutobahnOverHTTP2: so they do where the way leads through HTTP/2, from one gateway to another: extended CONNECT on the one side of
// each. Of the long ones none is taken.
func TestAutobahnOverHTTP2(t *testing.T) {
	if raceEnabled {
		t.Skip("without the race detector: it is the suite that takes the time")
	}
	run := autobahn(t)
	leavesNothing(t)
	e := startWebSockets(t)
	outer := extendedSite(t, "targets: ['http://"+chatSite(t, e, "", "", "").at("test")+"']", "")
	which := []string{"-x", "9.*", "-x", "12.*", "-x", "13.*"}
	if os.Getenv("WASMGATE_AUTOBAHN") != "" {
		which = which[2:]
	}
	sameReports(t, run(e.addr, t.TempDir(), which...), run(outer.at("test"), t.TempDir(), which...))
}
