package proxyproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

var (
	a4 = netip.MustParseAddrPort("192.0.2.1:35646")
	b4 = netip.MustParseAddrPort("198.51.100.200:80")
	a6 = netip.MustParseAddrPort("[2001:db8::1]:65535")
	b6 = netip.MustParseAddrPort("[2001:db8:1234:5678:9abc:def0:1234:5678]:443")
)

// binaryHeader makes a version 2 header of its parts.
func binaryHeader(command, family byte, block ...[]byte) []byte {
	all := bytes.Join(block, nil)
	b := append([]byte(signature), command, family)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(all))), all...)
}

func tlv(kind byte, value string) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{kind}, uint16(len(value))), value...)
}

var addresses4 = []byte{192, 0, 2, 1, 198, 51, 100, 200, 0x8b, 0x3e, 0, 80}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		for _, pair := range [][2]netip.AddrPort{{a4, b4}, {a6, b6}, {a4, netip.MustParseAddrPort("0.0.0.0:0")}} {
			b := Append([]byte("before"), v, pair[0], pair[1])[len("before"):]
			whole := append(bytes.Clone(b), "GET / HTTP/1.1\r\n"...)
			h, n, err := Parse(whole)
			if err != nil || n != len(b) || h.Version != v || h.Local || h.Source != pair[0] || h.Destination != pair[1] {
				t.Errorf("version %d of %v: %+v, %d, %v", v, pair, h, n, err)
			}
			for i := range b {
				if _, n, err := Parse(b[:i:i]); n != 0 || err != nil {
					t.Fatalf("version %d, the first %d bytes of %q: %d, %v; want more to be asked for", v, i, b, n, err)
				}
			}
		}
	}
	if b := Append(nil, V1, a4, b4); string(b) != "PROXY TCP4 192.0.2.1 198.51.100.200 35646 80\r\n" {
		t.Errorf("%q", b)
	}
	if b := Append(nil, V2, a4, b4); !bytes.Equal(b, binaryHeader(0x21, 0x11, addresses4)) {
		t.Errorf("%q", b)
	}
}

func TestAddressesThatDoNotMatchOrAreUnknown(t *testing.T) {
	for _, v := range []Version{V1, V2} {
		h, _, err := Parse(Append(nil, v, a4, b6))
		if err != nil || h.Source != a4 || h.Destination != b6 {
			t.Errorf("version %d, IPv4 to IPv6: %+v, %v", v, h, err)
		}
		zoned := netip.AddrPortFrom(netip.MustParseAddr("fe80::1%eth0"), 1)
		if h, _, err := Parse(Append(nil, v, zoned, b6)); err != nil || h.Source.Addr().String() != "fe80::1" {
			t.Errorf("version %d, an address with a zone: %+v, %v", v, h, err)
		}
		if h, n, err := Parse(Append(nil, v, netip.AddrPort{}, b6)); err != nil || !h.Local || n == 0 || h.Source.IsValid() {
			t.Errorf("version %d, no source: %+v, %d, %v", v, h, n, err)
		}
	}
	if b := Append(nil, Off, a4, b4); len(b) != 0 {
		t.Errorf("Off wrote %q", b)
	}
}

func TestLinesThatAreRead(t *testing.T) {
	for line, local := range map[string]bool{
		"PROXY UNKNOWN\r\n": true,
		"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n": true,
		"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 0\r\n":                       false,
	} {
		h, n, err := Parse([]byte(line))
		if err != nil || n != len(line) || h.Local != local {
			t.Errorf("%q: %+v, %d, %v", line, h, n, err)
		}
		if !local && h.Source.Addr().String() != "192.0.2.1" {
			t.Errorf("%q: an IPv4 address mapped to IPv6 is %v", line, h.Source)
		}
	}
}

