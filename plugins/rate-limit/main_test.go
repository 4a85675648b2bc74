package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

// clock is a tester whose time the test moves.
type clock struct {
	*wasmgate.Tester
	t testing.TB
}

func tester(t testing.TB, config string) *clock {
	t.Helper()
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	p.Now = 1_789_000_000_000
	return &clock{p, t}
}

// ask is what a request comes to: what remains, or the status and when to come again.
func (c *clock) ask(client string, fields ...string) string {
	c.t.Helper()
	a := c.Request(wasmgate.TestMessage{Path: "/", Client: client, Headers: fields, Time: c.Now})
	if a.Decision == "continue" {
		word := ""
		for _, e := range a.Edits {
			word += strings.TrimPrefix(e, "context ")
		}
		var n uint64
		if _, err := fmt.Sscan(word, &n); err != nil {
			return "-"
		}
		b := c.Response(wasmgate.TestMessage{Context: n, Status: 200})
		return strings.NewReplacer("set_header ratelimit-", "", ": ", "=").Replace(strings.Join(b.Edits, " "))
	}
	for _, e := range a.Edits {
		if s, ok := strings.CutPrefix(e, "respond_header retry-after: "); ok {
			return fmt.Sprint(a.Status, " in ", s)
		}
	}
	return fmt.Sprint(a.Decision, a.Status)
}

const perClient = `{"store":"s","limits":{"client":{"key":"{client.network}","rate":"1/s","burst":3}}}`

func TestBucket(t *testing.T) {
	c := tester(t, perClient)
	const first = "limit=3 remaining=2 reset=1 policy=3;w=3"
	for i, want := range []string{first, "limit=3 remaining=1 reset=2 policy=3;w=3", "limit=3 remaining=0 reset=3 policy=3;w=3", "429 in 1", "429 in 1"} {
		if got := c.ask("192.0.2.1"); got != want {
			t.Errorf("request %d: %s, want %s", i, got, want)
		}
	}
	if got := c.ask("192.0.2.2"); got != first {
		t.Errorf("another client: %s", got)
	}
	c.Now += 1500
	for i, want := range []string{"limit=3 remaining=0 reset=3 policy=3;w=3", "429 in 1"} {
		if got := c.ask("192.0.2.1"); got != want {
			t.Errorf("request %d after a while: %s, want %s", i, got, want)
		}
	}
	c.Now += 499
	if got := c.ask("192.0.2.1"); got != "429 in 1" {
		t.Errorf("a millisecond early: %s", got)
	}
	c.Now++
	if got := c.ask("192.0.2.1"); got != "limit=3 remaining=0 reset=3 policy=3;w=3" {
		t.Errorf("in time: %s", got)
	}
	c.Now += 3000
	if got := c.ask("192.0.2.1"); got != first {
		t.Errorf("a full bucket: %s", got)
	}
	if v, ok := c.Get("s", "test/client/192.0.2.1"); !ok || len(v) != 8 {
		t.Errorf("the store has %q", v)
	}
	c.Now += 1000
	if _, ok := c.Get("s", "test/client/192.0.2.1"); ok {
		t.Error("a full bucket is kept")
	}
}

func TestKeys(t *testing.T) {
	c := tester(t, `{"store":"s","limits":{
		"all":{"key":"all","rate":"1000/h"},
		"key":{"key":["{header.x-api-key}","{cookie.session}"],"rate":"2/10s"}},"exempt":["10.0.0.0/8"]}`)
	for i, want := range []string{"limit=2 remaining=1 reset=5 policy=2;w=10", "limit=2 remaining=0 reset=10 policy=2;w=10", "429 in 5"} {
		if got := c.ask("192.0.2.1", "x-api-key", "k"); got != want {
			t.Errorf("%d: %s", i, got)
		}
	}
	if got := c.ask("192.0.2.1", "cookie", "session=k"); got != "429 in 5" { // a key is a key
		t.Errorf("%s", got)
	}
	if got := c.ask("192.0.2.1"); got != "limit=1000 remaining=995 reset=18 policy=1000;w=3600" {
		t.Errorf("%s", got)
	}
	if got := c.ask("10.1.2.3", "x-api-key", "k"); got != "-" {
		t.Errorf("who is exempt: %s", got)
	}
	if got := c.ask("192.0.2.1", "x-api-key", strings.Repeat("k", 901)); got != "deny431" {
		t.Errorf("a long key: %s", got)
	}
	// One customer's network is one bucket.
	c = tester(t, perClient)
	for i := range 3 {
		c.ask(fmt.Sprintf("2001:db8:1:1::%d", i+1))
	}
	if got := c.ask("2001:db8:1:1:ffff::"); got != "429 in 1" {
		t.Errorf("%s", got)
	}
}

