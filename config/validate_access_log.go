package config

import (
	"errors"
	"slices"
	"strings"
)

func (v *validator) accessLog(p keyPath, a *AccessLog) {
	v.accessLogOutput(p, a)
	v.accessLogFormat(p.key("format"), a)
	for i, name := range a.Redact.Headers {
		if q := p.key("redact").key("headers").index(i); !isToken(name) {
			v.fail(q, "a name is letters, digits and -", "%s is not the name of a field", quote(name))
		}
	}
	for i, name := range a.Redact.Query {
		q := p.key("redact").key("query").index(i)
		switch {
		case name == "":
			v.fail(q, "write the name of a parameter, as in token", "is empty")
		case strings.ContainsAny(name, "&=?;"):
			v.fail(q, "write the name alone, as in token", "%s is not the name of a parameter", quote(name))
		}
	}
	if a.Sample == 1 {
		v.idle(p, "say `sample` too, or remove it", "every request has a line", "slow")
	}
	if !a.LogsQuery() {
		v.idle(p.key("redact"), "say `query: true` too, or remove it", "queries are not written at all", "query")
	}
	if a.Output == "off" {
		v.idle(p, "", "there is no access log", "format", "query", "sample", "slow", "redact", "buffer")
	}
}

func (v *validator) accessLogOutput(p keyPath, a *AccessLog) {
	q := p.key("output")
	network, _, err := syslogServer(a.Output)
	switch {
	case !v.ok(q):
		return
	case err != nil:
		v.failErr(q, err)
		return
	case network != "":
		v.syslog(p.key("syslog"), &a.Syslog)
		return
	}
	v.idle(p, "", "the output is no syslog server", "syslog")
	switch {
	case slices.Contains([]string{"stdout", "stderr", "off"}, a.Output):
		return
	case a.Output == "":
		v.fail(q, "write stdout, stderr, off, a path, or a syslog server", "is empty")
		return
	case a.Output == "syslog" || strings.Contains(a.Output, "://"):
		v.fail(q, syslogHelp+"; or the path of a file", "%s is not an output", quote(a.Output))
		return
	}
	v.printable(q, a.Output)
	a.Output = v.source.resolve(a.Output)
}

func (v *validator) syslog(p keyPath, s *Syslog) {
	bad := strings.ContainsFunc(s.Tag, func(r rune) bool {
		return r != '_' && r != '-' && r != '.' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if s.Tag == "" || len(s.Tag) > 32 || bad {
		v.fail(p.key("tag"), "a tag is 1 to 32 letters, digits, _, - and .", "%s is not a tag", quote(s.Tag))
	}
}

// accessLogFormat checks a format, and points at the variable that is wrong.
func (v *validator) accessLogFormat(p keyPath, a *AccessLog) {
	text := string(a.Format)
	if !v.ok(p) {
		return
	}
	v.printable(p, strings.ReplaceAll(text, "\t", "")) // tabs separate fields as well as spaces do
	switch {
	case text == "":
		v.fail(p, "write json, common, combined, or a text as in \"$client $request $status\"", "is empty")
		return
	case len(text) > 4096:
		v.fail(p, "write a shorter one", "a format of %d bytes, more than 4096", len(text))
		return
	case strings.Contains(text, "%h") || strings.Contains(text, "%{"):
		v.fail(p, "write common or combined; or variables as in $client, $request, $request_header_NAME", "is a format of Apache's")
		return
	}
	parts, err := a.Format.Parts()
	if wrong := (formatErrors{}); errors.As(err, &wrong) {
		for _, w := range wrong {
			at := v.valueAt(p)
			if w.at != "" {
				at = v.variable(at, w.at)
			}
			v.add(at, p, w.message, w.help)
		}
		return
	}
	if slices.ContainsFunc(parts, func(part AccessLogPart) bool { return part.Text == "" }) || a.Format == AccessLogJSON {
		return
	}
	help := "write json, common, combined, or a text with $NAME for what shall be in a line"
	if near := nearest(text, []string{"json", "common", "combined"}); near != "" {
		help = "did you mean `" + near + "`?"
	}
	v.fail(p, help, "%s has no variable in it: every line would be the same", quote(text))
}

// variable finds a variable at or after a place, and not one whose name only begins like it.
func (v *validator) variable(at Position, name string) Position {
	found := v.within(at, name)
	for n := 0; n < 100 && found != at; n++ {
		line := []rune(v.lines[found.File][found.Line-1])
		if end := found.Column - 1 + found.Width; end >= len(line) || !strings.ContainsRune(nameRunes, line[end]) {
			return found
		}
		next := found
		next.Column++
		if found = v.within(next, name); found == next {
			return at
		}
	}
	return found
}

const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"
