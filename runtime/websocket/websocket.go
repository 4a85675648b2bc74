// Package websocket follows the frames of a WebSocket that passes by (RFC 6455), and makes what a gateway says in one by
// itself: a Close frame where a frame may stand. It reads no payload, changes nothing and keeps nothing.
//
// It uses the standard library alone: libraries for WebSocket are its ends, and read whole messages.
package websocket

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 section 1.3 says so, and nothing is secured by it
	"encoding/base64"
	"encoding/binary"
)

// Close codes that a gateway uses, RFC 6455 section 7.4.1.
const (
	GoingAway = 1001
)

// Opcodes, RFC 6455 section 5.2.
const (
	opClose     = 0x8
	controlBit  = 0x8
	finBit      = 0x80
	maskBit     = 0x80
	lengthBits  = 0x7f
	lengthIn16  = 126
	lengthIn64  = 127
	mostControl = 125 // bytes in a control frame
)

// Stop says where Frames.Pass ends.
type Stop uint8

// The places to stop at. Behind a Close frame it stops in any case.
const (
	Nowhere   Stop = iota // with the data
	AtFrame               // behind the next frame
	AtMessage             // behind the next frame that ends a message, or that stands between messages
)

// Frames is where one direction of a WebSocket is. The zero Frames is at its beginning.
type Frames struct {
	left   uint64 // bytes of the payload that are to come
	length uint64 // as far as it was read
	want   uint8  // bytes of the frame's head that are to come; 0 between frames, and in a payload
	read   uint8  // bytes of the head that were read
	more   uint8  // bytes of the extended length that are to come
	first  byte   // FIN and opcode
	open   bool   // a message has begun, and not ended
	closed bool
	broken bool
}

// Pass goes over what is sent, as far as Stop says, and returns how many bytes that is.
func (f *Frames) Pass(data []byte, stop Stop) int {
	if f.broken || f.closed {
		return len(data)
	}
	for i := 0; i < len(data); {
		if f.left > 0 {
			n := min(f.left, uint64(len(data)-i))
			f.left -= n
			i += int(n) //nolint:gosec // not more than len(data)
			if f.left > 0 {
				break
			}
		} else {
			f.head(data[i])
			i++
			switch {
			case f.broken:
				return len(data)
			case f.want > 0 || f.left > 0:
				continue
			}
		}
		f.frameEnds()
		if f.closed || stop == AtFrame || stop == AtMessage && !f.open {
			return i
		}
	}
	return len(data)
}

// head takes a byte of a frame's head. Behind the last one left is the length of the payload.
func (f *Frames) head(b byte) {
	switch f.read {
	case 0:
		f.first, f.want = b, 2
	case 1:
		f.length, f.more = uint64(b&lengthBits), 0
		switch f.length {
		case lengthIn16:
			f.length, f.more = 0, 2
		case lengthIn64:
			f.length, f.more = 0, 8
		}
		f.want += f.more
		if b&maskBit != 0 {
			f.want += 4
		}
	default:
		if f.more > 0 {
			f.length = f.length<<8 | uint64(b)
			f.more--
			f.broken = f.more == 0 && f.length>>63 != 0
		}
	}
	f.read++
	if f.want--; f.want == 0 {
		f.left, f.read = f.length, 0
	}
}

func (f *Frames) frameEnds() {
	switch {
	case f.first&0xf == opClose:
		f.closed = true
	case f.first&controlBit == 0:
		f.open = f.first&finBit == 0
	}
}

// Between says that a frame may stand here.
func (f *Frames) Between() bool { return f.want == 0 && f.left == 0 && !f.broken && !f.closed }

// BetweenMessages says that no message is under way here.
func (f *Frames) BetweenMessages() bool { return f.Between() && !f.open }

// Closed says that a Close frame has passed: nothing may follow it.
func (f *Frames) Closed() bool { return f.closed }

// Broken says that what passes are no frames.
func (f *Frames) Broken() bool { return f.broken }

// AppendClose appends a Close frame. One that goes to a server is masked. The reason is cut where it is too long; it is ASCII.
func AppendClose(dst []byte, code uint16, reason string, toServer bool) []byte {
	reason = reason[:min(len(reason), mostControl-2)]
	size := byte(2 + len(reason)) //nolint:gosec // at most mostControl
	if !toServer {
		dst = append(dst, finBit|opClose, size)
		return append(binary.BigEndian.AppendUint16(dst, code), reason...)
	}
	var key [4]byte
	_, _ = rand.Read(key[:]) // it never fails
	dst = append(append(dst, finBit|opClose, maskBit|size), key[:]...)
	from := len(dst)
	dst = append(binary.BigEndian.AppendUint16(dst, code), reason...)
	for i := range dst[from:] {
		dst[from+i] ^= key[i&3]
	}
	return dst
}

// AppendKey appends a new key for a Sec-WebSocket-Key field (RFC 6455 section 4.1).
func AppendKey(dst []byte) []byte {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	return base64.StdEncoding.AppendEncode(dst, nonce[:])
}

// AppendAccept appends what Sec-WebSocket-Accept must say to a key (RFC 6455 section 4.2.2).
func AppendAccept(dst, key []byte) []byte {
	h := sha1.New() //nolint:gosec // see above
	h.Write(key)
	h.Write([]byte("258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	var sum [sha1.Size]byte
	return base64.StdEncoding.AppendEncode(dst, h.Sum(sum[:0]))
}
