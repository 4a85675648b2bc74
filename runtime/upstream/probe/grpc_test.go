package probe

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	ours "wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/pool"
)

// call has a target checked by gRPC.
func call(t *testing.T, g *GRPC, addr netip.AddrPort, patience time.Duration) (found error) {
	t.Helper()
	group, err := netloop.New(netloop.Options{Loops: 1, OnPanic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	group.Start()
	defer group.Close()
	l, done := group.Loop(0), make(chan struct{})
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			defer close(done)
			c, err := l.Dial(task, addr, 0, netloop.DialOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			s, fe := ours.Start(task, c, c, ours.Options{}, 0)
			if fe != nil {
				found = fe
				return
			}
			c.SetReadDeadline(l.Now() + int64(patience))
			c.SetWriteDeadline(l.Now() + int64(patience))
			found = g.Probe(task, &pool.Conn{Net: c, Stream: c, Session: s}, []byte("web.test:81"))
			_ = c.Close()
		})
	})
	<-done
	return found
}

const long = 30 * time.Second

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// want checks what was found; "" is good health.
func want(t *testing.T, name string, err error, text string) {
	t.Helper()
	if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
		t.Errorf("%s: %v; want %q", name, err, text)
	}
}

// TestHealthOfGRPC asks the health service of the public library.
func TestHealthOfGRPC(t *testing.T) {
	l := listen(t)
	s, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	h.SetServingStatus("acme.Up", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("acme.Down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	for service, says := range map[string]string{
		"": "", "acme.Up": "", "acme.Down": "of acme.Down was answered NOT_SERVING", "acme.Nobody": `does not know the service "acme.Nobody"`,
	} {
		want(t, service, call(t, &GRPC{Service: service, Timeout: long}, addrOf(l), long), says)
	}
	h.Shutdown()
	want(t, "after its end", call(t, &GRPC{Timeout: long}, addrOf(l), long), "was answered NOT_SERVING")
}

// TestNoHealthOfGRPC asks a server that does not have the service.
func TestNoHealthOfGRPC(t *testing.T) {
	l := listen(t)
	s := grpc.NewServer()
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	want(t, "not there", call(t, &GRPC{}, addrOf(l), long), "has no grpc.health.v1.Health")
}

// hand is a server that a test plays: it takes one call, and keeps the connection open.
type hand struct {
	*http2.Framer
	conn  net.Conn
	asked map[string]string
}

func (h *hand) head(id uint32, end bool, fields ...string) {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}

// byHand answers the first call by fn.
func byHand(t *testing.T, fn func(h *hand, id uint32)) (addr netip.AddrPort, asked func() map[string]string) {
	t.Helper()
	l, heard := listen(t), make(chan map[string]string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(c, preface); err != nil {
			return
		}
		h := &hand{Framer: http2.NewFramer(c, c), conn: c, asked: map[string]string{}}
		h.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		_ = h.WriteSettings()
		id := uint32(0)
		for {
			f, err := h.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *http2.MetaHeadersFrame:
				for _, field := range f.Fields {
					h.asked[field.Name] = field.Value
				}
				id = f.StreamID
			case *http2.DataFrame:
				h.asked["body"] += string(f.Data())
				if f.StreamEnded() {
					heard <- h.asked
					fn(h, id)
				}
			}
		}
	}()
	return addrOf(l), func() map[string]string { return <-heard }
}

var good200 = []string{":status", "200", "content-type", "application/grpc"}

func message(b string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...) //nolint:gosec // small
}

func TestTheCall(t *testing.T) {
	addr, asked := byHand(t, func(h *hand, id uint32) {
		h.head(id, false, good200...)
		_ = h.WriteData(id, false, message("\x08\x01"))
		h.head(id, true, "grpc-status", "0")
	})
	want(t, "well", call(t, &GRPC{Service: "a.B", Timeout: 2 * time.Second}, addr, long), "")
	got := asked()
	for name, value := range map[string]string{
		":method": "POST", ":path": "/grpc.health.v1.Health/Check", ":authority": "web.test:81", ":scheme": "http", "te": "trailers",
		"content-type": "application/grpc", "grpc-timeout": "2000000u", "user-agent": "wasmgate-health-check", "body": string(message("\x0a\x03a.B")),
	} {
		if got[name] != value {
			t.Errorf("%s: %q, want %q", name, got[name], value)
		}
	}
}

