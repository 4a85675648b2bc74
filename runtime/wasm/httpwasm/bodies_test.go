package httpwasm

import (
	"net/http"
	"strings"
	"testing"
)

// sent checks the framing that the upstream has seen: a length, or -1 for chunks.
func sent(length int64, check func(*testing.T, *origin)) func(*testing.T, *origin) {
	return func(t *testing.T, o *origin) {
		t.Helper()
		if o.seen.ContentLength != length {
			t.Errorf("the upstream got a length of %d, want %d", o.seen.ContentLength, length)
		}
		if check != nil {
			check(t, o)
		}
	}
}

func gotBody(want string) func(*testing.T, *origin) {
	return func(t *testing.T, o *origin) {
		t.Helper()
		if o.seenBody != want {
			t.Errorf("the upstream got %d bytes %.100q, want %d %.100q", len(o.seenBody), o.seenBody, len(want), want)
		}
	}
}

func trailed(check func(*testing.T, *origin), fields ...string) func(*testing.T, *origin) {
	return func(t *testing.T, o *origin) {
		t.Helper()
		check(t, o)
		wantTrailers(t, o.seen.Trailer, fields)
	}
}

func TestRequestBodies(t *testing.T) {
	long := strings.Repeat("abcdefgh", 100_000)
	tooLong := strings.Repeat("abcdefgh", 200_000)
	upper := strings.ToUpper(long)
	runAll(t, []story{
		{name: "left alone", send: "POST /", body: long, request: "N 0", upstream: sent(int64(len(long)), gotBody(long))},
		{name: "left alone, in chunks", send: "POST /", body: long, stream: true, request: "N 0", upstream: sent(-1, gotBody(long))},
		{name: "the feature alone costs nothing", send: "POST /", body: tooLong, request: "F 7;N 0", want: []string{"F 7 = 7"}, upstream: sent(int64(len(tooLong)), gotBody(tooLong))},
		{name: "read, then forwarded", send: "POST /", body: "question", request: "F 1;b 0 3;b 0 3;b 0 3;b 0 3;N 0",
			want: []string{"b 0 3 = 0 que", "b 0 3 = 0 sti", "b 0 3 = 1 on", "b 0 3 = 1 "}, upstream: sent(8, gotBody("question"))},
		{name: "read exactly to the end", send: "POST /", body: "question", request: "F 1;b 0 8;N 0", want: []string{"b 0 8 = 1 question"}, upstream: sent(8, gotBody("question"))},
		{name: "read in part, then forwarded", send: "POST /", body: long, request: "F 1;b 0 4;N 0", want: []string{"b 0 4 = 0 abcd"}, upstream: sent(int64(len(long)), gotBody(long))},
		{name: "long, read, then forwarded", send: "POST /", body: long, stream: true, request: "F 1;B 0 4096;N 0",
			want: []string{"B 0 4096 = 800000 " + sum(long) + " "}, upstream: sent(int64(len(long)), gotBody(long))},
		{name: "too long to hold", send: "POST /", body: tooLong, request: "F 1;B 0 4096;N 0", err: "body_too_large: plugin p, phase request: the request's body is over 1048576 bytes", noUpstream: true,
			client: func(t *testing.T, r reply) {
				if r.err == nil && r.status != 413 {
					t.Errorf("the client got %d", r.status)
				}
			}},
		{name: "none", request: "F 1;b 0 10;N 0", want: []string{"b 0 10 = 1 "}, upstream: sent(0, gotBody(""))},
		{name: "none, without the feature", request: "b 0 10;N 0", want: []string{"b 0 10 = 1 "}, upstream: sent(0, gotBody(""))},
		{name: "read away", send: "POST /", body: "question", request: "B 0 3;N 0", want: []string{"B 0 3 = 8 " + sum("question") + " question"}, upstream: sent(0, gotBody(""))},
		{name: "read away in part", send: "POST /", body: "question", request: "b 0 3;N 0", want: []string{"b 0 3 = 0 que"}, upstream: sent(5, gotBody("stion"))},
		{name: "long, read away in part", send: "POST /", body: long, request: "b 0 100000;N 0", upstream: sent(-1, gotBody(long[100_000:]))},
		{name: "too long to hold, read away", send: "POST /", body: tooLong, request: "B 0 100000;N 0", want: []string{"B 0 100000 = 1600000 " + sum(tooLong) + " "}, upstream: sent(0, gotBody(""))},
		{name: "replaced", send: "POST /", body: "question", request: "w 0 another ;w 0 one;N 0", upstream: sent(11, gotBody("another one"))},
		{name: "replaced by nothing", send: "POST /", body: "question", request: "w 0;N 0", upstream: sent(0, gotBody(""))},
		{name: "replaced after reading", send: "POST /", body: "question", request: "F 1;B 0 2;w 0 another;N 0", want: []string{"B 0 2 = 8 " + sum("question") + " question"}, upstream: sent(7, gotBody("another"))},
		{name: "read after replacing", send: "POST /", body: "question", request: "F 1;w 0 another;B 0 2;N 0", want: []string{"B 0 2 = 8 " + sum("question") + " question"}, upstream: sent(7, gotBody("another"))},
		{name: "replaced, read away in part", send: "POST /", body: "question", request: "b 0 3;w 0 another;N 0", upstream: sent(7, gotBody("another"))},
		{name: "long, replaced", send: "POST /", body: long, request: "w 0 another;N 0", upstream: sent(-1, gotBody("another"))},
		{name: "too long to hold, replaced", send: "POST /", body: tooLong, request: "w 0 another;N 0", upstream: sent(-1, gotBody("another"))},
		{name: "none, replaced", request: "w 0 one;N 0", upstream: sent(3, gotBody("one"))},
		{name: "changed piece by piece", send: "POST /", body: long, request: "T 0 1000;N 0", upstream: sent(int64(len(upper)), gotBody(upper))},
		{name: "changed piece by piece, held", send: "POST /", body: long, request: "F 1;T 0 1000;N 0", upstream: sent(int64(len(upper)), gotBody(upper))},
		{name: "a buffer of nothing", send: "POST /", body: "question", request: "b 0 0;N 0", err: "read_body: into a buffer of no bytes", noUpstream: true, client: refused},
		{name: "an unknown body", send: "POST /", body: "question", request: "b 2 9;N 0", err: "read_body: unknown body 2", noUpstream: true, client: refused},
		{name: "an unknown body to write", send: "POST /", body: "question", request: "w 2 9;N 0", err: "write_body: unknown body 2", noUpstream: true, client: refused},
		{name: "enabled at the start", config: "start:F 1;F 0;F 2", send: "POST /", body: "question", request: "B 0 3;F 4;F 255;N 0", want: []string{"F 1 = 1", "F 0 = 1", "F 2 = 3", "F 4 = 7", "F 255 = 7"},
			upstream: sent(8, gotBody("question"))},
	})
}

