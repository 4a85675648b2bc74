package main

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/kv"
	"wasmgate/runtime/plugintest"
)

func TestGateway(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"api.internal:8080": trial.Echo("api")})
	began := time.Now()
	for i := range 20 {
		a := g.Get("/", "X-Forwarded-For", "192.0.2.7")
		if a.StatusCode != 200 || a.Header.Get("RateLimit-Limit") != "20" || a.Header.Get("RateLimit-Remaining") != fmt.Sprint(19-i) || a.Header.Get("RateLimit-Policy") != "20;w=1200" {
			t.Fatalf("request %d: %s %v", i, a.Status, a.Header)
		}
	}
	a := g.Get("/", "X-Forwarded-For", "192.0.2.7")
	// The next one comes a minute after the first request: of that the others have used up some, and whoever stood still meanwhile.
	wait, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if a.StatusCode != 429 || err != nil || wait > 60 || wait < 60-int(time.Since(began)/time.Second) || a.Header.Get("RateLimit-Remaining") != "0" || a.Text != "too many requests\n" {
		t.Errorf("%s %v %s", a.Status, a.Header, a.Text)
	}
	if a = g.Get("/", "X-Forwarded-For", "192.0.2.8"); a.StatusCode != 200 {
		t.Errorf("another client: %s", a.Status)
	}
	if a = g.Get("/", "X-Forwarded-For", "192.0.2.8", "X-User", "ann"); a.StatusCode != 200 || a.Header.Get("RateLimit-Limit") != "20" {
		t.Errorf("a user: %s %v", a.Status, a.Header)
	}

	// Many at once, on all loops, get what there is and not one more.
	var passed, refused atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 10 {
				switch a := g.Get("/", "X-Forwarded-For", "192.0.2.9"); a.StatusCode {
				case 200:
					passed.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("%s %s", a.Status, a.Text)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != 20 || refused.Load() != 140 {
		t.Errorf("%d passed and %d were refused", passed.Load(), refused.Load())
	}
}

// TestFullStore has a store without room for another bucket.
func TestFullStore(t *testing.T) {
	for policy, want := range map[string]string{"allow": plugintest.Continue, "deny": plugintest.Respond} {
		store := kv.New(kv.Options{MaxBytes: 4096})
		p := trial.Plugin(t, plugintest.Settings{
			Config: []byte(`{"store":"s","limits":{"a":{"key":"{header.x-key}","rate":"1/h"}},"on_store_error":"` + policy + `"}`), Stores: map[string]*kv.Store{"s": store},
		}, 0)
		var o *plugintest.Outcome
		for i := range 200 {
			o = trial.Decide(t, p, plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("x-key", fmt.Sprint(i))}})
		}
		if o.Request.Decision != want || want == plugintest.Respond && o.Request.Status != 503 {
			t.Errorf("%s: %s %d", policy, o.Request.Decision, o.Request.Status)
		}
	}
}

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	p := trial.Limited(t, `{"store":"s","limits":{"a":{"key":["{header.x-key}","{query.key}","{cookie.key}"],"rate":"1/h"}}}`)
	for name, m := range map[string]plugintest.Message{
		"long key":     {Fields: trial.Fields("x-key", strings.Repeat("x", 30_000))},
		"longest key":  {Fields: trial.Fields("x-key", strings.Repeat("x", 880))},
		"bytes":        {Fields: trial.Fields("x-key", "\xff\x80 /")},
		"long query":   {Target: "/?" + strings.Repeat("&=%", 2600)},
		"many cookies": {Fields: trial.Fields("cookie", strings.Repeat("a=b;", 7000))},
	} {
		o := trial.Decide(t, p, plugintest.Case{Request: m, Response: &plugintest.Message{}})
		t.Logf("%s: %s %d, %d fuel", name, o.Request.Decision, o.Request.Status, o.Request.Fuel)
	}
}

const fast = `{"store":"s","limits":{"client":{"key":"{client.network}","rate":"1000000/s"}},"headers":`

func BenchmarkRequest(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(fast + `false}`)}, plugintest.Case{})
}

func BenchmarkHeaders(b *testing.B) {
	trial.Cost(b, plugintest.Settings{Config: []byte(fast + `true}`)}, plugintest.Case{Response: &plugintest.Message{}})
}

func BenchmarkRefused(b *testing.B) {
	config := strings.Replace(fast, "1000000/s", "1/h", 1) + `true}`
	trial.Cost(b, plugintest.Settings{Config: []byte(config)}, plugintest.Case{})
}
