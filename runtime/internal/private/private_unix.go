//go:build unix

package private

import (
	"fmt"
	"os"
	"syscall"
)

// Folder checks that a folder belongs to this user and that nobody else can write or read it. The error says what to do.
func Folder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d, not to %d", dir, st.Uid, os.Geteuid())
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o and must be private: chmod 700 it", dir, mode)
	}
	return nil
}