// wantTrailers checks that these are there, and no others: what was only announced is not.
func wantTrailers(t *testing.T, h http.Header, fields []string) {
	t.Helper()
	wantFields(t, h, fields)
	n := 0
	for _, values := range h {
		if len(values) > 0 {
			n++
		}
	}
	if n != len(fields) {
		t.Errorf("the trailers are %v", h)
	}
}

func TestRequestTrailers(t *testing.T) {
	long := strings.Repeat("abcdefgh", 100_000)
	two := []string{"x-sum: 1", "x-more: 2"}
	runAll(t, []story{
		{name: "left alone", send: "POST /", body: "b", stream: true, trailers: two, request: "F 4;N 0", upstream: trailed(sent(-1, gotBody("b")), "x-sum: 1", "x-more: 2")},
		{name: "not there yet", send: "POST /", body: "b", stream: true, trailers: two, request: "F 4;n 2;N 0", want: []string{"n 2 = 0:"}, upstream: trailed(gotBody("b"), "x-sum: 1", "x-more: 2")},
		{name: "seen", send: "POST /", body: long, stream: true, trailers: two, request: "F 5;n 2;g 2 X-Sum;g 0 x-sum;N 0", want: []string{"n 2 = 2:x-more,x-sum,", "g 2 X-Sum = 1:1,", "g 0 x-sum = 0:"},
			upstream: trailed(gotBody(long), "x-sum: 1", "x-more: 2")},
		{name: "changed", send: "POST /", body: "b", stream: true, trailers: two, request: "F 5;n 2;h 2 x-sum 3;H 2 x-more 4;H 2 x-new 5;g 2 x-more;h 2 content-length 9;h 2 host a;N 0",
			want: []string{"g 2 x-more = 2:2,4,"}, upstream: trailed(sent(-1, gotBody("b")), "x-sum: 3", "x-more: 2|4", "x-new: 5")},
		{name: "removed", send: "POST /", body: "b", stream: true, trailers: two, request: "F 5;r 2 x-sum;r 2 x-none;g 2 x-sum;N 0", want: []string{"g 2 x-sum = 0:"}, upstream: trailed(gotBody("b"), "x-more: 2")},
		{name: "changed before they are there", send: "POST /", body: long, stream: true, trailers: two, request: "F 4;h 2 x-sum 3;r 2 x-more;H 2 x-new 5;g 2 x-sum;N 0",
			want: []string{"g 2 x-sum = 1:3,"}, upstream: trailed(sent(-1, gotBody(long)), "x-sum: 3", "x-new: 5")},
		{name: "added to a body with a length", send: "POST /", body: "body", request: "F 4;h 2 x-sum 3;N 0", upstream: trailed(sent(-1, gotBody("body")), "x-sum: 3")},
		{name: "added to a body that is held", send: "POST /", body: "body", request: "F 5;B 0 3;h 2 x-sum 3;N 0", upstream: trailed(sent(-1, gotBody("body")), "x-sum: 3")},
		{name: "added to a body that is replaced", send: "POST /", body: long, stream: true, trailers: two, request: "F 4;w 0 short;h 2 x-sum 3;N 0", upstream: trailed(gotBody("short"), "x-sum: 3", "x-more: 2")},
		{name: "read at the end", send: "POST /", body: long, stream: true, trailers: two, request: "F 4;n 2;B 0 1000;g 2 x-sum;N 0", want: []string{"n 2 = 0:", "g 2 x-sum = 1:1,"}, upstream: trailed(gotBody(""), "x-sum: 1", "x-more: 2")},
		{name: "without a body", request: "F 5;n 2;h 2 x-sum 1;N 0", want: []string{"n 2 = 0:"}, upstream: trailed(sent(0, gotBody("")))},
		{name: "without the feature", send: "POST /", body: "b", stream: true, trailers: two, request: "F 1;B 0 3;n 2;N 0", want: []string{"n 2 = 0:"}, upstream: trailed(gotBody("b"), "x-sum: 1", "x-more: 2")},
		{name: "set without the feature", request: "h 2 x-sum 1;N 0", err: "set_header_value: of request trailers, without the feature trailers", client: refused, noUpstream: true},
		{name: "removed without the feature", request: "r 2 x-sum;N 0", err: "remove_header: of request trailers, without the feature trailers", client: refused, noUpstream: true},
		{name: "after the request", request: "F 4;N 0", response: "h 2 x-sum 1", err: "set_header_value: the request has been sent", client: refused},
	})
}

