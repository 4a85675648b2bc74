package gateway_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// TestWhatWasNotActedUponIsSentAgain (RFC 9113 section 8.7): a request is sent again, whatever its method and without the budget for
// that, if the upstream says that it has not acted upon it, and its body is at hand; otherwise no POST is.
func TestWhatWasNotActedUponIsSentAgain(t *testing.T) {
	const small = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nonce"
	const partly = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf"
	const get = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	reset := func(code http2.ErrCode) func(*h2Link, uint32) {
		return func(l *h2Link, id uint32) { _ = l.WriteRSTStream(id, code) }
	}
	away := func(last func(id uint32) uint32, code http2.ErrCode) func(*h2Link, uint32) {
		return func(l *h2Link, id uint32) { _ = l.WriteGoAway(last(id), code, nil) }
	}
	before, itself := func(id uint32) uint32 { return id - 2 }, func(id uint32) uint32 { return id }
	then := func(list ...func(*h2Link, uint32)) func(*h2Link, uint32) {
		return func(l *h2Link, id uint32) {
			for _, do := range list {
				do(l, id)
			}
		}
	}
	head := func(l *h2Link, id uint32) {
		_ = l.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true})
	}
	end := func(l *h2Link, _ uint32) { l.conn.Close() }
	answers := func(l *h2Link, id uint32) { l.answer(id, "well") }
	for name, c := range map[string]struct {
		request string
		first   func(*h2Link, uint32) // what the first attempt meets; the second is answered
		again   bool
		status  int // 0: the answer is cut off
	}{
		"REFUSED_STREAM":                         {small, reset(http2.ErrCodeRefusedStream), true, 200},
		"REFUSED_STREAM, GET":                    {get, reset(http2.ErrCodeRefusedStream), true, 200},
		"GOAWAY before it":                       {small, away(before, http2.ErrCodeNo), true, 200},
		"GOAWAY before it, with an error":        {small, away(before, http2.ErrCodeEnhanceYourCalm), true, 200},
		"GOAWAY before it, and an end":           {small, then(away(before, http2.ErrCodeNo), end), true, 200},
		"GOAWAY in two steps, before it":         {small, then(away(func(uint32) uint32 { return 1<<31 - 1 }, http2.ErrCodeNo), away(before, http2.ErrCodeNo)), true, 200},
		"GOAWAY in two steps, behind it":         {small, then(away(func(uint32) uint32 { return 1<<31 - 1 }, http2.ErrCodeNo), away(itself, http2.ErrCodeNo), answers), false, 200},
		"GOAWAY behind it, and an end":           {small, then(away(itself, http2.ErrCodeNo), end), false, 502},
		"GOAWAY behind it, and a reset":          {small, then(away(itself, http2.ErrCodeNo), reset(http2.ErrCodeCancel)), false, 502},
		"an end":                                 {small, end, false, 502},
		"INTERNAL_ERROR":                         {small, reset(http2.ErrCodeInternal), false, 502},
		"CANCEL":                                 {small, reset(http2.ErrCodeCancel), false, 502},
		"NO_ERROR before an answer":              {small, reset(http2.ErrCodeNo), false, 502},
		"INTERNAL_ERROR, GET without budget":     {get, reset(http2.ErrCodeInternal), false, 502},
		"REFUSED_STREAM behind a head":           {small, then(head, reset(http2.ErrCodeRefusedStream)), false, 0},
		"REFUSED_STREAM, body sent in part":      {partly, reset(http2.ErrCodeRefusedStream), false, 502},
		"GOAWAY before it, body sent in part":    {partly, away(before, http2.ErrCodeNo), false, 502},
		"GOAWAY behind it, GET without budget":   {get, then(away(itself, http2.ErrCodeNo), end), false, 502},
		"PROTOCOL_ERROR of the upstream's bytes": {small, func(l *h2Link, id uint32) { _ = l.WriteData(id, true, []byte("x")) }, false, 502},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			b := startH2Peer(t, nil, func(l *h2Link, h *http2.MetaHeadersFrame) {
				switch {
				case h.PseudoValue("path") == "/warm":
					l.answer(h.StreamID, "")
				case asked.Add(1) == 1:
					c.first(l, h.StreamID)
				default:
					answers(l, h.StreamID)
				}
			})
			p := startPlant(t, "loops: 1\n"+h2Upstream(b.addr, ", retries: { attempts: 3, budget: 0, budget_least: 0 }, health: { passive: { failures: 0 } }")+h2Routes)
			warm := call(t, p.addr.String()) // a connection that is used again: its end is then no race with idleness alone
			if head, _ := warm.say("GET /warm HTTP/1.1\r\nHost: h\r\n\r\n"); !strings.HasPrefix(head, "HTTP/1.1 200") {
				t.Fatal(head)
			}
			answer, _, err := call(t, p.addr.String()).try(c.request)
			if c.status == 0 && err == nil || c.status != 0 && !strings.HasPrefix(answer, fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
				t.Errorf("answered %q, %v; %s", answer, err, p.journal)
			}
			want := int64(1)
			if c.again {
				want = 2
				testkit.Eventually(t, "the body is there", func() bool {
					return c.request == get || b.count("DATA 3 once")+b.count("DATA 5 once")+b.count("DATA 1 once") > 0
				})
			}
			if n := asked.Load(); n != want {
				t.Errorf("the upstream was asked %d times; %q", n, b.all())
			}
		})
	}
}

// TestNobodyRefusesForEver: what is refused again and again is answered, after as many attempts as there may be.
func TestNobodyRefusesForEver(t *testing.T) {
	b := startH2Peer(t, nil, func(l *h2Link, h *http2.MetaHeadersFrame) {
		_ = l.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream)
	})
	p := startPlant(t, "loops: 1\n"+h2Upstream(b.addr, ", retries: { attempts: 3, budget: 0, budget_least: 0 }, health: { passive: { failures: 0 } }")+h2Routes)
	if a := p.ask("GET", "/"); a.status != 502 || b.count("HEADERS") > 4 || b.count("HEADERS") < 3 {
		t.Errorf("answered %d after %q", a.status, b.all())
	}
}
