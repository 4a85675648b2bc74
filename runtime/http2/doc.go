// Package http2 speaks HTTP/2 (RFC 9113) on a connection of an event loop: the client's side, towards upstreams. Frames are
// read and written by golang.org/x/net/http2's Framer and header blocks by its hpack, both well kept and fuzzed for years;
// streams, flow control and limits are the package's own, since x/net's transport needs a goroutine for each connection and
// each body.
//
//	reader task:  socket → Framer → frames ── HEADERS, DATA, RST_STREAM → the stream, whose task is woken
//	                                      └── SETTINGS, PING, GOAWAY, WINDOW_UPDATE → the connection
//	stream tasks: Open, Write ─ one frame at a time, in turn ─→ out ─→ writer task → socket
//
// Everything runs on one loop, so nothing is locked. Frames of several streams that were written in one turn of the loop go
// out in one write. A stream whose reader is slow stops itself: its window is given back as its user reads, that of the
// connection as data arrives. So a stream holds Options.StreamWindow bytes at most, and no stream holds up another. Streams that
// want to send more than the connection or the peer takes get their turns one after the other, a frame each.
//
// A Conn is for a client. What is the same for a server is apart from it: the frames (read.go), the writing (write.go), the
// streams and their windows (stream.go), the rules for fields (fields.go); client.go has the client's own. A connection without
// streams has a task that waits for what the peer says, and, without TLS, no buffer.
//
// # Use
//
// Start makes a connection ready: it sends the preface and waits for the peer's SETTINGS, so that one that does not speak
// HTTP/2 is found out before a request is spent on it. Open begins a request and Write sends its body; Head waits for the head of
// the answer, Next for the pieces of its body, and Trailers has what came behind. Close ends the use of a stream, and resets
// it if it is not over. The connection lives until Options.Ended is called.
//
// # Errors
//
// Errors are of package fault, the upstream's, with status 502 or 504. One is Retryable if no head of an answer had come;
// Stream.Refused says that the peer has not acted upon the request at all: REFUSED_STREAM, or a number above that of GOAWAY.
//
// # What is refused
//
// What RFC 9113 calls a connection error ends the connection, with GOAWAY. An answer is malformed, and its stream is reset,
// with an upper-case name, a pseudo field but :status, or that late, twice or not at all, a field about the connection, a value with
// control characters or white space around it, a status of 101, a content-length that is no number, differs, or is not that of
// the data. Options bounds heads, in bytes and fields, and tables; a header block may have 64 CONTINUATION frames. Frames
// that move nothing forward (PING, SETTINGS, PRIORITY, empty DATA, small WINDOW_UPDATE, interim answers, anything for a stream that
// is over) are counted: more than Options.Nuisance of them in a second are ENHANCE_YOUR_CALM.
//
// # Costs
//
// hpack and the Framer work on strings and frames of their own: a request allocates the value of each field that it sends,
// twice for one with a name that package http1 does not know, and each field of the answer that is not in hpack's tables;
// WINDOW_UPDATE, SETTINGS, HEADERS and RST_STREAM frames are allocated by the Framer as they are read. Streams, buffers,
// and DATA in both directions allocate nothing once they have grown. DATA is copied on its way: by the Framer, and to and from the
// buffer of the stream.
package http2
