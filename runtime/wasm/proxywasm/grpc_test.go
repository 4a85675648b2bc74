package proxywasm

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// streamer is a filter.Streamer that answers as it is told.
type streamer struct {
	caller
	serve func(t *netloop.Task, s *filter.Stream) *fault.Error
}

func (f *streamer) Stream(t *netloop.Task, s *filter.Stream) *fault.Error {
	f.mu.Lock()
	f.made = append(f.made, fmt.Sprintf("%s %d %s %s %s %s%v", s.Filter, s.Upstream, s.Method, s.Authority, s.Path, fields(&s.Fields), s.Timeout))
	f.mu.Unlock()
	return f.serve(t, s)
}

// framed is a message as it is sent.
func framed(message string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))), message...)
}

// received is all that the plugin sends until it ends.
func received(t *netloop.Task, s *filter.Stream) (all string) {
	for {
		data, err := s.Feed.Next(t)
		if err != nil {
			return all
		}
		all += string(data)
	}
}

// replies answers with a head, pieces of a body, and a status.
func replies(status string, message string, pieces ...[]byte) func(*netloop.Task, *filter.Stream) *fault.Error {
	return func(t *netloop.Task, s *filter.Stream) *fault.Error {
		s.Status = 200
		s.AnswerFields.Add("content-type", "application/grpc+proto")
		s.AnswerFields.Add("x-head", "h")
		if err := s.Head(t); err != nil {
			return err
		}
		for _, p := range pieces {
			if err := s.Data(t, p); err != nil {
				return err
			}
		}
		if status != "" {
			s.AnswerTrailers.Add("grpc-status", status)
		}
		if message != "" {
			s.AnswerTrailers.Add("grpc-message", message)
		}
		return nil
	}
}

const unary = "grpccall auth pkg.Service Method 700 hello x-meta m te x grpc-timeout 1S :path /evil"

func grants(f *streamer) Grants { return Grants{Calls: map[string]int{"auth": 3}, Caller: f} }

// after is what the plugin says from a text on.
func after(says []string, text string) []string {
	for i, s := range says {
		if strings.HasPrefix(s, text) {
			return says[i+1:]
		}
	}
	return nil
}

