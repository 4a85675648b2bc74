package proxywasm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// granted are calls to the upstream auth, which is number 3.
func granted(c *caller) Grants { return Grants{Calls: map[string]int{"auth": 3}, Caller: c} }

const check = "call auth 700 :method GET :path /check?x=1 :authority auth.local x-token t connection close"

// TestACallDecides: the request waits for what the authorisation service says.
func TestACallDecides(t *testing.T) {
	for name, c := range map[string]struct {
		answer  func(*netloop.Task, *filter.Call) *fault.Error
		script  []string
		verdict filter.Verdict
		want    []string
	}{
		"allowed": {allow, []string{"answer stream 0", "answer pairs 6", "answer get 6 :status", "answer copy 6 x-user 0 x-user", "answer body 4 0", "answer status", "answer resume 0"}, filter.Continue,
			[]string{"answer(1 2 7 0)", "effective -> 0", "pairs -> 0 :status=200 x-user=anna", "get -> 0 200", "body -> 0 allowed", "status -> 0 200 ", "resume -> 0"}},
		"denied": {func(_ *netloop.Task, c *filter.Call) *fault.Error { c.Status = 403; return nil },
			[]string{"answer stream 0", "answer respond 403 no -1"}, filter.Respond, []string{"answer(1 1 0 0)", "effective -> 0", "respond -> 0"}},
		"failed": {func(*netloop.Task, *filter.Call) *fault.Error {
			return fault.New(fault.Connect, fault.Upstream, 502, "refused")
		},
			[]string{"answer status", "answer pairs 6", "answer body 4 0", "answer stream 0", "answer respond 503 down -1"}, filter.Respond,
			[]string{"answer(1 0 0 0)", "status -> 0 11 reset", "pairs -> 0", "body -> 1", "effective -> 0", "respond -> 0"}},
		"with trailers, after a while": {func(t *netloop.Task, c *filter.Call) *fault.Error {
			t.Sleep(10 * time.Millisecond)
			c.Status = 200
			c.AnswerTrailers.Add("x-sum", "1")
			return nil
		}, []string{"answer pairs 7", "answer stream 0", "answer resume 0"}, filter.Continue, []string{"answer(1 1 0 1)", "pairs -> 0 x-sum=1", "effective -> 0", "resume -> 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			b, f := newBench(t), &caller{answer: c.answer}
			p := b.quiet(Options{Name: "guard", Grants: granted(f)}, append([]string{"request " + check, "request return 1"}, c.script...)...)
			r := b.exchange(message{head: simpleHead}, okAnswer, p)
			if r.verdict != c.verdict || r.err != nil {
				t.Errorf("%v %v", r.verdict, r.err)
			}
			want := append([]string{"create(2 1)", "request(2 5 1)", "call -> 0 1"}, c.want...)
			if says := b.says(); strings.Join(says[:min(len(want), len(says))], "\n") != strings.Join(want, "\n") {
				t.Errorf("%q\nwant %q", says, want)
			}
			if got := f.calls(); len(got) != 1 || got[0] != "guard 3 GET auth.local /check?x=1 \"\" x-token: t\n 700ms" {
				t.Errorf("%q", got)
			}
			if name == "allowed" {
				if user, _ := r.x.Request.Get("x-user"); string(user) != "anna" {
					t.Errorf("%q", user)
				}
			}
			if s := p.Stats(); s.Outbound != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestABodyWaitsForACall: paused at the end of the body, in one piece and in several, and at its first piece.
func TestABodyWaitsForACall(t *testing.T) {
	for _, script := range []string{"request_end " + check + "\nrequest_end return 1\nrequest_more return 1", "request_more " + check + "\nrequest_more return 1"} {
		for _, body := range [][]string{{"abcd"}, {"ab", "cd"}, {"a", "b", "cd"}} {
			b, f := newBench(t), &caller{answer: func(t *netloop.Task, c *filter.Call) *fault.Error {
				t.Sleep(5 * time.Millisecond)
				c.Status = 200
				return nil
			}}
			p := b.quiet(Options{Grants: granted(f)}, script, "answer stream 0", "answer setbody 0 0 0 -", "answer resume 0")
			r := b.exchange(message{head: post, body: body, chunked: true}, okAnswer, p)
			n := len(f.calls())
			if r.err != nil || r.sendErr != nil || strings.Count(r.sent, "-") != n || strings.ReplaceAll(r.sent, "-", "") != "abcd" {
				t.Errorf("%q %q: %v %v %q, %d calls\n%s", script, body, r.err, r.sendErr, r.sent, n, strings.Join(b.says(), "\n"))
			}
			if strings.Contains(script, "request_end") && r.sent != "-abcd" {
				t.Errorf("%q", r.sent)
			}
		}
	}
}

func TestCallsThatAreNotMade(t *testing.T) {
	for script, want := range map[string]string{
		"call other 100 :method GET :path / :authority a":          "call -> 2 0",
		"call auth 100 :path / :authority a":                       "call -> 2 0",
		"call auth 100 :method GET :authority a":                   "call -> 2 0",
		"call auth 100 :method GET :path / ":                       "call -> 2 0",
		"call auth 100 :method CONNECT :path / :authority a":       "call -> 2 0",
		"call auth 100 :method GET :path x :authority a":           "call -> 2 0",
		"call auth 100 :method GET :path / :authority a a%sb c":    "call -> 2 0",
		"call auth 100 :method GET :path / :authority a a b%nc":    "call -> 2 0",
		"call auth 100 :method GET :path / host a.example":         "call -> 0 1",
		"call auth 0 :method GET :path / :authority a :scheme ftp": "call -> 0 1",
	} {
		b, f := newBench(t), &caller{answer: allow}
		p := b.quiet(Options{Grants: granted(f)}, "request "+script)
		b.exchange(message{head: simpleHead}, okAnswer, p)
		if says := strings.Join(b.says(), "\n"); !strings.Contains(says, want) || strings.Contains(script, "other") && !strings.Contains(says, `! http_call to "other" was refused: the plugin is not granted`) {
			t.Errorf("%s: %s", script, says)
		}
		wantCalls := 0
		if strings.HasPrefix(want, "call -> 0") {
			wantCalls = 1
		}
		testkit.Eventually(t, "the calls are made", func() bool { return len(f.calls()) == wantCalls })
	}
	b := newBench(t)
	p := b.quiet(Options{Grants: Grants{Calls: map[string]int{"auth": 1}}}, "request "+check)
	b.exchange(message{head: simpleHead}, okAnswer, p)
	if says := strings.Join(b.says(), "\n"); !strings.Contains(says, "call -> 2") {
		t.Error(says)
	}
}

// TestACallThatNobodyWaitsFor is answered all the same, after the end of what made it.
func TestACallThatNobodyWaitsFor(t *testing.T) {
	b := newBench(t)
	gate := make(chan struct{})
	f := &caller{answer: func(t *netloop.Task, c *filter.Call) *fault.Error {
		t.Await(func() { <-gate })
		c.Status = 200
		return nil
	}}
	p := b.quiet(Options{Grants: granted(f)}, "request "+check, "answer stream 2", "answer resume 0", "answer get 0 x-tenant")
	b.exchange(message{head: simpleHead}, okAnswer, p)
	b.wantSays("create(2 1)", "request(2 5 1)", "call -> 0 1", "response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)", "delete(2)")
	close(gate)
	b.wantSays("answer(1 1 0 0)", "effective -> 2", "resume -> 0", "get -> 1")
}

// TestManyRequestsWaitForTheirCallsAtOnce: a service that takes 20 ms holds up a hundred requests for not much longer.
func TestManyRequestsWaitForTheirCallsAtOnce(t *testing.T) {
	const n = 100
	b := newBench(t)
	f := &caller{}
	f.answer = func(t *netloop.Task, c *filter.Call) *fault.Error {
		for all := false; !all && !t.Loop().Closing(); { // none is answered before all have come, whoever stood still meanwhile
			t.Sleep(20 * time.Millisecond)
			f.mu.Lock()
			all = f.most == n
			f.mu.Unlock()
		}
		c.Status = 200
		return nil
	}
	// Each answer finds its stream by the order of calls: contexts are numbered from 2, calls from 1.
	p := b.quiet(Options{Grants: granted(f), LogLevel: wasm.LogOff}, "request "+check, "request return 1", "answer stream 0", "answer resume 0")
	done := make(chan *ride, n)
	l := b.group.Loop(0)
	begun := time.Now()
	for range n {
		l.Post(func() {
			l.Go(func(task *netloop.Task) {
				r := b.begin(task, message{head: simpleHead})
				r.ask(filter.Route, p)
				r.end(p)
				done <- r
			})
		})
	}
	// The probe continues the stream that was created last; here all are created before the first answer comes, so that
	// the others are continued by their time being over: only the first is looked at.
	r := <-done
	if r.err != nil || time.Since(begun) > 5*time.Second {
		t.Errorf("%v after %v", r.err, time.Since(begun))
	}
	testkit.Eventually(t, "all calls are under way at once", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return f.most == n })
}

func TestSharedData(t *testing.T) {
	b := newBench(t)
	shared := NewShared(SharedOptions{})
	script := []string{"request shared k", "request share k v1 0", "request shared k", "request swap k v2", "request shared k", "request share empty  0", "request shared empty"}
	p := b.quiet(Options{Shared: shared, VMID: "one", Name: "a"}, script...)
	b.exchange(message{head: simpleHead}, okAnswer, p)
	b.wantSays("create(2 1)", "request(2 5 1)", "shared -> 1", "share -> 0", "shared -> 0 versioned v1", "swap -> 0 again -> 8", "shared -> 0 versioned v2", "share -> 0", "shared -> 0 versioned ",
		"response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)", "delete(2)")
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Shared: shared, VMID: "one", VMConfig: []byte("other"), Name: "b"}, "shared -> 0 versioned v2"},
		{Options{Shared: shared, VMID: "two", Name: "c"}, "shared -> 1"},
		{Options{Shared: shared, Name: "d"}, "shared -> 1"},
		{Options{VMID: "one", Name: "e"}, "shared -> 1"},
	} {
		q := b.quiet(c.o, "request shared k")
		b.exchange(message{head: simpleHead}, okAnswer, q)
		if says := b.says(); says[2] != c.want {
			t.Errorf("%+v: %q", c.o, says)
		}
	}
}

