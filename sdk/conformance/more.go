package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/body"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/sdk/abi"
)

// longestBody is what the plugin is granted of bodies.
const longestBody = 900_000

// clear forgets the last case; on the loop.
func (h *host) clear() {
	h.lines, h.calls = nil, nil
	for _, s := range h.stores {
		for _, key := range s.Keys(0, "") {
			s.Delete(0, []byte(key), 0)
		}
	}
}

// services answer what plugins call: /status/N with that status and no fields, /long/N with so many bytes, /fails/WORD with
// that error, /tick with 204, and everything else with a short text, a field and a trailer.
type services host

// Call is filter.Caller's.
func (s *services) Call(_ *netloop.Task, c *filter.Call) *fault.Error {
	h := (*host)(s)
	line := fmt.Sprintf("called %d %s %s timeout %v", c.Upstream, c.Method, c.Path, c.Timeout)
	if len(c.Authority) > 0 {
		line += fmt.Sprintf(" authority %s", c.Authority)
	}
	for i := range c.Fields.Len() {
		line += fmt.Sprintf(" %s=%s", c.Fields.Name(i), c.Fields.Value(i))
	}
	if len(c.Body) > 0 {
		line += " body " + shorten(string(c.Body))
	}
	c.Status, c.Answer = 200, append(c.Answer[:0], "a-short-text-which-goes-on"...)
	c.AnswerFields.Reset()
	c.AnswerTrailers.Reset()
	what, arg, _ := strings.Cut(strings.TrimPrefix(string(c.Path), "/"), "/")
	switch what {
	case "status":
		c.Status, _ = strconv.Atoi(arg)
		c.Answer = c.Answer[:0]
	case "long":
		n, _ := strconv.Atoi(arg)
		c.Answer = append(c.Answer[:0], strings.Repeat("l", n)...)
	case "tick":
		c.Status, c.Answer = 204, c.Answer[:0]
		select {
		case h.ticks <- struct{}{}:
		default:
		}
		return nil
	case "fails":
		h.calls = append(h.calls, line)
		return fault.New(failures[arg], fault.Upstream, 502, "as it should")
	default:
		c.AnswerFields.Add("X-Answer", "yes")
		c.AnswerFields.Add("X-Answer", "second")
		c.AnswerTrailers.Add("X-End", "done")
	}
	h.calls = append(h.calls, line)
	return nil
}

var failures = map[string]fault.Kind{"timeout": fault.RequestTimeout, "connect": fault.Connect, "large": fault.BodyTooLarge, "closed": fault.UpstreamClosed}

// tick waits for some ticks and says what they did.
func (h *host) tick() string {
	for range 3 { // the first may be of before
		select {
		case <-h.ticks:
		case <-time.After(10 * time.Second):
			return "no tick"
		}
	}
	var s string
	h.on(func(*netloop.Task) {
		lines := slices.Compact(h.lines)
		n, _ := h.stores["counts"].Add(0, []byte("ticks"), 0, 0)
		s = strings.Join(lines, "\n") + fmt.Sprintf("\ncounted %v", n >= 2)
	})
	h.unload()
	return s
}

// source is where a case's body comes from.
type source struct {
	pieces   []string
	trailers http1.Head
}

func (s *source) Next(*netloop.Task) ([]byte, error) {
	if len(s.pieces) == 0 {
		return nil, io.EOF
	}
	p := s.pieces[0]
	s.pieces = s.pieces[1:]
	return []byte(p), nil
}

func (s *source) Ready() ([]byte, error) { return nil, nil }
func (s *source) Done() bool             { return len(s.pieces) == 0 }
func (s *source) Trailers() *http1.Head  { return &s.trailers }

// content makes a body of pieces, with a trailer; nil: there is none.
func content(t *netloop.Task, pieces []string) *body.Body {
	from, framing := &source{pieces: pieces}, http1.Framing{Kind: http1.Chunked}
	if pieces == nil {
		framing.Kind = http1.NoBody
	} else {
		from.trailers.Add("X-End", "done")
	}
	b := &body.Body{}
	b.Init(t, from, framing, false)
	return b
}

// sent says what would be sent on of a body, piece by piece.
func sent(t *netloop.Task, b *body.Body, v filter.Verdict, err error) string {
	if v == filter.Respond || err != nil {
		return ""
	}
	var pieces []string
	end := ""
	for {
		data, err := b.Next(t)
		if err == io.EOF {
			break
		}
		if err != nil {
			f := fault.From(err)
			end = fmt.Sprintf("ends %v %d", f.Kind, f.Status)
			break
		}
		pieces = append(pieces, shorten(string(data)))
	}
	if pieces == nil {
		return end
	}
	return "sent " + strings.Join(pieces, "|") + "\n" + end
}

// left says what was called, stored and counted in the case.
func (h *host) left() string {
	var s strings.Builder
	for _, line := range h.calls {
		fmt.Fprintln(&s, line)
	}
	for _, name := range []string{"counts", "sessions"} {
		keys := h.stores[name].Keys(0, "")
		slices.Sort(keys)
		for _, key := range keys {
			v, _, _ := h.stores[name].Get(0, []byte(key), nil)
			fmt.Fprintf(&s, "stored %s %s %s\n", name, shorten(key), shorten(strconv.Quote(string(v))))
		}
	}
	for _, m := range h.plugin.Metrics() {
		fmt.Fprintf(&s, "metric %s %v", m.Name, m.Value)
		if m.Type == abi.MetricHistogram {
			fmt.Fprintf(&s, " of %d", m.Count)
		}
		fmt.Fprintln(&s)
	}
	return s.String()
}
