package telemetry

import (
	"fmt"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
)

// Part is one piece of the access log's format: exactly one of its texts is set.
type Part struct {
	Text     string // written as it is
	Field    string // one of Fields
	Request  string // the name of a request's field, as the client sent it
	Response string // the name of an answer's field, as the client was sent it
}

// format is a format that was compiled: what a line consists of, and what Begin has to keep for it.
type format struct {
	parts []part
	noted []string // fields of the request that are kept as the client sent them
}

// part is one piece of a line.
type part struct {
	text     string // if variable is nil and name is empty
	variable *variable
	name     string // of a field
	note     int    // which of the fields that are noted; negative: it is one of the answer
	escaped  *escapes
	hidden   bool // of a value that is there, only that it is
	url      bool // its query is treated as the request's
}

// variable is something that a format may name. Its functions append the value as it is, or nothing.
type variable struct {
	request func(r *Recorder, b []byte, x *exchange.Exchange) []byte
	session func(r *Recorder, b []byte, s *exchange.Session) []byte // nil: sessions have none
	ours    bool                                                    // digits and words of our own: there is nothing to escape
}

const (
	maxParts    = 256
	missingText = "-"
	hiddenText  = "***"
)

// compile makes the lines' program of a format. What stands between double quotes may hold spaces; outside of them a
// value cannot hold what the format separates its values with.
func compile(o *AccessLog) (*format, error) {
	f := &format{}
	if len(o.Format) > maxParts {
		return nil, fmt.Errorf("access log: a format of %d parts, more than %d", len(o.Format), maxParts)
	}
	inside, outside := &escapes{}, separators(o.Format)
	inside.init()
	quoted := false
	for _, p := range o.Format {
		c := part{text: p.Text, escaped: outside}
		if quoted {
			c.escaped = inside
		}
		switch {
		case p.Text != "":
			quoted = quoted != (strings.Count(p.Text, `"`)%2 == 1)
		case p.Response != "":
			c.name, c.note, c.url = p.Response, -1, carriesURL(p.Response)
		case p.Request != "":
			c.name, c.note, c.url = p.Request, f.noteOf(p.Request), carriesURL(p.Request)
		case p.Field == "user_agent":
			c.name, c.note = "user-agent", f.noteOf("user-agent")
		case p.Field == "referer":
			c.name, c.note, c.url = "referer", f.noteOf("referer"), true
		default:
			c.variable = variables[p.Field]
			if c.variable == nil {
				return nil, fmt.Errorf("access log: there is no variable %q", p.Field)
			}
			c.hidden = p.Field == "host" && o.hides("host")
		}
		c.hidden = c.hidden || c.name != "" && o.hides(c.name)
		f.parts = append(f.parts, c)
	}
	return f, nil
}

// hides says whether the values of a field are kept out of the log.
func (o *AccessLog) hides(name string) bool {
	for _, h := range o.RedactHeaders {
		if strings.EqualFold(h, name) {
			return true
		}
	}
	return false
}

// carriesURL says whether a field's value is an address, with a query of its own.
func carriesURL(name string) bool {
	switch strings.ToLower(name) {
	case "referer", "location", "content-location":
		return true
	}
	return false
}

func (f *format) noteOf(name string) int {
	for i, n := range f.noted {
		if strings.EqualFold(n, name) {
			return i
		}
	}
	f.noted = append(f.noted, name)
	return len(f.noted) - 1
}

// note keeps what the format wants to know of the request's fields before anything changes them.
func (f *format) note(x *exchange.Exchange) {
	for _, name := range f.noted {
		x.Asked.Note(&x.Request.Head, name, maxPath)
	}
}

// formatLine writes the line of a request in the format that was asked for.
func (r *Recorder) formatLine(x *exchange.Exchange) {
	b := r.text[:0]
	for i := range r.format.parts {
		p := &r.format.parts[i]
		from := len(b)
		switch {
		case p.variable != nil:
			b = p.variable.request(r, b, x)
		case p.name == "":
			b = append(b, p.text...)
			continue
		case p.note >= 0:
			v, _ := x.Asked.Noted(p.note)
			b = r.appendField(b, p, v)
		default:
			b = r.appendAnswer(b, p, &x.Response.Head)
		}
		b = r.finish(b, from, p)
	}
	r.sendText(b)
}

// formatSession writes the line of a session.
func (r *Recorder) formatSession(s *exchange.Session) {
	b := r.text[:0]
	for i := range r.format.parts {
		p := &r.format.parts[i]
		if p.variable == nil && p.name == "" {
			b = append(b, p.text...)
			continue
		}
		from := len(b)
		if p.variable != nil && p.variable.session != nil {
			b = p.variable.session(r, b, s)
		}
		b = r.finish(b, from, p)
	}
	r.sendText(b)
}

func (r *Recorder) sendText(b []byte) {
	b = append(b, '\n')
	_, _ = r.lines.Write(b) // never fails
	r.text = b
}

// finish makes the value that was appended fit for its place.
func (r *Recorder) finish(b []byte, from int, p *part) []byte {
	switch {
	case len(b) == from:
		return append(b, missingText...)
	case p.hidden:
		return append(b[:from], hiddenText...)
	case p.variable != nil && p.variable.ours:
		return b
	}
	return r.escape(b, from, p.escaped)
}

func (r *Recorder) appendField(b []byte, p *part, v []byte) []byte {
	if p.url {
		return r.redact.appendURL(b, cutTo(v, maxPath))
	}
	return append(b, cutTo(v, maxPath)...)
}

// appendAnswer appends the values of all fields of a name in the answer.
func (r *Recorder) appendAnswer(b []byte, p *part, h *http1.Head) []byte {
	from := len(b)
	for i := h.Find(0, p.name); i >= 0 && len(b)-from < maxPath; i = h.Find(i+1, p.name) {
		if len(b) > from {
			b = append(b, ", "...)
		}
		b = r.appendField(b, p, h.Value(i))
	}
	return b
}

// escapes says which bytes of a value are written as \xHH, as nginx does it: a quote, a backslash, and all that is not
// printable ASCII. Whatever a client sends, it ends neither the line nor the quotes.
type escapes [256]bool

func (e *escapes) init() {
	for c := range e {
		e[c] = c < ' ' || c >= 0x7f || c == '"' || c == '\\'
	}
}

// separators are the escapes outside of quotes: the space, and the other separators that the format itself uses there.
func separators(parts []Part) *escapes {
	e := &escapes{}
	e.init()
	e[' '] = true
	quoted := false
	for _, p := range parts {
		for _, c := range []byte(p.Text) {
			switch {
			case c == '"':
				quoted = !quoted
			case !quoted && strings.IndexByte("\t|,;'[](){}<>", c) >= 0:
				e[c] = true
			}
		}
	}
	return e
}

// escape writes what was appended to b with \xHH for the bytes that must not be there as they are.
func (r *Recorder) escape(b []byte, from int, e *escapes) []byte {
	at := from
	for at < len(b) && !e[b[at]] {
		at++
	}
	if at == len(b) {
		return b
	}
	r.raw = append(r.raw[:0], b[at:]...)
	b = b[:at]
	const digits = "0123456789ABCDEF"
	for _, c := range r.raw {
		if e[c] {
			b = append(b, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return b
}
