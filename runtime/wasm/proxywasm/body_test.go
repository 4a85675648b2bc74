package proxywasm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

const post = "POST / HTTP/1.1\nHost: h"

func TestBodiesAreChanged(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<13) // 128 KiB
	halves := []string{long[:len(long)/2], long[len(long)/2:]}
	for name, c := range map[string]struct {
		script  string // %m stands for request or response
		body    []string
		chunked bool
		want    string
		framing http1.Framing
	}{
		"untouched":             {"", []string{"ab", "cd"}, false, "abcd", http1.Framing{Kind: http1.Length, Length: 4}},
		"replaced":              {"%m_end setbody %b 0 99 xyz", []string{"ab", "cd"}, false, "xyz", http1.Framing{Kind: http1.Length, Length: 3}},
		"emptied":               {"%m_end setbody %b 0 99 ", []string{"ab", "cd"}, false, "", http1.Framing{Kind: http1.Length}},
		"prepended":             {"%m_end setbody %b 0 0 xyz", []string{"ab", "cd"}, false, "xyzabcd", http1.Framing{Kind: http1.Length, Length: 7}},
		"appended":              {"%m_end setbody %b 2147483647 0 xyz", []string{"ab", "cd"}, false, "abcdxyz", http1.Framing{Kind: http1.Length, Length: 7}},
		"in the middle":         {"%m_end setbody %b 1 2 xyz", []string{"ab", "cd"}, false, "axyzd", http1.Framing{Kind: http1.Length, Length: 5}},
		"to the end":            {"%m_end setbody %b 3 -1 xyz", []string{"ab", "cd"}, false, "abcxyz", http1.Framing{Kind: http1.Length, Length: 6}},
		"twice":                 {"%m_end setbody %b 0 0 x\n%m_end setbody %b 99 0 y", []string{"ab", "cd"}, false, "xabcdy", http1.Framing{Kind: http1.Length, Length: 6}},
		"each piece":            {"%m_body setbody %b 0 0 -", []string{"ab", "cd"}, true, "-ab-cd", http1.Framing{Kind: http1.Chunked}},
		"the last piece":        {"%m_end setbody %b 99 0 !", []string{"ab", "cd"}, true, "abcd!", http1.Framing{Kind: http1.Chunked}},
		"long, untouched":       {"", halves, false, long, http1.Framing{Kind: http1.Length, Length: 1 << 17}},
		"long, one byte":        {"%m_end setbody %b 0 1 !", halves, false, halves[0] + "!" + halves[1][1:], http1.Framing{Kind: http1.Length, Length: 1 << 17}},
		"long, its end":         {"%m del %h content-length\n%m_end setbody %b 2147483647 0 !", halves, false, long + "!", http1.Framing{Kind: http1.Chunked}},
		"buffered, untouched":   {"%m_more return 1", []string{"ab", "cd"}, true, "abcd", http1.Framing{}},
		"buffered, replaced":    {"%m_more return 1\n%m_end setbody %b 0 99 xyz", []string{"ab", "cd", "ef"}, true, "xyz", http1.Framing{}},
		"buffered, with a mark": {"%m_more return 1\n%m_body setbody %b 0 0 -", []string{"ab", "cd", "ef"}, true, "---abcdef", http1.Framing{}},
		"long, buffered":        {"%m del %h content-length\n%m_more return 1\n%m_end setbody %b 1 131070 -", halves, false, "0-f", http1.Framing{}},
		"taken by the plugin":   {"%m_more return 3", []string{"ab", "cd", "ef"}, true, "ef", http1.Framing{}},
		"the head waits":        {"%m return 1\n%m_more return 1\n%m_end setbody %b 0 99 xyz\n%m_end set %h x-a b", []string{"ab", "cd", "ef"}, true, "xyz", http1.Framing{Kind: http1.Length, Length: 3}},
		"the head waits, a piece": {"%m return 1\n%m_body setbody %b 0 0 -\n%m_body set %h x-a b", []string{"ab", "cd", "ef"}, true, "-ab-cd-ef",
			http1.Framing{Kind: http1.Chunked}},
	} {
		for i, m := range []string{"request", "response"} {
			t.Run(name+", "+m, func(t *testing.T) {
				b := newBench(t)
				p := b.quiet(Options{}, strings.NewReplacer("%m", m, "%b", fmt.Sprint(i), "%h", fmt.Sprint(2*i)).Replace(c.script))
				request, answer := message{head: post}, okAnswer
				if i == 0 {
					request.body, request.chunked = c.body, c.chunked
				} else {
					answer.body, answer.chunked = c.body, c.chunked
				}
				r := b.exchange(request, answer, p)
				sent, framing, head := r.sent, r.framing, &r.x.Request.Head
				if i == 1 {
					sent, framing, head = r.got, r.got1, &r.x.Response.Head
				}
				if r.err != nil || r.sendErr != nil || sent != c.want {
					t.Errorf("%v %v: %d bytes, want %d: %.50q\n%s", r.err, r.sendErr, len(sent), len(c.want), sent, strings.Join(b.says(), "\n"))
				}
				if c.framing != (http1.Framing{}) && framing != c.framing {
					t.Errorf("framed %+v, want %+v", framing, c.framing)
				}
				if strings.Contains(c.script, "set %h") {
					if v, ok := head.Get("x-a"); !ok || string(v) != "b" {
						t.Error("the head was not changed")
					}
				}
			})
		}
	}
}