// TestAnswersToTheCall: whatever a target answers, it is well only if it says so, and it is told why it is not.
func TestAnswersToTheCall(t *testing.T) {
	answer := func(data []byte, trailers ...string) func(*hand, uint32) {
		return func(h *hand, id uint32) {
			h.head(id, false, good200...)
			_ = h.WriteData(id, len(trailers) == 0, data)
			if len(trailers) > 0 {
				h.head(id, true, trailers...)
			}
		}
	}
	ok := []string{"grpc-status", "0"}
	for name, c := range map[string]struct {
		answer func(h *hand, id uint32)
		want   string
	}{
		"in pieces": {func(h *hand, id uint32) {
			h.head(id, false, good200...)
			for _, b := range message("\x08\x01") {
				_ = h.WriteData(id, false, []byte{b})
			}
			h.head(id, true, ok...)
		}, ""},
		"with fields that nobody knows":  {answer(message("\x12\x03abc\x08\x01\x18\x05"), ok...), ""},
		"nothing is UNKNOWN":             {answer(message(""), ok...), "was answered UNKNOWN"},
		"NOT_SERVING":                    {answer(message("\x08\x02"), ok...), "was answered NOT_SERVING"},
		"SERVICE_UNKNOWN":                {answer(message("\x08\x03"), ok...), "was answered SERVICE_UNKNOWN"},
		"the last state counts":          {answer(message("\x08\x01\x08\x02"), ok...), "was answered NOT_SERVING"},
		"a state that is none":           {answer(message("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ok...), "a state that nobody knows"},
		"SERVING, and a status that not": {answer(message("\x08\x01"), "grpc-status", "2", "grpc-message", "sorry%0a"), `failed with UNKNOWN: "sorry\n"`},
		"SERVING without a status":       {answer(message("\x08\x01")), "failed with UNKNOWN"},
		"two messages":                   {answer(append(message("\x08\x01"), message("\x08\x01")...), ok...), "not one message"},
		"compressed":                     {answer(append([]byte{1}, message("\x08\x01")[1:]...), ok...), "not one message"},
		"half a message":                 {answer(message("\x08\x01")[:6], ok...), "not one message"},
		"no protobuf":                    {answer(message("\xff\xff\xff"), ok...), "no HealthCheckResponse"},
		"half a field":                   {answer(message("\x12\xff\x01ab"), ok...), "no HealthCheckResponse"},
		"half a state":                   {answer(message("\x08\xff"), ok...), "no HealthCheckResponse"},
		"far too long":                   {answer(bytes.Repeat([]byte{0}, 8<<10), ok...), "over 1024 bytes"},
		"OK, and nothing else":           {func(h *hand, id uint32) { h.head(id, true, append(good200, ok...)...) }, "without a message"},
		"UNIMPLEMENTED":                  {func(h *hand, id uint32) { h.head(id, true, append(good200, "grpc-status", "12")...) }, "has no grpc.health.v1.Health"},
		"UNAVAILABLE": {func(h *hand, id uint32) {
			h.head(id, true, append(good200, "grpc-status", "14", "grpc-message", strings.Repeat("x", 5000))...)
		}, "failed with UNAVAILABLE: \"" + strings.Repeat("x", 200) + "\""},
		"its own deadline": {func(h *hand, id uint32) { h.head(id, true, append(good200, "grpc-status", "4")...) }, "not answered in time"},
		"no gRPC":          {func(h *hand, id uint32) { h.head(id, true, ":status", "200", "content-type", "text/html") }, "not by gRPC"},
		"404":              {func(h *hand, id uint32) { h.head(id, true, ":status", "404") }, "answered 404 of HTTP"},
		"reset":            {func(h *hand, id uint32) { _ = h.WriteRSTStream(id, http2.ErrCodeInternal) }, "INTERNAL_ERROR"},
		"going away":       {func(h *hand, _ uint32) { _ = h.WriteGoAway(0, http2.ErrCodeNo, nil) }, "going away"},
		"closed":           {func(h *hand, _ uint32) { _ = h.conn.Close() }, "closed"},
		"garbage":          {func(h *hand, _ uint32) { _, _ = h.conn.Write(bytes.Repeat([]byte("garbage "), 100)) }, "malformed"},
	} {
		addr, _ := byHand(t, c.answer)
		want(t, name, call(t, &GRPC{}, addr, long), c.want)
	}
}

// TestHealthChecksEnd: who answers for ever, or never, is not waited for.
func TestHealthChecksEnd(t *testing.T) {
	for name, fn := range map[string]func(*hand, uint32){
		"silence": func(*hand, uint32) {},
		"a head":  func(h *hand, id uint32) { h.head(id, false, good200...) },
		"a message, no end": func(h *hand, id uint32) {
			h.head(id, false, good200...)
			_ = h.WriteData(id, false, message("\x08\x01"))
		},
		"empty frames for ever": func(h *hand, id uint32) {
			h.head(id, false, good200...)
			for h.WriteData(id, false, nil) == nil {
			}
		},
		"interim answers for ever": func(h *hand, id uint32) {
			for h.WritePing(false, [8]byte{}) == nil {
				h.head(id, false, ":status", "103")
			}
		},
	} {
		addr, _ := byHand(t, fn)
		if err := call(t, &GRPC{}, addr, 300*time.Millisecond); err == nil {
			t.Errorf("%s: it is well", name)
		}
	}
}
