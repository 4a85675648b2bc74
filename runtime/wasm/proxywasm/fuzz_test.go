package proxywasm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// FuzzGuest lets a guest call any host functions with any arguments, and answer anything, from its allocator too. The host
// must live, leave nothing behind, and forward only messages that are read as what they are.
func FuzzGuest(f *testing.F) {
	module, err := os.ReadFile("testdata/fuzz.wasm")
	if err != nil {
		f.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		tape := make([]byte, 400)
		for i := range tape {
			tape[i] = byte(random.Uint32())
		}
		f.Add(tape, byte(random.Uint32()))
	}
	b := newBench(f)
	// Kept, so that the module is not compiled for each tape.
	keep, err := compile(f, module, wasm.Limits{Fuel: 300_000})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(keep.Close)
	e, _ := engine()
	f.Fuzz(func(t *testing.T, tape []byte, how byte) {
		c, err := compile(t, module, wasm.Limits{Fuel: 300_000})
		if err != nil {
			t.Fatal(err)
		}
		slow := func(task *netloop.Task) *fault.Error {
			if how&4 != 0 {
				task.Sleep(time.Millisecond)
			}
			if how&8 != 0 {
				return fault.New(fault.Connect, fault.Upstream, 502, "refused")
			}
			return nil
		}
		ask := &streamer{caller: caller{answer: func(task *netloop.Task, c *filter.Call) *fault.Error {
			if err := slow(task); err != nil {
				return err
			}
			return allow(task, c)
		}}, serve: func(task *netloop.Task, s *filter.Stream) *fault.Error {
			if err := slow(task); err != nil {
				return err
			}
			return replies("0", "", framed("a"), framed(""), tape[len(tape)/2:])(task, s)
		}}
		p, err := New(c, Options{
			Group: b.group, Config: tape, OnError: wasm.OnError(how & 1), MaxPause: time.Millisecond, MaxBody: 100, VMID: "v", Grants: grants(ask),
			Backoff: &wasm.Backoff{}, NonUTF8: NonUTF8(how >> 6 % 3), StopIteration: StopIteration(how >> 4 % 3), Lazy: how&2 != 0,
		})
		if err != nil {
			return
		}
		p.core.group.grace = time.Millisecond
		b.on(func(task *netloop.Task) {
			for range 3 {
				if err := fuzzExchange(b, task, p, how); err != nil {
					t.Error(err)
				}
			}
		})
		p.Close()
		if n := e.Instances(); n != 0 {
			t.Errorf("%d instances are left", n)
		}
		// What a stream's end still had to do, on a task of its own, finds that there is nobody any more.
		testkit.Eventually(t, "no stream is left", func() bool { return p.Stats().Streams == 0 })
	})
}

func fuzzExchange(b *bench, task *netloop.Task, p *Plugin, how byte) error {
	m := message{head: post + "\nX-Tenant: a\xff", body: []string{"abc", "defg", "hi"}, chunked: how&16 != 0}
	if how&32 != 0 {
		m.trailers = []string{"x-t", "1"}
	}
	r := b.begin(task, m)
	defer r.end(p)
	r.ask(filter.Role(how%3), p)
	if err := readable(r.x); err != nil {
		return err
	}
	if r.err != nil || r.verdict == filter.Respond {
		return nil
	}
	if r.forward(task); r.sendErr != nil {
		return nil
	}
	answer := message{head: "HTTP/1.1 200 OK\nServer: s", body: []string{"abc", "defg", "hi"}, chunked: how&16 != 0, trailers: m.trailers}
	r.reply(task, answer, p)
	return readable(r.x)
}

// readable writes both heads as the gateway sends them, reads them again, and compares.
func readable(x *exchange.Exchange) error {
	lim := http1.DefaultLimits
	lim.Head, lim.Target, lim.Fields = 1<<20, 1<<20, 5000
	head := http1.AppendRequest(nil, &x.Request, http1.Outgoing{Framing: x.Request.Framing})
	var r http1.Request
	if n, err := r.Parse(head, &lim); err != nil || n != len(head) {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	if !bytes.Equal(r.Method, x.Request.Method) || !bytes.Equal(r.Authority, x.Request.Authority) || !bytes.Equal(r.Path, x.Request.Path) ||
		r.HasQuery() != x.Request.HasQuery() || !bytes.Equal(r.Query(), x.Request.Query()) || r.Framing.Kind != x.Request.Framing.Kind {
		return fmt.Errorf("the request is read as another one:\n%q", head)
	}
	if x.Response.Status == 0 {
		return nil
	}
	framing := x.Response.Framing
	if x.Local.Set {
		framing = http1.Framing{Kind: http1.Length, Length: int64(len(x.Local.Body))}
	}
	head = http1.AppendResponse(nil, &x.Response, http1.ResponseOut{Minor: 1, Framing: framing})
	var a http1.Response
	if n, err := a.Parse(head, &lim, r.Method); err != nil || n != len(head) || a.Status != x.Response.Status {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	return nil
}

// FuzzPairs reads serialized maps, and writes what it has read again.
func FuzzPairs(f *testing.F) {
	var w pairWriter
	w.begin(nil, 2)
	w.add([]byte("a"), []byte("1"))
	w.add([]byte("b"), nil)
	for _, seed := range [][]byte{nil, {0}, {0, 0, 0, 0}, w.b, w.b[:len(w.b)-1], {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {255, 255, 255, 255}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := readPairs(b)
		if !ok {
			return
		}
		var again pairWriter
		again.begin(nil, p.left)
		n := p.left
		for name, value, ok := p.next(); ok; name, value, ok = p.next() {
			again.add(name, value)
			n--
		}
		if n != 0 || len(b) > 1 && !bytes.HasPrefix(bytes.ToLower(b), bytes.ToLower(again.b)) {
			t.Errorf("%q became %q, %d are missing", b, again.b, n)
		}
	})
}
