//go:build !race

package httpwasm

import (
	"testing"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

// TestExchangesDoNotAllocate is what each request costs, with changes of both heads.
func TestExchangesDoNotAllocate(t *testing.T) {
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	for name, c := range map[string]struct {
		module []byte
		o      Options
		head   string
	}{
		"a plugin of requests": {authGuest, Options{Config: []byte("dTpw")}, "Authorization: Basic dTpw\r\nX-Other: 1\r\n"},
		"an answer":            {authGuest, Options{Config: []byte("dTpw")}, "X-Other: 1\r\n"},
		"both phases": {kitGuest, Options{LogLevel: wasm.LogOff, OnError: wasm.FailOpen},
			"x-request: m;u;p;a;n 0;g 0 host;h 0 a b;H 0 c d;r 0 e;U /other?x;M POST;h 1 x-a b;N 3\r\nx-response: s;S 201;n 1;g 1 x-a;h 1 x-b c;r 1 x-c\r\n"},
	} {
		p, _ := load(t, c.module, c.o, wasm.Limits{})
		request := []byte("GET /path?q=1 HTTP/1.1\r\nHost: h\r\n" + c.head + "\r\n")
		answer := []byte("HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 0\r\n\r\n")
		on(g, func(task *netloop.Task) {
			x := newExchange(t, task, "GET / HTTP/1.1\nHost: h", nil)
			once := func() {
				client := x.Client
				x.Reset()
				x.Client = client
				if _, err := x.Request.Parse(request, nil); err != nil {
					t.Error(err)
				}
				v, err := p.Request(x, filter.Route, 1)
				if err != nil {
					t.Error(err)
				}
				if v == filter.Continue {
					if _, err := x.Response.Parse(answer, nil, x.Request.Method); err != nil {
						t.Error(err)
					}
					if _, err := p.Response(x, 1); err != nil {
						t.Error(err)
					}
				}
				p.End(x, 1)
			}
			once()
			if n := testing.AllocsPerRun(200, once); n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		})
		p.Close()
	}
}
