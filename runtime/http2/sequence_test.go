package http2

import (
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// sequence makes frames at random, of which most are what a client may send: so it gets far. The same seed makes the same frames.
type sequence struct {
	*visitor
	*rand.Rand
	next uint32 // of the streams
}

var sequencePaths = []string{"/", "/mirror", "/large", "/wait", "/none"}

// some is a stream that has begun, as a rule one of the last.
func (s *sequence) some() uint32 {
	switch {
	case s.IntN(100) == 0:
		return s.Uint32() >> s.IntN(32) // any, which may be none
	case s.next == 1:
		return 1
	}
	return s.next - 2*(1+s.Uint32N(min(s.next/2, 1+s.Uint32N(60))))
}

// head is a request's.
func (s *sequence) head() []byte {
	fields := []string{":method", []string{"GET", "POST", "HEAD"}[s.IntN(3)], ":scheme", "http", ":authority", "h", ":path", sequencePaths[s.IntN(len(sequencePaths))]}
	more := [][2]string{
		{"cookie", "a=b"}, {"te", "trailers"}, {"expect", "100-continue"}, {"x-long", strings.Repeat("l", s.IntN(3000))}, {"content-length", "10"},
		{"connection", "close"}, {"Upper", "x"}, {"x", "a\r\nb"}, {":path", "/late"}, {"content-length", "-1"}, {"host", "other"}, {"te", "gzip"},
	}
	for range s.IntN(4) {
		f := more[s.IntN(5)]
		if s.IntN(20) == 0 {
			f = more[s.IntN(len(more))]
		}
		fields = append(fields, f[0], f[1])
	}
	if s.IntN(40) == 0 {
		fields = fields[2*s.IntN(4):]
	}
	return s.block(fields...)
}

// begin is HEADERS, in one piece or in several.
func (s *sequence) begin(id uint32, end bool, block []byte) {
	cut := len(block)
	if s.IntN(8) == 0 {
		cut = s.IntN(len(block) + 1)
	}
	p := http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:min(cut, 16000)], EndStream: end, EndHeaders: cut == len(block)}
	if s.IntN(20) == 0 {
		p.PadLength = uint8(s.IntN(256)) //nolint:gosec // it is one
	}
	_ = s.WriteHeaders(p)
	for rest := block[cut:]; !p.EndHeaders; {
		n := s.IntN(len(rest) + 1)
		p.EndHeaders = s.IntN(3) > 0 || n == len(rest)
		if p.EndHeaders {
			n = len(rest)
		}
		_ = s.WriteContinuation(id, p.EndHeaders, rest[:n])
		rest = rest[n:]
	}
}

// frame is one that a client may send, and now and then one that it must not.
func (s *sequence) frame() {
	switch n := s.IntN(1000); {
	case n < 250:
		s.begin(s.next, s.IntN(2) == 0, s.head())
		s.next += 2
	case n < 500:
		_ = s.WriteData(s.some(), s.IntN(3) == 0, make([]byte, s.IntN(1<<s.IntN(13))))
	case n < 550:
		_ = s.WriteDataPadded(s.some(), s.IntN(3) == 0, make([]byte, s.IntN(100)), make([]byte, s.IntN(256)))
	case n < 650:
		_ = s.WriteRSTStream(s.some(), http2.ErrCode(s.IntN(14))) //nolint:gosec // small
	case n < 750:
		_ = s.WriteWindowUpdate(s.some()*s.Uint32N(2), 1+s.Uint32N(1<<s.IntN(20)))
	case n < 800:
		_ = s.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: s.Uint32N(1 << s.IntN(18))})
	case n < 830:
		_ = s.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: s.Uint32() >> s.IntN(32)})
	case n < 860:
		_ = s.WriteSettingsAck()
	case n < 900:
		_ = s.WritePing(s.IntN(2) == 0, [8]byte{byte(n)})
	case n < 930:
		_ = s.WritePriority(s.some(), http2.PriorityParam{StreamDep: s.Uint32() >> 1, Weight: byte(n)})
	case n < 950:
		s.begin(s.some(), true, s.block("x-last", "1"))
	case n < 970:
		_ = s.WriteRawFrame(http2.FrameType(10+s.IntN(200)), http2.Flags(s.IntN(256)), s.some(), make([]byte, s.IntN(300))) //nolint:gosec // small
	default:
		s.wrong()
	}
}