// TestAUnaryCallDecides: the request waits for the answer of a gRPC service.
func TestAUnaryCallDecides(t *testing.T) {
	large := binary.BigEndian.AppendUint32([]byte{0}, maxGRPCMessage+1)
	gzip := framed("zipped")
	gzip[0] = 1
	plain := func(status int, kind string) func(*netloop.Task, *filter.Stream) *fault.Error {
		return func(t *netloop.Task, s *filter.Stream) *fault.Error {
			s.Status = status
			s.AnswerFields.Add("content-type", kind)
			if err := s.Head(t); err != nil {
				return err
			}
			return s.Data(t, []byte("not gRPC"))
		}
	}
	fails := func(err *fault.Error) func(*netloop.Task, *filter.Stream) *fault.Error {
		return func(*netloop.Task, *filter.Stream) *fault.Error { return err }
	}
	for name, c := range map[string]struct {
		serve func(*netloop.Task, *filter.Stream) *fault.Error
		want  []string
	}{
		"answered":       {replies("0", "", framed("hi there")), []string{"grpc_message(1 1 8)", "body -> 0 hi there", "pairs -> 0", "pairs -> 0", "status -> 0 0 "}},
		"in pieces":      {replies("0", "", []byte{0}, []byte{0, 0, 0}, []byte("\x05ab"), []byte("cde")), []string{"grpc_message(1 1 5)", "body -> 0 abcde", "pairs -> 0", "pairs -> 0", "status -> 0 0 "}},
		"refused":        {replies("7", "no%20way%", framed("x")), []string{"grpc_close(1 1 7)", "status -> 0 7 no way%"}},
		"no status":      {replies("", "", framed("x")), []string{"grpc_close(1 1 2)", "status -> 0 2 the answer has no grpc-status"}},
		"status unknown": {replies("99", ""), []string{"grpc_close(1 1 2)", "status -> 0 2 "}},
		"no message":     {replies("0", ""), []string{"grpc_close(1 1 13)", "status -> 0 13 no message in answer"}},
		"two messages":   {replies("0", "", framed("x"), framed("y")), []string{"grpc_close(1 1 13)", "status -> 0 13 two messages in answer to a call that has one"}},
		"cut message":    {replies("0", "", framed("xyz")[:7]), []string{"grpc_close(1 1 13)", "status -> 0 13 the last message is not whole"}},
		"compressed":     {replies("0", "", gzip), []string{"grpc_close(1 1 13)", "status -> 0 13 a message that is compressed, which nobody had agreed on"}},
		"too large":      {replies("0", "", large), []string{"grpc_close(1 1 8)", "status -> 0 8 a message of 4194305 bytes"}},
		"HTTP 503":       {plain(503, "text/html"), []string{"grpc_close(1 1 14)", "status -> 0 14 HTTP status 503"}},
		"HTTP 404":       {plain(404, "text/html"), []string{"grpc_close(1 1 12)", "status -> 0 12 HTTP status 404"}},
		"not gRPC":       {plain(200, "text/html"), []string{"grpc_close(1 1 2)", "status -> 0 2 the answer is not of gRPC"}},
		"no connection":  {fails(fault.New(fault.Connect, fault.Upstream, 502, "refused")), []string{"grpc_close(1 1 14)", "status -> 0 14 connect"}},
		"too late":       {fails(fault.New(fault.RequestTimeout, fault.Upstream, 504, "late")), []string{"grpc_close(1 1 4)", "status -> 0 4 request_timeout"}},
		"garbage":        {fails(fault.New(fault.Malformed, fault.Upstream, 502, "garbage")), []string{"grpc_close(1 1 13)", "status -> 0 13 malformed"}},
		"not in HTTP/2":  {fails(fault.New(fault.Unsupported, fault.Plugin, 503, "say http2")), []string{"! a gRPC call failed: say http2", "grpc_close(1 1 12)", "status -> 0 12 unsupported"}},
		"trailers only": {func(t *netloop.Task, s *filter.Stream) *fault.Error {
			s.Status = 200
			s.AnswerFields.Add("content-type", "application/grpc")
			s.AnswerFields.Add("grpc-status", "5")
			return s.Head(t)
		}, []string{"grpc_close(1 1 5)", "status -> 0 5 "}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			var sent string
			f := &streamer{serve: func(t *netloop.Task, s *filter.Stream) *fault.Error {
				t.Sleep(time.Millisecond)
				sent = received(t, s)
				return c.serve(t, s)
			}}
			p := b.quiet(Options{Name: "guard", Grants: grants(f)}, "request "+unary, "request return 1",
				"grpc_message body 5 0", "grpc_message pairs 4", "grpc_message pairs 5", "grpc_message status", "grpc_close status",
				"grpc_message stream 0", "grpc_message resume 0", "grpc_close stream 0", "grpc_close respond 503 down -1")
			r := b.exchange(message{head: simpleHead}, okAnswer, p)
			says := after(b.says(), "grpccall -> 0 1")
			if n := len(c.want); len(says) < n || !slices.Equal(says[:n], c.want) {
				t.Errorf("%q\nwant %q", says, c.want)
			}
			if good := strings.HasPrefix(c.want[0], "grpc_message"); r.err != nil || good != (r.verdict == filter.Continue) {
				t.Errorf("%v %v", r.verdict, r.err)
			}
			if got := f.calls(); len(got) != 1 || got[0] != "guard 3 POST  /pkg.Service/Method content-type: application/grpc\nx-meta: m\ngrpc-timeout: 700m\n700ms" || sent != string(framed("hello")) {
				t.Errorf("%q, sent %q", got, sent)
			}
			if s := p.Stats(); s.Outbound != 1 {
				t.Errorf("%+v", s)
			}
			if len(p.core.group.cells[0].vm.grpc) != 0 {
				t.Error("the call is still there")
			}
		})
	}
}

