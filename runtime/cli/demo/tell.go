package demo

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"wasmgate/runtime/upstream/facts"
)

// paint says whether to use colours.
type paint bool

func (p paint) in(code, s string) string {
	if !p {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (p paint) bold(s string) string  { return p.in("1", s) }
func (p paint) faint(s string) string { return p.in("2", s) }
func (p paint) good(s string) string  { return p.in("32", s) }
func (p paint) bad(s string) string   { return p.in("31", s) }

// teller writes what the demo has to say.
type teller struct {
	out io.Writer
	paint
}

func (t *teller) line(format string, args ...any) { fmt.Fprintf(t.out, format+"\n", args...) }

func (t *teller) begin(url, note string) {
	if note != "" {
		note = t.faint("  (" + note + ")")
	}
	t.line("%s on %s%s", t.bold("wasmgate demo"), t.bold(url), note)
	t.line("")
	t.line("  %d requests ─ %s ─▶ gateway ─ plugin decides ─▶ upstreams acme, shared", Requests, plural(Clients, "client connection"))
	t.line("")
}

// table writes rows in columns. Columns whose heading begins with '>' are aligned to the right.
func (t *teller) table(heads []string, rows [][]string) {
	widths := make([]int, len(heads))
	for i, h := range heads {
		widths[i] = utf8.RuneCountInString(strings.TrimPrefix(h, ">"))
		for _, r := range rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	row := func(cells []string) string {
		var b strings.Builder
		for i, c := range cells {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c))
			if strings.HasPrefix(heads[i], ">") {
				c = space + c
			} else {
				c += space
			}
			b.WriteString("  " + c)
		}
		return strings.TrimRight(b.String(), " ")
	}
	titles := make([]string, len(heads))
	for i, h := range heads {
		titles[i] = strings.TrimPrefix(h, ">")
	}
	t.line("%s", t.faint(row(titles)))
	for _, r := range rows {
		t.line("%s", row(r))
	}
}

// summary tells what the burst was.
func (t *teller) summary(a *account, took time.Duration, accepted int) {
	t.line("%s", t.bold("Upstream connections"))
	var rows [][]string
	for _, u := range a.order {
		rows = append(rows, []string{
			strconv.FormatUint(u.id, 10), u.upstream, u.address.String(), why(u.whyOpened), strconv.Itoa(u.carried),
			strconv.Itoa(max(0, u.carried-1)), numbers(u.clients), words(u.tenants),
		})
	}
	t.table([]string{">id", "upstream", "address", "why opened", ">requests", ">reused", "by client", "for tenants"}, rows)
	t.line("")
	t.line("%s", t.bold("Decisions of the plugin"))
	rows = rows[:0]
	for _, d := range slices.SortedFunc(maps.Keys(a.decisions), func(x, y decision) int {
		return cmp.Or(cmp.Compare(a.decisions[y], a.decisions[x]), cmp.Compare(x.tenant, y.tenant), cmp.Compare(x.outcome, y.outcome))
	}) {
		rows = append(rows, []string{d.tenant, d.outcome, strconv.Itoa(a.decisions[d])})
	}
	t.table([]string{"tenant", "decision", ">requests"}, rows)
	t.line("")
	t.line("%s", t.bold("In all"))
	t.line("  %s in %s, %d of them forwarded", plural(a.requests, "request"), took.Round(time.Millisecond), a.forwarded)
	t.line("  %s to upstreams; the upstreams counted %d", plural(len(a.order), "connection"), accepted)
	t.line("  %s of the forwarded requests went over a connection that was open already", t.good(percent(a.reused, a.forwarded)))
	if a.timed > 0 {
		t.line("  %s in the plugin for a request, on average", micros(a.plugin/time.Duration(a.timed)))
	}
}

// invite says what to try.
func (t *teller) invite(url, admin, traces string) {
	t.line("")
	t.line("%s", t.bold("Try it in another terminal"))
	for _, c := range [][2]string{
		{"curl -H 'x-tenant: acme' " + url + "/orders", "the tenant's own upstream"},
		{"curl -H 'host: globex.example.test' " + url + "/", "the tenant by host name: the shared upstream"},
		{"curl -H 'x-tenant: nobody' " + url + "/", "an unknown tenant: the default"},
		{"curl -i " + url + "/admin", "denied by the plugin"},
		{"curl '" + url + "/[1-5]'", "five requests over one client connection"},
		{"curl http://" + admin + "/upstreams", "every address: state, health, connections"},
		{"curl http://" + admin + "/metrics", "the counters"},
	} {
		t.line("  %-64s %s", c[0], t.faint("# "+c[1]))
	}
	if traces != "" {
		t.line("")
		t.line("Traces go to %s: one for each request and one for each upstream connection, linked.", t.bold(traces))
	}
	t.line("")
	t.line("Each request is told here. Ctrl-C ends.")
	t.line("")
}

// live tells one event while the demo stays up.
func (t *teller) live(a *account, e event) {
	switch e.kind {
	case requestEnded:
		t.line("%s", t.account(&e.request))
	case connClosed:
		t.line("%s", t.faint(fmt.Sprintf("upstream %s: connection %d closed after %s: %s",
			e.conn.upstream, e.conn.id, plural(int(e.conn.requests), "request"), strings.ReplaceAll(e.conn.whyClosed, "_", " "))))
	case connOpened: // told by the request that it was opened for
	}
}

// account is one request in one line.
func (t *teller) account(r *request) string {
	status := t.good(strconv.Itoa(r.status))
	if r.status >= 400 || r.status == 0 {
		status = t.bad(strconv.Itoa(r.status))
	}
	s := fmt.Sprintf("%s %s %s: tenant %s → ", r.method, r.target, status, r.tenant())
	switch {
	case r.conn != 0 && r.reused:
		s += fmt.Sprintf("%s, connection %d (reused, request %d)", r.outcome(), r.conn, r.ordinal)
	case r.conn != 0:
		s += fmt.Sprintf("%s, connection %d (new: %s)", r.outcome(), r.conn, why(r.whyNew))
	case r.failure == "":
		s += "denied by the plugin, no upstream asked"
	default:
		s += r.outcome()
	}
	if r.plugin > 0 {
		s += ", plugin " + micros(r.plugin)
	}
	return s + ", in all " + micros(r.took)
}

func (t *teller) goodbye(lost uint64) {
	if lost > 0 {
		t.line("%d events came faster than they could be told.", lost)
	}
	t.line("\nStopping.")
}

// reasons are the words for why a connection was opened, for people who see them for the first time.
var reasons = map[string]string{
	facts.OpenFirst:           "first to this address",
	facts.OpenNoIdle:          "the others were busy",
	facts.OpenPreviousRetired: "the idle one had retired",
	facts.OpenPreviousDead:    "the idle one was dead",
	facts.OpenRetry:           "another attempt",
	facts.OpenUpgrade:         "for an upgrade",
	facts.OpenAddressChanged:  "the address changed",
}

func why(reason string) string {
	if s, ok := reasons[reason]; ok {
		return s
	}
	return strings.ReplaceAll(reason, "_", " ")
}

func numbers(set map[int]bool) string {
	var list []string
	for _, n := range slices.Sorted(maps.Keys(set)) {
		list = append(list, strconv.Itoa(n))
	}
	return strings.Join(list, " ")
}

func words(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

func percent(part, whole int) string {
	if whole == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*float64(part)/float64(whole), 'f', 1, 64) + " %"
}

// micros writes a time as it is spoken: 12 µs, 1.4 ms.
func micros(d time.Duration) string {
	switch {
	case d < 10*time.Microsecond:
		return strconv.FormatFloat(float64(d)/1e3, 'f', 1, 64) + " µs"
	case d < time.Millisecond:
		return strconv.FormatInt(d.Microseconds(), 10) + " µs"
	}
	return strconv.FormatFloat(float64(d)/1e6, 'f', 1, 64) + " ms"
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
