package testkit

import (
	"bufio"
	"io"
	"os/exec"
	"testing"
)

// Child starts a process for what must not count in this one: descriptors, memory. in is what it reads and out what it prints; it
// is to end when in does, at the end of the test.
func Child(t testing.TB, cmd *exec.Cmd) (in io.Writer, out *bufio.Reader) {
	t.Helper()
	to, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	from, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = to.Close()
		_ = cmd.Wait()
	})
	return to, bufio.NewReader(from)
}
