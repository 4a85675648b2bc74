package plugintest

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
)

// Observe puts itself around a filter of a gateway and tells each of its decisions, with the edits. tell runs on loops
// and must not block; it may keep what it gets. response says which phase it is. Bodies are not in it, since they are
// sent after the decision.
func Observe(f filter.Filter, upstream func(id int) string, tell func(x *exchange.Exchange, response bool, o *Phase)) filter.Filter {
	return &observed{f, upstream, tell}
}

type observed struct {
	filter.Filter
	upstream func(id int) string
	tell     func(x *exchange.Exchange, response bool, o *Phase)
}

// Request is filter.Filter's.
func (f *observed) Request(x *exchange.Exchange, role filter.Role, place int) (filter.Verdict, error) {
	o := f.begin(x, fieldsOf(&x.Request.Head))
	target, calls, tags := x.Target.Upstream, len(x.Calls), len(x.Tags)
	sampled := x.Trace.Sampled
	x.Trace.Sampled = true // calls and attributes are recorded for whoever asks
	v, err := f.Filter.Request(x, role, place)
	x.Trace.Sampled = sampled
	if x.Target.Upstream != target || len(x.Target.Dynamic) > 0 {
		o.Upstream, o.Address = f.upstream(x.Target.Upstream), string(x.Target.Dynamic)
	}
	f.end(x, o, false, v, err, calls, tags)
	return v, err
}

// Response is filter.Filter's.
func (f *observed) Response(x *exchange.Exchange, place int) (filter.Verdict, error) {
	o := f.begin(x, fieldsOf(&x.Response.Head))
	calls, tags := len(x.Calls), len(x.Tags)
	sampled := x.Trace.Sampled
	x.Trace.Sampled = true
	v, err := f.Filter.Response(x, place)
	x.Trace.Sampled = sampled
	f.end(x, o, true, v, err, calls, tags)
	return v, err
}

// End is filter.Ender's.
func (f *observed) End(x *exchange.Exchange, place int) {
	if e, ok := f.Filter.(filter.Ender); ok {
		e.End(x, place)
	}
}

func (f *observed) begin(x *exchange.Exchange, was []Field) *Phase {
	o := &Phase{Was: was, Method: string(x.Request.Method), Authority: string(x.Request.Authority), Path: string(x.Request.Path)}
	if x.Request.HasQuery() {
		o.Query = string(x.Request.Query())
	}
	return o
}

// end fills in what has changed, and tells it. Where Method, Authority, Path and Query are as they were, they are empty.
func (f *observed) end(x *exchange.Exchange, o *Phase, response bool, v filter.Verdict, err error, calls, tags int) {
	h := &x.Request.Head
	if response || v == filter.Respond {
		h = &x.Response.Head
	}
	if v == filter.Respond {
		o.Status, o.Body, o.Was = x.Response.Status, string(x.Local.Body), nil
	}
	query := ""
	if x.Request.HasQuery() {
		query = string(x.Request.Query())
	}
	changed := func(at *string, now string) {
		if *at == now {
			*at = ""
		} else {
			*at = now
		}
	}
	changed(&o.Method, string(x.Request.Method))
	changed(&o.Authority, string(x.Request.Authority))
	changed(&o.Path, string(x.Request.Path))
	changed(&o.Query, query)
	o.Fields = fieldsOf(h)
	o.Set, o.Removed = changes(o.Was, o.Fields)
	o.Decision = decision(o, response, v)
	o.Calls = append(o.Calls, x.Calls[calls:]...)
	o.Attributes = append(o.Attributes, x.Tags[tags:]...)
	for i := range o.Calls {
		o.Took += o.Calls[i].Took
		o.Fuel += o.Calls[i].Fuel
		if o.Calls[i].Err != nil {
			err = o.Calls[i].Err
		}
	}
	if err != nil {
		o.Failure, o.Decision = fault.From(err), Failed
	}
	f.tell(x, response, o)
}