// got checks what the client got, with its framing, a length or -1, and its trailers.
func got(length int64, check func(*testing.T, reply), trailers ...string) func(*testing.T, reply) {
	return func(t *testing.T, r reply) {
		t.Helper()
		check(t, r)
		if r.length != length {
			t.Errorf("the client got a length of %d, want %d", r.length, length)
		}
		wantTrailers(t, r.trailers, trailers)
	}
}

func TestResponses(t *testing.T) {
	long := strings.Repeat("abcdefgh", 100_000)
	tooLong := strings.Repeat("abcdefgh", 200_000)
	plain := origin{status: 201, header: []string{"X-A: 1", "X-A: 2", "Content-Type: text/x"}, body: hello}
	none := origin{status: 204}
	runAll(t, []story{
		{name: "seen", origin: plain, request: "N 77", response: "s;g 1 x-a;n 1;g 0 host;m;u", client: got(19, answers(201, hello, "X-A: 1|2")),
			want: []string{"context 77 error 0", "s = 201", "g 1 x-a = 2:1,2,", "n 1 = 4:content-type,x-a,date,content-length,", "m = GET", "u = /path?q=1"}},
		{name: "the head changed", origin: plain, request: "N 4294967295", response: "S 202;h 1 x-a 3;H 1 x-b 4;H 1 x-b 5;r 1 content-type;s;g 1 x-a;h 1 content-length 3;h 1 transfer-encoding chunked",
			want: []string{"s = 202", "g 1 x-a = 1:3,"}, client: got(19, answers(202, hello, "X-A: 3", "X-B: 4|5", "Content-Type: -"))},
		{name: "the body read", origin: plain, request: "F 2;N 0", response: "b 1 5;B 1 7", want: []string{"b 1 5 = 0 hello", "B 1 7 = 14 " + sum(hello[5:]) + " " + hello[5:]}, client: got(19, answers(201, hello))},
		{name: "a long body read", origin: origin{body: long, chunked: true}, request: "F 2;N 0", response: "B 1 4096", want: []string{"B 1 4096 = 800000 " + sum(long) + " "}, client: got(800_000, answers(200, long))},
		{name: "a body too long to hold", origin: origin{body: tooLong}, request: "F 2;N 0", response: "B 1 4096", err: "body_too_large: plugin p, phase response: the answer's body is over 1048576 bytes",
			client: func(t *testing.T, r reply) { answers(502, "502 Bad Gateway: body_too_large\n")(t, r) }},
		{name: "a body too long to hold, left alone", origin: origin{body: tooLong}, request: "F 7;N 0", response: "S 203;h 1 x-a 1", client: got(-1, answers(203, tooLong, "X-A: 1"))},
		{name: "the body replaced", origin: plain, request: "F 2;N 0", response: "w 1 some ;w 1 thing", client: got(10, answers(201, "some thing"))},
		{name: "a long body replaced", origin: origin{body: long}, request: "N 0", response: "w 1 something", client: got(-1, answers(200, "something"))},
		{name: "a body too long to hold, replaced", origin: origin{body: tooLong}, request: "F 2;N 0", response: "w 1 something", client: got(-1, answers(200, "something"))},
		{name: "the body changed", origin: origin{body: long}, request: "F 2;N 0", response: "T 1 1000", client: got(800_000, answers(200, strings.ToUpper(long)))},
		{name: "the body read and replaced", origin: plain, request: "F 2;N 0", response: "b 1 5;w 1 something;b 1 6", want: []string{"b 1 5 = 0 hello", "b 1 6 = 0  from "}, client: got(9, answers(201, "something"))},
		{name: "the body read without the feature", origin: plain, request: "N 0", response: "b 1 5", err: "with the feature buffer_response only", client: refused},
		{name: "the feature comes too late", origin: plain, request: "N 0", response: "F 2;b 1 5", want: []string{"F 2 = 0"}, err: "with the feature buffer_response only", client: refused},
		{name: "the request cannot be changed", origin: plain, request: "N 0", response: "h 0 a b", err: "plugin_trap: plugin p, phase response: set_header_value: the request has been sent", client: refused},
		{name: "nor its method", origin: plain, request: "N 0", response: "M POST", err: "set_method: the request has been sent", client: refused},
		{name: "nor its URI", origin: plain, request: "N 0", response: "U /", err: "set_uri: the request has been sent", client: refused},
		{name: "nor its body", origin: plain, request: "N 0", response: "w 0 a", err: "write_body: the request has been sent", client: refused},
		{name: "nor can its body be read", origin: plain, request: "N 0", response: "b 0 5", err: "read_body: the request has been sent", client: refused},
		{name: "with the feature it has ended", origin: plain, send: "POST /", body: "question", request: "F 1;N 0", response: "b 0 5", want: []string{"b 0 5 = 1 "}, client: answers(201, hello)},
		{name: "handle_request is first", origin: plain, request: "S 418;h 1 x-a 3;H 1 x-b 4;r 1 content-type;N 0", response: "s;g 1 x-a", want: []string{"s = 201", "g 1 x-a = 1:3,"},
			client: got(19, answers(201, hello, "X-A: 3", "X-B: 4", "Content-Type: -"))},
		{name: "a body from handle_request", origin: plain, request: "w 1 early;N 0", client: got(5, answers(201, "early"))},
		{name: "a body from handle_request, for a long one", origin: origin{body: long}, request: "w 1 early;N 0", client: got(-1, answers(200, "early"))},
		{name: "a body from handle_request, read", origin: plain, request: "F 2;w 1 early;N 0", response: "B 1 3", want: []string{"B 1 3 = 5 " + sum("early") + " early"}, client: got(5, answers(201, "early"))},
		{name: "a body from handle_request, replaced", origin: plain, request: "F 2;w 1 early;N 0", response: "w 1 late;w 1 r", client: got(5, answers(201, "later"))},
		{name: "to HEAD", origin: plain, send: "HEAD /", request: "F 2;N 0", response: "b 1 5;w 1 x;S 200", want: []string{"b 1 5 = 1 "}, client: got(19, answers(200, ""))},
		{name: "no body", origin: none, request: "F 2;N 0", response: "s;b 1 5;w 1 x", want: []string{"s = 204", "b 1 5 = 1 "}, client: answers(204, "", "content-length: -")},
		{name: "a body after all", origin: origin{status: 204, header: []string{"X-A: 1"}}, request: "N 0", response: "S 200;w 1 so it is;h 1 x-b 2", client: got(8, answers(200, "so it is", "X-A: 1", "X-B: 2"))},
		{name: "a status with a body after all", origin: none, request: "N 0", response: "S 200", client: got(0, answers(200, ""))},
		{name: "a body from handle_request after all", origin: none, request: "w 1 early;N 0", response: "S 200", client: got(5, answers(200, "early"))},
		{name: "no body after all", origin: plain, request: "N 0", response: "S 204;w 1 x", client: answers(204, "", "X-A: 1|2", "content-length: -")},
		{name: "not modified after all", origin: plain, request: "N 0", response: "S 304;h 1 etag 1", client: answers(304, "", "ETag: 1")},
		{name: "an unknown status", origin: plain, request: "N 0", response: "S 600", err: "set_status_code: 600", client: refused},
	})
}

