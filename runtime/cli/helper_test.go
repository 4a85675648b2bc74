package cli

import (
	"os"
	"testing"
)

// write writes a file in one step, since some are watched: nobody sees half of it, however long the test stands still.
func write(t *testing.T, file, text string) {
	t.Helper()
	must(t, os.WriteFile(file+".part", []byte(text), 0o600))
	must(t, os.Rename(file+".part", file))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
