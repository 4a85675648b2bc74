// Conformance is the conformance kit of the native plugin ABI (sdk/abi.md): it runs an SDK's conformance plugin, which
// does what README.md lists, through a table of cases and says where its answers differ from what they should be.
//
//	go run ./sdk/conformance FILE.wasm
//
// It uses the gateway's own host (packages runtime/wasm and runtime/wasm/native), so that what passes here is what runs
// there, and nothing besides the standard library.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"
)

func main() {
	log.SetFlags(0)
	verbose := flag.Bool("v", false, "print what the plugin writes to its output and what the host says about failures")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: go run ./sdk/conformance [-v] FILE.wasm")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		log.Fatal("one file is expected")
	}
	module, err := os.ReadFile(flag.Arg(0))
	if err != nil {
		log.Fatal(err)
	}
	output := io.Discard
	if *verbose {
		output = os.Stderr
	}
	if failed, err := report(os.Stdout, output, module); err != nil {
		log.Fatal(err)
	} else if failed > 0 {
		log.Fatalf("%d cases differ", failed)
	}
}

// verdict is what came of a case: nothing differs if Differs is empty.
type verdict struct {
	Name    string
	Differs string
}

// report writes a line for each case, and what differs below it, and returns how many differ.
func report(w, output io.Writer, module []byte) (failed int, err error) {
	list, err := check(module, output)
	if err != nil {
		return 0, err
	}
	for _, v := range list {
		if v.Differs == "" {
			fmt.Fprintf(w, "ok       %s\n", v.Name)
			continue
		}
		failed++
		fmt.Fprintf(w, "DIFFERS  %s\n%s\n", v.Name, v.Differs)
	}
	fmt.Fprintf(w, "%d of %d cases are as they should be\n", len(list)-failed, len(list))
	return failed, nil
}

// check runs all cases. The error is about the module as such: it cannot be loaded, or the kit cannot run.
func check(module []byte, output io.Writer) ([]verdict, error) {
	h, err := newHost(module, output)
	if err != nil {
		return nil, err
	}
	defer h.close()
	var list []verdict
	for i := range cases {
		list = append(list, verdict{cases[i].name, h.run(&cases[i])})
	}
	for i := range viewCases {
		list = append(list, verdict{viewCases[i].name, h.runView(&viewCases[i])})
	}
	return list, nil
}