func TestQueues(t *testing.T) {
	b := newBench(t)
	shared := NewShared(SharedOptions{})
	reader := b.quiet(Options{Shared: shared, VMID: "reader", Name: "r"}, "configure register q", "queue dequeue reader q", "queue dequeue reader q")
	writer := b.quiet(Options{Shared: shared, VMID: "writer", Name: "w"}, "request enqueue reader q item", "request enqueue reader nope item", "request dequeue reader q")
	b.exchange(message{head: simpleHead}, okAnswer, writer)
	b.awaitSays("queue(1 1)")
	// Reader and writer run at once: whichever of the three that take from the queue comes first has the item.
	b.awaitCount("dequeue -> ", 3)
	says := b.says()
	if n := len(slices.DeleteFunc(slices.Clone(says), func(l string) bool { return l != "dequeue -> 0 item" })); n != 1 || slices.Index(says, "resolve -> 0 enqueue -> 0") < 0 || slices.Index(says, "resolve -> 1") < 0 {
		t.Errorf("%q", says)
	}
	writer2 := b.quiet(Options{Shared: shared, VMID: "writer2", Name: "w2"}, "request enqueue reader q one", "request enqueue reader q two")
	b.exchange(message{head: simpleHead}, okAnswer, writer2)
	b.awaitSays("dequeue -> 0 one")
	b.awaitSays("dequeue -> 0 two")
	reader.Close()
	reader.core.users.Add(1) // the test's end closes it again
	if token := shared.queues.resolve("vm reader", "q"); token != 0 {
		t.Error("the queue is still there")
	}
}

