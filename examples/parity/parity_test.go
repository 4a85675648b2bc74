// Package parity holds the table of README.md to the tests that it names.
package parity

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"wasmgate/config"
)

var (
	named  = regexp.MustCompile("`(Test[A-Za-z0-9_]+)`")
	tested = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
)

// TestEveryRowNamesATestThatExists: a row without a test is a promise, and a test that was renamed no longer shows it.
func TestEveryRowNamesATestThatExists(t *testing.T) {
	there := tests(t)
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 4 || cells[0] == "| there" {
			continue
		}
		rows++
		names := named.FindAllStringSubmatch(cells[3], -1)
		if len(names) == 0 {
			t.Errorf("no test in the row %s", cells[0])
		}
		for _, n := range names {
			if !there[n[1]] {
				t.Errorf("the row %s names %s, and there is no such test", cells[0], n[1])
			}
		}
	}
	if rows < 37 {
		t.Errorf("%d rows; the seeds ask for 37", rows)
	}
}

// TestTheConfigsAreOnes loads what README.md shows of our config, and has nothing to warn of.
func TestTheConfigsAreOnes(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)\n```yaml\n(.*?)\n```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("it shows none")
	}
	for _, b := range blocks {
		_, report, err := config.Load(config.Source{File: "README.md", Data: b[1], Stat: func(string) error { return nil }})
		if err != nil || len(report.Warnings) > 0 {
			t.Errorf("%s\n%v\n%v", b[1], err, report)
		}
	}
}

// known are the keys of the reference, each by its last word.
var known = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|")

// TestTheLastColumnNamesKeysThatExist reads the table of the five languages against the reference.
func TestTheLastColumnNamesKeysThatExist(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := os.ReadFile(filepath.Join("..", "..", "config", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for _, m := range known.FindAllSubmatch(reference, -1) {
		keys[string(m[1])] = true
	}
	word := regexp.MustCompile("`(?:[a-z0-9_*\\[\\]]*\\.)*([a-z0-9_]+)(?:[:`])")
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.TrimSuffix(strings.TrimSpace(line), " |"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) != 7 || cells[0] == "| what" {
			continue
		}
		rows++
		for _, m := range word.FindAllStringSubmatch(cells[6], -1) {
			if !keys[m[1]] && m[1] != "unix" {
				t.Errorf("%s: there is no key %s", cells[0], m[1])
			}
		}
	}
	if rows < 20 {
		t.Errorf("%d rows", rows)
	}
}

// tests are the names of all tests of the module.
func tests(t *testing.T) map[string]bool {
	t.Helper()
	there := map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && strings.HasPrefix(d.Name(), "."):
			return filepath.SkipDir
		case !strings.HasSuffix(name, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(name)
		for _, m := range tested.FindAllSubmatch(text, -1) {
			there[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return there
}
