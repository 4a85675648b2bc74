package http3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// Requests that are malformed are reset, those over a limit are answered, and the connection goes on.
func TestMalformedRequests(t *testing.T) {
	b := newBench(t, Options{}, echo)
	c := b.raw()
	for name, test := range map[string]struct {
		want string
		head []byte
	}{
		"no method":           {"reset", headers(":scheme", "https", ":authority", "a", ":path", "/")},
		"no scheme":           {"reset", headers(":method", "GET", ":authority", "a", ":path", "/")},
		"no path":             {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "a")},
		"empty path":          {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "")},
		"path without slash":  {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "x")},
		"path with space":     {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a b")},
		"no authority":        {"reset", headers(":method", "GET", ":scheme", "https", ":path", "/")},
		"userinfo":            {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "u@a", ":path", "/")},
		"two methods":         {"reset", headers(":method", "GET", ":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/")},
		"late pseudo":         {"reset", headers(":method", "GET", ":scheme", "https", ":authority", "a", "x", "1", ":path", "/")},
		"unknown pseudo":      {"reset", get(":protocol", "websocket")},
		"status":              {"reset", headers(":status", "200", ":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/")},
		"host differs":        {"reset", get("host", "other")},
		"upper case":          {"reset", get("X-Upper", "1")},
		"empty name":          {"reset", get("", "1")},
		"CR in value":         {"reset", get("x", "a\rb")},
		"LF in value":         {"reset", get("x", "a\nb")},
		"NUL in value":        {"reset", get("x", "a\x00b")},
		"space around":        {"reset", get("x", " a")},
		"colon in name":       {"reset", get("x:y", "1")},
		"connection":          {"reset", get("connection", "close")},
		"transfer-encoding":   {"reset", get("transfer-encoding", "chunked")},
		"upgrade":             {"reset", get("upgrade", "websocket")},
		"te":                  {"reset", get("te", "gzip")},
		"length no number":    {"reset", get("content-length", "+1")},
		"lengths differ":      {"reset", get("content-length", "1", "content-length", "2")},
		"length without body": {"reset", get("content-length", "1")},
		"connect with path":   {"reset", headers(":method", "CONNECT", ":scheme", "https", ":authority", "a:1", ":path", "/")},
		"long method":         {"501", headers(":method", strings.Repeat("A", 40), ":scheme", "https", ":authority", "a", ":path", "/")},
		"long target":         {"414", headers(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"+strings.Repeat("a", 9000))},
		"too many fields":     {"431", get(strings.Split(strings.Repeat("x 1 ", 101)+"y 1", " ")...)},
		"too large":           {"431", get("x", strings.Repeat("a", 33<<10))},
		"announced too large": {"431", appendFrameHeader(nil, frameHeaders, 1<<40)},
		"large when read":     {"431", frame(frameHeaders, append([]byte{0, 0}, bytes.Repeat([]byte{0xc0 | 0x3f, 0x16}, 2000)...))},
	} {
		if got := status(t, c.open(true, test.head)); got != test.want && (test.want != "reset" || got != "400") { // RFC 9114 section 4.1.2 has both
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := status(t, c.open(true, get())); got != "200" {
		t.Errorf("after them: %s", got)
	}
}

// Bodies that are not as long as announced are no bodies.
func TestBodiesOfAnotherLength(t *testing.T) {
	b := newBench(t, Options{}, func(t *netloop.Task, s served) bool {
		if s.err != nil {
			return echo(t, s)
		}
		for {
			switch _, err := s.Next(t); {
			case err == io.EOF:
				return s.answer(t, 200, "")
			case err != nil:
				return s.answer(t, 400, err.Error())
			}
		}
	})
	c := b.raw()
	for name, test := range map[string]struct {
		want  string
		parts [][]byte
	}{
		"short":       {"400", [][]byte{post("content-length", "5"), frame(frameData, []byte("1234"))}},
		"long":        {"400", [][]byte{post("content-length", "3"), frame(frameData, []byte("1234"))}},
		"none":        {"reset", [][]byte{post("content-length", "3")}},
		"one more":    {"400", [][]byte{post("content-length", "4"), frame(frameData, []byte("1234")), frame(frameData, []byte("5"))}},
		"right":       {"200", [][]byte{post("content-length", "4"), frame(frameData, []byte("12")), frame(0x21, []byte("grease")), frame(frameData, []byte("34"))}},
		"nothing":     {"200", [][]byte{post("content-length", "0")}},
		"trailers":    {"200", [][]byte{post("content-length", "4"), frame(frameData, []byte("1234")), headers("x-sum", "1")}},
		"bad trailer": {"400", [][]byte{post(), frame(frameData, []byte("1234")), headers("X-Sum", "1")}},
		"pseudo":      {"400", [][]byte{post(), frame(frameData, []byte("1234")), headers(":path", "/")}},
	} {
		if got := status(t, c.open(true, test.parts...)); got != test.want && (test.want != "reset" || got != "400") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// What breaks the protocol ends the connection, with the code that RFC 9114 has for it.
func TestConnectionErrors(t *testing.T) {
	b := newBench(t, Options{}, echo)
	for name, test := range map[string]struct {
		want quic.ApplicationErrorCode
		do   func(*raw)
	}{
		"DATA first":             {errFrameUnexpected, func(c *raw) { c.open(true, frame(frameData, []byte("x"))) }},
		"SETTINGS on a request":  {errFrameUnexpected, func(c *raw) { c.open(true, frame(frameSettings, nil)) }},
		"GOAWAY in a body":       {errFrameUnexpected, func(c *raw) { c.open(true, post(), frame(frameGoAway, []byte{0})) }},
		"a frame of HTTP/2":      {errFrameUnexpected, func(c *raw) { c.open(true, frame(0x8, nil)) }},
		"DATA behind trailers":   {errFrameUnexpected, func(c *raw) { c.open(true, post(), headers("x", "1"), frame(frameData, []byte("x"))) }},
		"HEADERS behind those":   {errFrameUnexpected, func(c *raw) { c.open(true, post(), headers("x", "1"), headers("x", "1")) }},
		"a cut-off head":         {errFrame, func(c *raw) { c.open(true, get()[:9]) }},
		"a cut-off body":         {errFrame, func(c *raw) { c.open(true, post(), frame(frameData, []byte("12345"))[:4]) }},
		"a cut-off frame header": {errFrame, func(c *raw) { c.open(true, post(), []byte{0x40}) }},
		"a dynamic table":        {errQPACKDecompression, func(c *raw) { c.open(true, frame(frameHeaders, []byte{2, 0, 0x80})) }},
		"no static entry":        {errQPACKDecompression, func(c *raw) { c.open(true, frame(frameHeaders, []byte{0, 0, 0xff, 0x7f})) }},
		"a push stream":          {errStreamCreation, func(c *raw) { c.uni([]byte{streamPush}) }},
		"two control streams":    {errStreamCreation, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, nil)); c.uni([]byte{0}, frame(frameSettings, nil)) }},
		"no SETTINGS":            {errMissingSettings, func(c *raw) { c.uni([]byte{0}, frame(frameGoAway, []byte{0})) }},
		"two SETTINGS":           {errFrameUnexpected, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, nil), frame(frameSettings, nil)) }},
		"a setting twice":        {errSettings, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, []byte{6, 1, 6, 1})) }},
		"a setting of HTTP/2":    {errSettings, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, []byte{2, 1})) }},
		"half a setting":         {errFrame, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, []byte{6})) }},
		"DATA on control":        {errFrameUnexpected, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, nil), frame(frameData, nil)) }},
		"CANCEL_PUSH":            {errID, func(c *raw) { c.uni([]byte{0}, frame(frameSettings, nil), frame(frameCancelPush, []byte{0})) }},
		"the end of control": {errClosedCritical, func(c *raw) {
			s := c.uni([]byte{0}, frame(frameSettings, nil))
			_ = s.Close()
		}},
		"huge SETTINGS": {errExcessiveLoad, func(c *raw) { c.uni([]byte{0}, appendFrameHeader(nil, frameSettings, 1<<30)) }},
		"frames of nothing": {errExcessiveLoad, func(c *raw) {
			c.uni([]byte{0}, frame(frameSettings, nil), bytes.Repeat(frame(frameMaxPushID, []byte{0}), 3000))
		}},
		"endless grease":     {errExcessiveLoad, func(c *raw) { c.open(false, appendFrameHeader(nil, 0x21, 1<<40)) }},
		"empty DATA":         {errExcessiveLoad, func(c *raw) { c.open(false, post(), bytes.Repeat(frame(frameData, nil), 70000)) }},
		"grease in the body": {errExcessiveLoad, func(c *raw) { c.open(false, post(), bytes.Repeat(frame(0x21, make([]byte, 1000)), 70)) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.raw()
			c.t = t
			test.do(c)
			if got := c.closed(); got != test.want {
				t.Errorf("closed with %#x, not %#x", got, test.want)
			}
		})
	}
}