func TestResponseTrailers(t *testing.T) {
	long := strings.Repeat("abcdefgh", 100_000)
	with := func(body string) origin {
		return origin{body: body, chunked: true, trailers: []string{"X-Sum: 1", "X-More: 2"}}
	}
	runAll(t, []story{
		{name: "left alone", origin: with("b"), request: "F 4;N 0", client: got(-1, answers(200, "b"), "x-sum: 1", "x-more: 2")},
		{name: "not there yet", origin: with("b"), request: "F 4;N 0", response: "n 3", want: []string{"n 3 = 0:"}, client: got(-1, answers(200, "b"), "x-sum: 1", "x-more: 2")},
		{name: "seen", origin: with(long), request: "F 6;N 0", response: "n 3;g 3 X-Sum;B 1 5000", want: []string{"n 3 = 2:x-more,x-sum,", "g 3 X-Sum = 1:1,", "B 1 5000 = 800000 " + sum(long) + " "},
			client: got(-1, answers(200, long), "x-sum: 1", "x-more: 2")},
		{name: "changed", origin: with("b"), request: "F 6;N 0", response: "n 3;h 3 x-sum 3;H 3 x-more 4;r 3 x-none;H 3 x-new 5;g 3 x-more;h 3 set_cookie a", want: []string{"g 3 x-more = 2:2,4,"},
			client: got(-1, answers(200, "b"), "x-sum: 3", "x-more: 2|4", "x-new: 5")},
		{name: "changed before they are there", origin: with(long), request: "F 4;N 0", response: "h 3 x-sum 3;r 3 x-more;g 3 x-sum", want: []string{"g 3 x-sum = 1:3,"}, client: got(-1, answers(200, long), "x-sum: 3")},
		{name: "added", origin: origin{body: "b"}, request: "F 4;N 0", response: "h 3 x-sum 3", client: got(-1, answers(200, "b"), "x-sum: 3")},
		{name: "added in handle_request", origin: with("b"), request: "F 4;h 3 x-new 3;h 3 x-sum 9;N 0", response: "g 3 x-new", want: []string{"g 3 x-new = 1:3,"}, client: got(-1, answers(200, "b"), "x-sum: 9", "x-more: 2", "x-new: 3")},
		{name: "with a body that is replaced", origin: with(long), request: "F 4;N 0", response: "w 1 short;h 3 x-sum 3", client: got(-1, answers(200, "short"), "x-sum: 3", "x-more: 2")},
		{name: "without the feature", origin: with("b"), request: "F 2;N 0", response: "B 1 3;n 3", want: []string{"n 3 = 0:"}, client: got(-1, answers(200, "b"), "x-sum: 1", "x-more: 2")},
		{name: "set without the feature", origin: with("b"), request: "N 0", response: "h 3 x-sum 3", err: "of response trailers, without the feature trailers", client: refused},
	})
}

// TestErrorsOfTheUpstream: the guest sees them as what the client would get.
func TestErrorsOfTheUpstream(t *testing.T) {
	runAll(t, []story{
		{name: "seen", send: "GET /", request: "F 2;N 5", response: "s;B 1 100", origin: origin{status: -1},
			want: []string{"context 5 error 1", "s = 502", "B 1 100 = 33 " + sum("502 Bad Gateway: upstream_closed\n") + " 502 Bad Gateway: upstream_closed\n"},
			err:  "upstream_closed", client: answers(502, "502 Bad Gateway: upstream_closed\n")},
		{name: "made nicer", send: "GET /", request: "N 5", response: "S 200;w 1 try later;h 1 x-was error", origin: origin{status: -1}, err: "upstream_closed", client: got(9, answers(200, "try later", "x-was: error"))},
		{name: "with a trailer", send: "GET /", request: "F 4;N 5", response: "h 3 x-sum 1", origin: origin{status: -1}, err: "upstream_closed",
			client: got(-1, answers(502, "502 Bad Gateway: upstream_closed\n"), "x-sum: 1")},
	})
}

var _ http.Handler = (*origin)(nil)