// TestALengthThatWasAnnouncedIsKept: a plugin that changes the length of a body on its way, and has not removed content-length,
// ends it, as a body that is longer or shorter than its length would.
func TestALengthThatWasAnnouncedIsKept(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 1<<13) // 128 KiB
	halves := []string{long[:len(long)/2], long[len(long)/2:]}
	for _, script := range []string{"%m_end setbody %b 2147483647 0 !", "%m_end setbody %b 0 10 !", "%m_more setbody %b 0 0 !"} {
		for i, m := range []string{"request", "response"} {
			b := newBench(t)
			script := strings.NewReplacer("%m", m, "%b", fmt.Sprint(i)).Replace(script)
			if strings.HasPrefix(script, "request_more") {
				continue // the first piece is seen before the head is sent: see "each piece"
			}
			request, answer := message{head: post}, okAnswer
			if i == 0 {
				request.body = halves
			} else {
				answer.body = halves
			}
			var f *fault.Error
			if r := b.exchange(request, answer, b.quiet(Options{}, script)); !errors.As(r.sendErr, &f) || f.Kind != fault.PluginAnswer || !strings.Contains(f.Detail, "content-length") {
				t.Errorf("%s: %v %v", script, r.err, r.sendErr)
			}
		}
	}
}

// TestAPausedBodyThatIsTooLarge is 413 for a request and 500 for an answer, whatever on_error says.
func TestAPausedBodyThatIsTooLarge(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		b := newBench(t)
		p := b.quiet(Options{MaxBody: 10_000, OnError: 1}, "request_more return 1", "response_more return 1")
		var body []string
		for range 30 {
			body = append(body, strings.Repeat("x", 5000))
		}
		r := b.exchange(message{head: post, body: body, chunked: chunked}, okAnswer, p)
		if r.err == nil || r.err.Kind != fault.BodyTooLarge || r.err.Status != 413 {
			t.Errorf("%v", r.err)
		}
		r = b.exchange(message{head: simpleHead}, message{head: "HTTP/1.1 200 OK", body: body, chunked: chunked}, p)
		var f *fault.Error
		if !errors.As(r.sendErr, &f) || f.Kind != fault.BodyTooLarge || f.Status != 500 {
			t.Errorf("%v", r.sendErr)
		}
	}
}

