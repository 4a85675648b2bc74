package websocket

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame makes a frame as a client (masked) or a server sends it.
func frame(first byte, size int, masked bool) []byte {
	b := []byte{first, 0}
	switch {
	case size < lengthIn16:
		b[1] = byte(size)
	case size < 1<<16:
		b[1] = lengthIn16
		b = binary.BigEndian.AppendUint16(b, uint16(size))
	default:
		b[1] = lengthIn64
		b = binary.BigEndian.AppendUint64(b, uint64(size))
	}
	if masked {
		b[1] |= maskBit
		b = append(b, 0x88, 0x08, 0xff, 0x81) // what would be heads
	}
	return append(b, bytes.Repeat([]byte{0x88}, size)...)
}

func TestFramesStop(t *testing.T) {
	const text, bin, more, ping, pong, closing, fin = 1, 2, 0, 9, 10, 8, finBit
	for _, masked := range []bool{false, true} {
		type piece struct {
			first byte
			size  int
			// behind it
			between, messages, closed bool
		}
		pieces := []piece{
			{fin | text, 0, true, true, false},
			{fin | text, 5, true, true, false},
			{fin | bin, 125, true, true, false},
			{fin | bin, 126, true, true, false},
			{fin | bin, 65535, true, true, false},
			{fin | bin, 65536, true, true, false},
			{text, 3, true, false, false},
			{fin | ping, 4, true, false, false},
			{more, 0, true, false, false},
			{fin | more, 7, true, true, false},
			{fin | pong, 0, true, true, false},
			{bin, 200, true, false, false},
			{fin | closing, 2, false, false, true},
		}
		var all []byte
		for _, p := range pieces {
			all = append(all, frame(p.first, p.size, masked)...)
		}
		all = append(all, "no frame may follow"...)
		for _, cut := range []int{1, 2, 3, 7, 1000, len(all)} { // pieces as they may be read
			var f Frames
			rest := all
			for i, p := range pieces {
				size := len(frame(p.first, p.size, masked))
				for done := 0; done < size; {
					if done > 0 && (f.Between() || f.BetweenMessages()) {
						t.Fatalf("masked %v, pieces of %d: %d bytes into frame %d it says that it is between frames", masked, cut, done, i)
					}
					b := rest[:min(cut, len(rest))]
					n := f.Pass(b, AtFrame)
					if n == 0 || n > len(b) || done+n > size {
						t.Fatalf("masked %v, pieces of %d: frame %d of %d bytes ends after %d", masked, cut, i, size, done+n)
					}
					done, rest = done+n, rest[n:]
				}
				if f.Between() != p.between || f.BetweenMessages() != p.messages || f.Closed() != p.closed || f.Broken() {
					t.Fatalf("masked %v, pieces of %d: behind frame %d: %+v", masked, cut, i, f)
				}
			}
		}
	}
}

// TestFramesStopAtMessages: Nowhere goes on, AtMessage stops behind each message and behind control frames between them.
func TestFramesStopAtMessages(t *testing.T) {
	list := [][]byte{frame(finBit|2, 10, true), append(append(frame(1, 10, true), frame(finBit|9, 3, true)...), frame(finBit, 300, true)...), frame(finBit|10, 0, true)}
	all := bytes.Join(list, nil)
	var f Frames
	if n := f.Pass(all, Nowhere); n != len(all) || !f.BetweenMessages() {
		t.Errorf("%d of %d bytes, %+v", n, len(all), f)
	}
	f = Frames{}
	for i, m := range list {
		if n := f.Pass(all, AtMessage); n != len(m) || !f.BetweenMessages() {
			t.Fatalf("message %d of %d bytes: %d, %+v", i, len(m), n, f)
		}
		all = all[len(m):]
	}
}

// TestNoFrames: a length that no frame has makes it give up, so that nothing is ever put into what it does not understand.
func TestNoFrames(t *testing.T) {
	var f Frames
	b := []byte{finBit | 2, lengthIn64, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}
	if n := f.Pass(b, AtFrame); n != len(b) || !f.Broken() || f.Between() || f.BetweenMessages() || f.Closed() {
		t.Errorf("%d, %+v", n, f)
	}
	if n := f.Pass(b, AtFrame); n != len(b) {
		t.Errorf("%d bytes of %d", n, len(b))
	}
}

func TestClose(t *testing.T) {
	if got := AppendClose(nil, GoingAway, "bye", false); string(got) != "\x88\x05\x03\xe9bye" {
		t.Errorf("%q", got)
	}
	masked := AppendClose([]byte("x"), GoingAway, "bye", true)[1:]
	if len(masked) != 11 || masked[0] != 0x88 || masked[1] != 0x85 {
		t.Fatalf("%x", masked)
	}
	for i := range masked[6:] {
		masked[6+i] ^= masked[2+i&3]
	}
	if string(masked[6:]) != "\x03\xe9bye" {
		t.Errorf("%q", masked[6:])
	}
	long := AppendClose(nil, GoingAway, string(bytes.Repeat([]byte("x"), 200)), true)
	var f Frames
	if n := f.Pass(long, Nowhere); len(long) != 2+4+125 || n != len(long) || !f.Closed() {
		t.Errorf("a long reason: %d bytes, %+v", len(long), f)
	}
}

// TestAccept has the example of RFC 6455 section 1.3.
func TestAccept(t *testing.T) {
	if got := AppendAccept(nil, []byte("dGhlIHNhbXBsZSBub25jZQ==")); string(got) != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("%s", got)
	}
	if a, b := AppendKey(nil), AppendKey(nil); len(a) != 24 || bytes.Equal(a, b) {
		t.Errorf("%s, %s", a, b)
	}
}

func TestPassAllocatesNothing(t *testing.T) {
	data := append(frame(1, 100, true), frame(finBit, 70000, true)...)
	var f Frames
	if n := testing.AllocsPerRun(100, func() { f.Pass(data, Nowhere) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzFrames: however data is cut, it ends in the same state, and stops at the same places.
func FuzzFrames(f *testing.F) {
	f.Add(append(frame(1, 100, true), frame(finBit, 200, false)...), 3)
	f.Add([]byte{0x81, 0x7f, 0xff}, 1)
	f.Add(AppendClose(nil, 1000, "", true), 2)
	f.Fuzz(func(t *testing.T, data []byte, cut int) {
		stops := func(size int) (at []int, last Frames) {
			for i := 0; i < len(data); {
				n := last.Pass(data[i:min(len(data), i+size)], AtFrame)
				if n <= 0 || i+n > len(data) {
					t.Fatalf("%d bytes of %d", n, len(data)-i)
				}
				i += n
				if last.Between() {
					at = append(at, i)
				}
			}
			return at, last
		}
		at, whole := stops(len(data) + 1)
		atCut, pieces := stops(1 + max(0, cut)%64)
		if whole != pieces {
			t.Errorf("whole %+v, in pieces %+v", whole, pieces)
		}
		if len(at) != len(atCut) {
			t.Errorf("whole it stops at %v, in pieces at %v", at, atCut)
		}
	})
}
