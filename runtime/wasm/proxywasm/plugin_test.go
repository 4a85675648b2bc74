package proxywasm

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// what New says of the probe, which imports one function that nobody has.
const unknown = "! the module imports what the host does not have, and is answered UNIMPLEMENTED where it calls it: env.proxy_never_heard_of(i32,i64)->(i32)"

// quiet starts the probe and forgets what it says while it starts.
func (b *bench) quiet(o Options, script ...string) *Plugin {
	b.t.Helper()
	p := b.probe(o, script...)
	b.says()
	return p
}

func TestCallbacksComeInOrder(t *testing.T) {
	b := newBench(t)
	p := b.probe(Options{VMConfig: []byte("vm")})
	b.wantSays(unknown, "create(1 0)", "vm_start(1 2)", "vm config -> 0 vm", "configure(1 0)")
	for name, c := range map[string]struct {
		request, answer message
		want            []string
	}{
		"no body": {message{head: simpleHead}, message{head: "HTTP/1.1 204 No Content"}, []string{"request(%d 5 1)", "response(%d 1 1)"}},
		"empty bodies": {message{head: "POST / HTTP/1.1\nHost: h\nContent-Length: 0"}, message{head: "HTTP/1.1 200 OK\nContent-Length: 0"},
			[]string{"request(%d 5 1)", "response(%d 2 1)"}},
		"bodies with a length come whole": {message{head: "POST / HTTP/1.1\nHost: h", body: []string{"ab", "cd"}}, okAnswer,
			[]string{"request(%d 5 0)", "request_body(%d 4 1)", "response(%d 3 0)", "response_body(%d 5 1)"}},
		"chunks": {message{head: "POST / HTTP/1.1\nHost: h", body: []string{"ab", "cd"}, chunked: true}, message{head: "HTTP/1.1 200 OK", body: []string{"a", "b", "c"}, chunked: true},
			[]string{"request(%d 5 0)", "request_body(%d 2 0)", "request_body(%d 2 1)", "response(%d 2 0)", "response_body(%d 1 0)", "response_body(%d 1 0)", "response_body(%d 1 1)"}},
		"trailers": {message{head: "POST / HTTP/1.1\nHost: h", body: []string{"ab"}, trailers: []string{"x-sum", "1"}}, message{head: "HTTP/1.1 200 OK", body: []string{"a", "b"}, trailers: []string{"x-a", "1", "x-b", "2"}},
			[]string{"request(%d 5 0)", "request_body(%d 2 0)", "request_trailers(%d 1)", "response(%d 2 0)", "response_body(%d 1 0)", "response_body(%d 1 0)", "response_trailers(%d 2)"}},
	} {
		t.Run(name, func(t *testing.T) {
			b.t = t
			r := b.exchange(c.request, c.answer, p)
			if r.err != nil || r.sendErr != nil || r.sent != strings.Join(c.request.body, "") || r.got != strings.Join(c.answer.body, "") {
				t.Errorf("%v %v: sent %q, got %q", r.err, r.sendErr, r.sent, r.got)
			}
			got := b.says()
			var id int
			_, _ = fmt.Sscanf(got[0], "create(%d", &id)
			want := []string{fmt.Sprintf("create(%d 1)", id)}
			for _, w := range append(c.want, "done(%d)", "log(%d)", "delete(%d)") {
				want = append(want, fmt.Sprintf(w, id))
			}
			if strings.Join(got, " ") != strings.Join(want, " ") {
				t.Errorf("%q\nwant %q", got, want)
			}
		})
	}
	if s := p.Stats(); s.Streams != 0 || s.Live != 1 || s.Started != 1 || s.Calls == 0 || s.Fuel == 0 || s.MemoryBytes == 0 {
		t.Errorf("%+v", s)
	}
}

