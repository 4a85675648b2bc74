// Command gen writes the reference of the config, README.md, and its JSON Schema, schema.json, from the struct tags of
// package config. Keys are documented there and nowhere else; a test fails when the files are stale.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gen FOLDER")
		os.Exit(2)
	}
	for name, content := range files() {
		if err := os.WriteFile(filepath.Join(os.Args[1], name), content, 0o644); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// files is what is generated, by name.
func files() map[string][]byte {
	return map[string][]byte{"README.md": readme(), "schema.json": schema()}
}
