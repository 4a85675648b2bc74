package gateway_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

// TestCodesOfHTTP2AreTold: what an upstream ends a stream or its connection with, and what the gateway does, is in the error of the
// request, and on the spans of the attempt and of the connection, by RFC 9113's names.
func TestCodesOfHTTP2AreTold(t *testing.T) {
	head := func(l *h2Link, id uint32) {
		_ = l.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true}) // :status 200
	}
	for name, c := range map[string]struct {
		do      func(l *h2Link, id uint32)
		keys    string
		status  int // 0: the answer is cut off
		detail  string
		attempt []string // attributes of its span, and their values
		conn    []string // likewise
	}{
		"RST_STREAM": {func(l *h2Link, id uint32) { _ = l.WriteRSTStream(id, http2.ErrCodeEnhanceYourCalm) }, "", 502,
			"ENHANCE_YOUR_CALM", []string{"wasmgate.http2.reset.received", "ENHANCE_YOUR_CALM"}, []string{"wasmgate.http2.goaway.sent", "NO_ERROR"}},
		"RST_STREAM in a body": {func(l *h2Link, id uint32) { head(l, id); _ = l.WriteRSTStream(id, http2.ErrCodeInternal) }, "", 0,
			"INTERNAL_ERROR", []string{"wasmgate.http2.reset.received", "INTERNAL_ERROR"}, nil},
		"an unknown code": {func(l *h2Link, id uint32) { _ = l.WriteRSTStream(id, 0x77) }, "", 502,
			"0x77", []string{"wasmgate.http2.reset.received", "unknown error code 0x77"}, nil},
		"GOAWAY, not acted upon": {func(l *h2Link, _ uint32) { _ = l.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, nil) }, "", 502,
			"ENHANCE_YOUR_CALM", nil, []string{"wasmgate.http2.goaway.received", "ENHANCE_YOUR_CALM"}},
		"GOAWAY and an end": {func(l *h2Link, id uint32) { _ = l.WriteGoAway(id, http2.ErrCodeInternal, nil); l.conn.Close() }, "", 502,
			"after GOAWAY (INTERNAL_ERROR)", nil, []string{"wasmgate.http2.goaway.received", "INTERNAL_ERROR"}},
		"a breach of its stream": {func(l *h2Link, id uint32) { _ = l.WriteData(id, true, []byte("no head")) }, "", 502,
			"PROTOCOL_ERROR", []string{"wasmgate.http2.reset.sent", "PROTOCOL_ERROR"}, nil},
		"a breach of the connection": {func(l *h2Link, id uint32) { _ = l.WriteWindowUpdate(0, 1<<31-1) }, "", 502,
			"FLOW_CONTROL_ERROR", nil, []string{"wasmgate.http2.goaway.sent", "FLOW_CONTROL_ERROR"}},
		"no answer in time": {func(*h2Link, uint32) {}, "timeouts: { response_header: 100ms }", 504,
			"response_header", []string{"wasmgate.http2.reset.sent", "CANCEL"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := startH2Peer(t, nil, func(l *h2Link, h *http2.MetaHeadersFrame) { c.do(l, h.StreamID) })
			keys := ", retries: { attempts: 1 }"
			if c.keys != "" {
				keys += ", " + c.keys
			}
			s, collector := startTraced(t, nil, "sample: 1", "loops: 1\nlisteners: [{ name: test, address: '127.0.0.1:0' }]\n"+h2Upstream(b.addr, keys)+h2Routes)
			conn := call(t, s.at("test"))
			head, _, err := conn.try("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			if c.status == 0 && err == nil || c.status != 0 && !strings.HasPrefix(head, fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
				t.Errorf("answered %q, %v", head, err)
			}
			if l := s.lines(1)[0]; !strings.Contains(l.Detail, c.detail) {
				t.Errorf("the access log says %+v", l)
			}
			s.Close()
			attempt := collector.only(t, "POST web", "wasmgate.upstream", "web")
			for i := 0; i < len(c.attempt); i += 2 {
				if got := attribute(attempt, c.attempt[i]); got != c.attempt[i+1] {
					t.Errorf("the attempt's %s is %q: %v", c.attempt[i], got, attempt)
				}
			}
			segment := collector.only(t, "upstream.connection.segment")
			for i := 0; i < len(c.conn); i += 2 {
				if got := attribute(segment, c.conn[i]); got != c.conn[i+1] {
					t.Errorf("the connection's %s is %q: %v", c.conn[i], got, segment)
				}
			}
		})
	}
}