func TestMetrics(t *testing.T) {
	b := newBenchOf(t, 2)
	p := b.quiet(Options{Name: "m"}, "request metric 0 hits inc 2", "request metric 0 hits inc -1", "request metric 0 hits record 3", "request metric 1 level inc 5", "request metric 1 level inc -7", "request metric 1 level record 9",
		"request metric 2 size record 100", "request metric 2 size inc 1", "request metric 3 nope inc 1", "request metric 0  inc 1")
	for loop := range 2 {
		b.onLoop(loop, func(task *netloop.Task) {
			r := b.begin(task, message{head: simpleHead})
			r.ask(filter.Route, p)
			r.end(p)
		})
	}
	says := b.says()
	want := []string{"metric -> 0 change -> 0 get -> 0 2", "metric -> 0 change -> 2 get -> 0 2", "metric -> 0 change -> 0 get -> 0 5", "metric -> 0 change -> 0 get -> 0 5",
		"metric -> 0 change -> 0 get -> 0 18446744073709551614", "metric -> 0 change -> 0 get -> 0 9", "metric -> 0 change -> 0 get -> 2 0", "metric -> 0 change -> 2 get -> 2 0", "metric -> 2 change -> 1 get -> 1 0", "metric -> 2 change -> 1 get -> 1 0"}
	if got := strings.Join(says, "\n"); !strings.Contains(got, strings.Join(want, "\n")) {
		t.Errorf("%s", got)
	}
	m := p.Metrics()
	if len(m) != 3 || m[0].Name != "hits" || m[0].Kind != Counter || m[0].Value != 10 || m[1].Name != "level" || m[1].Kind != Gauge || m[1].Value != 9 ||
		m[2].Name != "size" || m[2].Kind != Histogram || m[2].Count != 2 || m[2].Sum != 200 || m[2].Buckets[7] != 2 {
		t.Errorf("%+v", m)
	}
	if s := p.Stats(); s.Live != 2 || s.Started != 2 {
		t.Errorf("%+v", s)
	}
}

