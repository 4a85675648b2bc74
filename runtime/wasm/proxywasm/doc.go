// Package proxywasm turns a module that speaks the Proxy-Wasm ABI, as plugins of Envoy, Istio, Kong, APISIX and Higress
// do, into a filter: versions 0.1.0, 0.2.0 and 0.2.1 of github.com/proxy-wasm/spec, HTTP and TCP. Modules run as they
// are; those of Higress's own version 0.2.100 too, but for its calls to Redis. It uses no library: the ABI is some fifty host functions over package wasm, which runs the guest.
//
// # Virtual machines and contexts
//
// On each loop a plugin has one virtual machine (VM), an instance of its module, in which every exchange is a stream
// context. Plugins of one module with the same Options.VMID and VMConfig share it and have a root context each; without a
// VMID a plugin shares with nobody. Guests never wait inside a call: a stream does, by Pause, which parks the exchange's
// task. Answers of http_call, ticks and queue events come to the guest on tasks of their own, also while a call of
// another takes long and others of the loop get their turn: calls of one VM then queue.
//
// A VM is made by New for the first loop, which is how a configuration is found wanting at once, and on the other loops with
// their first request; at once on all of them if the plugin works in the background, that is, sets a tick, makes a call or
// registers a queue while it starts. It is closed when nothing happens in it for Options.IdleAfter. A trap ends the VM of
// that loop: its streams follow Options.OnError, and the next request gets a new one, held off by Backoff and Breaker.
//
// Connections of TCP mode are streams too: see Plugin.Connect, which is told of one once its server name (SNI) has been read and
// before its upstream is chosen.
//
// # What differs from Envoy, and why
//
//   - Maps that are not there read as empty, and a name in them as not found, where Envoy answers BAD_ARGUMENT, on which
//     the Rust SDK panics. Request headers can be read in all phases. They can be changed until they are sent: in
//     on_request_headers, while the stream is paused there, and in on_request_body as long as the body is held.
//   - A body with a Content-Length of up to 64 KiB comes whole, in one piece with end_of_stream. From any other request
//     body the first piece is read before the head is sent, so that a plugin that buffers, as a firewall does, can still
//     answer, and change the head. A body that is held whole has an exact Content-Length again, whatever was changed.
//     A longer one that goes through in pieces keeps its Content-Length, unless the plugin removes that while it sees the head:
//     then it goes in chunks.
//   - Pause in on_request_headers or on_response_headers stops everything until the stream is continued, as Envoy has it
//     since 2021, unless nothing could continue it: no call of the stream is under way, and the VM has no tick and no
//     queue. Then the body callbacks come while the head waits, as Envoy has it with allow_on_headers_stop_iteration, and as
//     plugins expect that speak Higress's version, 0.2.100: for them it is always so. Options.StopIteration sets one or the
//     other.
//   - An answer with status 101, which begins a tunnel, comes to on_response_headers like any other, and has no body: what
//     passes through the tunnel no plugin sees.
//   - A client that goes away while its stream is paused ends it at once: calls of the stream are cancelled, and answered
//     without headers, and on_done, on_log and on_delete come as they would after Envoy's reset. One that closes only its
//     sending side has gone, as for Envoy.
//   - What is paused longer than Options.MaxPause fails with 504, by OnError.
//   - A paused body is held up to Options.MaxBody; more is 413 for a request, 500 for an answer, as in Envoy.
//   - An http_call that fails gives no headers, as the specification says; Envoy sometimes gives a 503 of its own.
//   - Shared data and queues without a VMID are the plugin's own. Envoy's are those of all plugins without one.
//   - get_current_time_nanoseconds is the time of the loop's turn, some microseconds old; it needs no grant. WASI's clock does.
//   - gRPC calls need a Grants.Caller that is a filter.Streamer, otherwise they are answered UNIMPLEMENTED; and an upstream that is
//     spoken to in HTTP/2, otherwise they close with that status (12). The service is the upstream's name, or a serialized GrpcService of Envoy's, of which
//     envoy_grpc.cluster_name and authority are read. Calls and streams end with the stream context that made them, and the guest
//     hears no more of them; those of root contexts go on. Messages are not compressed; more than one in answer to grpc_call is
//     INTERNAL. grpc_call without a timeout gets filter.DefaultCallTimeout. Initial metadata cannot be changed, and what of it is
//     the call's own (content-type, te, grpc-timeout, grpc-encoding) is left out. An error of the gateway's has the name of its
//     kind as message: fault.Kind.
//   - Of foreign functions there are clear_route_cache and declare_property, which has nothing to do here; any other is
//     not found.
//   - Content-Length, Transfer-Encoding and the fields about one connection can be read and set, but what is sent is the
//     gateway's. A plugin that changes a body on its way removes content-length, as in Envoy.
//   - An imported function that is not known answers UNIMPLEMENTED, and New says which there are.
//
// # Matching again
//
// A plugin in a route's list that changed :authority or :path has the routes matched again (filter.Rematch); one that
// changed other fields has it if it calls clear_route_cache.
//
// # Bytes that are not UTF-8
//
// The Rust SDK panics over a header value that is not UTF-8, which any client can send. Options.NonUTF8 says what guests see
// instead: the value with U+FFFD in place of what is wrong (the default), no such field, or the bytes as they are.
//
// # Bounds
//
// Everything that a guest can make grow has one, see Options and the constants in bounds.go: contexts, calls, bodies, header
// changes, properties, metrics, queues, shared data. A function that meets its bound answers INTERNAL_FAILURE, or ends the
// call where the ABI has no answer for it. Time is bounded by fuel, for each callback (wasm.Limits).
package proxywasm
