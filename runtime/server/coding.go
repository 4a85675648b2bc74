package server

import (
	"wasmgate/runtime/body"
	"wasmgate/runtime/compress"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Decompress is whose bodies lose their content coding for filters that ask for them; nil: nobody's.
type Decompress struct{ Requests, Responses *compress.Limits }

// coding is what content codings need of a request in flight.
type coding struct {
	accepts         compress.Accepted // what the client takes, whatever becomes of the field that says so
	request, answer uncoded
	encoder         compress.Encoder
}

// uncoded is a message that filters see without its coding. Those who ask for its body decide: if nobody does, it goes on as it
// came.
type uncoded struct {
	decoder compress.Decoder
	on      bool          // it is being shown so
	framing http1.Framing // as it came, and Content-Encoding too
	field   []byte
}

// coded is w's, from the first time that it is needed.
func (w *work) coded() *coding {
	if w.coding == nil {
		w.coding = &coding{}
	}
	return w.coding
}

// show begins to show a message without its coding, if it has one that can be taken off. It returns where the body comes from.
func (p *uncoded) show(l *netloop.Loop, limits *compress.Limits, h *http1.Head, f *http1.Framing, from body.Source, of fault.Source) body.Source {
	c := compress.Encoded(h)
	if c == compress.Identity || f.Kind == http1.NoBody {
		return from
	}
	p.on, p.framing = true, *f
	p.field, _ = h.GetID(http1.FieldContentEncoding)
	h.DelID(http1.FieldContentEncoding)
	h.DelID(http1.FieldContentLength)
	f.Kind, f.Length = http1.Chunked, 0
	p.decoder.Begin(l, limits, c, from, of)
	return &p.decoder
}

// hide gives a message back what show has taken from it.
func (p *uncoded) hide(h *http1.Head, f *http1.Framing) {
	*f = p.framing
	h.SetID(http1.FieldContentEncoding, p.field)
}

// showPlain has the filters of a route see the request's body without its coding, unless one before them has asked for it.
func (w *work) showPlain(t *netloop.Task, limits *compress.Limits) {
	r := &w.x.Request
	if w.x.RequestBody == nil || w.request.Touched() {
		return
	}
	from := w.flight.Input()
	if p := &w.coded().request; p.show(t.Loop(), limits, &r.Head, &r.Framing, from, fault.Client) != from {
		w.request.Init(t, &p.decoder, r.Framing, false)
	}
}

// shown ends showPlain.
func (w *work) shown(t *netloop.Task) {
	if w.coding == nil || !w.coding.request.on {
		return
	}
	p, r := &w.coding.request, &w.x.Request
	p.on = false
	if w.request.Touched() {
		compress.WithoutDigests(&r.Head)
		return
	}
	p.hide(&r.Head, &r.Framing)
	w.request.Init(t, w.flight.Input(), r.Framing, false)
}

// plainAnswer is where the answer's body comes from for filters: without its coding, if the route says so.
func (w *work) plainAnswer(l *netloop.Loop, r *Route, from body.Source) body.Source {
	if r.Decompress.Responses == nil {
		return from
	}
	resp := &w.x.Response
	return w.coded().answer.show(l, r.Decompress.Responses, &resp.Head, &resp.Framing, from, fault.Upstream)
}

// answerShown ends plainAnswer; touched: filters have asked for the body.
func (w *work) answerShown(l *netloop.Loop, r *Route, touched bool) {
	if w.coding == nil || !w.coding.answer.on {
		return
	}
	p, resp := &w.coding.answer, &w.x.Response
	if p.on = false; touched {
		r.Decompress.Responses.Pools.Recoded(l, &resp.Head)
	} else {
		p.hide(&resp.Head, &resp.Framing)
	}
}

// compress gives the answer's body a coding, if its route says so and the client takes it, and returns where it comes from then.
func (w *work) compress(l *netloop.Loop, r *Route, from body.Source) body.Source {
	k, resp := w.coded(), &w.x.Response
	c := r.Compression.Answer(l, &k.accepts, &w.x.Request, resp)
	if c == compress.Identity {
		return from
	}
	if resp.Framing.Kind == http1.NoBody { // to HEAD
		resp.Framing.Length = -1
		return from
	}
	streams := compress.Streams(resp)
	resp.Framing = http1.Framing{Kind: http1.Chunked}
	k.encoder.Begin(l, r.Compression, c, from, streams)
	return &k.encoder
}

// compressLocal is compress for an answer of our own, which is in memory.
func (w *work) compressLocal(t *netloop.Task, r *Route, framing http1.Framing, data []byte) (http1.Framing, []byte) {
	k, resp := w.coded(), &w.x.Response
	resp.Framing = framing
	c := r.Compression.Answer(t.Loop(), &k.accepts, &w.x.Request, resp)
	switch {
	case c == compress.Identity:
	case framing.Kind == http1.NoBody:
		framing.Length = -1
	default:
		compress.WithoutDigests(&w.x.Local.Trailers)
		w.x.Local.Body = k.encoder.AppendAll(t, r.Compression, c, w.x.Local.Body[:0], data)
		data, framing.Length = w.x.Local.Body, int64(len(w.x.Local.Body))
	}
	return framing, data
}

// uncode notes down what codings did to the request's bodies, and gives back what they had.
func (w *work) uncode() {
	k, x := w.coding, &w.x
	if k == nil {
		return
	}
	e := &k.encoder
	x.Compressed = exchange.Recoded{Coding: e.Coding().Token(), In: e.In, Out: e.Out}
	e.Close()
	for _, p := range [...]*uncoded{&k.request, &k.answer} {
		d := &p.decoder
		x.Decompressed.In, x.Decompressed.Out = x.Decompressed.In+d.In, x.Decompressed.Out+d.Out
		if d.In > 0 {
			x.Decompressed.Coding = d.Coding().Token()
		}
		d.Close()
		p.on = false
	}
}
