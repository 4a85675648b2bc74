package top

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/cli/ask"
)

// view is one of the tables.
type view struct {
	key   byte
	title string
	most  int // rows that are written without a terminal; 0: all
	sorts []string
	table func(before, now *reading, sort int) table
	none  func(now *reading) string // what to say if it is empty
}

var views = []view{
	{'u', "Upstreams", 0, []string{"name", "requests", "answer", "waiting"}, upstreams, func(*reading) string { return "The config has no upstreams." }},
	{'c', "Connections", 20, []string{"busiest", "oldest", "idle", "upstream"}, connections, func(*reading) string { return "No connection to an upstream is open." }},
	{'p', "Plugins", 0, []string{"name", "calls", "fuel", "failures"}, plugins, func(*reading) string { return "The config has no plugins." }},
	{'l', "Loops", 0, []string{"loop", "busy", "lag"}, loops, func(*reading) string { return "There are no event loops." }},
}

// summary is a line about the whole gateway.
func summary(before, now *reading) string {
	requests, clients, open := 0.0, now.process.Clients, 0
	old := byName(before.upstreams)
	for i := range now.upstreams {
		u := &now.upstreams[i]
		open += u.Open
		if was, ok := old[u.Name]; ok {
			requests += growth(float64(taken(was)), float64(taken(u)))
		}
	}
	return fmt.Sprintf("wasmgate %s, up %s: %s requests/s to upstreams, %d client and %d upstream connections", ask.Printable(cmp.Or(now.process.Version, "?")),
		span(time.Duration(now.process.Uptime*float64(time.Second))), rate(requests/seconds(before, now)), clients, open)
}

// seconds are those between two readings.
func seconds(before, now *reading) float64 { return max(now.at.Sub(before.at).Seconds(), 1e-3) }

// growth is by how much a counter grew; one that is less than it was began anew.
func growth(before, now float64) float64 {
	if now < before {
		return now
	}
	return now - before
}

func byName(list []admin.Upstream) map[string]*admin.Upstream {
	m := map[string]*admin.Upstream{}
	for i := range list {
		m[list[i].Name] = &list[i]
	}
	return m
}

// taken is how many attempts got a connection of the upstream.
func taken(u *admin.Upstream) uint64 {
	n := u.Reused
	for _, m := range u.New {
		n += m
	}
	return n
}

// line is a row with what it can be sorted by: bigger is earlier.
type line struct {
	cells []string
	by    []float64
}

// sorted is the rows by one of their figures; 0, and where figures are the same: as they are.
func sorted(lines []line, by int) (rows [][]string) {
	if by > 0 {
		slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(b.by[by-1], a.by[by-1]) })
	}
	for _, l := range lines {
		rows = append(rows, l.cells)
	}
	return rows
}

func upstreams(before, now *reading, sort int) table {
	old, took := byName(before.upstreams), seconds(before, now)
	var lines []line
	for i := range now.upstreams {
		u := &now.upstreams[i]
		was, ok := old[u.Name]
		if !ok {
			was = &admin.Upstream{}
		}
		requests, reused := growth(float64(taken(was)), float64(taken(u))), growth(float64(was.Reused), float64(u.Reused))
		a, b := before.answers[u.Name], now.answers[u.Name]
		answer, failed := -1.0, growth(before.failures[u.Name], now.failures[u.Name])/took
		if n := growth(a.count, b.count); n > 0 {
			answer = growth(a.value, b.value) / n
		}
		lines = append(lines, line{
			[]string{
				ask.Printable(u.Name), health(u), rate(requests / took), latency(answer), rate(failed), strconv.Itoa(u.Open), strconv.Itoa(u.Idle), strconv.Itoa(u.Waiting),
				percent(reused, requests), strconv.Itoa(u.RetriesLeft),
			}, []float64{requests, answer, float64(u.Waiting)},
		})
	}
	return table{[]column{
		{"UPSTREAM", false, 0}, {"HEALTH", false, 1}, {"REQ/S", true, 1}, {"ANSWER", true, 2}, {"FAIL/S", true, 4}, {"OPEN", true, 3}, {"IDLE", true, 5}, {"WAITING", true, 3},
		{"REUSED", true, 4}, {"RETRIES LEFT", true, 6},
	}, sorted(lines, sort)}
}

// health is how an upstream's addresses are, in words.
func health(u *admin.Upstream) string {
	well := 0
	for _, m := range u.Members {
		if m.Health == "healthy" {
			well++
		}
	}
	switch {
	case u.BreakerOpen:
		return "breaker open"
	case len(u.Members) == 0:
		return "no targets"
	case well == len(u.Members):
		return "healthy"
	}
	return fmt.Sprintf("%d/%d healthy", well, len(u.Members))
}

