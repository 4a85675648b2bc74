package server

import (
	"bytes"
	"strconv"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/grpcweb"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// call is what a request is of gRPC, or of gRPC-Web.
type call struct {
	kind    grpc.Kind // of the request as it came; None: it is no call
	wanted  grpc.Kind // of its answer
	format  []byte    // of its messages
	web     bool      // its upstream does not speak gRPC-Web, but gRPC
	request grpcweb.Request
	answer  grpcweb.Answer
}

// begin looks whether a request is a call.
func (c *call) begin(x *exchange.Exchange) {
	c.kind, c.web = grpc.None, false
	value, ok := x.Request.GetID(http1.FieldContentType)
	if !ok {
		return
	}
	kind, format := grpc.KindOf(value)
	if x.RPC.Is = kind != grpc.None; !x.RPC.Is {
		return
	}
	if c.kind, c.wanted, c.format = kind, kind, append(c.format[:0], format...); kind != grpc.GRPC {
		c.wanted = grpcweb.Wanted(&x.Request.Head, kind)
	}
}

// addressCall makes a call ready for its upstream: it ends when its client does not wait any longer, and one of gRPC-Web is
// translated. Plugins have seen it as the client has sent it.
func (w *work) addressCall(u *Upstream) {
	x, f, c := &w.x, &w.flight, &w.call
	if value, ok := x.Request.Get(grpc.FieldTimeout); ok {
		if d, ok := grpc.Timeout(value); ok && (f.Deadline == 0 || int64(d) < f.Deadline-x.Started) {
			f.Deadline, f.Impatient = x.Started+int64(d), true
		}
	}
	if !u.GRPCWeb {
		return
	}
	kind := grpcweb.Translate(&x.Request)
	if c.web = kind == grpc.Web || kind == grpc.WebText; kind != grpc.WebText {
		return
	}
	if x.RequestBody == nil {
		w.request.Init(x.Task, f.Input(), x.Request.Framing, false)
		x.RequestBody, f.Filtered = &w.request, &w.request
	}
	c.request = grpcweb.Request{Text: true}
	w.request.Stage(&c.request)
}

// answerInWeb makes an answer of gRPC, of which the head has come, one of gRPC-Web, before plugins see it. One that has no
// messages is the same in both.
func (w *work) answerInWeb(t *netloop.Task, source body.Source) {
	x, c := &w.x, &w.call
	if !grpcweb.Answered(&x.Response.Head, c.wanted) {
		return
	}
	if _, alone := grpc.StatusOf(&x.Response.Head); alone && source.Done() {
		return
	}
	if x.ResponseBody == nil {
		w.answer.Init(t, source, x.Response.Framing, false)
		x.ResponseBody = &w.answer
	}
	c.answer.Text = c.wanted == grpc.WebText
	w.answer.Stage(&c.answer)
}

// answerCall makes the exchange's local answer one that a client of gRPC understands: its status and its text are fields of
// the head, and there is no body. What has a status already, of a plugin that knows gRPC, keeps it.
func (w *work) answerCall() {
	x, c := &w.x, &w.call
	h := &x.Response.Head
	code, ok := grpc.StatusOf(h)
	if !ok {
		if code = grpc.FromHTTP(x.Local.Status); x.Err != nil && x.Err.Status == x.Local.Status {
			code = grpc.FromFault(x.Err)
		}
		w.scratch = strconv.AppendUint(w.scratch[:0], uint64(code), 10)
		h.SetBytes([]byte(grpc.FieldStatus), w.scratch)
		if _, coded := h.GetID(http1.FieldContentEncoding); !coded && len(x.Local.Body) > 0 {
			w.scratch = grpc.AppendMessage(w.scratch[:0], x.Local.Body)
			h.SetBytes([]byte(grpc.FieldMessage), w.scratch)
		}
	}
	for i := h.Len() - 1; i >= 0; i-- {
		if name := h.Name(i); len(name) > len("content-") && bytes.EqualFold(name[:len("content-")], []byte("content-")) {
			h.DelAt(i)
		}
	}
	grpcweb.SetType(h, c.wanted, c.format)
	x.Local.Status, x.Local.Body = 200, x.Local.Body[:0]
	x.Local.Trailers.Reset()
	x.RPC.Ended(uint8(code))
}

// ended notes how a call has ended whose answer is whole: with the status in trailers, or in the head, or with what a client
// makes of an answer that has none.
func (c *call) ended(x *exchange.Exchange, trailers *http1.Head) {
	code, ok := grpc.Unknown, false
	if trailers != nil {
		code, ok = grpc.StatusOf(trailers)
	}
	if !ok {
		code, ok = grpc.StatusOf(&x.Response.Head)
	}
	if !ok {
		code = grpc.FromHTTP(x.Response.Status)
	}
	x.RPC.Ended(uint8(code))
}

// resetter is a Side whose answers are ended by a code of HTTP/2's.
type resetter interface {
	Reset(code uint32) // Abort, with this code
}

// abort ends an answer that cannot be ended. The client of a call learns why as far as HTTP/2's codes can say it.
func (w *work) abort(err *fault.Error) {
	if !w.x.RPC.Is {
		w.side.Abort()
		return
	}
	code := grpc.FromFault(err)
	w.x.RPC.Ended(uint8(code))
	if r, ok := w.side.(resetter); ok && w.call.kind == grpc.GRPC {
		r.Reset(grpc.Reset(code))
		return
	}
	w.side.Abort()
}