func TestMaps(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{},
		"request pairs 0", "request get 0 x-tenant", "request get 0 :path", "request get 0 host", "request get 0 nope", "request get 2 :status", "request pairs 2",
		"request size 0", "request pairs 6",
		"request set 0 x-tenant new", "request add 0 x-tenant newer", "request set 0 X-New %svalue%s", "request del 0 user-agent",
		"request set 0 :path /other?x=2", "request set 0 :authority other.example:81", "request set 0 :method POST", "request set 0 connection close",
		"request del 0 :method", "request set 2 x y",
		"request set 0 x%sy z", "request set 0 x z%n", "request set 0 :path nothing", "request set 0 :method CONNECT", "request set 0 :nope x",
		"response pairs 2", "response get 2 :status", "response set 2 :status 404", "response set 2 :status 101", "response setpairs 2 a 1 b 2 a 3", "response pairs 2", "response get 0 x-new", "response set 0 x-new y",
		"log get 0 x-new", "log get 2 a")
	r := b.exchange(message{head: simpleHead + "\nUser-Agent: u\nX_New: c\nUser_Agent: v"}, okAnswer, p) // no other spelling of what is set or removed stays
	b.wantSays("create(2 1)", "request(2 8 1)",
		"pairs -> 0 :authority=example.com :path=/app?q=1 :method=GET :scheme=http x-tenant=acme user-agent=u x_new=c user_agent=v",
		"get -> 0 acme", "get -> 0 /app?q=1", "get -> 0 example.com", "get -> 1", "get -> 1", "pairs -> 0",
		"size -> 0 179", "pairs -> 0",
		"set -> 0", "add -> 0", "set -> 0", "del -> 0",
		"set -> 0", "set -> 0", "set -> 0", "set -> 0",
		"del -> 0", "set -> 2",
		"set -> 2", "set -> 2", "set -> 2", "set -> 2", "set -> 2",
		"response(2 3 0)", "pairs -> 0 :status=200 server=s content-length=5", "get -> 0 200", "set -> 0", "set -> 2", "setpairs -> 0", "pairs -> 0 :status=404 a=1 b=2 a=3", "get -> 0 value", "set -> 2",
		"response_body(2 5 1)", "done(2)", "log(2)", "get -> 0 value", "get -> 0 1", "delete(2)")
	q := &r.x.Request
	if got := fields(&q.Head); got != "Host: other.example:81\nx-tenant: new\nx-tenant: newer\nX-New: value\n" {
		t.Errorf("%q", got)
	}
	if string(q.Method) != "POST" || string(q.Path) != "/other" || string(q.Query()) != "x=2" || string(q.Authority) != "other.example:81" {
		t.Errorf("%s %s %s %s", q.Method, q.Path, q.Query(), q.Authority)
	}
	if got := fields(&r.x.Response.Head); got != "a: 1\nb: 2\na: 3\n" || r.x.Response.Status != 404 {
		t.Errorf("%d %q", r.x.Response.Status, got)
	}
}

func TestTrailersCanBeReadChangedAndAdded(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{}, "request_trailers pairs 1", "request_trailers set 1 x-sum 2", "request_trailers add 1 content-length 3",
		"response_end add 3 x-added yes", "response_end pairs 3", "request_body get 1 x-sum")
	r := b.exchange(message{head: "POST / HTTP/1.1\nHost: h", body: []string{"ab"}, trailers: []string{"x-sum", "1"}},
		message{head: "HTTP/1.1 200 OK", body: []string{"a"}, chunked: true}, p)
	b.wantSays("create(2 1)", "request(2 5 0)", "request_body(2 2 0)", "get -> 1", "request_trailers(2 1)", "pairs -> 0 x-sum=1", "set -> 0", "add -> 0",
		"response(2 2 0)", "response_body(2 1 1)", "add -> 0", "pairs -> 0 x-added=yes", "done(2)", "log(2)", "delete(2)")
	if got := fields(r.request.Trailers()); got != "x-sum: 2\n" {
		t.Errorf("%q", got)
	}
	if got := fields(r.answer.Trailers()); got != "x-added: yes\n" {
		t.Errorf("%q", got)
	}
}

