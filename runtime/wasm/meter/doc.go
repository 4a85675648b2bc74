// Package meter rewrites a WebAssembly module so that it cannot run, recurse or grow without bound, before it is
// compiled. It uses no library: the few hundred lines that read and write the binary format are the trust boundary
// between a plugin and the gateway, and are kept small enough to be read at once and fuzzed.
//
// # What the rewrite does
//
// The module gets a counter of its own, a mutable i64 global that is exported under the name Fuel. Each function entry
// and each loop subtracts the static instruction count of what follows it without passing another such place: a function
// pays for its body outside of loops, a loop for its body outside of nested loops. Both arms of an if are paid for. When
// the counter falls below zero an imported function is called, refill of the module ImportModule; it adds to the counter,
// or refuses by a trap:
//
//	global.get $fuel  i64.const COST  i64.sub  global.set $fuel
//	global.get $fuel  i64.const 0  i64.ge_s  if  else  call $refill  end
//
// That is one load, one subtraction, one store and a compare-and-branch in wazero's native code. Four refinements keep
// it from being felt, and the sum from being far from what was run:
//
//   - A loop without calls spends a credit in a local and buys it 16 rounds at a time, in a loop around it (settle.go).
//     A call in the loop itself, even one that is never made, would have wazero keep the loop's values in memory.
//   - A function without calls that costs little is paid for by its callers.
//   - A function that runs straight into a loop pays at the loop's head for both.
//   - A loop that dispatches to basic blocks by number, which is how Go's compiler writes all control flow, pays on its
//     edges, for the code between where a jump leaves and where it arrives (dispatch.go).
//
// Measured against the same module without it: nothing for straight code and for calls, 0 to 20 % for Go's loops and for
// common C loops, 50 % for the tightest loop there is, one store and one addition. A request's call of the tenant
// routers in C and Go takes 2 to 5 % more: BenchmarkMetering.
//
// Instructions whose cost depends on an operand are paid for by that operand before they run: memory.fill, memory.copy
// and memory.init one unit for 8 bytes, table.fill, table.copy, table.init and table.grow one unit for each element.
// memory.grow becomes a call of the import memory_grow, where the host can charge, account and refuse.
//
// The counter cannot be wrapped: it starts at what the host sets, at most MaxSlice, and one step takes at most 2^33.
// It cannot be reached by the guest: indices are checked against the module as it was, so that what was out of range
// stays out of range instead of hitting what the rewrite adds.
//
// The stack is bounded by the counter too, since a function also pays for its locals and for a part of its loops:
// a frame costs at least one unit for each 256 bytes that it can take.
//
// # What it refuses
//
// Whatever is not metered: imported memories, tables and globals, several memories, 64-bit memories, shared memory and
// atomics, tail calls, exceptions, garbage-collected and typed references, extended constant expressions, relaxed SIMD
// and components. The error names the feature. Fixed-width SIMD is allowed. A binary that is malformed is refused too,
// but types are not checked here: the compiler validates what the rewrite gives it, and the rewrite never makes a valid
// module of an invalid one.
//
// # Custom sections
//
// The name section is kept, with module and function names only, re-indexed and bounded; a function without a name that
// is exported gets its export's name. All other custom sections are dropped: debugging information (.debug_*) tells of
// offsets that the rewrite has moved. With Options.Debug they are handed over beside the module, with a way back to those
// offsets.
package meter
