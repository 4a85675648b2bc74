// Package abitest reads the byte-level examples of the ABI's specification, and turns each structure into text and
// back, so that whoever encodes or decodes one can be held to the specification by a test.
// It uses the standard library only.
package abitest

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strconv"
	"strings"

	"wasmgate/sdk/abi"
)

// Example is a structure, once as bytes and once as text.
type Example struct {
	Kind string // config, manifest, view, operations, answer, body, tick
	Name string
	Hex  []byte
	Text string
}

// Examples reads the fenced blocks of a specification whose info string is "abi-hex KIND NAME" or "abi-text KIND NAME".
func Examples(path string) ([]Example, error) {
	b, err := os.ReadFile(path) //nolint:gosec // a test names its own file
	if err != nil {
		return nil, err
	}
	var list []Example
	byName := map[string]int{}
	for part := range bytes.SplitSeq(b, []byte("\n```abi-")) {
		info, rest, ok := strings.Cut(string(part), "\n")
		body, _, closed := strings.Cut(rest, "```")
		f := strings.Fields(info)
		if !ok || !closed || len(f) != 3 || f[0] != "hex" && f[0] != "text" {
			continue
		}
		key := f[1] + " " + f[2]
		i, known := byName[key]
		if !known {
			i = len(list)
			byName[key] = i
			list = append(list, Example{Kind: f[1], Name: f[2]})
		}
		if f[0] == "text" {
			list[i].Text = body
			continue
		}
		if list[i].Hex, err = parseHex(body); err != nil {
			return nil, fmt.Errorf("example %s: %w", key, err)
		}
	}
	for _, e := range list {
		if e.Hex == nil || e.Text == "" {
			return nil, fmt.Errorf("example %s %s: one of its blocks is missing", e.Kind, e.Name)
		}
	}
	return list, nil
}

// parseHex reads lines of hexadecimal bytes; '#' begins a comment.
func parseHex(s string) ([]byte, error) {
	var b []byte
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "#")
		more, err := hex.DecodeString(strings.Join(strings.Fields(line), ""))
		if err != nil {
			return nil, err
		}
		b = append(b, more...)
	}
	return b, nil
}

var fields = [...]string{"method", "scheme", "authority", "path", "query", "client", "sni", "certificate", "route"}

// Text renders a structure: a line for each part, a word and its values, strings quoted as in Go.
func Text(kind string, b []byte) (string, error) {
	switch kind {
	case "config":
		c, err := abi.ParseConfig(b)
		return fmt.Sprintf("minor %d\nfeatures %d\nmax_answer %d\nname %q\nconfig %q\nrequest_body %d\nresponse_body %d\n",
			c.Minor, c.Features, c.MaxAnswer, c.Name, c.Bytes, c.RequestBody, c.ResponseBody), err
	case "manifest":
		return manifestText(b)
	case "view":
		return viewText(b)
	case "operations":
		return operationsText(b)
	case "answer", "body", "tick":
		return smallText(kind, b)
	}
	return "", fmt.Errorf("unknown kind %q", kind)
}

func viewText(b []byte) (string, error) {
	v := abi.View(b)
	if err := v.Validate(); err != nil {
		return "", err
	}
	h := v.Head()
	s := fmt.Sprintf("role %d\nphase %d\nflags %d\ntime %d\nseed %d\ncontext %d\nstatus %d\n",
		h.Role, h.Phase, h.Flags, h.Time, h.Seed, h.Context, h.Status)
	for i, name := range fields {
		if f := v.Field(abi.Field(i)); f == nil { //nolint:gosec // an index
			s += name + " absent\n"
		} else {
			s += fmt.Sprintf("%s %q\n", name, f)
		}
	}
	for i := range v.Slots() {
		s += "slot"
		for k := range v.Count(i) {
			s += fmt.Sprintf(" %q", v.Value(i, k))
		}
		if v.Count(i) == 0 {
			s += " absent"
		}
		s += "\n"
	}
	return s, nil
}

func operationsText(b []byte) (string, error) {
	ops := abi.ReadOperations(b)
	var op abi.Operation
	s := ""
	for {
		ok, err := ops.Next(&op)
		if !ok {
			return s, err
		}
		s += op.Kind.String()
		switch op.Kind {
		case abi.OpUpstream, abi.OpTimeout, abi.OpHashKey, abi.OpContext, abi.OpKeep:
			s += fmt.Sprintf(" %d", op.Number)
		case abi.OpMetric:
			s += fmt.Sprintf(" %d %s", op.Number, float(op.Float))
		case abi.OpSetHeader, abi.OpAppendHeader, abi.OpAttribute:
			s += fmt.Sprintf(" %q %q", op.Name, op.Value)
		case abi.OpRemoveHeader:
			s += fmt.Sprintf(" %q", op.Name)
		case abi.OpLog, abi.OpRespond:
			s += fmt.Sprintf(" %d %q", op.Number, op.Value)
			for n, v, ok := op.Fields.Next(); ok; n, v, ok = op.Fields.Next() {
				s += fmt.Sprintf(" %q %q", n, v)
			}
		case abi.OpRematch, abi.OpWantBody:
		default:
			s += fmt.Sprintf(" %q", op.Value)
		}
		s += "\n"
	}
}

