package explain

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Options say how Text writes.
type Options struct {
	All   bool // every route that was tried has its line; otherwise many that differ in the same way are one
	Color bool
}

// Text is the explanation for people: what came in, what happened to it in order, and what comes of it.
func (e *Explanation) Text(o Options) string {
	w := &writer{Options: o, live: e.Live}
	w.head(e)
	for i := range e.Steps {
		switch s := &e.Steps[i]; {
		case s.Round != nil:
			w.round(s.Round)
		case s.Plugin != nil:
			w.plugin(s.Plugin)
		}
	}
	if e.Upstream != nil {
		w.upstream(e.Upstream)
	}
	w.outcome(e)
	for i, n := range e.Notes {
		w.row(first(i, "notes"), short(n))
	}
	return w.b.String()
}

type writer struct {
	Options
	b    strings.Builder
	live bool
}

// label is the width of the first column.
const label = 11

const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	reset = "\x1b[0m"
)

func (w *writer) paint(color, text string) string {
	if !w.Color || text == "" {
		return text
	}
	return color + text + reset
}

// row writes a line: a label, and what belongs to it. What others have made of that has gone through short.
func (w *writer) row(name, text string) {
	w.b.WriteString(w.paint(bold, name) + strings.Repeat(" ", max(label-len(name), 1)) + text + "\n")
}

// first is the label of the first of several rows.
func first(i int, name string) string {
	if i > 0 {
		return ""
	}
	return name
}

// clean has no control characters in it: what is explained may be an attack on terminals.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r >= ' ' && r != 0x7f && r != utf8.RuneError && (r < 0x80 || r > 0x9f) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// most is how long a text may be that somebody else has made, in a line of ours.
const most = 200

func short(s string) string {
	s = strings.ReplaceAll(clean(s), "\n", " ")
	if utf8.RuneCountInString(s) > most {
		return string([]rune(s)[:most]) + fmt.Sprintf("... (%d bytes)", len(s))
	}
	return s
}

func at(p Place) string {
	if p.At != "" {
		return "  (" + p.At + ")"
	}
	return ""
}

func (w *writer) head(e *Explanation) {
	w.row("request", short(e.Request.Line))
	for _, f := range e.Request.Fields {
		w.row("", "  "+short(f.Name+": "+f.Value))
	}
	if n := len(e.Request.Body); n > 0 {
		w.row("", "  "+count(n, "byte")+" of body: "+short(e.Request.Body))
	}
	w.row("client", e.Client)
	l := &e.Listener
	name := l.Name
	if name != l.Address {
		name += ", " + l.Address
	}
	w.row("listener", name+": "+l.Why+at(l.Place))
	if e.TLS != nil {
		w.tls(e.TLS)
	}
}

func (w *writer) tls(t *TLS) {
	name := "no server name"
	if t.ServerName != "" {
		name = "server name " + short(t.ServerName)
	}
	if t.Version == "" {
		w.row("tls", w.paint(red, "no connection")+": "+t.Failed+"; "+name)
	} else {
		protocol := t.Protocol
		if protocol == "" {
			protocol = "no protocol by ALPN"
		}
		w.row("tls", "TLS "+t.Version+", "+protocol+", "+name)
	}
	if t.Certificate != nil {
		w.row("", "  certificate "+t.Certificate.text())
	}
	switch rule := "client_auth: " + t.ClientAuth; {
	case t.ClientAuth == "off":
	case t.Client == nil:
		w.row("", "  the client shows no certificate; "+rule)
	default:
		w.row("", "  the client shows "+t.Client.text()+"; "+rule)
	}
}