// TestAnAnswerWhileTheRequestIsOnItsWay: the head was sent, and the plugin answers from a later piece of the body.
func TestAnAnswerWhileTheRequestIsOnItsWay(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{}, "request_end respond 403 virus -1 x-a b")
	b.on(func(task *netloop.Task) {
		r := b.begin(task, message{head: post, body: []string{"ab", "cd", "ef"}, chunked: true})
		r.ask(filter.Route, p)
		if r.verdict != filter.Continue || r.err != nil {
			t.Fatalf("%v %v", r.verdict, r.err)
		}
		r.forward(task)
		var f *fault.Error
		var early *EarlyAnswer
		if !errors.As(r.sendErr, &f) || !errors.As(r.sendErr, &early) || f.Status != 403 || r.sent != "abcd" {
			t.Fatalf("%v, sent %q", r.sendErr, r.sent)
		}
		early.Answer(r.x)
		if !r.x.Local.Set || r.x.Local.Status != 403 || string(r.x.Local.Body) != "virus" || fields(&r.x.Response.Head) != "x-a: b\nContent-Type: text/plain\n" {
			t.Errorf("%+v %s", r.x.Local, fields(&r.x.Response.Head))
		}
		r.end(p)
		early.Answer(r.x) // too late, and no harm
	})
}

// TestOtherTasksGoOnWhileAStreamIsPaused, and continue it.
func TestATickContinuesAStream(t *testing.T) {
	for _, script := range []string{
		"request return 1", "request_end return 1", "request_more return 1", "request_trailers return 1", "response return 1", "response_end return 1",
	} {
		b := newBench(t)
		n := 0
		if strings.HasPrefix(script, "response") {
			n = 1
		}
		p := b.quiet(Options{}, "configure tick 1", script, "tick stream 0", fmt.Sprintf("tick resume %d", n))
		m := message{head: post, body: []string{"ab", "cd"}, trailers: []string{"x", "y"}}
		if script == "request_end return 1" {
			m.trailers, m.chunked = nil, true
		}
		r := b.exchange(m, okAnswer, p)
		if r.err != nil || r.sendErr != nil || r.sent != "abcd" || r.got != "hello" {
			t.Errorf("%s: %v %v %q %q", script, r.err, r.sendErr, r.sent, r.got)
		}
	}
}

func TestPausesAreBounded(t *testing.T) {
	for _, script := range []string{"request return 1", "request return 4", "request_end return 1", "response return 1"} {
		b := newBench(t)
		p := b.quiet(Options{MaxPause: 20 * time.Millisecond}, script)
		r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, p)
		if script == "request return 1" || script == "response return 1" { // nothing can continue it, so that the body comes, which goes on
			if r.err != nil {
				t.Errorf("%s: %v", script, r.err)
			}
			continue
		}
		if r.err == nil || r.err.Status != 504 || r.err.Kind != fault.PluginAnswer {
			t.Errorf("%s: %v", script, r.err)
		}
		open := b.quiet(Options{MaxPause: 20 * time.Millisecond, OnError: 1}, script)
		if r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, open); r.err != nil || r.got != "hello" {
			t.Errorf("%s, fail_open: %v %q", script, r.err, r.got)
		}
	}
	b := newBench(t)
	all := b.quiet(Options{MaxPause: 20 * time.Millisecond, StopIteration: StopAll}, "request return 1")
	if r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, all); r.err == nil || r.err.Status != 504 {
		t.Errorf("%v", r.err)
	}
	headers := b.quiet(Options{StopIteration: StopHeaders}, "configure tick 100000", "request return 1")
	if r := b.exchange(message{head: post, body: []string{"ab"}}, okAnswer, headers); r.err != nil {
		t.Errorf("%v", r.err)
	}
}

// TestABodyOfARequestThatIsMatchedAgain: the stream ends before the body has gone through it, and another one of the same
// plugin takes its place.
func TestABodyOfARequestThatIsMatchedAgain(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{}, "request set 0 :path /other", "request_body setbody 0 0 0 -")
	b.on(func(task *netloop.Task) {
		r := b.begin(task, message{head: post, body: []string{"ab", "cd", "ef"}, chunked: true})
		r.ask(filter.Route, p)
		r.end(p)
		if r.verdict != filter.Rematch || r.err != nil {
			t.Errorf("%v %v", r.verdict, r.err)
		}
		r.x.Forget(0)
		r.ask(filter.Route, p)
		if r.verdict != filter.Continue || r.err != nil {
			t.Errorf("%v %v", r.verdict, r.err)
		}
		r.forward(task)
		r.end(p)
		if r.sent != "--ab-cd-ef" || r.sendErr != nil { // both have seen the first piece
			t.Errorf("%q %v", r.sent, r.sendErr)
		}
	})
	b.says()
}