func connections(before, now *reading, sort int) table {
	old, took := map[uint64]uint64{}, seconds(before, now)
	for i := range before.connections.Connections {
		old[before.connections.Connections[i].ID] = before.connections.Connections[i].Requests
	}
	var lines []line
	for i := range now.connections.Connections {
		c := &now.connections.Connections[i]
		requests := growth(float64(old[c.ID]), float64(c.Requests)) / took
		idle := "-"
		if c.State == "idle" {
			idle = milliseconds(c.Idle)
		}
		lines = append(lines, line{
			[]string{"#" + strconv.FormatUint(c.ID, 10), ask.Printable(c.Upstream), ask.Printable(c.Address), state(c), rate(requests), strconv.FormatUint(c.Requests, 10), milliseconds(c.Age), idle, strings.ReplaceAll(ask.Printable(c.Why), "_", " "), use(c)},
			[]float64{c.Age, c.Idle},
		})
		lines[i].by = append([]float64{requests*1e12 + float64(c.Requests)}, lines[i].by...)
	}
	t := table{columns: []column{
		{"CONNECTION", false, 0}, {"UPSTREAM", false, 1}, {"ADDRESS", false, 1}, {"STATE", false, 3}, {"REQ/S", true, 1}, {"REQUESTS", true, 2}, {"AGE", true, 2}, {"IDLE", true, 4},
		{"OPENED", false, 5}, {"USE", false, 6},
	}}
	if sort == 3 {
		t.rows = sorted(lines, 0)
		slices.SortStableFunc(t.rows, func(a, b []string) int { return strings.Compare(a[1]+" "+a[2], b[1]+" "+b[2]) })
		return t
	}
	t.rows = sorted(lines, sort+1)
	return t
}

func state(c *admin.Connection) string {
	if c.Closing {
		return "closing"
	}
	return c.State
}

// use is what uses a connection, in a few words.
func use(c *admin.Connection) string {
	if c.Use == nil {
		return ""
	}
	return ask.Printable(strings.Join(slices.DeleteFunc([]string{c.Use.Kind, c.Use.Plugin, c.Use.Method, c.Use.Path}, func(s string) bool { return s == "" }), " "))
}

func plugins(before, now *reading, sort int) table {
	old, took := map[string]admin.PluginFigures{}, seconds(before, now)
	for i := range before.plugins {
		old[before.plugins[i].Name] = before.plugins[i].Figures
	}
	var lines []line
	for i := range now.plugins {
		p := &now.plugins[i]
		f, was := p.Figures, old[p.Name]
		calls, fuel := growth(float64(was.Calls), float64(f.Calls)), growth(float64(was.Fuel), float64(f.Fuel))
		each, failures := "-", uint64(0)
		if calls > 0 {
			each = strconv.FormatFloat(fuel/calls, 'f', 0, 64)
		}
		for _, n := range f.Failures {
			failures += n
		}
		lines = append(lines, line{
			[]string{ask.Printable(p.Name), well(p), rate(calls / took), each, strconv.Itoa(f.Instances), size(f.Memory), strconv.FormatUint(failures, 10), strconv.FormatUint(f.Calls, 10), p.ABI},
			[]float64{calls, fuel / max(calls, 1), float64(failures)},
		})
	}
	return table{[]column{
		{"PLUGIN", false, 0}, {"STATE", false, 1}, {"CALLS/S", true, 1}, {"FUEL/CALL", true, 2}, {"INSTANCES", true, 3}, {"MEMORY", true, 4}, {"FAILURES", true, 2}, {"CALLS", true, 5}, {"ABI", false, 6},
	}, sorted(lines, sort)}
}

func well(p *admin.Plugin) string {
	switch {
	case p.Missing != "":
		return "no module"
	case p.Figures.BreakerOpen:
		return "breaker open"
	case p.Live:
		return "swapped live"
	}
	return "well"
}

func loops(before, now *reading, sort int) table {
	old := map[int]admin.Loop{}
	for _, l := range before.process.Loops {
		old[l.Loop] = l
	}
	var lines []line
	for _, l := range now.process.Loops {
		was := old[l.Loop]
		busy, elapsed := growth(was.Busy, l.Busy), growth(was.Elapsed, l.Elapsed)
		lag, ok := now.lag[l.Loop]
		if !ok {
			lag = -1
		}
		lines = append(lines, line{
			[]string{strconv.Itoa(l.Loop), percent(min(busy, elapsed), elapsed), latency(lag), strconv.Itoa(l.Connections), strconv.Itoa(l.Tasks)},
			[]float64{busy / max(elapsed, 1e-9), lag},
		})
	}
	return table{[]column{{"LOOP", false, 0}, {"BUSY", true, 1}, {"LAG", true, 1}, {"CONNECTIONS", true, 2}, {"TASKS", true, 3}}, sorted(lines, sort)}
}

// These write figures as people read them.

func rate(n float64) string {
	if n > 0 && n < 10 {
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "-"
	}
	return strconv.FormatFloat(100*part/whole, 'f', 0, 64) + "%"
}

// latency is a time in seconds; less than 0: it is not known.
func latency(s float64) string {
	if s < 0 {
		return "-"
	}
	return milliseconds(s * 1000)
}

func milliseconds(ms float64) string {
	switch {
	case ms < 10:
		return strconv.FormatFloat(ms, 'f', 2, 64) + "ms"
	case ms < 1000:
		return strconv.FormatFloat(ms, 'f', 0, 64) + "ms"
	}
	return span(time.Duration(ms * float64(time.Millisecond)))
}

// span is a time of a second or more, by its two biggest units.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%02dh", int(d.Hours())/24, int(d.Hours())%24)
}

func size(n int64) string {
	f := float64(n)
	for _, unit := range []string{"B", "KiB"} {
		if f < 1024 {
			return strconv.FormatFloat(f, 'f', 0, 64) + unit
		}
		f /= 1024
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + "MiB"
}
