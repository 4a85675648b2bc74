package wasmgate

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"wasmgate/sdk/abi"
)

func mustTester(t *testing.T, config string) *Tester {
	t.Helper()
	tester, err := NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	return tester
}

func TestCall(t *testing.T) {
	var authz Service
	register(t, func(c *Config) error { authz = c.Service("authz"); return nil }, func(r *Request) Decision {
		a, err := r.Call(authz, OutboundRequest{
			Method: "POST", Path: r.Path(), Query: "a=b", Authority: "x", Header: []string{"x-user", "7"}, Body: []byte("{}"), Timeout: 250,
		})
		if err != nil {
			return Fail(err.Error())
		}
		name, value := a.HeaderAt(0)
		return Fail(fmt.Sprint(a.Status(), a.Headers(), name, value, a.Header("x-b"), a.Header("x-end"), a.Trailer("x-end"), a.Trailer("x-b"), len(a.Body())))
	}, nil)
	tester := mustTester(t, "")
	if got := tester.Request(TestMessage{Path: "/"}); got.Text != "no connection to the upstream" || !reflect.DeepEqual(got.Called, []string{"authz POST /"}) {
		t.Errorf("%+v", got)
	}
	var asked OutboundRequest
	answer, fails := TestResponse{Headers: []string{"X-A", "1", "X-B", "2"}, Body: strings.Repeat("b", 100_000), Trailers: []string{"X-End", "3"}}, error(nil)
	tester.Services = map[string]func(OutboundRequest) (TestResponse, error){"authz": func(r OutboundRequest) (TestResponse, error) {
		asked = r
		return answer, fails
	}}
	for range 2 {
		if got := tester.Request(TestMessage{Path: "/p"}); got.Text != fmt.Sprint(200, 2, "x-a", "1", "2", "", "3", "", 100_000) {
			t.Error(got.Text)
		}
	}
	want := OutboundRequest{Method: "POST", Path: "/p", Query: "a=b", Authority: "x", Header: []string{"x-user", "7"}, Body: []byte("{}"), Timeout: 250}
	if !reflect.DeepEqual(asked, want) {
		t.Errorf("%+v", asked)
	}
	for _, c := range []struct {
		err  error
		text string
	}{{ErrTimeout, "no answer in time"}, {fmt.Errorf("x: %w", ErrTooLarge), "too large"}, {errors.New("x"), "the upstream failed"}, {Result(99), "failed"}} {
		fails = c.err
		if got := tester.Request(TestMessage{Path: "/p"}); got.Text != c.text {
			t.Errorf("%v: %s", c.err, got.Text)
		}
	}
}