// TestAStream sends each message that came, until it is told to stop.
func TestAStream(t *testing.T) {
	b := newBench(t)
	f := &streamer{serve: func(t *netloop.Task, s *filter.Stream) *fault.Error {
		data, err := s.Feed.Next(t)
		if err != nil || string(data) != string(framed("first")) {
			return fault.New(fault.Malformed, fault.Upstream, 502, "%q %v", data, err)
		}
		s.Status = 200
		s.AnswerFields.Add("content-type", "application/grpc")
		if err := s.Head(t); err != nil {
			return err
		}
		for _, m := range []string{"a", "bc", "last"} {
			if err := s.Data(t, framed(m)); err != nil {
				return err
			}
			if m == "last" {
				break
			}
			if data, err := s.Feed.Next(t); err != nil || string(data) != string(framed(m)) {
				return fault.New(fault.Malformed, fault.Upstream, 502, "%q %v", data, err)
			}
		}
		if _, err := s.Feed.Next(t); err != io.EOF {
			return fault.New(fault.Malformed, fault.Upstream, 502, "%v", err)
		}
		s.AnswerTrailers.Add("grpc-status", "0")
		s.AnswerTrailers.Add("x-sum", "3")
		return nil
	}}
	p := b.quiet(Options{Name: "guard", Grants: grants(f)}, "request grpcstream auth s m k v", "request grpcsend 0 first 0", "request return 1",
		"grpc_head pairs 4", "grpc_message grpcecho last", "grpc_trailers pairs 5", "grpc_close status", "grpc_close grpcsend 0 late 0", "grpc_close stream 0", "grpc_close resume 0")
	r := b.exchange(message{head: simpleHead}, okAnswer, p)
	want := []string{
		"grpcsend -> 0", "grpc_head(1 1 2)", "pairs -> 0 :status=200 content-type=application/grpc",
		"grpc_message(1 1 1)", "grpcsend -> 0", "grpc_message(1 1 2)", "grpcsend -> 0", "grpc_message(1 1 4)", "grpcclose -> 0",
		"grpc_trailers(1 1 2)", "pairs -> 0 grpc-status=0 x-sum=3", "grpc_close(1 1 0)", "status -> 0 0 ", "grpcsend -> 2", "effective -> 0", "resume -> 0",
	}
	if says := after(b.says(), "grpcstream -> 0 1"); len(says) < len(want) || !slices.Equal(says[:len(want)], want) || r.err != nil || r.verdict != filter.Continue {
		t.Errorf("%q\nwant %q\n%v %v", says, want, r.err, r.verdict)
	}
	if got := f.calls(); len(got) != 1 || got[0] != "guard 3 POST  /s/m content-type: application/grpc\nk: v\n0s" {
		t.Errorf("%q", got)
	}
}

// waits serves a call that nobody answers, until it is cancelled.
func waits(cancelled chan<- string) func(*netloop.Task, *filter.Stream) *fault.Error {
	return func(t *netloop.Task, s *filter.Stream) *fault.Error {
		s.OnCancel(t.Wake)
		for !s.Cancelled() && !t.Loop().Closing() {
			t.Park()
		}
		cancelled <- string(s.Path)
		return fault.New(fault.ClientClosed, fault.Plugin, 0, "cancelled")
	}
}

// TestCallsThatEndEarly: cancelled by the plugin, by the end of the request, and with the machine.
func TestCallsThatEndEarly(t *testing.T) {
	for name, c := range map[string]struct {
		script []string
		want   string
	}{
		"cancelled stream":    {[]string{"request grpcstream auth s m", "request grpccancel 0", "request grpccancel 0", "request grpcsend 0 x 0", "request grpcclose 0"}, "grpccancel -> 0\ngrpccancel -> 1\ngrpcsend -> 1\ngrpcclose -> 1"},
		"cancelled call":      {[]string{"request grpccall auth s m 0 x", "request grpcsend 1 x 0", "request grpccancel 1", "request grpccancel 1"}, "grpcsend -> 2\ngrpccancel -> 0\ngrpccancel -> 1"},
		"closed call":         {[]string{"request grpccall auth s m 0 x", "request grpcclose 1", "request grpcclose 1"}, "grpcclose -> 0\ngrpcclose -> 1"},
		"the request's end":   {[]string{"request grpcstream auth s m"}, "grpcstream -> 0 1"},
		"the machine's end":   {[]string{"request grpcstream auth s m", "response trap"}, "grpcstream -> 0 1"},
		"too much to be sent": {[]string{"request grpcstream auth s m", "request floodsend", "request return 0"}, "grpcsend -> 10 7"},
	} {
		t.Run(name, func(t *testing.T) {
			b, cancelled := newBench(t), make(chan string, 1)
			f := &streamer{serve: waits(cancelled)}
			p := b.quiet(Options{Grants: grants(f)}, c.script...)
			b.exchange(message{head: simpleHead}, okAnswer, p)
			if got := <-cancelled; got != "/s/m" {
				t.Error(got)
			}
			if says := strings.Join(b.says(), "\n"); !strings.Contains(says, c.want) || strings.Contains(says, "grpc_close(") {
				t.Errorf("%s\nwant %s", says, c.want)
			}
		})
	}
}

