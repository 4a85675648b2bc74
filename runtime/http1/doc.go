// Package http1 parses, frames and serialises HTTP/1.0 and HTTP/1.1 messages (RFC 9112): bytes in, bytes out. It does no
// input or output, starts nothing, and decides nothing that is a matter of taste; what it accepts it accepts because the
// RFC says so, and what two readers could frame differently it refuses. It uses the standard library only: net/http has
// no way to parse a head into storage that is used again, and accepts bare line feeds, among other things.
//
// # Use
//
// Request.Parse and Response.Parse take the bytes read so far and return how many of them are the head; the rest is the
// body, or the next message. Request.Assemble makes the same of a request that came in the frames of HTTP/2 or HTTP/3. A BodyReader takes the body out of its framing, piece by piece. AppendRequest and
// AppendResponse write a head, AppendChunkHeader and AppendLastChunk frame a body. Between them the fields of a Head can
// be read and changed. StripHopByHop comes first, then whatever the gateway adds: a client must not be able to have the
// gateway's own fields removed by naming them in Connection.
//
// # Ownership and concurrency
//
// Parse copies the head into storage of the message, which is used again for the next message, so that parsing does not
// allocate once that storage has grown. Slices that a message hands out are views of that storage: they must not be
// written to, and are valid until the message's next Parse of a new head, or Reset. Changing fields does not
// invalidate them. A message, a Head and a BodyReader belong to one goroutine at a time.
//
// # Errors
//
// Every error is a *fault.Error of a value of its own. For a request its source is the client, and its status 400
// (malformed), 413 (a Content-Length beyond 63 bits), 414 (target over Limits.Target), 417 (an expectation other than
// 100-continue), 431 (Limits.Head or Limits.Fields), 501 (a method of more than 32 bytes) or 505 (a version other than 1.0
// and 1.1). For a response the source is the upstream and the status is 502. After an error the connection's framing is
// unknown: nothing may be read from it any more, and it must be closed.
//
// # What is refused
//
// In a head: a line that ends in anything but CRLF, a CR elsewhere, obs-fold, a line without a colon, space before the
// colon, a name that is empty or no token, control characters other than HTAB in a value. Transfer-Encoding together
// with Content-Length, twice, in HTTP/1.0, or with any value but chunked. Content-Length with anything but digits, or
// several that are not the same bytes. In a 1.1 request no Host or more than one, in any request an invalid or empty
// one. In a chunked body: a size that is not 1 to 16 hex digits within 63 bits, white space after it that no extension
// follows, bare CR or LF, control characters in an extension, more than Limits.ChunkLine bytes of it, extensions that
// outweigh the data, and whatever is refused in a head in the trailer section.
//
// # Targets and paths
//
// A request target is printable ASCII without '#'. Bytes from 0x80 on are refused (400): RFC 3986 has them
// percent-encoded, and whoever decodes them otherwise sees another path. Characters that RFC 3986 excludes but clients
// send ('|', '{', '"', '\', '^', ...) are kept as they are.
//
// Routes, plugins and upstream see one path, Request.Path, and it is what is sent:
//   - An invalid percent-encoding, and %00, are refused (400).
//   - Dot segments, in which %2e and %2E count as dots, are resolved as in RFC 3986 section 5.2.4, and never reach
//     above the root. "/a/./b/%2e%2e/c" is "/a/c".
//   - Something that only another reader would take for a dot segment, because it holds '\', %2F or %5C to be a
//     separator or cuts parameters off at ';', is refused (400): "/a/..;/b", "/a/..%2Fb", "/a/..\b".
//   - "//", ';', %2F and all other percent-encodings are kept byte for byte, and matched as they are: "/a%2Fb" is one
//     segment, "//a" is not "/a", and %61 is not "a".
//
// The query is kept byte for byte and is not interpreted. CleanPath applies the same to a path that comes from
// elsewhere, and ValidPath says whether a path is already in that form.
package http1
