// Package httpwasm turns a module that speaks the http-handler ABI of http-wasm, as plugins of Traefik and Dapr do, into a
// filter: all functions and features of http-wasm.io's specification, requests and answers. Modules run as they are. It
// uses no library: the ABI is nineteen host functions over package wasm, which runs the guest.
//
// # An exchange
//
// One instance of the module sees the whole exchange: handle_request, and then, if that said next, handle_response. In
// between, while the upstream works, nobody else can use it, so there are as many instances as there are exchanges under
// way, up to Options.MaxWaits on each loop beyond the Options.MaxPerLoop that may be at work; who comes then waits for
// Options.MaxWait and gets 503. handle_response is called exactly once for each next: also for an error of the upstream or
// of another plugin, which it sees as the answer that the client would get, with is_error 1; and, with is_error 1 and nothing
// of an answer, where it was not shown one, since another plugin failed over it, or the request went back to the routes. An
// answer that begins a tunnel (101) is shown before that begins.
//
// A module whose handle_response does nothing, as those have that look at requests only, holds no instance while the upstream
// works, unless handle_request did something to the answer.
//
// As a route's matcher the guest says by next that the route is for the request. Without next it is not, unless the guest
// has written an answer. Matchers see no answers: handle_response is not called.
//
// # What a guest may do when
//
// The specification leaves to hosts what happens in some cases, and the host for Go, which Traefik and Dapr have, is
// stricter or laxer in others. Here:
//
//   - What handle_request does to the answer (status apart, which is the upstream's) holds for the answer that comes, if it
//     says next: fields that it set or removed there are set or removed, fields that it added are added, and a body that it
//     wrote stands in place of the upstream's.
//   - handle_response may change status, fields, trailers and body without the feature buffer_response: nothing of the
//     answer has been sent by then. Only reading the body needs it.
//   - enable_features answers with the features that are enabled then, as the host for Go does and the public examples
//     want it, and not, as the specification has it, with all that there are.
//   - A feature costs nothing until it is used: a body is held back when the guest reads it, up to Options.MaxBody. More
//     is 413 for a request, 502 for an answer, or by OnError the exchange goes on without the plugin.
//   - Without buffer_request, what the guest has read of the request's body is gone; what it has not read is forwarded.
//     It may read any amount that way, since nothing is held.
//   - The request's body can be read in handle_request only: later it has been sent, and reads as ended. A body of the answer
//     reads as ended in handle_request.
//   - Trailers are there when the body is: with buffer_request or buffer_response, the first look at them holds the body back;
//     without, they are there once the guest has read to the end. They can be set at any time. What may not be in a trailer section
//     (RFC 9110 section 6.5.1) is left out. A message without a body has none, nor has one to an HTTP/1.0 peer.
//   - Fields about framing and the connection can be read; what is set of them is ignored, since the gateway frames
//     messages anew: plugins often set Content-Length. Host reads as the request's authority; setting it changes that.
//   - Values are taken without white space around them, and with a space for a line break, as Go does it. Any other control
//     character, a name that is no token, and a method or URI that is not valid end the call. The method does not change to
//     CONNECT, nor to HEAD or from it.
//   - set_uri resolves dot segments. In a route's list it changes what is sent; on a listener, what routes see, too.
//   - get_source_addr is the peer of the connection, or whom the PROXY protocol says to be there, as in Go. Who asked
//     according to a trusted proxy stands in X-Forwarded-For.
//   - Anything but 0 in the lower half of handle_request's result is next.
//
// # Failures
//
// A guest that traps, runs out of fuel or memory, or says something that no host can do is thrown away, and the exchange
// follows Options.OnError: it fails with 503, or goes on with request and answer as they were before the guest saw them. If
// that cannot be, since the guest has read the body without keeping it, it fails in any case. A client that goes away while
// the guest waits for the body is no failure of the guest's.
//
// # Bounds
//
// Bodies that are held or written, fields that are set, lines that are logged: each has one, see Options and the constants
// in host.go. Time is bounded by fuel, for each of the two calls (wasm.Limits), and 64 units more for each byte of a body
// that the guest reads; waiting for a body costs none.
package httpwasm