func TestHostileLines(t *testing.T) {
	for _, line := range []string{
		"GET / HTTP/1.1\r\n", "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXYTCP4 ", "PRI * HTTP/2.0\r\n", "\x16\x03\x01",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
		"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 02\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 0x1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n",
		"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
		"PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY \r\n", "PROXY TCP4\r\n",
		"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rX", "PROXY UNKNOWN\x00\r\n", "PROXY UNKNOWNX\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r\n", strings.Repeat("P", 10), "PROXY UNKNOWN \xff\r\n",
		"PROXY UNKNOWN " + strings.Repeat("x", 92) + "\r",
	} {
		h, n, err := Parse([]byte(line))
		if err == nil || n != 0 || h.Source.IsValid() {
			t.Errorf("%q: %+v, %d, %v; want an error", line, h, n, err)
		} else if err.Kind != fault.Malformed || err.Source != fault.Client || len(err.Error()) > 300 {
			t.Errorf("%q: %v", line, err)
		}
	}
	longest := "PROXY UNKNOWN " + strings.Repeat("x", 91) + "\r\n"
	if _, n, err := Parse([]byte(longest)); n != maxLine || err != nil {
		t.Errorf("a line of %d bytes: %d, %v", len(longest), n, err)
	}
}

func TestBinaryHeadersThatAreRead(t *testing.T) {
	block := append(bytes.Clone(addresses4), tlv(0x02, "shop.example")...)
	block = append(block, tlv(0x01, "h2")...)
	block = append(block, tlv(0x20, strings.Repeat("s", 300))...)
	block = append(block, tlv(0x03, "\x00\x00\x00\x00")...)
	b := binaryHeader(0x21, 0x11, block, tlv(0x04, ""))
	at := bytes.Index(b, tlv(0x03, "\x00\x00\x00\x00")) + 3
	binary.BigEndian.PutUint32(b[at:], checksum(b, at))
	h, n, err := Parse(append(bytes.Clone(b), "rest"...))
	if err != nil || n != len(b) || string(h.Authority) != "shop.example" || string(h.ALPN) != "h2" || h.Source != a4 || h.Destination != b4 {
		t.Errorf("%+v, %d, %v", h, n, err)
	}
	for name, b := range map[string][]byte{
		"LOCAL":                    binaryHeader(0x20, 0x00),
		"LOCAL with what it likes": binaryHeader(0x20, 0xff, []byte("anything")),
		"UNSPEC":                   binaryHeader(0x21, 0x00),
		"UNSPEC with a TLV":        binaryHeader(0x21, 0x00, tlv(0x04, "no-op")),
		"UNIX":                     binaryHeader(0x21, 0x31, make([]byte, 216)),
		"the largest":              binaryHeader(0x20, 0x00, make([]byte, maxBlock)),
	} {
		if h, n, err := Parse(b); err != nil || n != len(b) || !h.Local || h.Source.IsValid() {
			t.Errorf("%s: %+v, %d, %v", name, h, n, err)
		}
	}
}

