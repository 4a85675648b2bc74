// Package wasmgate is the Go SDK for plugins of the native ABI (sdk/abi.md): write a function over a request, return a
// decision.
//
//	package main
//
//	import wasmgate "wasmgate/sdk/go"
//
//	var beta = wasmgate.RequestHeader("x-beta")
//
//	func init() {
//		wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
//			if r.Header(beta) == "yes" {
//				r.SetHeader("x-variant", "beta")
//			}
//			return wasmgate.Continue
//		})
//	}
//
//	func main() {}
//
// Build it with Go 1.24 or later:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm .
//
// main is never called: everything is registered in init. A plugin is one instance of the module; the gateway has
// several of them (one for each event loop at least), each is called by one request at a time, and any of them may be
// thrown away at any time, so package variables are caches and never truth.
//
// # Strings
//
// Strings that come from a Request, Response or Config are views into the gateway's message: they cost nothing, hold
// raw bytes that need not be UTF-8, and are valid until the function that was given the value returns. What shall
// live longer is copied with strings.Clone. Strings that are passed to the SDK are copied at once.
//
// Nothing in this package allocates while a request is handled, as long as answers fit into 64 KiB; a plugin that does
// not allocate either never runs Go's garbage collector.
//
// # More than a decision
//
// A plugin can ask an upstream before it decides (Config.Service, Request.Call: the function returns when the answer is
// there, and the gateway serves others meanwhile), share state with all its instances (Config.Store), see bodies whole
// (BufferRequestBody) or piece by piece (StreamRequestBody), be called now and then (HandleTick), and measure (NewCounter).
// What it calls, uses and sees is granted by the gateway's configuration.
//
// # Tests
//
// In a build for any other system than wasip1 the package has a Tester, so that a plugin is tested with go test alone.
//
// The package imports sdk/abi for the layouts, and otherwise little of the standard library to keep modules small.
package wasmgate