func TestStore(t *testing.T) {
	var s Store
	var do func() string
	register(t, func(c *Config) error {
		if s = c.Store("sessions"); c.Store("sessions") != s || c.Store("other") == s {
			return errors.New("stores")
		}
		if _, v := s.Get(nil, "k"); v != 0 {
			return errors.New("something is there")
		}
		if err := s.Set("k", nil, 0); err != ErrDenied {
			return fmt.Errorf("%w", err)
		}
		return nil
	}, func(*Request) Decision { return Fail(do()) }, nil)
	tester := mustTester(t, "")
	run := func(name, want string, fn func() string) {
		t.Helper()
		do = fn
		if got := tester.Request(TestMessage{}).Text; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	get := func() string {
		v, version := s.Get([]byte(">"), "k")
		return fmt.Sprint(string(v), version != 0)
	}
	run("nothing", ">false", get)
	run("set", "<nil>", func() string { return fmt.Sprint(s.Set("k", bytes.Repeat([]byte("v"), 20), 50)) })
	run("get", ">"+strings.Repeat("v", 20)+"true", get)
	run("is there", "another version", func() string { _, err := s.CompareAndSet("k", nil, 0, 0); return fmt.Sprint(err) })
	run("compare", "<nil> another version", func() string {
		_, v := s.Get(nil, "k")
		w, err := s.CompareAndSet("k", []byte("w"), v, 50)
		there, late := s.CompareAndSet("k", []byte("x"), v, 0)
		if there != w || v == w {
			return "versions"
		}
		return fmt.Sprint(err, " ", late)
	})
	tester.Now = 50
	run("expired", ">false", get)
	run("new", "<nil>", func() string { _, err := s.CompareAndSet("k", []byte("w"), 0, 0); return fmt.Sprint(err) })
	run("delete", "another version <nil> no such key", func() string {
		return fmt.Sprint(s.CompareAndDelete("k", 12345), " ", s.Delete("k"), " ", s.Delete("k"))
	})
	run("add", "2 -1 <nil>", func() string {
		a, _ := s.Add("n", 2, 100)
		b, err := s.Add("n", -3, 100)
		return fmt.Sprint(a, " ", b, " ", err)
	})
	tester.Now = 150
	run("counted anew", "1", func() string { a, _ := s.Add("n", 1, 0); return fmt.Sprint(a) })
	tester.Set("sessions", "n", "text")
	run("no counter", "another version", func() string { _, err := s.Add("n", 1, 0); return fmt.Sprint(err) })
	run("too large", "too large too large", func() string {
		_, err := s.Add("", 1, 0)
		return fmt.Sprint(err, " ", s.Set(strings.Repeat("k", abi.MaxKey+1), nil, 0))
	})
	if v, ok := tester.Get("sessions", "n"); v != "text" || !ok {
		t.Errorf("%q, %v", v, ok)
	}
}

// clear removes what a test registers of bodies, ticks and metrics.
func clearMore(t *testing.T) {
	m := &plugin.manifest
	saved := *m
	t.Cleanup(func() {
		*m = saved
		plugin.pieces, plugin.tick, plugin.sealed = [2]func(*Piece) Decision{}, nil, false
	})
	plugin.sealed = false
}

func TestBufferedBody(t *testing.T) {
	clearMore(t)
	BufferRequestBody(5)
	BufferResponseBody(5, Partial, OnDemand)
	register(t, nil, func(r *Request) Decision {
		if first := r.Body(); !r.HasBody() || r.BodyIsPart() || !bytes.Equal(first, r.Body()) {
			return Fail("no body")
		}
		v, ok := r.LookupTrailer(nil, "x-end", 0)
		r.SetBody(bytes.ToUpper(r.Body()))
		r.SetHeader("x-trailer", fmt.Sprint(string(v), ok))
		return Continue
	}, func(r *Response) Decision {
		if !r.HasBody() {
			if r.Body() != nil || r.ReadBody(nil, 0) != -1 {
				return Fail("a body")
			}
			if r.Status() == 200 {
				r.WantBody()
			}
			return Continue
		}
		b := make([]byte, 2)
		n := r.ReadBody(b, 1)
		return Fail(fmt.Sprint(r.BodyIsPart(), string(r.Body()), n, string(b)))
	})
	tester := mustTester(t, "")
	for _, body := range []string{"", "abc", "abcde"} {
		got := tester.Request(TestMessage{Body: body, Trailers: []string{"X-End", "e"}})
		if got.Decision != "continue" || got.Body != strings.ToUpper(body) || got.Edits[0] != "set_header x-trailer: etrue" {
			t.Errorf("%q: %+v", body, got)
		}
	}
	if got := tester.Request(TestMessage{Body: "abcdef"}); got.Decision != "respond" || got.Status != 413 {
		t.Errorf("%+v", got)
	}
	for body, want := range map[string]string{"abcd": "falseabcd3bc", "abcdefgh": "trueabcde4bc"} {
		if got := tester.Response(TestMessage{Status: 200, Body: body}); got.Decision != "error" || got.Text != want {
			t.Errorf("%+v, want %s", got, want)
		}
	}
	if got := tester.Response(TestMessage{Status: 404, Body: "abc"}); got.Decision != "continue" || got.Body != "abc" {
		t.Errorf("%+v", got)
	}
}

func TestStreamedBody(t *testing.T) {
	clearMore(t)
	StreamRequestBody(func(p *Piece) Decision {
		switch string(p.Data()) {
		case "deny":
			return Deny(422)
		case "fail":
			return Fail("no")
		case "drop":
			return p.Replace(nil)
		case "log":
			p.Log(Info, fmt.Sprint(p.Before(), p.Time(), p.Response(), p.Word()))
			p.SetWord(p.Word() + 1)
			return p.Replace([]byte("logged"))
		}
		if p.Last() {
			v, _ := p.LookupTrailer(nil, "x-end", 0)
			return p.Replace(append(v, p.Data()...))
		}
		p.Keep(1)
		return Continue
	})
	register(t, nil, nil, nil)
	plugin.request = func(r *Request) Decision {
		r.SetContext(40)
		return Continue
	}
	tester := mustTester(t, "")
	got := tester.Request(TestMessage{Pieces: []string{"abc", "de", "f"}, Trailers: []string{"x-end", "!"}})
	if got.Decision != "continue" || got.Body != "abcd!ef" || !reflect.DeepEqual(got.Pieces, []string{"ab", "cd", "!ef"}) {
		t.Errorf("%+v", got)
	}
	got = tester.Request(TestMessage{Pieces: []string{"log", "log", "drop", "."}, Time: 9})
	if got.Body != "loggedlogged." || !reflect.DeepEqual(got.Logged, []string{"1 0 9 false 40", "1 3 9 false 41"}) {
		t.Errorf("%+v", got)
	}
	for body, want := range map[string]TestAnswer{"deny": {Decision: "deny", Status: 422}, "fail": {Decision: "error", Text: "no"}} {
		if got := tester.Request(TestMessage{Body: body}); got.Decision != want.Decision || got.Status != want.Status || got.Text != want.Text {
			t.Errorf("%s: %+v", body, got)
		}
	}
	if got := tester.Request(TestMessage{}); got.Decision != "continue" || got.Pieces != nil {
		t.Errorf("without a body: %+v", got)
	}
}

func TestTicksAndMetrics(t *testing.T) {
	clearMore(t)
	counter, gauge := NewCounter("asked", "Requests."), NewGauge("load", "")
	updown, histogram := NewUpDownCounter("open", ""), NewHistogram("took", "", 1, 2)
	if NewCounter("asked", "") != counter {
		t.Error("a metric twice")
	}
	HandleTick(1000, func(tick *Tick) error {
		if tick.Time() != 7 || tick.Seed() == 0 {
			return errors.New("no time")
		}
		counter.Add(1)
		gauge.Set(0.5)
		updown.Add(-1)
		histogram.Observe(3)
		tick.Log(Warn, "ticked")
		return nil
	})
	register(t, nil, nil, nil)
	tester := mustTester(t, "")
	if m := tester.manifest; m.Tick != 1000 || len(m.Metrics) != 4 || m.Phases != abi.WantsRequest {
		t.Errorf("%+v", m)
	}
	if got := tester.Tick(7); got.Decision != "continue" || !reflect.DeepEqual(got.Logged, []string{"2 ticked"}) {
		t.Errorf("%+v", got)
	}
	if got := tester.Tick(8); got.Text != "no time" || got.Decision != "error" {
		t.Errorf("%+v", got)
	}
	for name, want := range map[string]float64{"asked": 1, "load": 0.5, "open": -1, "took": 3} {
		if got := tester.Measured(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	tester = mustTester(t, "") // configured anew, with what was declared in variables
	if len(tester.manifest.Metrics) != 4 {
		t.Errorf("%+v", tester.manifest.Metrics)
	}
}
