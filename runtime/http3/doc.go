// Package http3 speaks HTTP/3 (RFC 9114) to clients and brings their requests onto event loops. QUIC itself, its TLS, streams, flow
// control and congestion control, is github.com/quic-go/quic-go, the well-kept one in Go; field sections are coded by its
// sibling github.com/quic-go/qpack.
//
//	UDP socket → quic-go's goroutines → a goroutine of the stream: reads the head, then one piece of the body after the other
//	                                       │ Loop.Post                                   ↑ a token for each piece that was taken
//	                                       ↓                                             │
//	             task of the request on a loop: Options.Serve(t, Stream) ── Head, Add, End ── Flush → the stream, or a goroutine
//	                                                                                          that waits until the peer takes it
//
// A connection belongs to a loop, that with the fewest, and so do all its requests. Nothing on a loop waits for quic-go: what may
// block is done by goroutines, at most two for a stream, one for each direction. A stream's goroutine reads only as much ahead
// as Options allow, and then leaves the rest to QUIC's flow control, so that an upstream that is slow stops its client's stream
// and nothing else; what is sent goes straight to quic-go as long as the stream has little of it, and from then on in pieces, each
// of which waits until the one before it is on its way.
//
// # Why not quic-go's http3
//
// Its handler gets an http.Request: fields in a map, without their order, heads that are refused before anybody can log them or
// let plugins answer, paths by the rules of net/url rather than ours, and answers whose fields go out in random order, small
// ones held back and sniffed. Its lower interface, RawServerConn, keeps the control stream to itself, so that GOAWAY cannot be
// sent. HTTP/3's own framing is a few types of frames (frames.go), as HTTP/2's is over x/net's Framer in package http2.
//
// # What is refused
//
// What RFC 9114 calls a connection error closes the connection with its code. A request is malformed with an upper-case name, a
// pseudo field that is unknown, twice, late, missing or an answer's, a field about the connection, a value with control
// characters or white space around it, a content-length that is no number, differs, or is not that of the data; the path and the
// authority are as http1.Request.Assemble wants them. Its stream is reset
// (H3_MESSAGE_ERROR); one over a limit is answered with 414 or 431, and read no further.
// Server push, the dynamic table of QPACK, extended CONNECT, datagrams and early data (0-RTT) are neither offered nor taken.
//
// # Limits
//
// Settings.MaxStreams bounds the requests of a connection that are under way, and a stream that the client has reset counts until
// its request has ended here, so that opening and resetting streams gains nothing; more than Settings.Nuisance frames that
// move nothing forward, or a fifth as many resets before an answer, in a second close the connection (H3_EXCESSIVE_LOAD). Connections count against
// the group's limit from their first packet. When handshakes that are not complete pile up, clients have to prove their address
// first (Retry).
package http3
