package config

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what Load says into testdata, for review")

// goldenMark begins the lines at the end of a file that say what Load says about it.
const goldenMark = "#> "

// testEnv is the environment of all files in testdata.
var testEnv = []string{"LOOPS=3", "BOOL=false", "EMPTY="}

// testSource is a file whose modules and certificates all exist, but for those called missing.
func testSource(file string) Source {
	return Source{File: file, Env: testEnv, Stat: func(path string) error {
		if strings.HasPrefix(filepath.Base(path), "missing") {
			return os.ErrNotExist
		}
		return nil
	}}
}

// TestGolden reads every file in testdata. What is said about it stands at its end: one *.bad.yaml for each rule, and
// *.good.yaml that are accepted, some with warnings.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files in testdata, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			content, want := splitGolden(string(data))
			s := testSource(filepath.Base(file))
			s.Data = []byte(content)
			config, report, loadErr := Load(s)
			got := said(report, loadErr)
			if *update {
				if err := os.WriteFile(file, []byte(joinGolden(content, got)), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("Load says:\n%s\nwant:\n%s\n(go test ./config -run TestGolden -update writes it)", got, want)
			}
			good := strings.HasSuffix(file, ".good.yaml")
			if good != (loadErr == nil) || good != (config != nil) {
				t.Errorf("good: %v, config: %v, error: %v", good, config != nil, loadErr)
			}
			checkPlaces(t, report, loadErr)
		})
	}
}

// said is everything that Load says, warnings last.
func said(r *Report, err error) string {
	var parts []string
	if err != nil {
		parts = append(parts, err.Error())
	}
	if len(r.Warnings) > 0 {
		parts = append(parts, r.String())
	}
	all := strings.Join(parts, "\n")
	if here, err := os.Getwd(); err == nil { // the same wherever the repository is
		all = strings.ReplaceAll(all, here+string(filepath.Separator), "/here/")
	}
	return all
}

func splitGolden(data string) (content, golden string) {
	lines := strings.SplitAfter(data, "\n")
	var want strings.Builder
	for i := len(lines) - 1; i >= 0; i-- {
		if lines[i] != "" && !strings.HasPrefix(lines[i], strings.TrimSpace(goldenMark)) {
			for _, l := range lines[i+1:] {
				want.WriteString(strings.TrimPrefix(strings.TrimPrefix(l, strings.TrimSpace(goldenMark)), " "))
			}
			return strings.Join(lines[:i+1], ""), strings.TrimSuffix(want.String(), "\n")
		}
	}
	return data, ""
}

func joinGolden(content, golden string) string {
	if golden == "" {
		return content
	}
	return content + goldenMark + strings.ReplaceAll(golden, "\n", "\n"+goldenMark) + "\n"
}

// checkPlaces checks that everything said has a place, and that errors say how to help.
func checkPlaces(t *testing.T, r *Report, err error) {
	t.Helper()
	var list Errors
	errors.As(err, &list)
	for _, p := range append(list, r.Warnings...) {
		if p.Line == 0 || p.Column == 0 || p.Source == "" || p.Width == 0 {
			t.Errorf("no place: %+v", p)
		}
	}
	for _, p := range list {
		if p.Help == "" {
			t.Errorf("no help: %+v", p)
		}
	}
}

// TestTenMistakes is the promise made to whoever loses a day to a misspelt word: ten mistakes, ten errors at once, each
// with its line, its column, and what to write instead.
func TestTenMistakes(t *testing.T) {
	_, _, err := Load(testSource("testdata/ten.bad.yaml"))
	var list Errors
	if !errors.As(err, &list) || len(list) != 10 {
		t.Fatalf("want 10 errors, got %d:\n%v", len(list), err)
	}
	for _, p := range list {
		if p.Line == 0 || p.Column == 0 || p.Help == "" || p.Path == "" {
			t.Errorf("line, column, path or help is missing: %+v", p)
		}
	}
	if !strings.Contains(err.Error(), `unknown key "enableuse"`) || !strings.Contains(err.Error(), "pool.reuse: always") {
		t.Errorf("enableuse is not explained:\n%v", err)
	}
}
