package httpwasm

import (
	_ "embed"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
)

// The guests, built from testdata by .ci/plugins.
var (
	//go:embed testdata/kit.wasm
	kitGuest []byte
	//go:embed testdata/redact.wasm
	redactGuest []byte
	//go:embed testdata/auth.wasm
	authGuest []byte
)

// origin is what the backend answers, and what it has seen.
type origin struct {
	status   int
	header   []string // "name: value"
	body     string
	trailers []string
	chunked  bool

	seen     *http.Request
	seenBody string
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	o.seen, o.seenBody = r, string(b)
	for _, f := range o.header {
		name, value, _ := strings.Cut(f, ": ")
		w.Header().Add(name, value)
	}
	for _, f := range o.trailers {
		name, value, _ := strings.Cut(f, ": ")
		w.Header().Set(http.TrailerPrefix+name, value)
	}
	if o.status < 0 {
		panic(http.ErrAbortHandler) // the connection ends
	}
	if o.status > 0 {
		w.WriteHeader(o.status)
	}
	if o.chunked {
		_ = http.NewResponseController(w).Flush()
	}
	_, _ = io.WriteString(w, o.body)
}

// story is one exchange through the kit guest: what client and backend say, what the guest is told to do, and what must
// come of it.
type story struct {
	name              string
	config            string
	send              string   // default "GET /path?q=1"
	fields            []string // of the request
	body              string
	stream            bool // the body goes in chunks, with trailers if there are any
	trailers          []string
	request, response string // what the guest is told
	origin            origin
	want              []string // lines of the guest, in this order, others may be between
	not               []string // no line begins with that
	err               string   // of the exchange, a part
	upstream          func(t *testing.T, o *origin)
	client            func(t *testing.T, r reply)
	noUpstream        bool // it must see nothing
}

