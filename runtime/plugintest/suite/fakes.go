package suite

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/plugintest"
)

// Call is a request that the plugin is expected to send to an upstream, and the answer that it gets. What it sends must
// be among a test's calls, and each of them is to be sent.
type Call struct {
	Upstream string           `koanf:"upstream" required:"true" doc:"Which upstream is asked."`
	Method   Match            `koanf:"method" doc:"What the request must be, likewise all that follow."`
	Path     Match            `koanf:"path" doc:"With the query."`
	Headers  map[string]Match `koanf:"headers"`
	Body     Match            `koanf:"body"`
	Times    int              `koanf:"times" min:"1" max:"100000" doc:"How often it is sent. Default: once."`
	Optional bool             `koanf:"optional" doc:"It may also be sent less often."`
	Answer   Response         `koanf:"answer" doc:"What the upstream answers."`
	Error    string           `koanf:"error" enum:"timeout,connect,failed,too_large" doc:"What becomes of the request instead of an answer."`
	Delay    config.Duration  `koanf:"delay" doc:"How long the answer takes, as 50ms. Longer than the plugin waits is a timeout, at once."`
}

// callErrors are the errors of upstreams, by Call.Error.
var callErrors = map[string]struct {
	kind fault.Kind
	text string
}{
	"timeout": {fault.RequestTimeout, "no answer in time"}, "connect": {fault.Connect, "connection refused"},
	"failed": {fault.UpstreamClosed, "closed before its answer was whole"}, "too_large": {fault.BodyTooLarge, "the answer is too large"},
}

// upstreams answers what a plugin asks, as a test says.
type upstreams struct {
	mu    sync.Mutex
	calls []Call
	left  []int
	wrong comparison
	// forever has each call answered at once and as often as it comes, for those who measure.
	forever bool
}

func newUpstreams(calls []Call) *upstreams {
	u := &upstreams{calls: calls}
	for i := range calls {
		u.left = append(u.left, max(calls[i].Times, 1))
	}
	return u
}

