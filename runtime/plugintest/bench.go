package plugintest

import (
	"slices"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// Measured is what the calls of one phase of a case took.
type Measured struct {
	Calls         int
	P50, P99, Max time.Duration
	PerSecond     float64 // on one event loop that does nothing else
	Fuel          int64   // for a call, on average
	Failed        int
	Failure       *fault.Error // the first one
}

// Figures are what a case took.
type Figures struct {
	Request  Measured
	Response *Measured // nil: the plugin is not asked about answers, or there is none
	Memory   int64     // of the plugin's instances, in bytes, afterwards
}

// warmUp is how many calls are made before it counts, unless they take longer than warmTime: each may wait for something.
const (
	warmUp   = 200
	warmTime = time.Second
	fewest   = 10 // calls that are measured, unless that takes longer than warmTime
)

// Measure sends a case through the plugin again and again, for at least so long and at most so often.
func (p *Plugin) Measure(c Case, least time.Duration, most int) (*Figures, error) {
	c.Untraced = true
	var err error
	times := [2][]time.Duration{}
	var failed failures
	var fuel int64
	p.host.On(func(t *netloop.Task) {
		r := &run{p: p, c: &c, x: &exchange.Exchange{Task: t}}
		began := time.Now()
		for n := 0; n < warmUp && time.Since(began) < warmTime; n++ {
			if err = r.timed(t, &[2]time.Duration{}, &failed); err != nil {
				return
			}
		}
		failed = failures{}
		begin := p.running.figures()
		began = time.Now()
		for n := 0; n < most && (n == 0 || n < fewest && time.Since(began) < warmTime || time.Since(began) < least); n++ {
			var took [2]time.Duration
			if err = r.timed(t, &took, &failed); err != nil {
				return
			}
			for i := range took {
				if took[i] > 0 {
					times[i] = append(times[i], took[i])
				}
			}
		}
		end := p.running.figures()
		if n := end.calls - begin.calls; n > 0 {
			fuel = int64((end.fuel - begin.fuel) / n) //nolint:gosec // far from the bounds
		}
	})
	if err != nil {
		return nil, err
	}
	f := &Figures{Request: measured(times[0], fuel, &failed, 0)}
	if len(times[1]) > 0 {
		// Both phases are in the counter: what the request took is measured alone.
		c.Response = nil
		alone, err := p.Measure(c, least/10, most/10+10)
		if err != nil {
			return nil, err
		}
		f.Request.Fuel = alone.Request.Fuel
		m := measured(times[1], 2*fuel-alone.Request.Fuel, &failed, 1)
		f.Response = &m
	}
	f.Memory = p.memory()
	return f, nil
}

// memory is what the plugin's instances have, in bytes. It is made known a few times in a second, with some plugins only
// after a call.
func (p *Plugin) memory() int64 {
	p.host.On(func(t *netloop.Task) { t.Sleep(300 * time.Millisecond) })
	return p.running.figures().memory
}

// failures are how often each phase has failed, and how the first time.
type failures struct {
	count [2]int
	first [2]*fault.Error
}

func (f *failures) add(phase int, err error) {
	if err == nil {
		return
	}
	f.count[phase]++
	if f.first[phase] == nil {
		f.first[phase] = fault.From(err)
	}
}

// timed sends the case through once.
func (r *run) timed(t *netloop.Task, took *[2]time.Duration, failed *failures) error {
	x, l := r.x, t.Loop()
	x.Reset()
	if err := prepare(x, r.c); err != nil {
		return err
	}
	r.p.lines = r.p.lines[:0]
	r.sources[0].init(&r.c.Request)
	r.bodies[0].Init(t, &r.sources[0], x.Request.Framing, false)
	x.RequestBody = &r.bodies[0]
	begin := l.Tick()
	v, err := r.p.running.Request(x, r.c.Role, 0)
	if err == nil && v != filter.Respond {
		err = drain(t, &r.bodies[0])
	}
	took[0] = time.Duration(l.Tick() - begin)
	failed.add(0, err)
	if r.c.Response != nil && v == filter.Continue && err == nil && r.p.running.WantsResponse() {
		if err := parseResponse(x, r.c.Response); err != nil {
			return err
		}
		r.sources[1].init(r.c.Response)
		r.bodies[1].Init(t, &r.sources[1], x.Response.Framing, string(x.Request.Method) == "HEAD")
		x.ResponseBody = &r.bodies[1]
		begin = l.Tick()
		v, err := r.p.running.Response(x, 0)
		if err == nil && v != filter.Respond {
			err = drain(t, &r.bodies[1])
		}
		took[1] = time.Duration(l.Tick() - begin)
		failed.add(1, err)
	}
	if e, ok := r.p.running.Filter.(filter.Ender); ok {
		e.End(x, 0)
	}
	return nil
}

// drain sends a body on, if a filter has a part in it.
func drain(t *netloop.Task, b *body.Body) error {
	for b.Touched() && !b.Done() {
		piece, err := b.Next(t)
		switch {
		case err != nil && b.Done():
			return nil
		case err != nil || len(piece) == 0:
			return err
		}
	}
	return nil
}

func measured(times []time.Duration, fuel int64, failed *failures, phase int) Measured {
	m := Measured{Calls: len(times), Fuel: fuel, Failed: failed.count[phase], Failure: failed.first[phase]}
	if len(times) == 0 {
		return m
	}
	slices.Sort(times)
	var sum time.Duration
	for _, d := range times {
		sum += d
	}
	m.P50, m.P99, m.Max = times[len(times)/2], times[len(times)*99/100], times[len(times)-1]
	m.PerSecond = float64(len(times)) / sum.Seconds()
	return m
}

// Starts are what it takes until a plugin can be called.
type Starts struct {
	Compile  time.Duration // with nothing in the cache
	Cached   time.Duration // the same from the cache
	Instance time.Duration // one instance, configured: the median of several
	Memory   int64         // of it, in bytes
}

// startTries is how many instances are started to know what one takes.
const startTries = 9

// MeasureStarts compiles a module twice, into a new cache in dir and out of it, and starts instances.
func MeasureStarts(module []byte, limits wasm.Limits, s Settings, dir string) (*Starts, error) {
	_, abi, err := ReadModule(module, limits)
	if err != nil {
		return nil, err
	}
	out := &Starts{}
	for _, took := range []*time.Duration{&out.Compile, &out.Cached} {
		h, err := New(Options{Cache: true, CacheDir: dir})
		if err != nil {
			return nil, err
		}
		begin := time.Now()
		c, err := h.Compile(or(s.Name, defaultName), module, *abi.compile, limits)
		*took = time.Since(begin)
		if err == nil && took == &out.Cached {
			m := &Module{host: h, binary: module, limits: limits, abi: abi, keep: c}
			out.Instance, out.Memory, err = m.measureInstances(s)
		}
		if c != nil {
			c.Close()
		}
		h.Close()
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (m *Module) measureInstances(s Settings) (time.Duration, int64, error) {
	var times []time.Duration
	var memory int64
	p, err := m.Start(s) // what it asks for is known from here on
	if err != nil {
		return 0, 0, err
	}
	s.Upstreams = append([]string{}, p.Upstreams()...)
	p.Close()
	for range startTries {
		begin := time.Now()
		p, err := m.Start(s)
		if err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(begin))
		if len(times) == startTries {
			memory = p.memory()
		}
		p.Close()
	}
	slices.Sort(times)
	return times[len(times)/2], memory, nil
}
