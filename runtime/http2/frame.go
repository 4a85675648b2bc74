package http2

import (
	"encoding/binary"

	"golang.org/x/net/http2"
)

// Frames are written by hand, to the end of what is collected: the Framer would put each together in a buffer of its own, and
// what was collected could not be added to.

const frameHead = 9

// head begins a frame.
func (c *Conn) head(size int, t http2.FrameType, flags http2.Flags, id uint32) []byte {
	if c.out == nil {
		c.out = c.loop.Buffer()[:0]
	}
	return append(c.out, byte(size>>16), byte(size>>8), byte(size), byte(t), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func (c *Conn) writeSettings(settings ...http2.Setting) {
	c.out = c.head(6*len(settings), http2.FrameSettings, 0, 0)
	for _, s := range settings {
		c.out = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(c.out, uint16(s.ID)), s.Val)
	}
}

func (c *Conn) writeSettingsAck() {
	c.out = c.head(0, http2.FrameSettings, http2.FlagSettingsAck, 0)
}

func (c *Conn) writePing(ack bool, data [8]byte) {
	flags := http2.Flags(0)
	if ack {
		flags = http2.FlagPingAck
	}
	c.out = append(c.head(8, http2.FramePing, flags, 0), data[:]...)
}

func (c *Conn) writeGoAway(last uint32, code http2.ErrCode, debug string) {
	c.out = c.head(8+len(debug), http2.FrameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, last)
	c.out = append(binary.BigEndian.AppendUint32(c.out, uint32(code)), debug...)
}

func (c *Conn) writeReset(id uint32, code http2.ErrCode) {
	c.out = binary.BigEndian.AppendUint32(c.head(4, http2.FrameRSTStream, 0, id), uint32(code))
}

func (c *Conn) writeWindowUpdate(id uint32, by int) {
	c.out = binary.BigEndian.AppendUint32(c.head(4, http2.FrameWindowUpdate, 0, id), uint32(by)) //nolint:gosec // not more than a window
}

// writeData writes a DATA frame, and where it can makes the one before it longer instead.
func (c *Conn) writeData(s *Stream, end bool, data []byte) {
	if at := s.last - 1; at >= 0 && s.lastIn == c.batch && http2.FrameType(c.out[at+3]) == http2.FrameData {
		size := int(c.out[at])<<16 | int(c.out[at+1])<<8 | int(c.out[at+2])
		if at+frameHead+size == len(c.out) && size+len(data) <= min(c.peerFrame, frameSize) {
			size += len(data)
			c.out[at], c.out[at+1], c.out[at+2] = byte(size>>16), byte(size>>8), byte(size)
			if end {
				c.out[at+4] |= byte(http2.FlagDataEndStream)
			}
			c.out = append(c.out, data...)
			return
		}
	}
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagDataEndStream
	}
	c.note(s)
	c.out = append(c.head(len(data), http2.FrameData, flags, s.id), data...)
}

// note remembers where the stream's next frame begins, as long as it is not being written.
func (c *Conn) note(s *Stream) { s.last, s.lastIn = len(c.out)+1, c.batch }

// endLast ends the stream with its last frame, if that is there still. END_STREAM is the same flag of HEADERS and DATA.
func (c *Conn) endLast(s *Stream) bool {
	if s.last == 0 || s.lastIn != c.batch {
		return false
	}
	c.out[s.last-1+4] |= byte(http2.FlagDataEndStream)
	return true
}

// headers writes the header block that has been encoded.
func (c *Conn) headers(s *Stream, end bool) {
	b := c.memory.encoded.Bytes()
	first := b[:min(len(b), c.peerFrame)]
	flags := http2.Flags(0)
	if end {
		flags |= http2.FlagHeadersEndStream
	}
	if len(first) == len(b) {
		flags |= http2.FlagHeadersEndHeaders
	}
	c.note(s)
	c.out = append(c.head(len(first), http2.FrameHeaders, flags, s.id), first...)
	for b = b[len(first):]; len(b) > 0; {
		part := b[:min(len(b), c.peerFrame)]
		b = b[len(part):]
		flags = 0
		if len(b) == 0 {
			flags = http2.FlagContinuationEndHeaders
		}
		c.out = append(c.head(len(part), http2.FrameContinuation, flags, s.id), part...)
	}
	c.memory.encoded.Reset()
}
