// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2, by which a load balancer in
// front says for whom a connection was made. It is pure: bytes in, values out, no socket and no state.
//
// It is our own on top of the standard library alone: the packages that exist wrap a net.Listener, which an event loop
// has no use for, and look for a header where none was promised.
//
// Reading is strict, since the header decides what address is believed. A header is either whole and well-formed, or
// the beginning of one, or an error; a version 1 line has at most 107 bytes, a version 2 header at most MaxSize; every
// length in it must fit, a checksum must be right, and datagrams are refused. What the specification wants treated as
// "no addresses known" (UNKNOWN, LOCAL, UNSPEC, UNIX sockets) is Local: the connection's own addresses count.
//
// Functions may be called from any goroutine.
package proxyproto

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strconv"

	"wasmgate/runtime/fault"
)

// Version says which header is written.
type Version uint8

// The versions. Off writes nothing.
const (
	Off Version = iota
	V1          // a line of text
	V2          // binary
)

// MaxSize is the largest header that is read, in bytes: version 2's 16 and 4096 of addresses and TLVs. A buffer of this
// size with no whole header in it cannot become one.
const MaxSize = fixed + maxBlock

const (
	fixed     = 16      // signature, version and command, family, length
	maxBlock  = 4 << 10 // addresses and TLVs: all that balancers send, a client's certificate chain excepted
	maxLine   = 107     // of version 1, with CRLF
	signature = "\r\n\r\n\x00\r\nQUIT\n"
)

// Header is what a header says. Its slices are views of the bytes that were parsed.
type Header struct {
	Version     Version
	Source      netip.AddrPort // who connected to the balancer; IPv4 mapped to IPv6 is IPv4
	Destination netip.AddrPort // where to
	// Local: the header tells no addresses: a health check of the balancer, or a protocol other than TCP over IP. Source and
	// Destination are invalid, and the connection's own addresses count.
	Local     bool
	Authority []byte // the host name that the client asked for (TLS server name), if the balancer says so; up to 255 bytes of visible ASCII or UTF-8
	ALPN      []byte // the protocol that the balancer agreed on with the client; opaque, up to 255 bytes
}

// Parse reads the header at the beginning of b and returns its size, in bytes. 0 without an error means that b is the
// beginning of a header: more is needed. An error is the sender's (fault.Malformed, fault.Client, no status): the
// connection must be closed, for whatever follows would be read as something that it is not.
func Parse(b []byte) (Header, int, *fault.Error) {
	switch {
	case len(b) == 0:
		return Header{}, 0, nil
	case b[0] == 'P':
		return parseLine(b)
	case b[0] == signature[0]:
		return parseBinary(b)
	}
	return Header{}, 0, wrong("no PROXY protocol header where the peer must send one: it begins with %q", b[:min(len(b), 16)])
}

func wrong(format string, args ...any) *fault.Error {
	return fault.New(fault.Malformed, fault.Client, 0, format, args...)
}

// parseLine reads version 1: "PROXY TCP4 192.0.2.1 198.51.100.2 35646 80\r\n".
func parseLine(b []byte) (Header, int, *fault.Error) {
	const start = "PROXY "
	if n := min(len(b), len(start)); string(b[:n]) != start[:n] {
		return Header{}, 0, wrong("no PROXY protocol header where the peer must send one: it begins with %q", b[:min(len(b), 16)])
	}
	line := b[:min(len(b), maxLine)]
	for i, c := range line {
		switch {
		case c == '\r' && i+1 == len(line) && len(b) < maxLine:
			return Header{}, 0, nil
		case c == '\r' && i+1 < len(line) && line[i+1] == '\n':
			h, err := parseWords(line[len(start):i])
			if err != nil {
				return Header{}, 0, err
			}
			return h, i + 2, nil
		case c < ' ' || c > '~':
			return Header{}, 0, wrong("PROXY protocol v1: byte 0x%02x in the line", c)
		}
	}
	if len(b) >= maxLine {
		return Header{}, 0, wrong("PROXY protocol v1: no end of the line within %d bytes", maxLine)
	}
	return Header{}, 0, nil
}

// parseWords reads what follows "PROXY ".
func parseWords(b []byte) (Header, *fault.Error) {
	h := Header{Version: V1}
	family, rest, more := bytes.Cut(b, []byte{' '})
	if string(family) == "UNKNOWN" { // the specification: whatever follows on the line must be ignored
		h.Local = true
		return h, nil
	}
	var words [4][]byte
	n := 0
	for ; more && n < len(words); n++ {
		words[n], rest, more = bytes.Cut(rest, []byte{' '})
	}
	v6 := string(family) == "TCP6"
	if n < len(words) || more || !v6 && string(family) != "TCP4" {
		return h, wrong("PROXY protocol v1: %q is not TCP4 or TCP6, two addresses and two ports", b)
	}
	for i, at := range [...]*netip.AddrPort{&h.Source, &h.Destination} {
		ip, err := netip.ParseAddr(string(words[i]))
		port, ok := parsePort(words[2+i])
		if err != nil || !ok || ip.Zone() != "" || ip.Is6() != v6 {
			return Header{}, wrong("PROXY protocol v1: %q with port %q is not an address of %s", words[i], words[2+i], family)
		}
		*at = netip.AddrPortFrom(ip.Unmap(), port)
	}
	return h, nil
}