// What is unknown is skipped.
func TestGrease(t *testing.T) {
	b := newBench(t, Options{}, echo)
	c := b.raw()
	c.uni([]byte{0}, frame(frameSettings, []byte{6, 1, 0x21, 3}), frame(0x21, []byte("grease")), frame(frameMaxPushID, []byte{8}))
	u := c.uni([]byte{0x21}, []byte("what is that?"))
	c.uni([]byte{streamEncoder})
	c.uni([]byte{streamDecoder})
	s := c.open(true, frame(0x21, []byte("grease")), post("te", "trailers"), frame(0x40, nil), frame(frameData, []byte("body")), frame(0x5f, make([]byte, 5000)))
	if got := status(t, s); got != "200" {
		t.Error(got)
	}
	select {
	case <-u.Context().Done():
	case <-time.After(10 * time.Second):
		t.Error("a stream of an unknown type is still read")
	}
}

// Streams that are reset count until their request has ended here, and too many of them end the connection. Others do not notice.
func TestRapidReset(t *testing.T) {
	var under, most int // of the only loop
	b := newBench(t, Options{Group: newGroup(t, netloop.Options{Loops: 1}), Settings: Settings{MaxStreams: 10}}, func(t *netloop.Task, s served) bool {
		if string(s.request.Method) == "GET" {
			return s.answer(t, 200, "well")
		}
		under++
		most = max(most, under)
		t.Sleep(20 * time.Millisecond)
		under--
		return s.answer(t, 200, "")
	})
	c := b.raw()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	other := b.transport()
	resets := 0
	for ; c.conn.Context().Err() == nil; resets++ {
		s, err := c.conn.OpenStreamSync(ctx)
		if err != nil {
			break
		}
		_, _ = s.Write(post())
		s.CancelWrite(errRequestCancelled)
		s.CancelRead(errRequestCancelled)
		if resets%50 == 0 {
			if _, got := b.do(other, b.request(t.Context(), "GET", "/", nil)); got != "well" {
				t.Error(got)
			}
		}
	}
	if got := c.closed(); got != errExcessiveLoad {
		t.Errorf("closed with %#x", got)
	}
	result := make(chan int)
	b.group.Loop(0).Post(func() { result <- most })
	if n := <-result; n > 10 {
		t.Errorf("%d requests were under way at a time", n)
	}
	t.Logf("%d resets", resets)
}

