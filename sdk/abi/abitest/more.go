package abitest

import (
	"fmt"
	"strconv"
	"strings"

	"wasmgate/sdk/abi"
)

// float writes a number with a point, which is how Lines tells it from others.
func float(v float64) string {
	s := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func manifestText(b []byte) (string, error) {
	m, err := abi.ParseManifest(b)
	if err != nil {
		return "", err
	}
	s := fmt.Sprintf("phases %d\n", m.Phases)
	for _, l := range []struct {
		word  string
		names []string
	}{
		{"request_header", m.RequestHeaders}, {"response_header", m.ResponseHeaders}, {"upstream", m.Upstreams},
		{"call", m.Calls}, {"store", m.Stores},
	} {
		for _, n := range l.names {
			s += fmt.Sprintf("%s %q\n", l.word, n)
		}
	}
	for _, l := range []struct {
		word string
		body abi.Body
	}{{"request_body", m.RequestBody}, {"response_body", m.ResponseBody}} {
		if l.body.Mode != abi.BodyNone {
			s += fmt.Sprintf("%s %d %d %d\n", l.word, l.body.Mode, l.body.Bits, l.body.Max)
		}
	}
	if m.Tick != 0 {
		s += fmt.Sprintf("tick %d\n", m.Tick)
	}
	for _, d := range m.Metrics {
		s += fmt.Sprintf("metric %d %q %q", d.Type, d.Name, d.Description)
		for _, v := range d.Bounds {
			s += " " + float(v)
		}
		s += "\n"
	}
	return s, nil
}

func encodeManifest(lines []Line) (b []byte) {
	names := map[string]uint16{
		"request_header": abi.ManifestRequestHeader, "response_header": abi.ManifestResponseHeader, "upstream": abi.ManifestUpstream,
		"call": abi.ManifestCall, "store": abi.ManifestStore,
	}
	bodies := map[string]uint16{"request_body": abi.ManifestRequestBody, "response_body": abi.ManifestResponseBody}
	for _, l := range lines {
		n := func(i int) uint32 { return uint32(l.Numbers[i]) } //nolint:gosec // an example
		switch l.Word {
		case "phases":
			b = abi.AppendPhases(b, n(0))
		case "request_body", "response_body":
			b = abi.AppendBody(b, bodies[l.Word], abi.Body{Mode: n(0), Bits: n(1), Max: n(2)})
		case "tick":
			b = abi.AppendTick(b, n(0))
		case "metric":
			b = abi.AppendMetricRecord(b, &abi.Metric{Type: n(0), Name: l.Strings[0], Description: l.Strings[1], Bounds: l.Floats})
		default:
			b = abi.AppendName(b, names[l.Word], l.Strings[0])
		}
	}
	return b
}

func smallText(kind string, b []byte) (s string, err error) {
	switch kind {
	case "answer":
		a := abi.Answer(b)
		if err := a.Validate(); err != nil {
			return "", err
		}
		s = fmt.Sprintf("status %d\ntook %d\n", a.Status(), a.Took())
		for i := range a.Fields() + a.Trailers() {
			word := "field"
			if i >= a.Fields() {
				word = "trailer"
			}
			name, value := a.Field(i)
			s += fmt.Sprintf("%s %q %q\n", word, name, value)
		}
		return s + fmt.Sprintf("body %q\n", a.Body()), nil
	case "body":
		p := abi.Piece(b)
		if err := p.Validate(); err != nil {
			return "", err
		}
		h := p.Head()
		return fmt.Sprintf("message %d\nflags %d\ntime %d\nword %d\nbefore %d\ndata %q\n", h.Message, h.Flags, h.Time, h.Word, h.Before, p.Data()), nil
	}
	t := abi.Tick(b)
	if err := t.Validate(); err != nil {
		return "", err
	}
	return fmt.Sprintf("time %d\nseed %d\n", t.Time(), t.Seed()), nil
}

func encodeSmall(kind string, lines []Line) []byte {
	n := func(i int) uint64 { return lines[i].Numbers[0] }
	switch kind {
	case "answer":
		var fields, trailers int
		for _, l := range lines {
			switch l.Word {
			case "field":
				fields++
			case "trailer":
				trailers++
			}
		}
		var w abi.AnswerWriter
		w.Begin(nil, uint32(n(0)), uint32(n(1)), fields, trailers) //nolint:gosec // an example
		for _, l := range lines[2 : 2+fields+trailers] {
			w.Field([]byte(l.Strings[0]), []byte(l.Strings[1]))
		}
		return w.Finish([]byte(lines[len(lines)-1].Strings[0]))
	case "body":
		h := abi.PieceHead{Message: uint32(n(0)), Flags: uint32(n(1)), Time: int64(n(2)), Word: n(3), Before: n(4)} //nolint:gosec // an example
		data := lines[5].Strings[0]
		b := make([]byte, abi.PieceFixed, abi.PieceFixed+len(data))
		abi.PutPiece(b, &h, len(data))
		return append(b, data...)
	}
	return abi.AppendTickView(nil, int64(n(0)), n(1)) //nolint:gosec // an example
}