// TestRate asks at random times for long, and counts.
func TestRate(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []struct {
		text         string
		perSecond    float64
		burst, every int64
	}{{"10/s", 10, 10, 20}, {"600/m", 10, 5, 50}, {"7/3s", 7.0 / 3, 1, 200}, {"3600/h", 1, 100, 100}} {
		c := tester(t, fmt.Sprintf(`{"store":"s","headers":false,"limits":{"a":{"key":"x","rate":"%s","burst":%d}}}`, rate.text, rate.burst))
		start, passed := c.Now, 0
		for range 500 {
			if c.ask("") == "-" {
				passed++
			}
			if most := float64(rate.burst) + float64(c.Now-start)/1000*rate.perSecond; float64(passed) > most+0.001 {
				t.Fatalf("%s: %d passed, and at most %g in %d ms", rate.text, passed, most, c.Now-start)
			}
			c.Now += random.Int64N(2 * rate.every)
		}
		if least := float64(c.Now-start)/1000*rate.perSecond*0.8 + float64(rate.burst) - 20; float64(passed) < min(least, 400) {
			t.Errorf("%s: %d passed of at least %g", rate.text, passed, least)
		}
	}
}

func TestClocksThatDiffer(t *testing.T) {
	c := tester(t, perClient)
	for i, want := range []string{"limit=3 remaining=2 reset=1 policy=3;w=3", "limit=3 remaining=0 reset=3 policy=3;w=3", "429 in 1"} {
		if got := c.ask("192.0.2.1"); got != want {
			t.Errorf("%d: %s", i, got)
		}
		c.Now -= 5 // another loop's
	}
	c.Set("s", "test/client/192.0.2.9", "what is this")
	if got := c.ask("192.0.2.9"); !strings.HasPrefix(got, "limit=3 remaining=2") {
		t.Errorf("with another's value in the store: %s", got)
	}
}

func TestAnswer(t *testing.T) {
	c := tester(t, `{"store":"s","limits":{"all":{"key":"all","rate":"1/m"}},"status":503,"body":"{}","content_type":"application/json"}`)
	c.ask("")
	a := c.Request(wasmgate.TestMessage{Time: c.Now, Sampled: true})
	want := "[respond_header retry-after: 60 respond_header cache-control: no-store respond_header ratelimit-limit: 1 respond_header ratelimit-remaining: 0 " +
		"respond_header ratelimit-reset: 60 respond_header ratelimit-policy: 1;w=60 respond_header content-type: application/json]"
	got := []string{}
	for _, e := range a.Edits {
		if e != "attribute rate_limit.exceeded: all" {
			got = append(got, e)
		}
	}
	if a.Status != 503 || a.Text != "{}" || fmt.Sprint(got) != want || len(got) == len(a.Edits) || len(c.Measured("limited")) != 1 {
		t.Errorf("%+v", a)
	}
	if c = tester(t, `{"store":"s","limits":{"all":{"key":"all","rate":"1/m"}},"headers":false}`); c.ask("") != "-" || c.ask("") != "429 in 60" {
		t.Error("without headers")
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	limit := func(s string) string { return `{"store":"s","limits":{"a":` + s + `}}` }
	for config, want := range map[string]string{
		"":                                 "config.store is missing",
		`{"store":"s"}`:                    "config.limits: there are 0, and it takes 1 to 16",
		`{"stor":"s"}`:                     "config.stor: there is no such key; the keys are body, content_type, exempt, headers, limits, on_store_error, status, store",
		limit(`{}`):                        "config.limits.a.rate is missing",
		limit(`{"rate":"1/s"}`):            "config.limits.a.key is missing",
		limit(`{"rate":"1"}`):              `config.limits.a.rate: "1" is not a rate`,
		limit(`{"rate":"0/s"}`):            `config.limits.a.rate: "0/s" is not a rate`,
		limit(`{"rate":"-1/s"}`):           "is not a rate",
		limit(`{"rate":"1/x"}`):            "is not a rate",
		limit(`{"rate":"1/0s"}`):           "is not a rate",
		limit(`{"rate":"1000000000/1ms"}`): "is more than one in a nanosecond",
		limit(`{"rate":"1/d","burst":1000000000,"key":"x"}`):             "a hundred years",
		limit(`{"rate":"1/s","burst":0}`):                                "config.limits.a.burst: 0 is not a whole number",
		limit(`{"rate":"1/s","key":"{x}"}`):                              "config.limits.a.key: ",
		limit(`{"every":"1/s"}`):                                         "config.limits.a.every: there is no such key; the keys are burst, key, rate",
		limit(`{"rate":"1/s","key":"x"}},"status":200,"x":{`):            "config.status: 200 is not",
		limit(`{"rate":"1/s","key":"x"}},"on_store_error":"fail","x":{`): `config.on_store_error: "fail" is neither allow nor deny`,
		limit(`{"rate":"1/s","key":"x"}},"content_type":"a\nb","x":{`):   "config.content_type: ",
		limit(`{"rate":"1/s","key":"x"}},"exempt":["10.0.0.1/8"],"x":{`): "config.exempt[0]: ",
		`{"store":"s","limits":{"a b":{}}}`:                              "config.limits.a b: a limit's name",
	} {
		config = strings.ReplaceAll(config, `,"x":{}}`, "}")
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}