// A client may have so many requests under way, and the next when one has ended.
func TestMaxStreams(t *testing.T) {
	release := make(chan struct{})
	b := newBench(t, Options{Settings: Settings{MaxStreams: 3}}, func(t *netloop.Task, s served) bool {
		t.Await(func() { <-release })
		return s.answer(t, 200, "")
	})
	c := b.raw()
	for range 3 {
		c.open(true, get())
	}
	if _, err := c.conn.OpenStream(); err == nil {
		t.Error("a fourth stream could be opened")
	}
	close(release)
	if got := status(t, c.open(true, get())); got != "200" {
		t.Error(got)
	}
}

// Connections count against the process's limit, from their first packet to the end of their last request.
func TestConnectionLimit(t *testing.T) {
	b := newBench(t, Options{Group: newGroup(t, netloop.Options{Loops: 1, MaxConns: 2})}, echo)
	one, two := b.raw(), b.raw()
	if got := status(t, two.open(true, get())); got != "200" {
		t.Error(got)
	}
	c := b.client.Clone()
	c.NextProtos = []string{"h3"}
	if q, err := quic.DialAddr(t.Context(), b.ln.Addr().String(), c, nil); err == nil {
		_ = q.CloseWithError(0, "")
		t.Error("a third connection was accepted")
	}
	if s := b.ln.Stats(); s.Refused == 0 || s.Open != 2 || b.group.Refused() == 0 {
		t.Errorf("%+v", s)
	}
	_ = one.conn.CloseWithError(errNoError, "")
	testkit.Eventually(t, "the first has gone", func() bool { return b.group.Accepted() == 1 })
	if got := status(t, b.raw().open(true, get())); got != "200" {
		t.Error(got)
	}
}

