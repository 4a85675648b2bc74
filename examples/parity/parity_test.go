// Package parity holds the table of README.md to the tests that it names.
package parity

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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
