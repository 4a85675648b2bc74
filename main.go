// Command wasmgate is an HTTP gateway whose decisions are made by WebAssembly plugins.
package main

import (
	"os"

	"wasmgate/runtime/cli"
)

func main() { os.Exit(cli.Main(cli.OS())) }