// Handshakes that do not get on end, are counted while they last, and have others prove their address.
func TestHalfOpenHandshakes(t *testing.T) {
	b := newBench(t, Options{Settings: Settings{HandshakeTimeout: 3 * time.Second}}, echo) // longer than a machine stands still
	end := flood(t, b, crowd+20)
	testkit.Eventually(t, "handshakes are under way", func() bool { return b.ln.handshakes.Load() > 0 })
	if n := b.ln.handshakes.Load(); n > crowd {
		t.Errorf("%d handshakes are under way", n)
	}
	if got := status(t, b.raw().open(true, get())); got != "200" {
		t.Error(got)
	}
	end()
	testkit.Eventually(t, "they have ended", func() bool { return b.ln.handshakes.Load() == 0 && b.ln.Stats().Open == 1 })
}

// A client of another protocol gets no connection, and nobody has early data.
func TestOtherProtocols(t *testing.T) {
	b := newBench(t, Options{}, echo)
	c := b.client.Clone()
	c.NextProtos = []string{"hq-interop"}
	if q, err := quic.DialAddr(t.Context(), b.ln.Addr().String(), c, nil); err == nil {
		_ = q.CloseWithError(0, "")
		t.Error("accepted")
	}
	c.NextProtos, c.ServerName = []string{"h3"}, "other"
	c.InsecureSkipVerify = true
	q, err := quic.DialAddr(t.Context(), b.ln.Addr().String(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if q.ConnectionState().Used0RTT {
		t.Error("early data")
	}
	_ = q.CloseWithError(0, "")
}

func FuzzFrames(f *testing.F) {
	f.Add(get(), 7)
	f.Add(append(post("content-length", "4"), frame(frameData, []byte("1234"))...), 3)
	f.Add(append(append(post(), frame(frameData, []byte("12"))...), headers("x", "1")...), 1)
	f.Add(append(frame(0x21, []byte("grease")), get("x-y", "z")...), 2)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		cut = max(1, min(cut, 1<<16))
		read := func(size int) (string, error) {
			from := &pieceReader{in, size}
			h := readHead(from, make([]byte, 64), 4<<10)
			if h.err != nil {
				return "", h.err
			}
			var r http1.Request
			p, err := readHeadFields(h.section, &http1.DefaultLimits, &r.Head, nil)
			if err == nil {
				err = r.Assemble(p.method, p.scheme, p.authority, p.path, http1.Framing{Kind: http1.Chunked}, nil)
			}
			if err != nil {
				return "", err
			}
			body := bodyFrames{limits: &http1.DefaultLimits, length: -1}
			var got []byte
			rest := append([]byte(nil), h.rest...)
			for {
				for len(rest) > 0 {
					data, n, err := body.next(rest)
					if err != nil {
						return "", err
					}
					if n == 0 {
						t.Fatal("nothing was consumed")
					}
					got, rest = append(got, data...), rest[n:]
				}
				if h.ended {
					break
				}
				rest = make([]byte, size)
				n, err := from.Read(rest)
				rest, h.ended = rest[:n], err == io.EOF
			}
			return fmt.Sprintf("%s %s %q %q", r.Method, r.Path, got, body.section), body.end()
		}
		whole, err1 := read(1 << 16)
		parts, err2 := read(cut)
		if (err1 == nil) != (err2 == nil) || err1 == nil && whole != parts {
			t.Fatalf("%q %v, in pieces %q %v", whole, err1, parts, err2)
		}
		var ce *connError
		if errors.As(err1, &ce) && ce.code == 0 {
			t.Fatal("an error without a code")
		}
	})
}

// pieceReader reads in pieces of a size.
type pieceReader struct {
	in   []byte
	size int
}

func (p *pieceReader) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), p.size)], p.in)
	if p.in = p.in[n:]; len(p.in) == 0 {
		return n, io.EOF
	}
	return n, nil
}
