//go:build unix

package private_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wasmgate/runtime/internal/private"
)

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	for mode, word := range map[os.FileMode]string{0o700: "", 0o500: "", 0o755: "chmod 700", 0o770: "chmod 700", 0o701: "chmod 700"} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		err := private.Folder(dir)
		if (err == nil) != (word == "") || (err != nil && (!strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), dir))) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := private.Folder(file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
	if err := private.Folder(filepath.Join(dir, "nothing")); err == nil {
		t.Error("nothing was taken for a folder")
	}
}

func TestFolderOfAnotherUserIsRefused(t *testing.T) {
	dir := "/" // of root
	if os.Geteuid() == 0 {
		dir = t.TempDir()
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if err := private.Folder(dir); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Errorf("got %v", err)
	}
}