func TestValuesThatAreNotUTF8(t *testing.T) {
	for policy, want := range map[NonUTF8][]string{
		Replace: {"get -> 0 a\uFFFDb", "x-bad=a\uFFFDb"}, Drop: {"get -> 1", ""}, Pass: {"get -> 0 a\uFFFDb", "x-bad=a\uFFFDb"}, // the log replaces too
	} {
		b := newBench(t)
		p := b.quiet(Options{NonUTF8: policy}, "request get 0 x-bad", "request pairs 0", "request copy 0 x-bad 0 x-copy", "request prop request%zheaders%zx-bad")
		r := b.exchange(message{head: "GET / HTTP/1.1\nHost: h\nX-Bad: a\xffb"}, okAnswer, p)
		says := strings.Join(b.says(), "\n")
		for _, w := range want {
			if !strings.Contains(says, w) {
				t.Errorf("%d: no %q in %s", policy, w, says)
			}
		}
		copied, _ := r.x.Request.Get("x-copy")
		if wantCopy := map[NonUTF8]string{Replace: "a\uFFFDb", Drop: "", Pass: "a\xffb"}[policy]; string(copied) != wantCopy {
			t.Errorf("%d: the guest saw %q, want %q", policy, copied, wantCopy)
		}
		if original, _ := r.x.Request.Get("x-bad"); string(original) != "a\xffb" {
			t.Errorf("the upstream gets %q", original)
		}
	}
}

func TestProperties(t *testing.T) {
	b := newBench(t)
	script := []string{"configure prop plugin_name", "configure prop request%zpath", "configure setprop of%zroot v", "configure prop of%zroot"}
	for _, p := range []string{
		"plugin_name", "plugin_root_id", "plugin_vm_id", "route_name", "cluster_name", "node%zid", "node%zmetadata%zNAMESPACE", "node%zmetadata%znope",
		"request%zpath", "request%zurl_path", "request%zquery", "request%zhost", "request%zscheme", "request%zmethod", "request%zprotocol", "request%zheaders%zx-tenant",
		"request%zheaders%z:path", "request.headers.x-tenant", "request.path", "request%zreferer", "request%zheaders%znope", "nope",
		"source%zaddress", "destination%zaddress", "upstream%zaddress", "response%zcode", "of%zroot",
	} {
		script = append(script, "request prop "+p)
	}
	for _, p := range []string{"source%zport", "destination%zport", "connection%zid", "connection_id", "listener_direction", "request%zsize"} {
		script = append(script, "request propint "+p)
	}
	script = append(script, "request setprop my%zown value", "request prop my%zown", "response prop my%zown", "response propint response%zcode", "response prop response%zheaders%zserver",
		"log propint request%zsize", "log prop my%zown")
	o := Options{Name: "n", RootID: "root", VMID: "id", Node: Node{ID: "node1", Metadata: map[string]string{"NAMESPACE": "ns"}}, Grants: Grants{Upstreams: []string{"zero", "one"}}}
	p := b.probe(o, script...)
	b.wantSays(unknown, "create(1 0)", "vm_start(1 0)", fmt.Sprintf("configure(1 %d)", len(strings.Join(script, "\n"))), "prop -> 0 n", "prop -> 1", "setprop -> 0", "prop -> 0 v")
	other := b.quiet(Options{Name: "other"}, "request prop my%zown", "log prop my%zown")
	var r *ride
	b.on(func(task *netloop.Task) {
		r = b.begin(task, message{head: simpleHead})
		r.x.Target.Upstream = 1
		r.ask(filter.Route, p, other)
		r.forward(task)
		r.reply(task, okAnswer, p, other)
		r.end(p, other)
	})
	want := []string{"create(2 1)", "request(2 5 1)",
		"prop -> 0 n", "prop -> 0 root", "prop -> 0 id", "prop -> 0 r", "prop -> 0 one", "prop -> 0 node1", "prop -> 0 ns", "prop -> 1",
		"prop -> 0 /app?q=1", "prop -> 0 /app", "prop -> 0 q=1", "prop -> 0 example.com", "prop -> 0 http", "prop -> 0 GET", "prop -> 0 HTTP/1.1", "prop -> 0 acme",
		"prop -> 0 /app?q=1", "prop -> 0 acme", "prop -> 0 /app?q=1", "prop -> 1", "prop -> 1", "prop -> 1",
		"prop -> 0 192.0.2.7:4711", "prop -> 0 192.0.2.1:80", "prop -> 1", "prop -> 1", "prop -> 1",
		"propint -> 0 4711", "propint -> 0 80", "propint -> 0 7", "propint -> 0 7", "propint -> 0 2", "propint -> 0 0",
		"setprop -> 0", "prop -> 0 value",
		"create(2 1)", "request(2 5 1)", "prop -> 0 value",
		"response(2 3 0)", "response_body(2 5 1)",
		"response(2 3 0)", "prop -> 0 value", "propint -> 0 200", "prop -> 0 s", "response_body(2 5 1)",
		"done(2)", "log(2)", "propint -> 0 0", "prop -> 0 value", "delete(2)",
		"done(2)", "log(2)", "prop -> 0 value", "delete(2)"}
	b.wantSays(want...)
}