// names are the upstreams that are called.
func (u *upstreams) names() (list []string) {
	for i := range u.calls {
		if name := u.calls[i].Upstream; !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// answer is plugintest.Settings.Call.
func (u *upstreams) answer(t *netloop.Task, upstream string, c *filter.Call) *fault.Error {
	call := u.take(upstream, c)
	if call == nil {
		return fault.New(fault.Connect, fault.Upstream, 502, "upstream %s: the test does not expect this request: %s %s", upstream, c.Method, c.Path)
	}
	timeout := c.Timeout
	if timeout == 0 {
		timeout = filter.DefaultCallTimeout
	}
	if call.Delay.Std() >= timeout { // nobody needs to wait for that
		return fault.New(fault.RequestTimeout, fault.Upstream, 504, "upstream %s: no answer within %v", upstream, timeout)
	}
	until := time.Now().Add(call.Delay.Std())
	if u.forever {
		until = time.Time{}
	}
	for wait := time.Until(until); wait > 0; wait = time.Until(until) { // others may wake the task
		t.Sleep(wait)
	}
	if e, ok := callErrors[call.Error]; ok {
		return fault.New(e.kind, fault.Upstream, 502, "upstream %s: %s", upstream, e.text)
	}
	c.Status = max(call.Answer.Status, 0)
	if c.Status == 0 {
		c.Status = 200
	}
	c.Answer = append(c.Answer[:0], strings.Join(call.Answer.Body, "")...)
	fill(&c.AnswerFields, call.Answer.Headers)
	fill(&c.AnswerTrailers, call.Answer.Trailers)
	most := c.MaxAnswer
	if most == 0 {
		most = filter.DefaultMaxAnswer
	}
	if len(c.Answer) > most {
		return fault.New(fault.BodyTooLarge, fault.Upstream, 502, "upstream %s: an answer of %d bytes", upstream, len(c.Answer))
	}
	return nil
}

func fill(h *http1.Head, values map[string]Values) {
	h.Reset()
	for _, f := range fields(values) {
		h.Add(f.Name, f.Value)
	}
}

// take finds the call that a request is, and notes what differs.
func (u *upstreams) take(upstream string, c *filter.Call) *Call {
	u.mu.Lock()
	defer u.mu.Unlock()
	var near *Call
	for i := range u.calls {
		call := &u.calls[i]
		if call.Upstream != upstream || u.left[i] == 0 {
			continue
		}
		if d := call.differences(c); len(d) == 0 {
			if !u.forever {
				u.left[i]--
			}
			return call
		}
		if near == nil {
			near = call
		}
	}
	if u.forever {
		return nil
	}
	what := fmt.Sprintf("calls: %s %s to %s", c.Method, c.Path, upstream)
	if near == nil {
		u.wrong.add(what, "no such request (write it below `calls`)", "it was sent")
		return nil
	}
	for _, d := range near.differences(c) {
		u.wrong.add(what+": "+d.What, d.Want, d.Got)
	}
	return nil
}

// differences compares a request with what it is expected to be.
func (call *Call) differences(c *filter.Call) []Difference {
	var d comparison
	d.text("method", &call.Method, string(c.Method))
	d.text("path", &call.Path, string(c.Path))
	var have []plugintest.Field
	for i := range c.Fields.Len() {
		have = append(have, plugintest.Field{Name: string(c.Fields.Name(i)), Value: string(c.Fields.Value(i))})
	}
	d.fields("headers", call.Headers, have)
	d.text("body", &call.Body, string(c.Body))
	return d.list
}

// finish notes the calls that were not made.
func (u *upstreams) finish() []Difference {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.calls {
		c := &u.calls[i]
		if u.left[i] == 0 || c.Optional {
			continue
		}
		what := fmt.Sprintf("calls[%d]: to %s", i, c.Upstream)
		if c.Path.set {
			what += ", path " + c.Path.String()
		}
		want := max(c.Times, 1)
		u.wrong.add(what, times(want), times(want-u.left[i]))
	}
	return u.wrong.list
}

func times(n int) string {
	switch n {
	case 0:
		return "it was never sent"
	case 1:
		return "it is sent once"
	}
	return fmt.Sprintf("it is sent %d times", n)
}

// stores makes key-value stores with what a test says is in them.
func stores(state map[string]map[string]Stored, now int64) map[string]*kv.Store {
	all := map[string]*kv.Store{}
	for name, content := range state {
		s := kv.New(kv.Options{})
		for k, v := range content {
			s.Set(now, []byte(k), stored(string(v)), 0, 0)
		}
		all[name] = s
	}
	return all
}

// counterMark begins the text of a counter: a value of 8 bytes.
const counterMark = "counter "

// Stored is a value in a store, as a test writes it.
type Stored string

// ReadValue is config.ValueReader's.
func (v *Stored) ReadValue(from any) error {
	s, ok := from.(string)
	if !ok {
		return config.Mistake("wants a text", fmt.Sprintf(`put it in quotes; a counter is written "%s1"`, counterMark))
	}
	*v = Stored(s)
	return nil
}

// stored is a value as a test writes it: a text, or "counter 7".
func stored(s string) []byte {
	if n, err := strconv.ParseInt(strings.TrimPrefix(s, counterMark), 10, 64); err == nil && strings.HasPrefix(s, counterMark) {
		return binary.LittleEndian.AppendUint64(nil, uint64(n)) //nolint:gosec // as it is
	}
	return []byte(s)
}

// state compares what is in stores. A counter may be written as one.
func (c *comparison) state(want map[string]map[string]Match, p *plugintest.Plugin, now int64) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		s := p.Store(name)
		for _, key := range slices.Sorted(maps.Keys(want[name])) {
			m := want[name][key]
			what := fmt.Sprintf("state.%s.%s", name, key)
			if s == nil {
				c.add(what, m.String(), "the plugin uses no such store")
				continue
			}
			var values []string
			value, _, ok := s.Get(now, []byte(key), nil)
			if ok {
				values = []string{string(value)}
			}
			if ok && len(value) == 8 && !m.takes(values) {
				values = []string{counterMark + strconv.FormatInt(int64(binary.LittleEndian.Uint64(value)), 10)} //nolint:gosec // as it is
			}
			if !m.takes(values) {
				c.add(what, m.String(), show(values))
			}
		}
	}
}

// metrics compares what was measured.
func (c *comparison) metrics(want map[string]Number, have map[string]float64) {
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if got, ok := have[name]; !ok {
			c.add("metrics."+name, want[name].String(), "nothing")
		} else if got != float64(want[name]) {
			c.add("metrics."+name, want[name].String(), Number(got).String())
		}
	}
}

// Number is a number, whole or not.
type Number float64

// ReadValue is config.ValueReader's.
func (n *Number) ReadValue(from any) error {
	switch v := from.(type) {
	case int:
		*n = Number(v)
	case int64:
		*n = Number(v)
	case uint64:
		*n = Number(v)
	case float64:
		*n = Number(v)
	default:
		return config.Mistake("wants a number", "write it without quotes")
	}
	return nil
}

// String writes it.
func (n Number) String() string { return strconv.FormatFloat(float64(n), 'g', -1, 64) }
