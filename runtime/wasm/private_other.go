//go:build !unix

package wasm

import (
	"fmt"
	"os"
)

// private checks that a directory is one. The user's cache directory is private by the system's rules here.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	return nil
}