// wrong is a frame that may end the connection.
func (s *sequence) wrong() {
	switch s.IntN(40) {
	case 0:
		_ = s.WriteWindowUpdate(s.some(), 1<<31-1)
	case 1:
		_ = s.WriteRawFrame(http2.FrameWindowUpdate, 0, s.some(), make([]byte, 4))
	case 2:
		s.begin(s.some(), true, s.head())
	case 3:
		_ = s.WriteSettings(http2.Setting{ID: http2.SettingID(s.IntN(10)), Val: s.Uint32() >> s.IntN(32)}) //nolint:gosec // small
	case 4:
		_ = s.WriteGoAway(s.some(), http2.ErrCode(s.IntN(14)), nil) //nolint:gosec // small
	case 5:
		junk := make([]byte, s.IntN(40))
		for i := range junk {
			junk[i] = byte(s.IntN(256))
		}
		s.begin(s.next, true, junk)
		s.next += 2
	case 6:
		_ = s.WriteContinuation(s.some(), true, nil)
	case 7:
		_ = s.WritePushPromise(http2.PushPromiseParam{StreamID: s.some(), PromiseID: 2, EndHeaders: true})
	case 8:
		_ = s.WriteRawFrame(http2.FrameType(s.IntN(10)), http2.Flags(s.IntN(256)), s.some(), make([]byte, s.IntN(20))) //nolint:gosec // small
	case 9:
		s.next += 2 * s.Uint32N(1000)
	}
}

// held is what a connection holds for its streams: how many there are, the bytes that came and nobody has read, those that wait for a window, and those
// that wait to be written.
type held struct{ streams, unread, waiting, out int }

func (c *Conn) held() (h held) {
	h = held{streams: len(c.streams), out: len(c.out)}
	for _, s := range c.streams {
		h.unread += len(s.recv)
		h.waiting += len(s.served.waiting)
	}
	return h
}

func (h held) bounded() bool {
	return h.streams <= 200 && h.unread <= 1<<20 && h.waiting <= h.streams*(collected+16<<10) && h.out <= maxBacklog+64<<10
}

// sequences answers by the path of a request.
func sequences(task *netloop.Task, r *Request) {
	switch string((*Stream)(r).part(pseudoPath)) {
	case "/mirror":
		mirror(task, r)
	case "/wait":
		wait(task, r)
	case "/large":
		var q http1.Request
		if r.Fill(&q, nil) != nil {
			return
		}
		r.Head(&http1.Response{Status: 200}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
		piece := make([]byte, 10_000)
		for range 40 {
			r.SetWriteDeadline(task.Loop().Now() + int64(patience))
			if !r.Add(piece) && r.Flush(task) != nil {
				return
			}
		}
		r.End(nil)
		_ = r.Flush(task)
	default:
		hello(task, r)
	}
}

// FuzzSequences sends frames at random, by a seed, to a server, which must not panic, hold more than it may, or fall silent: a PING is answered
// behind them, or the connection has ended; and nothing is left of it when it has.
func FuzzSequences(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, uint16(seed*100))
	}
	var begun, done atomic.Int64
	s := open(f, Options{}, func(task *netloop.Task, r *Request) {
		begun.Add(1)
		defer done.Add(1)
		sequences(task, r)
	})
	f.Fuzz(func(t *testing.T, seed uint64, frames uint16) {
		here := *s
		here.bench = &bench{t, s.group}
		q := &sequence{here.visit(), rand.New(rand.NewPCG(seed, 1)), 1} //nolint:gosec // it is to be the same again
		conn := <-s.conns
		heard := make(chan struct{})
		over := make(chan struct{})
		reads := make(chan struct{})
		if lazy := seed%4 == 0; !lazy { // or it reads nothing until it has said everything
			close(reads)
		}
		go func() {
			defer close(over)
			<-reads
			for {
				f, err := q.ReadFrame()
				if err != nil {
					return
				}
				if p, ok := f.(*http2.PingFrame); ok && p.IsAck() && p.Data == [8]byte{'e', 'n', 'd'} {
					close(heard)
				}
			}
		}()
		for n := range int(frames % 4000) {
			q.frame()
			if n%500 == 499 {
				here.on(func(*netloop.Task) {
					if h := conn.held(); !h.bounded() {
						t.Errorf("after %d frames it holds %+v", n, h)
					}
				})
			}
		}
		if seed%4 == 0 {
			close(reads)
		}
		_ = q.WritePing(false, [8]byte{'e', 'n', 'd'})
		select {
		case <-heard:
		case <-over:
		case <-time.After(30 * time.Second):
			t.Errorf("it has fallen silent: %+v", conn.held())
		}
		q.conn.Close()
		<-over
		<-<-s.ended
		if n := conn.Streams(); n != 0 || begun.Load() != done.Load() {
			t.Errorf("%d streams are left, %d of %d requests have ended", n, done.Load(), begun.Load())
		}
	})
}
