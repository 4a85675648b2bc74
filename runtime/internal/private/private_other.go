//go:build !unix

package private

import (
	"fmt"
	"os"
)

// Folder checks that a folder is one. The user's cache folder is private by the system's rules here.
func Folder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}