// TestTicksRunOnAllLoops, also without a request, if they are asked for with the configuration.
func TestTicksRunOnAllLoops(t *testing.T) {
	b := newBenchOf(t, 2)
	f := &caller{answer: allow}
	p := b.probe(Options{Grants: granted(f)}, "configure tick 10", "configure "+check, "tick tick 0")
	var says []string
	testkit.Eventually(t, "both loops have a machine that has ticked once and called", func() bool {
		says = append(says, b.says()...)
		all := strings.Join(says, "\n")
		return p.Stats().Live == 2 && strings.Count(all, "tick(1)") == 2 && strings.Count(all, "answer(1 2 7 0)") == 2
	})
	if n := len(f.calls()); n != 2 {
		t.Errorf("%d calls: %q", n, says)
	}
}

// TestPluginsShareAMachine if module, vm_id and its configuration are the same.
func TestPluginsShareAMachine(t *testing.T) {
	b := newBench(t)
	shared := NewShared(SharedOptions{})
	o := Options{Shared: shared, VMID: "v", RootID: "a", Name: "first"}
	first := b.quiet(o, "request prop plugin_root_id", "request prop plugin_name")
	o.RootID, o.Name = "b", "second"
	second := b.probe(o, "request prop plugin_root_id", "request prop plugin_name")
	b.wantSays(unknown, "create(1 0)", "vm_start(1 0)", "configure(1 52)") // to see whether it likes its configuration
	b.exchange(message{head: simpleHead}, okAnswer, first)
	b.wantSays("create(2 1)", "request(2 5 1)", "prop -> 0 a", "prop -> 0 first", "response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)", "delete(2)")
	b.exchange(message{head: simpleHead}, okAnswer, second)
	b.wantSays("create(3 0)", "vm_start(3 0)", "configure(3 52)", "create(4 3)", "request(4 5 1)", "prop -> 0 b", "prop -> 0 second", "response(4 3 0)", "response_body(4 5 1)", "done(4)", "log(4)", "delete(4)")
	e, _ := engine()
	if first.core.group != second.core.group || first.Stats().Live != 1 {
		t.Errorf("%d instances", e.Instances())
	}
	first.Close()
	first.core.users.Add(1)
	b.wantSays("done(1)", "delete(1)")
	b.exchange(message{head: simpleHead}, okAnswer, second)
	if says := b.says(); says[0] != "create(5 3)" {
		t.Errorf("%q", says)
	}
	second.Close()
	second.core.users.Add(1)
	b.wantSays("done(3)", "delete(3)")
	if s := second.Stats(); s.Live != 0 {
		t.Errorf("%+v", s)
	}
}