func (s *story) run(t *testing.T, o Options) {
	t.Helper()
	backend := httptest.NewServer(&s.origin)
	t.Cleanup(backend.Close)
	o.LogRate, o.Config = 1e6, []byte(s.config)
	p, j := load(t, kitGuest, o, wasm.Limits{})
	g := newGate(t, setup{backend: backend.Listener.Addr(), route: []filter.Filter{p}})
	if s.send == "" {
		s.send = "GET /path?q=1"
	}
	method, path, _ := strings.Cut(s.send, " ")
	var body io.Reader
	if s.body != "" || s.stream {
		body = strings.NewReader(s.body)
	}
	if s.stream {
		body = io.MultiReader(body)
	}
	r, err := http.NewRequest(method, g.url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range append([]string{"x-request: " + s.request, "x-response: " + s.response}, s.fields...) {
		name, value, _ := strings.Cut(f, ": ")
		if r.Header.Add(name, value); name == "Host" {
			r.Host = value
		}
	}
	if len(s.trailers) > 0 {
		r.Trailer = http.Header{}
		for _, f := range s.trailers {
			name, value, _ := strings.Cut(f, ": ")
			r.Trailer.Add(name, value)
		}
	}
	got := g.do(r)
	eventually(t, "the exchange ends", func() bool { return len(g.watcher.all()) == 1 })
	s.check(t, got, j, g.watcher.all()[0])
	if n := p.Stats().Live; n < 1 && s.err == "" {
		t.Errorf("%d instances", n)
	}
}

func (s *story) check(t *testing.T, got reply, j *journal, e ended) {
	t.Helper()
	var said []string
	for _, l := range j.all() {
		if l.Guest {
			said = append(said, l.Text)
		}
	}
	rest := said
	for _, want := range s.want {
		i := slices.Index(rest, want)
		if i < 0 {
			t.Errorf("the guest did not say %q, or not in this order:\n%s", want, strings.Join(said, "\n"))
			break
		}
		rest = rest[i+1:]
	}
	for _, not := range s.not {
		if slices.ContainsFunc(said, func(l string) bool { return strings.HasPrefix(l, not) }) {
			t.Errorf("the guest said %q:\n%s", not, strings.Join(said, "\n"))
		}
	}
	if !strings.Contains(e.err, s.err) || s.err == "" && e.err != "" {
		t.Errorf("the exchange ended with %q, want %q", e.err, s.err)
	}
	switch {
	case s.noUpstream && s.origin.seen != nil:
		t.Error("the upstream has seen the request")
	case s.upstream != nil && s.origin.seen == nil:
		t.Error("the upstream has not seen the request")
	case s.upstream != nil:
		s.upstream(t, &s.origin)
	}
	if s.client != nil {
		s.client(t, got)
	}
	if got.err != nil && s.err == "" {
		t.Errorf("the client: %v", got.err)
	}
}

// answers checks status, body and fields "name: value" of what the client got; "name: -" is a field that is not there.
func answers(status int, body string, fields ...string) func(*testing.T, reply) {
	return func(t *testing.T, r reply) {
		t.Helper()
		if r.status != status || r.body != body {
			t.Errorf("the client got %d %.200q, want %d %.200q", r.status, r.body, status, body)
		}
		wantFields(t, r.header, fields)
	}
}

func wantFields(t *testing.T, h http.Header, fields []string) {
	t.Helper()
	for _, f := range fields {
		name, want, _ := strings.Cut(f, ": ")
		got := strings.Join(h.Values(name), "|")
		if want == "-" {
			want = ""
		}
		if got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// sees checks line, body and fields of what the upstream got.
func sees(line, body string, fields ...string) func(*testing.T, *origin) {
	return func(t *testing.T, o *origin) {
		t.Helper()
		if got := o.seen.Method + " " + o.seen.RequestURI; got != line || o.seenBody != body {
			t.Errorf("the upstream got %q %.200q, want %q %.200q", got, o.seenBody, line, body)
		}
		wantFields(t, o.seen.Header, fields)
	}
}

func runAll(t *testing.T, stories []story) {
	for i := range stories {
		t.Run(stories[i].name, func(t *testing.T) { stories[i].run(t, Options{}) })
	}
}

const hello = "hello from upstream"

func TestRequestFunctions(t *testing.T) {
	runAll(t, []story{
		{
			name: "what there is to read", send: "POST /a%20b?x=%26&y", fields: []string{"Host: example.com:81", "Multi: one", "multi: two", "Empty: "}, body: "b",
			request: "m;u;p;g 0 host;g 0 HOST;g 0 multi;g 0 empty;g 0 none;G 0 100 multi;G 0 8 multi;G 0 7 multi;G 0 0 multi;G 0 0 none;N 0",
			want: []string{
				"m = POST", "u = /a%20b?x=%26&y", "p = HTTP/1.1", "g 0 host = 1:example.com:81,", "g 0 HOST = 1:example.com:81,", "g 0 multi = 2:one,two,",
				"g 0 empty = 1:,", "g 0 none = 0:", "G 0 100 multi = 2:8:one\x00two\x00", "G 0 8 multi = 2:8:one\x00two\x00", "G 0 7 multi = 2:8:........",
				"G 0 0 multi = 2:8:........", "G 0 0 none = 0:0:........", "context 0 error 0",
			},
			upstream: sees("POST /a%20b?x=%26&y", "b", "multi: one|two"), client: answers(200, hello), origin: origin{body: hello},
		},
		{
			name: "names", fields: []string{"B-Two: 1", "A-One: 2", "b-two: 3", "User-Agent: me", "Accept-Encoding: none"}, request: "n 0;n 1;n 2;n 3;N 0",
			want: []string{"n 0 = 7:host,user-agent,a-one,accept-encoding,b-two,x-request,x-response,", "n 1 = 0:", "n 2 = 0:", "n 3 = 0:"},
		},
		{
			name: "what there is to change", fields: []string{"Gone: 1", "Gone: 2", "Set: 1", "Set: 2", "Added: 1"},
			request:  "M PATCH;U /new/./path/../x?a=b;h 0 set  3;H 0 added 2;r 0 gone;h 0 host other:8080;h 0 new x y;g 0 set;g 0 host;m;u;N 9",
			want:     []string{"g 0 set = 1:3,", "g 0 host = 1:other:8080,", "m = PATCH", "u = /new/x?a=b", "context 9 error 0"},
			upstream: sees("PATCH /new/x?a=b", "", "Set: 3", "Added: 1|2", "Gone: -", "New: x y"),
		},
		{name: "a URI without a query", request: "U /only;N 0", upstream: sees("GET /only", "")},
		{name: "an empty query", request: "U /only?;u;N 0", want: []string{"u = /only?"}, upstream: sees("GET /only?", "")},
		{name: "no URI", request: "U ;u;N 0", want: []string{"u = /"}, upstream: sees("GET /", "")},
		{name: "an absolute URI", request: "U http://elsewhere:80/p?q;N 0", upstream: sees("GET /p?q", "")},
		{name: "an absolute URI without a path", request: "U http://elsewhere?q;N 0", upstream: sees("GET /?q", "")},
		{name: "a URI with a URI in its query", request: "U /to?url=http://x/y;N 0", upstream: sees("GET /to?url=http://x/y", "")},
		{name: "a bad URI", request: "U /a b;N 0", upstream: sees("GET /a", "")}, // the step's word ends there
		{name: "a URI that is none", request: "U not/a/path;N 0", err: `plugin_answer: plugin p, phase request: set_uri: "not/a/path" is not a valid URI`, noUpstream: true, client: refused},
		{name: "a fragment", request: "U /a#b;N 0", err: `set_uri: "/a#b" is not a valid URI`, noUpstream: true, client: refused},
		{name: "HEAD", request: "M HEAD;N 0", err: `set_method: "HEAD"`, noUpstream: true, client: refused},
		{name: "CONNECT", request: "M CONNECT;N 0", err: `set_method: "CONNECT"`, noUpstream: true, client: refused},
		{name: "no method", request: "M ;N 0", err: `set_method: ""`, noUpstream: true, client: refused},
		{name: "a bad name", request: "h 0 a:b 1;N 0", err: `set_header_value: "a:b" is not a valid field name`, noUpstream: true, client: refused},
		{name: "an empty name", request: "H 0", err: `add_header_value: "" is not a valid field name`, noUpstream: true, client: refused},
		{name: "an empty name to read", request: "g 0", err: "plugin_trap: plugin p, phase request: get_header_values: no name", noUpstream: true, client: refused},
		{name: "a value to be trimmed", request: "E 0 a 2009610d0a62200a;g 0 a;N 0", want: []string{"g 0 a = 1:a  b,"}, upstream: sees("GET /path?q=1", "", "a: a  b")},
		{name: "a value that is not ASCII", request: "E 0 a c3bc80;N 0", upstream: sees("GET /path?q=1", "", "a: \xc3\xbc\x80")},
		{name: "a value with NUL", request: "E 0 a 610062;N 0", err: `set_header_value: "a": not a valid field value`, noUpstream: true, client: refused},
		{name: "an answer's value with a control character", request: "E 1 a 611b62", err: `set_header_value: "a": not a valid field value`, noUpstream: true, client: refused},
		{name: "no other spelling stays", fields: []string{"X_User: root", "x-user: admin", "X_Role: admin"}, request: "h 0 X-User anna;r 0 x-role;N 0",
			upstream: func(t *testing.T, o *origin) {
				if h := o.seen.Header; len(h["X_user"]) > 0 || len(h["X_role"]) > 0 || len(h["X-User"]) != 1 || h.Get("X-User") != "anna" {
					t.Errorf("the upstream saw %v", h)
				}
			}},
		{name: "a bad Host", request: "h 0 host a/b;N 0", err: `"a/b" is not a valid Host`, noUpstream: true, client: refused},
		{name: "an unknown kind", request: "g 4 a", err: "unknown kind of fields 4", noUpstream: true, client: refused},
		{name: "framing is the gateway's", send: "POST /", body: "body",
			request: "h 0 content-length 9;h 0 Transfer_Encoding chunked;H 0 connection x-keep;h 0 content_length 7;r 0 content-length;r 0 host;g 0 content-length;h 0 x-keep 1;N 0",
			want:    []string{"g 0 content-length = 1:4,"},
			upstream: func(t *testing.T, o *origin) {
				sees("POST /", "body", "content_length: -", "Transfer_Encoding: -", "X-Keep: 1", "Connection: -")(t, o)
				if o.seen.ContentLength != 4 || o.seen.Host == "" {
					t.Errorf("length %d, host %q", o.seen.ContentLength, o.seen.Host)
				}
			},
		},
	})
}

// refused is what a client gets whose request failed by the plugin's fault.
func refused(t *testing.T, r reply) {
	t.Helper()
	if r.status != 503 || !strings.HasPrefix(r.body, "503 Service Unavailable: plugin_") {
		t.Errorf("the client got %d %q", r.status, r.body)
	}
}

func TestAnswersOfTheGuestsOwn(t *testing.T) {
	runAll(t, []story{
		{name: "nothing", request: "s", want: []string{"s = 200"}, not: []string{"context"}, client: answers(200, ""), noUpstream: true},
		{name: "everything", request: "S 418;h 1 x-a 1;h 1 x-a 2;H 1 x-a 3;H 1 set-cookie a=1;H 1 set-cookie b=2;h 1 gone 1;r 1 gone;w 1 tea;w 1  and more;h 1 content-length 3;n 1;g 1 x-a;s",
			want:   []string{"n 1 = 2:x-a,set-cookie,", "g 1 x-a = 2:2,3,", "s = 418"},
			client: answers(418, "tea and more", "x-a: 2|3", "Set-Cookie: a=1|b=2", "gone: -", "content-length: 12"), noUpstream: true},
		{name: "to HEAD", send: "HEAD /", request: "w 1 tea", client: answers(200, "", "content-length: 3"), noUpstream: true},
		{name: "without a body", request: "S 204;w 1 tea", client: answers(204, "", "content-length: -"), noUpstream: true},
		{name: "not modified", request: "S 304;w 1 tea;h 1 etag \"a\"", client: answers(304, "", "etag: \"a\""), noUpstream: true},
		{name: "a redirect", request: "S 302;h 1 location /there", client: answers(302, "", "location: /there"), noUpstream: true},
		{name: "trailers", request: "F 4;w 1 tea;h 3 x-sum 1;H 3 x-sum 2;n 3;g 3 x-sum;h 3 content-length 7;h 3 x_forwarded_for a", want: []string{"n 3 = 1:x-sum,", "g 3 x-sum = 2:1,2,"},
			client: func(t *testing.T, r reply) {
				answers(200, "tea")(t, r)
				if got := fmt.Sprint(r.trailers); got != "map[X-Sum:[1 2]]" {
					t.Errorf("trailers %s", got)
				}
			}, noUpstream: true},
		{name: "after the request's body", send: "POST /", body: "question", request: "B 0 3;w 1 answer", want: []string{"B 0 3 = 8 " + sum("question") + " question"}, client: answers(200, "answer"), noUpstream: true},
		{name: "a status that is none", request: "S 99", err: "set_status_code: 99", client: refused, noUpstream: true},
		{name: "101", request: "S 101", err: "set_status_code: 101", client: refused, noUpstream: true},
		{name: "a negative status", request: "S -1", err: "set_status_code: -1", client: refused, noUpstream: true},
		{name: "a long body", request: "W 1 1000 a", client: answers(200, strings.Repeat("a", 1_000_000)), noUpstream: true},
		{name: "a body that is too long", request: "W 1 1100 a", err: "write_body: a body of more than 1048576 bytes", client: refused, noUpstream: true},
		{name: "the answer's body before there is one", request: "b 1 10", want: []string{"b 1 10 = 1 "}, client: answers(200, ""), noUpstream: true},
		{name: "trailers without the feature", request: "n 3;g 2 a;h 3 a b", want: []string{"n 3 = 0:", "g 2 a = 0:"}, err: "of response trailers, without the feature trailers", client: refused, noUpstream: true},
	})
}

// sum is how the guest sums up a text.
func sum(s string) string {
	n := uint32(0)
	for i := range len(s) {
		n = n*31 + uint32(s[i])
	}
	return fmt.Sprint(n)
}
