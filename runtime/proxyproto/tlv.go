package proxyproto

import (
	"encoding/binary"
	"hash/crc32"

	"wasmgate/runtime/fault"
)

// Types of TLVs that are looked at; all others are passed over.
const (
	typeALPN      = 0x01
	typeAuthority = 0x02
	typeCRC32C    = 0x03
)

const maxValue = 255 // of a name that is read

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseTLVs reads what follows the addresses: type, length, value, up to the header's end exactly.
func (h *Header) parseTLVs(b []byte, at int) *fault.Error {
	var seen [4]bool
	for at < len(b) {
		if len(b)-at < 3 || int(binary.BigEndian.Uint16(b[at+1:])) > len(b)-at-3 {
			return wrong("PROXY protocol v2: a TLV is cut off by the header's end")
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		from := at + 3
		value := b[from : from+size : from+size]
		at = from + size
		if kind < typeALPN || kind > typeCRC32C {
			continue
		}
		if seen[kind] {
			return wrong("PROXY protocol v2: TLV 0x%02x is there twice", kind)
		}
		seen[kind] = true
		if err := h.take(kind, value, b, from); err != nil {
			return err
		}
	}
	return nil
}

func (h *Header) take(kind byte, value, b []byte, from int) *fault.Error {
	switch {
	case kind == typeCRC32C:
		if len(value) != 4 || binary.BigEndian.Uint32(value) != checksum(b, from) {
			return wrong("PROXY protocol v2: the checksum is wrong")
		}
	case len(value) == 0 || len(value) > maxValue:
		return wrong("PROXY protocol v2: TLV 0x%02x has %d bytes, and not 1 to %d", kind, len(value), maxValue)
	case kind == typeALPN:
		h.ALPN = value
	default:
		for _, c := range value {
			if c <= ' ' || c == 0x7f {
				return wrong("PROXY protocol v2: byte 0x%02x in the authority", c)
			}
		}
		h.Authority = value
	}
	return nil
}

// checksum is the CRC32C of the header with the four bytes at from, the checksum's own, taken as zeros.
func checksum(b []byte, from int) uint32 {
	sum := crc32.Update(0, castagnoli, b[:from])
	sum = crc32.Update(sum, castagnoli, []byte{0, 0, 0, 0})
	return crc32.Update(sum, castagnoli, b[from+4:])
}