func TestSmallFunctions(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{LogLevel: wasm.LogInfo}, "request unknown", "request time", "request level", "request status", "request foreign clear_route_cache x", "request foreign compress x", "request foreign declare_property x",
		"request loglevel 1 hidden", "request loglevel 3 warned", "request loglevel 9 x", "request grpccall auth s m 1 x", "request grpcsend 1 x 0", "request stream 77", "request done", "request resume 2", "request resume 9", "request bodystatus 6", "request bodystatus 0", "request body 8", "request body 99",
		"request_end bodystatus 0", "request_end body 0 1 2", "request_end body 0 9", "request_end body 7 0 7")
	b.exchange(message{head: "POST / HTTP/1.1\nHost: h", body: []string{"abcd"}}, okAnswer, p)
	b.wantSays("create(2 1)", "request(2 5 0)", "unknown -> 12", "time -> 0 now", "level -> 0 2", "status -> 0 0 ", "foreign -> 0", "foreign -> 1", "foreign -> 0",
		"log -> 0", "warned", "log -> 0", "log -> 2", `! a gRPC call to "auth" was refused: the plugin is not granted calls to an upstream of that name`, "grpccall -> 2 0", "grpcsend -> 1",
		"effective -> 2", "done -> 1", "resume -> 2", "resume -> 2", "bodystatus -> 0 0", "bodystatus -> 1 0", "body -> 1", "body -> 2",
		"request_body(2 4 1)", "bodystatus -> 0 4", "body -> 0 bc", "body -> 0 ", "body -> 0 request",
		"response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)", "delete(2)")
}

