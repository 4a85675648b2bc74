package suite

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/wasm"
)

// Result is what came of a test.
type Result struct {
	Name        string       `json:"name"`
	At          string       `json:"at"` // file:line:column
	Passed      bool         `json:"passed"`
	Differences []Difference `json:"differences,omitempty"`
	Calls       []GuestCall  `json:"calls,omitempty"`
	Log         []string     `json:"log,omitempty"` // what the plugin wrote, and what there is to say about it
}

// GuestCall is a call of the guest.
type GuestCall struct {
	Phase   string  `json:"phase"`
	Outcome string  `json:"outcome"`
	Micros  float64 `json:"microseconds"`
	Fuel    int64   `json:"fuel"`
}

// Limits are those of the file, as a module is compiled with them.
func (f *File) Limits() wasm.Limits {
	return wasm.Limits{MemoryPages: uint32(f.Plugin.Limits.Memory >> 16), Fuel: int64(f.Plugin.Limits.Fuel)} //nolint:gosec // at most 4 GiB
}

// Settings are the file's, for a plugin with a configuration.
func (f *File) Settings(name string, config []byte) plugintest.Settings {
	s := plugintest.Settings{
		Name: name, Config: config, Upstreams: f.Plugin.Upstreams, Clock: f.Plugin.Clock, Body: int(f.Plugin.Limits.Body),
		RootID: f.Plugin.ProxyWasm.RootID, VMID: f.Plugin.ProxyWasm.VMID, VMConfig: []byte(f.Plugin.ProxyWasm.VMConfig),
	}
	s.StopIteration, s.MaxPause = f.Plugin.ProxyWasm.StopIteration, f.maxPause(nil)
	for k, v := range f.Plugin.Env {
		s.Env = append(s.Env, k+"="+v)
	}
	slices.Sort(s.Env)
	if f.Plugin.Dynamic != nil {
		s.Address = func(hostport []byte) bool { return slices.Contains(f.Plugin.Dynamic, string(hostport)) }
	}
	return s
}

// maxPause is how long a stream may be paused in a test with these calls.
func (f *File) maxPause(calls []Call) time.Duration {
	if most := f.Plugin.ProxyWasm.MaxPause.Std(); most > 0 {
		return most
	}
	most := plugintest.DefaultPause
	for i := range calls {
		most += calls[i].Delay.Std() * time.Duration(max(calls[i].Times, 1))
	}
	return most
}

// Run runs all tests of the file on a module. The plugin is started anew for each of them.
func (f *File) Run(m *plugintest.Module, plugin string) []Result {
	list := make([]Result, 0, len(f.Tests))
	for i := range f.Tests {
		if !f.skip[i] {
			list = append(list, f.run(m, plugin, i))
		}
	}
	return list
}

func (f *File) run(m *plugintest.Module, plugin string, i int) (r Result) {
	t := &f.Tests[i]
	r = Result{Name: t.Name, At: f.At(i).String()}
	var c comparison
	defer func() {
		r.Differences = c.list
		r.Passed = len(c.list) == 0
	}()
	settings := f.Settings(plugin, f.configOf(t))
	settings.MaxPause = f.maxPause(t.Calls)
	outside := newUpstreams(t.Calls)
	settings.Calls, settings.Call = outside.names(), outside.answer
	settings.Stores = stores(t.State, m.Host().Now())
	var mu sync.Mutex // instances start on other goroutines
	quiet := false
	settings.Lines = func(l wasm.Line) {
		mu.Lock()
		defer mu.Unlock()
		if quiet {
			return
		}
		r.Log = append(r.Log, fmt.Sprintf("%s: %s", l.Phase, l.Text))
	}
	p, err := m.Start(settings)
	if err != nil {
		detail := fault.From(err).Error()
		if !t.Refuse.set {
			c.add("start", "the plugin takes its configuration", detail)
			return r
		}
		wanted := t.Refuse
		if len(wanted.exact) == 1 {
			wanted = Match{set: true, within: wanted.exact[0]}
		}
		c.text("refuse", &wanted, detail)
		return r
	}
	defer p.Close()
	if t.Refuse.set {
		c.add("refuse", t.Refuse.String(), "the plugin takes its configuration")
		return r
	}
	for k := range t.Steps {
		f.step(m, p, t, k, &r, &c)
	}
	c.list = append(c.list, outside.finish()...)
	if s := &t.Steps[0]; len(t.Steps) == 1 && s.Times == 1 && len(t.Calls) == 0 && len(c.list) == 0 {
		mu.Lock()
		quiet = true
		mu.Unlock()
		r.usually(p, s)
	}
	return r
}

// usually replaces what the first calls of an instance took by what calls usually take.
func (r *Result) usually(p *plugintest.Plugin, s *Step) {
	plan, err := s.plan()
	if err != nil {
		return // not after check
	}
	if typical := p.Typical(plan); len(typical) == len(r.Calls) {
		r.Calls = nil
		r.add(typical)
	}
}

// step sends the requests of a step, until one of them is not as it should be.
func (f *File) step(m *plugintest.Module, p *plugintest.Plugin, t *Test, k int, r *Result, c *comparison) {
	s := &t.Steps[k]
	if s.Wait > 0 {
		m.Host().On(func(task *netloop.Task) { task.Sleep(time.Duration(s.Wait)) })
	}
	for n := range s.Times {
		var where string
		if len(t.Steps) > 1 {
			where = fmt.Sprintf("step %d: ", k+1)
		}
		if s.Times > 1 {
			where += fmt.Sprintf("time %d: ", n+1)
		}
		before := len(c.list)
		plan, err := s.plan()
		var o *plugintest.Outcome
		if err == nil {
			o, err = p.Do(plan)
		}
		if err != nil {
			c.add(where+"request", "a request that can be sent", err.Error())
			return
		}
		c.prefix = where
		c.phase(s.Expect, &o.Request)
		c.after(s.Expect, p, m.Host().Now())
		r.take(&o.Request)
		switch {
		case o.Response != nil:
			c.prefix = where + "response: "
			c.phase(s.ExpectResponse, o.Response)
			c.after(s.ExpectResponse, p, m.Host().Now())
			r.take(o.Response)
		case s.ExpectResponse != nil:
			c.add("expect_response", "the plugin is asked about the answer", notAsked(&o.Request))
		}
		c.prefix = ""
		if len(c.list) > before {
			return
		}
	}
}

// notAsked says why a plugin was not asked about an answer.
func notAsked(o *plugintest.Phase) string {
	if o.Decision == plugintest.Continue || o.Decision == plugintest.Routed {
		return "it does not want to be (Go: HandleResponse; Rust: const RESPONSES; AssemblyScript: handleResponse; C and Zig: .response)"
	}
	return "there is none, after " + o.Decision
}

func (r *Result) take(o *plugintest.Phase) { r.add(o.Calls) }

func (r *Result) add(calls []exchange.PluginCall) {
	for i := range calls {
		c := &calls[i]
		r.Calls = append(r.Calls, GuestCall{Phase: c.Phase, Outcome: c.Outcome, Micros: float64(c.Took) / 1e3, Fuel: c.Fuel})
	}
}

// after compares what a plugin has done besides.
func (c *comparison) after(e *Expect, p *plugintest.Plugin, now int64) {
	if e != nil {
		c.state(e.State, p, now)
		c.metrics(e.Metrics, p.Metrics())
	}
}