func TestHostileBinaryHeaders(t *testing.T) {
	for name, b := range map[string][]byte{
		"version 1":             binaryHeader(0x11, 0x11, addresses4),
		"version 3":             binaryHeader(0x31, 0x11, addresses4),
		"command 2":             binaryHeader(0x22, 0x11, addresses4),
		"UDP":                   binaryHeader(0x21, 0x12, addresses4),
		"family 4":              binaryHeader(0x21, 0x41, addresses4),
		"TCP4, 11 bytes":        binaryHeader(0x21, 0x11, addresses4[:11]),
		"TCP6 of TCP4's size":   binaryHeader(0x21, 0x21, addresses4),
		"UNIX, 215 bytes":       binaryHeader(0x21, 0x31, make([]byte, 215)),
		"over the limit":        binaryHeader(0x21, 0x11, addresses4, make([]byte, maxBlock-11)),
		"two bytes of a TLV":    binaryHeader(0x21, 0x11, addresses4, []byte{4, 0}),
		"a TLV too long":        binaryHeader(0x21, 0x11, addresses4, []byte{4, 0, 2, 0}),
		"a TLV far too long":    binaryHeader(0x21, 0x11, addresses4, []byte{4, 255, 255, 0}),
		"a checksum of 3":       binaryHeader(0x21, 0x11, addresses4, tlv(3, "abc")),
		"a wrong checksum":      binaryHeader(0x21, 0x11, addresses4, tlv(3, "abcd")),
		"two authorities":       binaryHeader(0x21, 0x11, addresses4, tlv(2, "a"), tlv(2, "b")),
		"an empty authority":    binaryHeader(0x21, 0x11, addresses4, tlv(2, "")),
		"an authority with CR":  binaryHeader(0x21, 0x11, addresses4, tlv(2, "a\rb")),
		"an authority of 256":   binaryHeader(0x21, 0x11, addresses4, tlv(2, strings.Repeat("a", 256))),
		"another signature":     []byte("\r\n\r\n\x00\r\nQUIT\r"),
		"an empty line of HTTP": []byte("\r\nGET / HTTP/1.1\r\n"),
	} {
		if h, n, err := Parse(b); err == nil || n != 0 {
			t.Errorf("%s: %+v, %d, %v; want an error", name, h, n, err)
		}
	}
	// What is wrong is told before the rest has come.
	if _, _, err := Parse([]byte(signature + "\x22")); err == nil {
		t.Error("a wrong command waits for the rest")
	}
	if _, _, err := Parse([]byte(signature + "\x21\x11\xff\xff")); err == nil {
		t.Error("a size over the limit waits for the rest")
	}
}

func TestNothingIsAllocated(t *testing.T) {
	b := make([]byte, 0, MaxSize)
	for _, v := range []Version{V1, V2} {
		if n := testing.AllocsPerRun(100, func() { b = Append(b[:0], v, a6, b6) }); n != 0 {
			t.Errorf("Append of version %d allocates %v times", v, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { _, _, _ = Parse(b) }); n != 0 {
		t.Errorf("Parse of version 2 allocates %v times", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, v := range []Version{V1, V2} {
		f.Add(Append(nil, v, a4, b4))
		f.Add(Append(nil, v, a6, b6))
		f.Add(Append(nil, v, netip.AddrPort{}, b6))
	}
	f.Add(binaryHeader(0x21, 0x11, addresses4, tlv(1, "h2"), tlv(2, "name"), tlv(3, "abcd")))
	f.Add(binaryHeader(0x21, 0x31, make([]byte, 216)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, n, err := Parse(b)
		if err != nil {
			if n != 0 || len(err.Error()) > 2000 {
				t.Fatal(n, err)
			}
			return
		}
		if n == 0 {
			if len(b) >= MaxSize || h.Source.IsValid() {
				t.Fatalf("more than %d bytes are asked for", MaxSize)
			}
			return
		}
		if n > len(b) || h.Local == h.Source.IsValid() || h.Source.IsValid() != h.Destination.IsValid() {
			t.Fatalf("%d of %d bytes, %+v", n, len(b), h)
		}
		// What follows changes nothing, and every beginning asks for more.
		if again, m, err := Parse(b[:n:n]); err != nil || m != n || fmt.Sprint(again) != fmt.Sprint(h) {
			t.Fatalf("%+v, %d, %v; then %+v, %d", h, n, err, again, m)
		}
		for i := range n {
			if _, m, err := Parse(b[:i:i]); m != 0 || err != nil {
				t.Fatalf("the first %d of %d: %d, %v", i, n, m, err)
			}
		}
		if again, _, err := Parse(Append(nil, h.Version, h.Source, h.Destination)); err != nil || again.Source != h.Source || again.Destination != h.Destination {
			t.Fatalf("written again: %+v, %v; want %+v", again, err, h)
		}
	})
}
