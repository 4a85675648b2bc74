package admin

import (
	"fmt"
	"sync/atomic"
	"time"
)

// fake is a gateway that counts how often it was asked, and has one of everything.
type fake struct {
	asked    atomic.Int64
	reloaded []bool // dry runs
	reload   Reload
	swapped  []string
	closed   []string
	level    string
	filter   string
	refuse   error
}

func (f *fake) Process() Process { f.asked.Add(1); return Process{Version: "v1", Loops: []Loop{{}}} }

func (f *fake) Config() Config {
	f.asked.Add(1)
	return Config{File: "gateway.yaml", Config: map[string]any{"loops": 1}, Keys: []ConfigKey{{"loops", "gateway.yaml:1:1"}}}
}
func (f *fake) ConfigYAML() []byte { f.asked.Add(1); return []byte("loops: 1\n") }

func (f *fake) Reload(dryRun bool) (Reload, error) {
	f.asked.Add(1)
	f.reloaded = append(f.reloaded, dryRun)
	r := f.reload
	r.DryRun, r.Applied = dryRun, !dryRun
	return r, f.refuse
}

func (f *fake) Differences() (time.Time, []Difference) {
	f.asked.Add(1)
	return time.Time{}, []Difference{{"plugin", "tenant", "swap: b.wasm"}}
}
func (f *fake) Listeners() []Listener { f.asked.Add(1); return []Listener{{Name: "public"}} }
func (f *fake) Routes() []Route       { f.asked.Add(1); return []Route{{Name: "users"}} }

func (f *fake) Connections(c ConnectionFilter) Connections {
	f.asked.Add(1)
	f.filter = fmt.Sprint(c)
	return Connections{Connections: []Connection{}}
}

func (f *fake) CloseConnections(c ConnectionFilter, now bool) Closed {
	f.asked.Add(1)
	f.closed = append(f.closed, fmt.Sprint(c, now))
	switch {
	case c.ID == 7 || c.Address == "192.0.2.1":
		return Closed{Closed: 1}
	case c.ID == 8:
		return Closed{LoopsMissing: 1}
	}
	return Closed{}
}
func (f *fake) Clients(int) Clients { f.asked.Add(1); return Clients{Clients: []Client{}} }

func (f *fake) Plugins() []Plugin { f.asked.Add(1); return []Plugin{{Name: "tenant"}} }
func (f *fake) SwapPlugin(name string, s Swap) error {
	f.asked.Add(1)
	f.swapped = append(f.swapped, fmt.Sprint(name, s))
	return f.refuse
}

func (f *fake) RollBackPlugin(name string) error {
	f.asked.Add(1)
	f.swapped = append(f.swapped, name)
	return f.refuse
}

func (f *fake) Errors(t TrafficFilter) Errors {
	f.asked.Add(1)
	f.filter = fmt.Sprint(t)
	return Errors{Errors: []Error{}}
}

func (f *fake) Traces(t TrafficFilter) Traces {
	f.asked.Add(1)
	f.filter = fmt.Sprint(t)
	return Traces{Traces: []TraceSummary{}}
}

func (f *fake) Trace(id string) (*Trace, int) {
	f.asked.Add(1)
	switch id {
	case "1":
		return &Trace{Spans: []Span{}}, 0
	case "2":
		return nil, 1
	}
	return nil, 0
}
func (f *fake) LogLevel() LogLevel { f.asked.Add(1); return LogLevel{Level: f.level} }
func (f *fake) SetLogLevel(level string) error {
	f.asked.Add(1)
	if level == "loud" {
		return fmt.Errorf("log level %q is not known", level)
	}
	f.level = level
	return nil
}
