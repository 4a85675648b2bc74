package proxywasm

import (
	"fmt"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// twoStrings returns the two byte strings that four arguments name.
func twoStrings(in *wasm.Instance, a []uint64) (first, second []byte, ok bool) {
	first, ok = memory(in, a[0], a[1])
	second, ok2 := memory(in, a[2], a[3])
	return first, second, ok && ok2
}

func hostGetShared(v *vm, in *wasm.Instance, a []uint64) status {
	key, ok := memory(in, a[0], a[1])
	if !ok {
		return statusBadMemory
	}
	value, version, ok := v.group.space.data.Get(0, key, v.scratch[:0])
	v.scratch = value
	if !ok {
		return statusNotFound
	}
	if st := v.give(in, value, a[2], a[3]); st != statusOK {
		return st
	}
	if !put32(in, a[4], version) {
		return statusBadMemory
	}
	return statusOK
}

func hostSetShared(v *vm, in *wasm.Instance, a []uint64) status {
	key, value, ok := twoStrings(in, a)
	if !ok {
		return statusBadMemory
	}
	in.Charge(int64(len(key) + len(value)))
	switch _, result := v.group.space.data.Set(0, key, value, uint32(a[4]), 0); result { //nolint:gosec // an i32 is in the low half
	case kv.OK:
		return statusOK
	case kv.Mismatch:
		return statusCASMismatch
	case kv.TooLarge:
		return statusBadArgument
	}
	v.say(wasm.LogError, "set_shared_data failed: the shared data is full", "shared data")
	return statusInternal
}

func hostRegisterQueue(v *vm, in *wasm.Instance, a []uint64) status {
	name, ok := memory(in, a[0], a[1])
	r := v.rootOf()
	if !ok {
		return statusBadMemory
	}
	if r == nil || len(name) > maxName {
		return statusBadArgument
	}
	token, waiting := v.group.shared.queues.register(v.group.space.name, string(name), r)
	if token == 0 {
		v.say(wasm.LogError, fmt.Sprintf("register_shared_queue failed: there are %d queues already", maxQueues), "queues")
		return statusInternal
	}
	r.queues++
	r.waiting = append(r.waiting, waitingItems{token, waiting})
	if v.loop != nil {
		r.tellWaiting()
	}
	if !put32(in, a[2], token) {
		return statusBadMemory
	}
	return statusOK
}

func hostResolveQueue(v *vm, in *wasm.Instance, a []uint64) status {
	vmID, name, ok := twoStrings(in, a)
	if !ok {
		return statusBadMemory
	}
	space := v.group.space.name
	if len(vmID) > 0 {
		space = spaceName(string(vmID), "")
	}
	token := v.group.shared.queues.resolve(space, string(name))
	if token == 0 {
		return statusNotFound
	}
	if !put32(in, a[4], token) {
		return statusBadMemory
	}
	return statusOK
}

func hostDequeue(v *vm, in *wasm.Instance, a []uint64) status {
	item, st := v.group.shared.queues.take(uint32(a[0])) //nolint:gosec // an i32 is in the low half
	if st != statusOK {
		return st
	}
	return v.give(in, item, a[1], a[2])
}

func hostEnqueue(v *vm, in *wasm.Instance, a []uint64) status {
	item, ok := memory(in, a[1], a[2])
	if !ok {
		return statusBadMemory
	}
	in.Charge(int64(len(item)))
	reader, st := v.group.shared.queues.add(uint32(a[0]), item) //nolint:gosec // an i32 is in the low half
	if st == statusInternal {
		v.say(wasm.LogError, "enqueue_shared_queue failed: the queue is full", "full queue")
	}
	if reader != nil {
		reader.tell(uint32(a[0])) //nolint:gosec // see above
	}
	return st
}

// waitingItems are items that were in a queue when it was registered.
type waitingItems struct {
	token uint32
	n     int
}

// tellWaiting tells a root context of the items that were there before it.
func (r *root) tellWaiting() {
	for _, w := range r.waiting {
		for range w.n {
			r.tell(w.token)
		}
	}
	r.waiting = nil
}

// tell has the guest told of an item in a queue. It may be called on any goroutine: the loop is the reader's.
func (r *root) tell(token uint32) {
	l := r.loop.Load()
	if l == nil {
		return // it starts: attach will
	}
	l.Post(func() {
		v := r.vm
		if v.dead != nil || r.queues == 0 {
			return
		}
		l.Go(func(t *netloop.Task) {
			if _, err := v.call(t, &r.context, "queue", onQueueReady, uint64(r.id), uint64(token)); err != nil {
				r.core.count(l, err)
			}
		})
	})
}

func hostDefineMetric(v *vm, in *wasm.Instance, a []uint64) status {
	name, ok := memory(in, a[1], a[2])
	if !ok {
		return statusBadMemory
	}
	if a[0] > uint64(Histogram) || len(name) == 0 || len(name) > maxMetricName {
		return statusBadArgument
	}
	id := v.group.metrics.define(v.owner().options.Name, MetricKind(a[0]), string(name))
	if id == 0 {
		v.say(wasm.LogError, fmt.Sprintf("define_metric failed: there are %d metrics already", maxMetrics), "metrics")
		return statusInternal
	}
	if !put32(in, a[3], id) {
		return statusBadMemory
	}
	return statusOK
}

// call is an http_call.
type call struct {
	filter.Call
	vm     *vm
	root   *root
	stream *stream // that made it; nil: none, or it is over
	token  uint32
	caller filter.Caller
}

// hostHTTPCall is http_call(upstream, headers, body, trailers, timeout, token).
func hostHTTPCall(v *vm, in *wasm.Instance, a []uint64) status {
	cluster, rawFields, ok := twoStrings(in, a)
	body, rawTrailers, ok2 := twoStrings(in, a[4:])
	if !ok || !ok2 || !put32(in, a[9], 0) {
		return statusBadMemory
	}
	in.Charge(int64(len(rawFields) + len(body) + len(rawTrailers)))
	fields, ok := readPairs(rawFields)
	trailers, ok2 := readPairs(rawTrailers)
	ctx := v.effectiveContext()
	if !ok || !ok2 || ctx == nil || ctx.root == nil || len(body) > maxCallBytes {
		return statusBadArgument
	}
	k := ctx.root.core
	grants := k.grants.Load()
	if ctx.stream != nil {
		grants = &ctx.stream.plugin.grants
	}
	id, granted := grants.Calls[string(cluster)]
	if !granted || grants.Caller == nil {
		name := wasm.LineText(cluster[:min(len(cluster), 100)])
		v.say(wasm.LogWarn, fmt.Sprintf("http_call to %q was refused: the plugin is not granted calls to an upstream of that name", name), "refused call", name)
		return statusBadArgument
	}
	c := &call{vm: v, root: ctx.root, stream: ctx.stream, caller: grants.Caller}
	c.Filter, c.Upstream, c.Timeout = k.options.Name, id, callTimeout(uint32(a[8])) //nolint:gosec // an i32 is in the low half
	if !c.fill(fields, trailers) {
		return statusBadArgument
	}
	if n := len(v.calls) + len(v.grpc); n >= k.options.MaxCalls {
		v.say(wasm.LogWarn, fmt.Sprintf("http_call failed: %d are under way", n), "too many calls")
		return statusInternal
	}
	c.Body = append([]byte(nil), body...)
	c.token = v.newToken()
	if s := ctx.stream; s != nil {
		s.calls++
		if s.x != nil {
			c.Trace = s.x.Trace
		}
	}
	v.calls[c.token] = c
	put32(in, a[9], c.token)
	if v.loop == nil {
		v.pending = append(v.pending, c)
		return statusOK
	}
	c.start()
	return statusOK
}

func callTimeout(ms uint32) time.Duration {
	if ms == 0 {
		return filter.DefaultCallTimeout
	}
	return min(time.Duration(ms)*time.Millisecond, maxCallTimeout)
}

// fill takes what the guest wants to send. It says whether that is a request.
func (c *call) fill(fields, trailers pairs) bool {
	for name, value, ok := fields.next(); ok; name, value, ok = fields.next() {
		value = trim(value)
		switch {
		case string(name) == ":method":
			c.Method = append(c.Method[:0], value...)
		case string(name) == ":path":
			c.Path = append(c.Path[:0], value...)
		case string(name) == ":authority", isHost(name):
			c.Authority = append(c.Authority[:0], value...)
		case len(name) > 0 && name[0] == ':':
		case !http1.ValidFieldName(name) || !http1.ValidFieldValue(value):
			return false
		case !connectionField(name):
			c.Fields.AddBytes(name, value)
		}
	}
	for name, value, ok := trailers.next(); ok; name, value, ok = trailers.next() {
		if value = trim(value); !http1.ValidFieldName(name) || !http1.ValidFieldValue(value) {
			return false
		}
		if !connectionField(name) {
			c.Trailers.AddBytes(name, value)
		}
	}
	return http1.ValidMethod(c.Method) && string(c.Method) != "CONNECT" && http1.ValidAuthority(c.Authority) && len(c.Path) > 0 && c.Path[0] == '/'
}

// start sends the call, on a task of its own, and tells the guest of its answer.
func (c *call) start() {
	v := c.vm
	l := v.loop
	c.root.core.cells[l.Index()].outbound.Add(1)
	l.Go(func(t *netloop.Task) {
		err := c.caller.Call(t, &c.Call)
		if v.calls[c.token] != c { // the VM is no more
			return
		}
		c.answered(t, err)
	})
}

// answered calls the guest with the answer, or with nothing if there is none.
func (c *call) answered(t *netloop.Task, err *fault.Error) {
	v := c.vm
	defer v.leave()
	if !v.enter(t) || v.calls[c.token] != c {
		return
	}
	delete(v.calls, c.token)
	fields, trailers := 0, 0
	v.code, v.message = uint32(statusBroken), "reset"
	if err == nil {
		fields, trailers = c.AnswerFields.Len()+1, c.AnswerTrailers.Len()
		v.code, v.message = uint32(c.Status), "" //nolint:gosec // three digits
		v.answer = &c.Call
	} else {
		c.Answer = nil
	}
	var fe *fault.Error
	if v.has(onCallResponse) && v.contexts[c.root.id] != nil {
		_, fe = v.run(&c.root.context, "http_call_response", onCallResponse,
			uint64(c.root.id), uint64(c.token), uint64(fields), uint64(len(c.Answer)), uint64(trailers)) //nolint:gosec // not negative
	}
	v.answer, v.code, v.message = nil, 0, ""
	if fe != nil && c.stream == nil {
		c.root.core.count(t.Loop(), fe)
	}
	if s := c.stream; s != nil {
		s.calls--
		s.wake()
	}
}