// Line is one line of a text: its word, its numbers and its strings. Absent is the value "absent" without quotes.
type Line struct {
	Word    string
	Numbers []uint64
	Floats  []float64 // those with a point
	Strings []string
	Absent  bool
}

// Lines reads a text.
func Lines(text string) ([]Line, error) {
	var list []Line
	for s := range strings.Lines(text) {
		word, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
		l := Line{Word: word}
		for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
			if rest[0] == '"' {
				q, err := strconv.QuotedPrefix(rest)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s, err)
				}
				v, _ := strconv.Unquote(q)
				l.Strings, rest = append(l.Strings, v), rest[len(q):]
				continue
			}
			var v string
			v, rest, _ = strings.Cut(rest, " ")
			if v == "absent" {
				l.Absent = true
				continue
			}
			if strings.Contains(v, ".") {
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s, err)
				}
				l.Floats = append(l.Floats, f)
				continue
			}
			n, err := strconv.ParseUint(v, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s, err)
			}
			l.Numbers = append(l.Numbers, n)
		}
		list = append(list, l)
	}
	return list, nil
}

// Encode is the inverse of Text.
func Encode(kind, text string) ([]byte, error) {
	lines, err := Lines(text)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "config":
		c := abi.Config{Minor: uint32(lines[0].Numbers[0]), Features: uint32(lines[1].Numbers[0]), MaxAnswer: uint32(lines[2].Numbers[0]), //nolint:gosec // an example
			Name: []byte(lines[3].Strings[0]), Bytes: []byte(lines[4].Strings[0]),
			RequestBody: uint32(lines[5].Numbers[0]), ResponseBody: uint32(lines[6].Numbers[0])} //nolint:gosec // an example
		return abi.AppendConfig(nil, &c), nil
	case "manifest":
		return encodeManifest(lines), nil
	case "view":
		return encodeView(lines), nil
	case "operations":
		return encodeOperations(lines), nil
	case "answer", "body", "tick":
		return encodeSmall(kind, lines), nil
	}
	return nil, fmt.Errorf("unknown kind %q", kind)
}

func encodeView(lines []Line) []byte {
	n := func(i int) uint64 { return lines[i].Numbers[0] }
	h := abi.Head{Role: uint32(n(0)), Phase: uint32(n(1)), Flags: uint32(n(2)), Time: int64(n(3)), Seed: n(4), Context: n(5), Status: uint32(n(6))} //nolint:gosec // an example
	slots := lines[7+len(fields):]
	buf := make([]byte, 4096)
	var w abi.ViewWriter
	w.Begin(buf, &h, len(slots))
	for i := range fields {
		if l := lines[7+i]; !l.Absent {
			w.FieldString(abi.Field(i), l.Strings[0]) //nolint:gosec // an index
		}
	}
	for i, l := range slots {
		if l.Absent {
			continue
		}
		w.Slot(i, []byte(l.Strings[0]))
		if len(l.Strings) == 1 {
			continue
		}
		at := w.List(i, len(l.Strings))
		for k, v := range l.Strings[1:] {
			w.Item(at, k+1, []byte(v))
		}
	}
	return buf[:w.Need()]
}

func encodeOperations(lines []Line) []byte {
	kinds := map[string]abi.Kind{}
	for k := range abi.Kind(0x100) {
		kinds[k.String()] = k
	}
	var b []byte
	for _, l := range lines {
		switch k := kinds[l.Word]; k {
		case abi.OpUpstream, abi.OpTimeout, abi.OpKeep:
			b = abi.AppendOp32(b, k, uint32(l.Numbers[0])) //nolint:gosec // an example
		case abi.OpHashKey, abi.OpContext:
			b = abi.AppendOp64(b, k, l.Numbers[0])
		case abi.OpSetHeader, abi.OpAppendHeader, abi.OpAttribute:
			b = abi.AppendOpPair(b, k, l.Strings[0], l.Strings[1])
		case abi.OpLog:
			b = abi.AppendLog(b, uint32(l.Numbers[0]), l.Strings[0]) //nolint:gosec // an example
		case abi.OpRespond:
			b = abi.AppendRespond(b, uint32(l.Numbers[0]), l.Strings[0], l.Strings[1:]...) //nolint:gosec // an example
		case abi.OpMetric:
			b = abi.AppendMetric(b, uint32(l.Numbers[0]), l.Floats[0]) //nolint:gosec // an example
		case abi.OpRematch, abi.OpWantBody:
			b = abi.AppendOp(b, k)
		default:
			b = abi.AppendOpText(b, k, l.Strings[0])
		}
	}
	return b
}