func TestGRPCCallsThatAreNotMade(t *testing.T) {
	for script, want := range map[string]string{
		"grpccall other s m 1 x":            "grpccall -> 2 0",
		"grpcstream other s m":              "grpcstream -> 2 0",
		"grpcproto other s m 1 x":           "grpccall -> 2 0",
		"grpccall auth s%s m 1 x":           "grpccall -> 2 0",
		"grpccall auth s ../m 1 x":          "grpccall -> 2 0",
		"grpccall auth s m 1 x a%sb c":      "grpccall -> 2 0",
		"grpccall auth s m 1 x a b%nc":      "grpccall -> 2 0",
		"grpcsend 7 x 0":                    "grpcsend -> 1",
		"grpcproto auth s m 1 x host other": "grpccall -> 0 1",
	} {
		b := newBench(t)
		f := &streamer{serve: replies("0", "", framed("x"))}
		p := b.quiet(Options{Grants: grants(f)}, "request "+script)
		b.exchange(message{head: simpleHead}, okAnswer, p)
		says := strings.Join(b.says(), "\n")
		if !strings.Contains(says, want) || strings.Contains(script, "other s") && !strings.Contains(says, `! a gRPC call to "`) {
			t.Errorf("%s: %s", script, says)
		}
	}
	// A caller that only makes HTTP calls.
	b := newBench(t)
	p := b.quiet(Options{Grants: granted(&caller{answer: allow})}, "request "+unary)
	b.exchange(message{head: simpleHead}, okAnswer, p)
	if says := strings.Join(b.says(), "\n"); !strings.Contains(says, "grpccall -> 12 0") {
		t.Error(says)
	}
}

// TestCallsWithoutARequest are made by a tick, and while the plugin starts.
func TestCallsWithoutARequest(t *testing.T) {
	for _, script := range [][]string{{"configure tick 10", "tick tick 0", "tick " + unary}, {"configure " + unary}} {
		b := newBench(t)
		f := &streamer{serve: replies("0", "", framed("from afar"))}
		b.probe(Options{Grants: grants(f)}, append(script, "grpc_message body 5 0")...)
		b.awaitSays("body -> 0 from afar")
	}
}

// FuzzGRPC has a server's bytes come in pieces, and a plugin name a service in whatever bytes.
func FuzzGRPC(f *testing.F) {
	f.Add(append(framed("hello"), framed("")...), uint8(3))
	f.Add([]byte("\x0a\x06\x0a\x04auth"), uint8(1))
	f.Add([]byte("\x01\xff\xff\xff\xff"), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		g := &Grants{Calls: map[string]int{"auth": 3}}
		if id, authority, ok := grpcTarget(g, data); ok && (id != 3 || len(authority) > len(data)) || !ok && id != 0 {
			t.Errorf("%d %q %v", id, authority, ok)
		}
		c := &grpcCall{unary: true}
		for rest := data; len(rest) > 0 && !c.ended; {
			n := min(len(rest), int(piece)+1)
			if err := c.data(nil, rest[:n]); (err != nil) != c.ended {
				t.Error(err)
			}
			rest = rest[n:]
		}
		if len(c.got) > len(data) || len(c.buf) > len(data) || !c.answered && c.got != nil {
			t.Errorf("%d and %d bytes out of %d", len(c.got), len(c.buf), len(data))
		}
		_ = grpc.Message(data)
	})
}

// TestManyMessagesLetOthersRun: a server that sends crowds of messages holds up nobody else on the loop.
func TestManyMessagesLetOthersRun(t *testing.T) {
	b := newBench(t)
	const messages = 20_000
	var turns int
	f := &streamer{serve: func(task *netloop.Task, s *filter.Stream) *fault.Error {
		over := false
		task.Loop().Go(func(other *netloop.Task) {
			for !over {
				turns++
				other.Yield()
			}
		})
		for turns == 0 { // it has begun
			task.Yield()
		}
		turns = 0
		var crowd []byte
		for range messages {
			crowd = append(crowd, framed("")...)
		}
		err := replies("0", "", crowd)(task, s)
		over = true
		return err
	}}
	b.probe(Options{Grants: grants(f)}, "configure grpcstream auth s m")
	b.awaitSays("grpc_close(1 1 0)")
	b.on(func(*netloop.Task) {
		// Of the turns that were to be had, some: tasks of portable loops are goroutines, which Go lets run when it likes.
		if turns < messages/yieldAfter/20 {
			t.Errorf("others had %d turns", turns)
		}
	})
	testkit.Eventually(t, "all is quiet", func() bool { return b.group.Loop(0).Stats().Tasks == 0 })
}
