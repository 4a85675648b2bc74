package native

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
	"wasmgate/sdk/abi"
	"wasmgate/sdk/abi/abitest"
)

// FuzzAnswer lets a guest answer with any operation list. Whatever is accepted must leave messages that are read, once
// they are written, as what they are and as one message each; what is refused must leave them alone.
func FuzzAnswer(f *testing.F) {
	examples, err := abitest.Examples("../../../sdk/abi.md")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range examples {
		if e.Kind == "operations" {
			f.Add(e.Hex, false)
			f.Add(e.Hex, true)
		}
	}
	for _, value := range []string{"1", "a\r\nx: 1", "\t", "\x80"} {
		for _, name := range []string{"x", "Content-Length", "transfer_encoding", "x\r\n", "Connection"} {
			f.Add(abi.AppendOpPair(nil, abi.OpAppendHeader, name, value), false)
			f.Add(abi.AppendRespond(nil, 200, value, name, value), true)
		}
		for _, k := range []abi.Kind{abi.OpMethod, abi.OpAuthority, abi.OpPath, abi.OpQuery} {
			f.Add(abi.AppendOpText(nil, k, "/"+value), false)
		}
	}
	b := newBench(f)
	m := guestModule{manifest: upstreams, pages: 32, arenas: [2]uint64{abi.Pack(0x2000, 0x1000), abi.Pack(0x100000, 0x80000)}}
	g := granted
	g.DynamicAllow = func([]byte) bool { return true }
	p := b.mustLoad(m.build(), Options{Grants: g, LogLevel: abi.LogError + 1}, wasm.Limits{})
	f.Fuzz(func(t *testing.T, list []byte, response bool) {
		if len(list) > maxAnswer {
			return
		}
		b.on(func(task *netloop.Task) {
			if err := answers(p, task, list, response); err != nil {
				t.Error(err)
			}
		})
	})
}

// answers puts the list where the guest's answer would be, and checks what comes of it.
func answers(p *Plugin, task *netloop.Task, list []byte, response bool) error {
	x, err := fuzzExchange(task, response)
	if err != nil {
		return err
	}
	before, l := wire(x), task.Loop()
	in, err := p.core.keeper.Pool().Get(task, 0, l.Now())
	if err != nil {
		return err
	}
	defer p.core.keeper.Pool().Put(0, l.Now(), in)
	guest := in.Owner.(*guest)
	copy(guest.bytes(abi.AnswerArena), list)
	phase := abi.PhaseRequest
	if response {
		phase = abi.PhaseResponse
	}
	var o outcome
	if err := p.act(guest, x, phase, abi.RoleRoute, 0, abi.CodeOperations, uint32(len(list)), &o); err != nil {
		if after := wire(x); after != before || x.Local.Set || x.Target.Upstream != exchange.NoUpstream || *x.Word(0) != 0 {
			return fmt.Errorf("refused (%w), and yet\n%q became\n%q", err, before, after)
		}
		return nil
	}
	if x.Local.Set != (o.verdict == filter.Respond) {
		return fmt.Errorf("verdict %d, answer of the plugin's own: %v", o.verdict, x.Local.Set)
	}
	return readable(x)
}

const fuzzAnswerHead = "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 5\r\nX-A: 1\r\nX-A: 2\r\n\r\n"

func fuzzExchange(task *netloop.Task, response bool) (*exchange.Exchange, error) {
	x := &exchange.Exchange{Task: task}
	x.Reset()
	if _, err := x.Request.Parse([]byte("POST /app?q=1 HTTP/1.1\r\nHost: example.com\r\nCookie: a=1\r\nCookie: b\r\nContent-Length: 3\r\n\r\n"), nil); err != nil {
		return nil, err
	}
	if response {
		if _, err := x.Response.Parse([]byte(fuzzAnswerHead), nil, []byte("POST")); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// wire writes both heads as the gateway sends them.
func wire(x *exchange.Exchange) string {
	b := http1.AppendRequest(nil, &x.Request, http1.Outgoing{Framing: x.Request.Framing})
	if x.Response.Status != 0 {
		b = http1.AppendResponse(b, &x.Response, http1.ResponseOut{Minor: 1, Framing: x.Response.Framing})
	}
	return string(b)
}

// readable reads both heads again and compares.
func readable(x *exchange.Exchange) error {
	lim := http1.DefaultLimits
	lim.Head, lim.Target, lim.Fields = 1<<20, 1<<20, 1000
	head := http1.AppendRequest(nil, &x.Request, http1.Outgoing{Framing: x.Request.Framing})
	var r http1.Request
	if n, err := r.Parse(head, &lim); err != nil || n != len(head) {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	if !bytes.Equal(r.Method, x.Request.Method) || !bytes.Equal(r.Authority, x.Request.Authority) || !bytes.Equal(r.Path, x.Request.Path) ||
		r.HasQuery() != x.Request.HasQuery() || !bytes.Equal(r.Query(), x.Request.Query()) {
		return fmt.Errorf("the request is read as another one:\n%q", head)
	}
	if r.Framing != x.Request.Framing || !r.KeepAlive || len(r.Upgrade) != 0 || r.ExpectContinue {
		return fmt.Errorf("the request is framed anew: %+v\n%q", r.Framing, head)
	}
	if err := sameFields(&x.Request.Head, &r.Head, head); err != nil || x.Response.Status == 0 {
		return err
	}
	head = http1.AppendResponse(nil, &x.Response, http1.ResponseOut{Minor: 1, Framing: x.Response.Framing})
	var a http1.Response
	if n, err := a.Parse(head, &lim, r.Method); err != nil || n != len(head) || a.Status != x.Response.Status || !a.KeepAlive {
		return fmt.Errorf("%d bytes of %d read, %w:\n%q", n, len(head), err, head)
	}
	if bodiless := a.Status == 204 || a.Status == 304; !bodiless && a.Framing != x.Response.Framing && a.Framing.Kind != http1.NoBody {
		return fmt.Errorf("the answer is framed anew: %+v\n%q", a.Framing, head)
	}
	if n := len(x.Local.Body); x.Local.Set && x.Response.Framing.Length != int64(n) {
		return fmt.Errorf("%d bytes of body, framed as %+v", n, x.Response.Framing)
	}
	return sameFields(&x.Response.Head, &a.Head, head)
}

// sameFields compares what was written with what is read, but for what is written anew: Host and framing.
func sameFields(wrote, read *http1.Head, head []byte) error {
	list := func(h *http1.Head) string {
		var s strings.Builder
		for i := range h.Len() {
			if id := h.ID(i); id != http1.FieldHost && !http1.IsFraming(id) {
				fmt.Fprintf(&s, "%s: %q\n", h.Name(i), h.Value(i))
			}
		}
		return s.String()
	}
	if a, b := list(wrote), list(read); a != b {
		return fmt.Errorf("fields:\n%sare read as:\n%s%q", a, b, head)
	}
	return nil
}