// TestContextsThatAskForTime at their end get it.
func TestContextsThatAskForTime(t *testing.T) {
	b := newBench(t)
	gate := make(chan struct{})
	f := &caller{answer: func(t *netloop.Task, c *filter.Call) *fault.Error {
		t.Await(func() { <-gate })
		c.Status = 200
		return nil
	}}
	p := b.quiet(Options{Grants: granted(f)}, "done "+check, "done return 0", "answer stream 2", "answer done", "log get 0 x-tenant")
	b.exchange(message{head: simpleHead}, okAnswer, p)
	b.wantSays("create(2 1)", "request(2 5 1)", "response(2 3 0)", "response_body(2 5 1)", "done(2)", "call -> 0 1")
	if p.Stats().Streams != 1 {
		t.Errorf("%+v", p.Stats())
	}
	close(gate)
	b.wantSays("answer(1 1 0 0)", "effective -> 0", "done -> 0", "log(2)", "get -> 1", "delete(2)")
	testkit.Eventually(t, "the stream is gone", func() bool { return p.Stats().Streams == 0 })
	for try := 1; ; try++ { // the machine may have stood still
		q := b.quiet(Options{}, "root_done return 0")
		testkit.Eventually(t, "the machine is the loop's", func() bool { return q.Stats().Live == 1 })
		begun := time.Now()
		q.Close()
		q.core.users.Add(1)
		d := time.Since(begun)
		b.wantSays("done(1)", "delete(1)")
		if d >= closeGrace/2 && d <= 5*closeGrace {
			break
		}
		if try == 3 {
			t.Fatalf("closing took %v", d)
		}
	}
}

func TestIdleMachinesAreClosed(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{IdleAfter: time.Millisecond})
	busy := b.quiet(Options{IdleAfter: time.Millisecond}, "configure tick 100000")
	testkit.Eventually(t, "the machine is closed", func() bool { return p.Stats().Live == 0 && p.Stats().ClosedIdle == 1 })
	if r := b.exchange(message{head: simpleHead}, okAnswer, p); r.err != nil || r.got != "hello" || p.Stats().Started != 2 {
		t.Errorf("%v %+v", r.err, p.Stats())
	}
	if s := busy.Stats(); s.Live != 1 || s.ClosedIdle != 0 {
		t.Errorf("%+v", s)
	}
}

func TestGrantsCanBeChanged(t *testing.T) {
	b, f := newBench(t), &caller{answer: allow}
	p := b.quiet(Options{}, "request "+check)
	b.exchange(message{head: simpleHead}, okAnswer, p)
	if len(f.calls()) != 0 {
		t.Error("a call without a grant")
	}
	q, err := p.Rebind(granted(f))
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	b.exchange(message{head: simpleHead}, okAnswer, q)
	b.exchange(message{head: simpleHead}, okAnswer, p)
	testkit.Eventually(t, "one call was made", func() bool { return len(f.calls()) == 1 })
	if s := q.Stats(); s.Started != 1 {
		t.Errorf("%+v", s)
	}
}

// TestNoTicks: a plugin that is only asked what it would do sets a tick, and has none.
func TestNoTicks(t *testing.T) {
	b := newBench(t)
	b.probe(Options{NoTicks: true}, "configure tick 10", "tick trap")
	b.on(func(task *netloop.Task) { task.Sleep(60 * time.Millisecond) })
	if all := strings.Join(b.says(), "\n"); strings.Contains(all, "tick(") || !strings.Contains(all, "configure(") {
		t.Errorf("%s", all)
	}
}

// TestSharedDataOfAnother: a plugin finds what the one of the same name has left in another Shared, and leaves nothing there.
func TestSharedDataOfAnother(t *testing.T) {
	b, live, own := newBench(t), NewShared(SharedOptions{}), NewShared(SharedOptions{})
	script := []string{"request shared visits", "request share visits more 0"}
	p, q := b.probe(Options{Shared: live}, script...), b.probe(Options{Shared: own}, script...)
	finds := func(p *Plugin, what string) {
		t.Helper()
		b.exchange(message{head: simpleHead}, okAnswer, p)
		if all := strings.Join(b.says(), "\n"); !strings.Contains(all, what) {
			t.Errorf("it does not find %q: %s", what, all)
		}
	}
	finds(q, "shared -> 1")
	own.Become(live)
	finds(q, "shared -> 1") // what it had is gone
	finds(p, "shared -> 1") // and was never the other's
	own.Become(live)
	finds(q, "shared -> 0")
}
