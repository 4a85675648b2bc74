// Package wasm runs plugins: it compiles WebAssembly modules once per digest, keeps their instances, and holds them to
// their limits. What a plugin's functions mean is the business of the ABI packages below it.
//
// It uses wazero (github.com/tetratelabs/wazero) because it compiles to native code in pure Go, without cgo and without
// a library to install. wazero's own way to stop a guest, a context, costs ten times as much as a short call; so modules
// are metered before they are compiled (package meter), and what bounds a guest is fuel.
//
// # What a guest is held to
//
//   - Time: Limits.Fuel units for each call, about one for an instruction and half a nanosecond. Native code cannot be
//     preempted, so the counter is filled in slices of Slice units, about 50 to 100 µs. Between two slices the garbage
//     collector gets its turn, and a Yielder, if one is set, lets the loop serve others.
//   - Memory: Limits.MemoryPages for each instance, Options.MemoryTotal for all instances of the process.
//   - Stack: Limits.StackBytes of native stack, looked at between slices. A frame costs at least a unit for each 256
//     bytes it can take, and a few units in any case, so that what a guest can add within a slice is bounded: a small
//     function that calls itself adds about 2 MiB, the worst that can be built 32 MiB. wazero's own ceiling of 84 MB for
//     each function comes last. The stack of a call that trapped goes with its instance; one that grew in a call that
//     went well is given back by Pool.Sweep.
//   - Calls of the host: each costs the fuel that its HostFunction says, and what the function charges on top.
//
// # Traps
//
// The error of a call that failed names the functions that were under way, innermost first and without a language's
// machinery of panics: from the module's name section, which the rewrite keeps, or by their numbers in the module as it was
// written. Where the module has debugging information (DWARF 4 or 5), the source line follows each name, and functions that
// were inlined are named too.
//
// wazero 1.12 tells an instruction's offset only in the text of its stack trace, and only for a frame whose line it finds in
// the module; FunctionListener and its stack iterator see calls and not traps. So a module with debugging information gets
// a line of its own all over the rewritten code, the offset is taken out of the text, led back through the rewrite, and
// looked up in the information that the module came with. wazero keeps 16 bytes for each instruction for that, and the
// information stays in memory: a stripped module is smaller in every way, and says less.
//
// # Threads
//
// An Engine and a Compiled may be used from any goroutine. A Pool belongs to the loops: a loop's part of it is touched
// on that loop only, so that nothing locks. An Instance is used by one caller at a time, on whatever goroutine.
//
// Compiling takes from a millisecond to seconds, making an instance from 20 µs to several milliseconds: both may run on
// any goroutine, and a loop should leave them to netloop.Task.Await.
package wasm