func TestLocalResponses(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		head   string
		status int
		fields string
		body   string
	}{
		"from headers":  {"request respond 403 no -1 x-why because", simpleHead, 403, "x-why: because\nContent-Type: text/plain\n", "no"},
		"without body":  {"request respond 204 ignored -1", simpleHead, 204, "", ""},
		"with its type": {"request respond 200 {} -1 content-type application/json connection close", simpleHead, 200, "content-type: application/json\n", "{}"},
		"gRPC": {"request respond 403 not%sallowed 7 x-why because", "POST / HTTP/1.1\nHost: h\nContent-Type: application/grpc+proto", 200,
			"x-why: because\nContent-Type: application/grpc\ngrpc-status: 7\ngrpc-message: not allowed\n", ""},
		"gRPC by status": {"request respond 404 %% -1", "POST / HTTP/1.1\nHost: h\nContent-Type: application/grpc", 200,
			"Content-Type: application/grpc\ngrpc-status: 12\ngrpc-message: %25\n", ""},
		"overrides Pause": {"request respond 403 no -1\nrequest return 1", simpleHead, 403, "Content-Type: text/plain\n", "no"},
		"the first":       {"request respond 403 no -1\nrequest respond 404 never -1", simpleHead, 403, "Content-Type: text/plain\n", "no"},
		"from the body":   {"request_end respond 413 big -1", "POST / HTTP/1.1\nHost: h", 413, "Content-Type: text/plain\n", "big"},
		"on the answer":   {"response respond 502 bad -1", simpleHead, 502, "Content-Type: text/plain\n", "bad"},
		"on its body":     {"response_end respond 502 bad -1", simpleHead, 502, "Content-Type: text/plain\n", "bad"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			p := b.quiet(Options{}, c.script)
			m := message{head: c.head}
			if strings.HasPrefix(c.head, "POST") {
				m.body = []string{"body"}
			}
			r := b.exchange(m, okAnswer, p)
			x := r.x
			if r.verdict != filter.Respond || r.err != nil || !x.Local.Set || x.Local.Status != c.status || x.Response.Status != c.status {
				t.Fatalf("%v %v %+v", r.verdict, r.err, x.Local)
			}
			if got := fields(&x.Response.Head); got != c.fields || string(x.Local.Body) != c.body {
				t.Errorf("%q %q", got, x.Local.Body)
			}
		})
	}
	b := newBench(t)
	p := b.quiet(Options{}, "request respond 99 x -1", "request respond 200 x -1 a%n b", "log respond 200 x -1")
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.verdict != filter.Continue || r.got != "hello" {
		t.Errorf("%v %q", r.verdict, r.got)
	}
	b.wantSays("create(2 1)", "request(2 5 1)", "respond -> 2", "respond -> 2", "response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)",
		"! send_local_response came when the answer had begun: it has no effect", "respond -> 0", "delete(2)")
}

func TestRoutesAreMatchedAgain(t *testing.T) {
	for script, want := range map[string]filter.Verdict{
		"request set 0 :authority other":                                   filter.Rematch,
		"request set 0 :path /other":                                       filter.Rematch,
		"request set 0 :path /app?q=2":                                     filter.Rematch,
		"request set 0 :path /app?q=1":                                     filter.Continue,
		"request set 0 :authority example.com":                             filter.Continue,
		"request set 0 x-route b":                                          filter.Continue,
		"request set 0 x-route b\nrequest foreign clear_route_cache x":     filter.Rematch,
		"request foreign clear_route_cache x":                              filter.Continue,
		"request set 0 :path /other\nrequest set 0 :path /app?q=1":         filter.Continue,
		"request set 0 :path /other\nrequest respond 200 x -1":             filter.Respond,
		"request set 0 :path /a/../b\nrequest foreign clear_route_cache x": filter.Rematch,
	} {
		b := newBench(t)
		p := b.quiet(Options{}, script)
		b.on(func(task *netloop.Task) {
			for role, want := range map[filter.Role]filter.Verdict{filter.Route: want, filter.Listener: filter.Continue, filter.Match: filter.Continue} {
				if strings.Contains(script, "respond") {
					want = filter.Respond
				}
				r := b.begin(task, message{head: simpleHead})
				r.ask(role, p)
				r.end(p)
				if r.verdict != want || r.err != nil {
					t.Errorf("%q as %d: %v %v, want %v", script, role, r.verdict, r.err, want)
				}
			}
		})
	}
}

func TestStreamsCanBeClosed(t *testing.T) {
	for _, script := range []string{"request close 0", "request_end close 0", "response close 1"} {
		b := newBench(t)
		p := b.quiet(Options{}, script)
		r := b.exchange(message{head: "POST / HTTP/1.1\nHost: h", body: []string{"ab"}}, okAnswer, p)
		if r.err == nil || r.err.Status != 0 || r.err.Kind != fault.Denied || r.err.Source != fault.Plugin {
			t.Errorf("%s: %v", script, r.err)
		}
	}
}