// parsePort reads a decimal number up to 65535 without leading zeros.
func parsePort(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 || len(b) > 1 && b[0] == '0' {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 65535
}

// Families and transports of version 2.
const (
	unspecified = 0x00
	tcp4        = 0x11
	tcp6        = 0x21
	unixStream  = 0x31
)

// parseBinary reads version 2.
func parseBinary(b []byte) (Header, int, *fault.Error) {
	if n := min(len(b), len(signature)); string(b[:n]) != signature[:n] {
		return Header{}, 0, wrong("no PROXY protocol header where the peer must send one: it begins with %q", b[:min(len(b), 16)])
	}
	if len(b) > 12 && b[12] != 0x20 && b[12] != 0x21 { // version 2; LOCAL or PROXY
		return Header{}, 0, wrong("PROXY protocol v2: version and command 0x%02x", b[12])
	}
	if len(b) < fixed {
		return Header{}, 0, nil
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	if size > maxBlock {
		return Header{}, 0, wrong("PROXY protocol v2: %d bytes of addresses and TLVs, over the limit of %d", size, maxBlock)
	}
	if len(b) < fixed+size {
		return Header{}, 0, nil
	}
	b = b[:fixed+size]
	if b[12] == 0x20 { // the specification: family and all that follows must be discarded
		return Header{Version: V2, Local: true}, len(b), nil
	}
	h, tlvs, err := parseAddresses(b)
	if err == nil {
		err = h.parseTLVs(b, tlvs)
	}
	if err != nil {
		return Header{}, 0, err
	}
	return h, len(b), nil
}

// parseAddresses returns the header with its addresses, and where the TLVs begin in b.
func parseAddresses(b []byte) (h Header, tlvs int, err *fault.Error) {
	h.Version = V2
	size := 0
	switch b[13] {
	case tcp4:
		size = 4
	case tcp6:
		size = 16
	case unixStream:
		h.Local, tlvs = true, fixed+216
	case unspecified:
		h.Local, tlvs = true, fixed
	default:
		return h, 0, wrong("PROXY protocol v2: family and transport 0x%02x is not TCP over IPv4 or IPv6", b[13])
	}
	if !h.Local {
		tlvs = fixed + 2*size + 4
	}
	if len(b) < tlvs {
		return h, 0, wrong("PROXY protocol v2: %d bytes are too few for the addresses", len(b)-fixed)
	}
	if !h.Local {
		source, _ := netip.AddrFromSlice(b[fixed : fixed+size])
		destination, _ := netip.AddrFromSlice(b[fixed+size : fixed+2*size])
		h.Source = netip.AddrPortFrom(source.Unmap(), binary.BigEndian.Uint16(b[tlvs-4:]))
		h.Destination = netip.AddrPortFrom(destination.Unmap(), binary.BigEndian.Uint16(b[tlvs-2:]))
	}
	return h, tlvs, nil
}

// Append appends a header to b that says that src connected to dst. If one of them is not valid, the header says that
// it does not tell (UNKNOWN, LOCAL); addresses of different families are written as IPv6.
func Append(b []byte, v Version, src, dst netip.AddrPort) []byte {
	known := src.IsValid() && dst.IsValid()
	from, to := src.Addr().Unmap().WithZone(""), dst.Addr().Unmap().WithZone("")
	v4 := from.Is4() && to.Is4()
	switch {
	case v == V1:
		return appendLine(b, known, v4, from, to, src.Port(), dst.Port())
	case v != V2:
		return b
	case !known:
		return append(append(b, signature...), 0x20, unspecified, 0, 0)
	case v4:
		b = append(append(b, signature...), 0x21, tcp4, 0, 12)
		source, destination := from.As4(), to.As4()
		b = append(append(b, source[:]...), destination[:]...)
	default:
		b = append(append(b, signature...), 0x21, tcp6, 0, 36)
		source, destination := from.As16(), to.As16()
		b = append(append(b, source[:]...), destination[:]...)
	}
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, src.Port()), dst.Port())
}

func appendLine(b []byte, known, v4 bool, from, to netip.Addr, fromPort, toPort uint16) []byte {
	switch {
	case !known:
		return append(b, "PROXY UNKNOWN\r\n"...)
	case v4:
		b = append(b, "PROXY TCP4 "...)
	default:
		b = append(b, "PROXY TCP6 "...)
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	b = append(from.AppendTo(b), ' ')
	b = append(to.AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(fromPort), 10), ' ')
	return append(strconv.AppendUint(b, uint64(toPort), 10), "\r\n"...)
}