func (c *Certificate) text() string {
	names := ""
	if len(c.Names) > 0 {
		names = " for " + strings.Join(c.Names, ", ")
	}
	return short(c.Subject+names) + ", of " + short(c.Issuer) + ", until " + c.NotAfter.UTC().Format(time.DateOnly) + ", SHA-256 " + c.SHA256
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// fewTries is up to how many routes that differ in the same part, one behind the other, have a line each.
const fewTries = 3

func (w *writer) round(r *Round) {
	name := "routes"
	if r.Number > 1 {
		name = "routes, " + strconv.Itoa(r.Number)
	}
	w.row(name, short(r.Method+" "+r.Authority+r.Path))
	width := 0
	for _, t := range r.Tried {
		width = max(width, min(len(t.Route), 30))
	}
	for i := 0; i < len(r.Tried); {
		n := 1
		for i+n < len(r.Tried) && r.Tried[i].Part != "" && r.Tried[i+n].like(&r.Tried[i]) {
			n++
		}
		if w.All || n <= fewTries {
			w.try(&r.Tried[i], width, r)
			i++
			continue
		}
		t := &r.Tried[i]
		w.row("", fmt.Sprintf("  no   %s to %s, %d routes: %s is %s, which none of them wants (--all shows each)", t.Route, r.Tried[i+n-1].Route, n, part(t), short(t.Have)))
		i += n
	}
	switch {
	case r.Matched != "":
	case len(r.Tried) == 0:
		w.row("", "  there are none")
	default:
		w.row("", "  "+w.paint(red, "none is for the request"))
	}
}

// like says whether two routes differ from the request in the same thing.
func (t *Try) like(o *Try) bool { return t.Part == o.Part && t.Name == o.Name && t.Have == o.Have }

func part(t *Try) string {
	switch t.Part {
	case "headers":
		return "field " + t.Name
	case "query":
		return "query parameter " + t.Name
	case "methods":
		return "the method"
	case "path_prefix", "path_regex":
		return "path"
	}
	return t.Part
}

func (w *writer) try(t *Try, width int, r *Round) {
	name := t.Route + strings.Repeat(" ", max(width-len(t.Route), 0))
	switch {
	case t.Part != "":
		w.row("", "  no   "+name+"  "+part(t)+" is "+short(t.Have)+", wanted: "+short(wanted(t))+at(t.Place))
	case t.Route == r.Matched:
		w.row("", "  "+w.paint(green, "yes")+"  "+name+at(t.Place))
	default:
		w.row("", "  no   "+name+"  its plugin says so"+at(t.Place))
	}
}

func wanted(t *Try) string {
	switch t.Part {
	case "path_prefix":
		return "prefix " + t.Want
	case "path_regex":
		return "regex " + t.Want
	}
	return t.Want
}

// decisions are what plugins decide, in words.
var decisions = map[string]string{
	"continue": "goes on", "route": "chose an upstream", "respond": "answers itself", "deny": "denies", "rematch": "sends the request back to the routes",
	"no_match": "says that the route is not for the request", "match": "says that the route is for the request",
	"fail": "FAILED", "fail_open": "FAILED, and on_error is fail_open: the request goes on",
}

func (w *writer) plugin(p *Plugin) {
	what := decisions[p.Decision]
	switch p.Decision {
	case "fail", "fail_open", "deny":
		what = w.paint(red, what)
	}
	if p.Phase == "response" {
		what = "sees the answer: " + what
	}
	where := "of the " + p.Role
	if p.Role == "match" {
		where = "of the route's match"
	}
	w.row("plugin", fmt.Sprintf("%s, %s, %s; fuel %d, %s%s", clean(p.Name), where, what, p.Fuel, p.Took.Round(time.Microsecond), at(p.Place)))
	line := func(name, value string) {
		if value != "" {
			w.row("", "  "+name+" "+short(value))
		}
	}
	line("why:", p.Failure)
	line("method is now", p.Method)
	line("host is now", p.Authority)
	line("path is now", p.Path)
	line("upstream", p.Upstream)
	line("address", p.Address)
	line("timeout", p.Timeout)
	if p.Status != 0 {
		line("status", strconv.Itoa(p.Status))
	}
	for _, f := range p.Set {
		line("set", f.Name+": "+f.Value)
	}
	for _, name := range p.Removed {
		line("removed", name)
	}
	line("body", p.Body)
	for _, c := range p.Calls {
		w.call(&c)
	}
	for _, s := range p.Says {
		line("says", s)
	}
}

func (w *writer) call(c *Call) {
	asks := fmt.Sprintf("upstream %s: %s %s", c.Upstream, c.Method, c.Path)
	switch {
	case !c.Sent:
		w.row("", "  would ask "+short(asks)+" (not sent; --calls sends it)")
	case c.Error != "":
		w.row("", "  asked "+short(asks)+": "+short(c.Error))
	default:
		w.row("", "  asked "+short(asks)+": "+strconv.Itoa(c.Status))
	}
}

func (w *writer) upstream(u *Upstream) {
	w.row("upstream", u.Name+": "+u.Why+at(u.Place))
	if u.Authority != "" {
		w.row("", "  dynamic, to "+short(u.Authority))
	}
	if p := u.Pool; p != nil {
		text := fmt.Sprintf("  %s open, %d idle; %s waiting; %s left", count(p.Open, "connection"), p.Idle, count(p.Waiting, "request"), count(p.RetriesLeft, "retry"))
		if p.BreakerOpen {
			text += "; " + w.paint(red, "the breaker is open")
		}
		w.row("", strings.ReplaceAll(text, "retrys", "retries"))
	}
	choice := "  balance: " + u.Algorithm
	if u.HashKey != "" {
		choice += ", key " + u.HashKey
	}
	if u.Session != "" {
		choice += "; session " + short(u.Session)
	}
	if u.Host != "" {
		choice += "; Host field: " + u.Host
	}
	w.row("", choice)
	w.members(u.Members)
	width := 0
	for _, r := range u.Rules {
		width = max(width, len(r.Key))
	}
	for i, r := range u.Rules {
		w.row(first(i, "rules"), r.Key+strings.Repeat(" ", width-len(r.Key)+2)+r.Value)
	}
}

func (w *writer) members(list []Member) {
	width := 0
	name := func(m *Member) string {
		if m.Address == "" || m.Address == m.Target {
			return m.Target
		}
		return m.Target + " " + m.Address
	}
	for i := range list {
		width = max(width, len(name(&list[i])))
	}
	for i := range list {
		m := &list[i]
		text := fmt.Sprintf("  %-11s  %-*s  %s; weight %d, tier %d", m.Choice, width, name(m), m.State, m.Weight, m.Tier)
		if w.live {
			text += fmt.Sprintf("; %s; %s active, %s open, %d idle", m.Health, count(m.Requests, "request"), count(m.Open, "connection"), m.Idle)
		}
		if m.DNSAge != "" {
			text += "; DNS answer of " + m.DNSAge + " ago"
		}
		if m.DNSDoubt != "" {
			text += "; in doubt: " + m.DNSDoubt
		}
		if m.Why != "" {
			text += "; " + short(m.Why)
		}
		w.row("", text)
	}
}

func (w *writer) outcome(e *Explanation) {
	switch e.Outcome {
	case Forwarded:
		w.row("outcome", w.paint(green, "forwarded")+" to "+e.Upstream.Name+", as:")
		w.message(e.Sent)
	case Answered:
		color := green
		if e.Answer.Status >= 400 {
			color = red
		}
		w.row("outcome", w.paint(color, "answered here")+why(e))
		w.message(e.Answer)
	case Closed:
		w.row("outcome", w.paint(red, "closed without an answer")+why(e))
	case Passed:
		w.row("outcome", w.paint(green, "passed on")+" to "+e.Upstream.Name+": its bytes, whatever they are")
	}
}

func why(e *Explanation) string {
	if e.Error == "" {
		return ""
	}
	return ": " + short(e.Error)
}

func (w *writer) message(m *Message) {
	w.row("", "  "+short(m.Line))
	width := 0
	for _, f := range m.Fields {
		width = max(width, min(len(f.Name)+len(f.Value)+2, 72))
	}
	for _, f := range m.Fields {
		text := short(f.Name + ": " + f.Value)
		if f.Note != "" {
			text += strings.Repeat(" ", max(width-len(text), 0)+2) + "<- " + f.Note
		}
		w.row("", "  "+text)
	}
	if m.Body != "" {
		w.row("", "  "+count(len(m.Body), "byte")+" of body: "+short(m.Body))
	}
}
