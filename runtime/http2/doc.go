// Package http2 speaks HTTP/2 (RFC 9113) on a connection of an event loop: the client's side, towards upstreams, and the server's,
// towards clients. Frames are read by golang.org/x/net/http2's Framer and header blocks are its hpack's, both well kept and fuzzed
// for years; streams, flow control and limits are the package's own, since x/net's transport and server need a goroutine for each
// connection, stream and body.
//
//	reader task:  socket → Framer → frames ── HEADERS, DATA, RST_STREAM → the stream, whose task is woken, or begun
//	                                      └── SETTINGS, PING, GOAWAY, WINDOW_UPDATE → the connection
//	stream tasks: Open, Write; Request.Head, Add, Flush ─ a frame at a time, in turn ─→ out ─→ writer task → socket
//
// Everything runs on one loop, so nothing is locked. Frames of several streams that were written in one turn of the loop go
// out in one write. A stream whose reader is slow stops itself: its window is given back as its user reads. So a stream holds
// Options.StreamWindow bytes at most. The connection's window a client gives back as data arrives, so that no stream holds up another; a
// server does as they are read, so that a connection holds Options.ConnWindow bytes at most. Streams that
// want to send more than the connection or the peer takes get their turns one after the other, a frame each.
//
// Both sides share the frames (read.go, frame.go), the writing (write.go), the streams and their windows (stream.go), the rules
// for fields (fields.go); client.go has the client's own, server.go, request.go and answer.go the server's. A client's connection
// without streams has a task that waits for what the peer says, and no buffer; a server's has neither after a second, and holds 4 to
// 5 KB, most of it HPACK's tables (TestIdleServerConnectionsAreSmall).
//
// # Use, as a client
//
// Start makes a connection ready: it sends the preface and waits for the peer's SETTINGS, so that one that does not speak
// HTTP/2 is found out before a request is spent on it. Open begins a request and Write sends its body; Head waits for the head of
// the answer, Next for the pieces of its body, and Trailers has what came behind. Close ends the use of a stream, and resets
// it if it is not over. The connection lives until Options.Ended is called. With Outgoing.Protocol the request is an extended CONNECT (RFC
// 8441), for a server that Conn.Extended says takes it: after a 2xx Stream.Tunnel is used in both directions.
//
// # Use, as a server
//
// Server.Accept makes a connection that a client has opened one of HTTP/2, and Conn.Run reads it. Handler.Serve gets each request when
// its head is whole, in a task of its own: Request.Fill has its head, Next its body, and Head, Add, End, Flush and Write are the answer. What
// of a request nobody has read when its answer is whole is taken still, up to 8 MiB and for 2 s, and only then reset (NO_ERROR);
// the last of the answer waits for that where the request's length is known, since there are clients that
// read no window behind it. Conn.Drain ends a connection without harm to a request, by GOAWAY twice.
//
// A stream counts against Options.MaxStreams until both sides have ended it, and as long as its task runs against twice as many: one
// more is refused (REFUSED_STREAM). A client that takes back what it asks (rapid reset) so makes no more work than one that does not. Deadlines
// bound heads, SETTINGS that are not acknowledged, answers that are not taken, and silence.
//
// # Errors
//
// Errors are of package fault: a client's are the upstream's, with status 502 or 504, a server's the client's, which gets no answer to
// them. One is Retryable if no head of an answer had come;
// Stream.Refused says that the peer has not acted upon the request at all: REFUSED_STREAM, or a number above that of GOAWAY.
//
// # What is refused
//
// What RFC 9113 calls a connection error ends the connection, with GOAWAY. An answer is malformed, and its stream is reset,
// with an upper-case name, a pseudo field but :status, or that late, twice or not at all, a field about the connection, a value with
// control characters or white space around it, a status of 101, a content-length that is no number, differs, or is not that of
// the data. On a tunnel, of either side, nothing but DATA may come. Options bounds heads, in bytes and fields, and tables; a header block may have 64 CONTINUATION frames. Frames
// that move nothing forward (PING, SETTINGS, PRIORITY, empty DATA, small WINDOW_UPDATE, interim answers, anything for a stream that
// is over) are counted: more than Options.Nuisance of them in a second are ENHANCE_YOUR_CALM. So are requests that a client takes back, by
// RST_STREAM or by having them reset (CVE-2025-8671), and initial windows that move many streams. DATA that had been on its way when
// its stream was reset by us is not. README.md has the attacks, and what bounds each.
//
// In a request, pseudo fields that are none of requests, late, twice or missing make it malformed, and what http1.Request.Assemble says; it is
// given to the handler with an error without a status, so that it is told of, and its stream is reset. A head over its limits is answered.
//
// # Costs
//
// The Framer allocates HEADERS, WINDOW_UPDATE, SETTINGS and RST_STREAM frames as it reads them, and hpack what is in none of its
// tables. What is sent as a field is allocated the first time: short names and values are remembered. Everything else, DATA in both directions
// too, allocates nothing once streams and buffers have grown: a request like the one before it costs a server one
// allocation. DATA is copied on its way: by the Framer, and to and from the buffer of the stream.
package http2
