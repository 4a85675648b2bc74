package proxywasm

import (
	"encoding/binary"
	"errors"
	"io"
	"strconv"
	"strings"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// The statuses of gRPC that the gateway gives itself.
const (
	grpcOK                = uint32(grpc.OK)
	grpcCancelled         = uint32(grpc.Cancelled)
	grpcUnknown           = uint32(grpc.Unknown)
	grpcDeadline          = uint32(grpc.DeadlineExceeded)
	grpcResourceExhausted = uint32(grpc.ResourceExhausted)
	grpcUnimplemented     = uint32(grpc.Unimplemented)
	grpcInternal          = uint32(grpc.Internal)
	grpcUnavailable       = uint32(grpc.Unavailable)
)

// grpcCall is a gRPC call of a guest's: with one message each way, or a stream of them.
type grpcCall struct {
	filter.Stream
	vm     *vm
	root   *root
	stream *stream // that made it; nil: none
	token  uint32
	caller filter.Streamer
	unary  bool
	sends  sends

	buf      []byte // what came of a message that is not whole
	got      []byte // the answer of a unary call
	answered bool
	alone    bool // the answer has no messages: its head is its trailers
	ended    bool // by us, with code
	code     uint32
	message  string
	seen     int // messages, to let others run between them
	started  int64
}

// sends is the messages that a guest has sent, framed, as the body of the request.
type sends struct {
	queue, given []byte
	whole        bool // nothing follows
	stopped      bool
	waiter       *netloop.Task
}

var errStopped = errors.New("nobody wants the rest of the messages")

// add frames a message. It says whether there was room for it.
func (s *sends) add(message []byte) bool {
	if len(s.queue)+len(message) > maxGRPCQueue {
		return false
	}
	s.queue = append(s.queue, 0)
	s.queue = binary.BigEndian.AppendUint32(s.queue, uint32(len(message))) //nolint:gosec // of the guest's memory
	s.queue = append(s.queue, message...)
	s.wake()
	return true
}

// end says that nothing follows.
func (s *sends) end() {
	s.whole = true
	s.wake()
}

func (s *sends) wake() {
	if s.waiter != nil {
		s.waiter.Wake()
	}
}

// Next is filter.Feed's, as are the others.
func (s *sends) Next(t *netloop.Task) ([]byte, error) {
	for {
		if data, _ := s.Ready(); len(data) > 0 {
			return data, nil
		}
		switch {
		case s.stopped || t.Loop().Closing():
			return nil, errStopped
		case s.whole:
			return nil, io.EOF
		}
		s.waiter = t
		t.Park()
		s.waiter = nil
	}
}

func (s *sends) Ready() ([]byte, error) {
	if len(s.queue) == 0 {
		return nil, nil
	}
	s.given, s.queue = s.queue, s.given[:0]
	return s.given, nil
}

func (s *sends) Done() bool            { return s.whole && len(s.queue) == 0 }
func (s *sends) Trailers() *http1.Head { return nil }

func (s *sends) Stop() {
	s.stopped = true
	s.wake()
}

// start makes the call, on a task of its own, and tells the guest of what comes of it.
func (c *grpcCall) start() {
	v := c.vm
	l := v.loop
	c.root.core.cells[l.Index()].outbound.Add(1)
	c.Feed, c.Head, c.Data, c.started = &c.sends, c.head, c.data, l.Now()
	l.Go(func(t *netloop.Task) {
		err := c.caller.Stream(t, &c.Stream)
		if v.grpc[c.token] == c { // otherwise it was cancelled, or the VM is no more
			c.over(t, err)
		}
	})
}

// end ends the call on our side.
func (c *grpcCall) end(code uint32, message string) *fault.Error {
	c.ended, c.code, c.message = true, code, message
	return fault.New(fault.Malformed, fault.Upstream, 502, "gRPC: %s", message)
}

// head takes the head of the answer.
func (c *grpcCall) head(t *netloop.Task) *fault.Error {
	_, c.alone = c.AnswerFields.Get("grpc-status")
	kind, _ := c.AnswerFields.GetID(http1.FieldContentType)
	if !c.unary {
		v := c.vm
		if !c.tell(t, "grpc_initial_metadata", onGRPCInitial, uint64(c.AnswerFields.Len()+1), func() { v.grpcNow = c }) { //nolint:gosec // a few
			return c.gone()
		}
	}
	switch {
	case c.alone:
	case c.Status != 200:
		return c.end(uint32(grpcStatus(c.Status)), "HTTP status "+strconv.Itoa(c.Status)) //nolint:gosec // a small number
	case !strings.HasPrefix(strings.ToLower(string(kind)), grpcType):
		return c.end(grpcUnknown, "the answer is not of gRPC")
	}
	return nil
}

func (c *grpcCall) gone() *fault.Error {
	return fault.New(fault.ClientClosed, fault.Plugin, 0, "the call was cancelled")
}

// data takes a piece of the answer, and gives the guest the messages in it.
func (c *grpcCall) data(t *netloop.Task, data []byte) *fault.Error {
	const prefix = 5
	if c.alone {
		return c.end(grpcInternal, "messages behind the status")
	}
	c.buf = append(c.buf, data...)
	rest := c.buf
	for len(rest) >= prefix {
		size := uint64(binary.BigEndian.Uint32(rest[1:]))
		switch {
		case rest[0] != 0:
			return c.end(grpcInternal, "a message that is compressed, which nobody had agreed on")
		case size > maxGRPCMessage:
			return c.end(grpcResourceExhausted, "a message of "+strconv.FormatUint(size, 10)+" bytes")
		}
		if uint64(len(rest)) < prefix+size {
			break
		}
		if err := c.receive(t, rest[prefix:prefix+size]); err != nil {
			return err
		}
		rest = rest[prefix+size:]
	}
	c.buf = append(c.buf[:0], rest...)
	return nil
}

// yieldAfter is how many messages a call's task gives the guest before others of the loop get their turn.
const yieldAfter = 16

// receive takes a message.
func (c *grpcCall) receive(t *netloop.Task, message []byte) *fault.Error {
	switch {
	case c.unary && c.answered:
		return c.end(grpcInternal, "two messages in answer to a call that has one")
	case c.unary:
		c.answered, c.got = true, append([]byte(nil), message...)
		return nil
	}
	if c.seen++; c.seen%yieldAfter == 0 {
		t.Yield()
	}
	if !c.show(t, message) {
		return c.gone()
	}
	return nil
}

// show gives the guest a message.
func (c *grpcCall) show(t *netloop.Task, message []byte) bool {
	v := c.vm
	return c.tell(t, "grpc_receive", onGRPCReceive, uint64(len(message)), func() { v.received, v.receiving = message, true })
}

// tell calls the guest about the call, once set has made what it can see. It says whether the call is still there.
func (c *grpcCall) tell(t *netloop.Task, phase string, cb callback, arg uint64, set func()) bool {
	v := c.vm
	defer v.leave()
	if !v.enter(t) || v.grpc[c.token] != c {
		return false
	}
	var err *fault.Error
	if v.has(cb) && v.contexts[c.root.id] != nil {
		set()
		_, err = v.run(&c.root.context, phase, cb, uint64(c.root.id), uint64(c.token), arg)
		v.grpcNow, v.grpcTrailers, v.received, v.receiving, v.code, v.message = nil, nil, nil, false, 0, ""
	}
	if err != nil && c.stream == nil {
		c.root.core.count(t.Loop(), err)
	}
	return err == nil && v.grpc[c.token] == c
}

// over tells the guest how the call has ended.
func (c *grpcCall) over(t *netloop.Task, err *fault.Error) {
	v := c.vm
	var trailers *http1.Head
	switch {
	case c.ended:
	case err != nil:
		c.code, c.message = grpcCode(err), err.Kind.String()
		if c.Timeout > 0 && t.Loop().Now()-c.started >= int64(c.Timeout) { // servers know the time too, and reset the stream at its end
			c.code = grpcDeadline
		}
		if err.Kind == fault.Unsupported {
			v.say(wasm.LogWarn, "a gRPC call failed: "+err.Detail, "grpc")
		}
	case len(c.buf) > 0:
		c.code, c.message = grpcInternal, "the last message is not whole"
	default:
		if trailers = &c.AnswerTrailers; c.alone {
			trailers = &c.AnswerFields
		}
		c.code, c.message = statusOf(trailers)
		if c.unary && c.code == grpcOK && !c.answered {
			c.code, c.message = grpcInternal, "no message in answer"
		}
	}
	if c.unary && c.code == grpcOK {
		c.show(t, c.got)
		c.forget()
		return
	}
	if !c.unary {
		n := 0
		if trailers != nil {
			n = trailers.Len()
		}
		if !c.tell(t, "grpc_trailing_metadata", onGRPCTrailing, uint64(n), func() { v.grpcTrailers = trailers }) { //nolint:gosec // a few
			return
		}
	}
	c.tell(t, "grpc_close", onGRPCClose, uint64(c.code), func() { v.code, v.message = c.code, c.message })
	c.forget()
}

// forget ends the call for the guest.
func (c *grpcCall) forget() {
	v := c.vm
	if v.grpc[c.token] != c {
		return
	}
	delete(v.grpc, c.token)
	if s := c.stream; s != nil {
		s.calls--
		s.wake()
	}
}

// abort ends the call: the guest hears no more of it.
func (c *grpcCall) abort() {
	c.forget()
	c.Cancel()
}

// statusOf reads the status in trailers.
func statusOf(h *http1.Head) (code uint32, message string) {
	status, ok := grpc.StatusOf(h)
	if !ok {
		return grpcUnknown, "the answer has no grpc-status"
	}
	raw, _ := h.Get(grpc.FieldMessage)
	return uint32(status), grpc.Message(raw)
}

// grpcCode is what an error of the gateway's is to a client of gRPC.
func grpcCode(err *fault.Error) uint32 {
	switch err.Kind {
	case fault.RequestTimeout, fault.HeaderTimeout, fault.IdleTimeout:
		return grpcDeadline
	case fault.HeadTooLarge, fault.BodyTooLarge:
		return grpcResourceExhausted
	case fault.Malformed, fault.Internal:
		return grpcInternal
	case fault.Unsupported:
		return grpcUnimplemented
	case fault.ClientClosed:
		return grpcCancelled
	}
	return grpcUnavailable
}
