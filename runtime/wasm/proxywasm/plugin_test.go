package proxywasm

import (
	"testing"
)

func TestAnExchangeFromEndToEnd(t *testing.T) {
	b := newBench(t)
	p := b.probe(Options{VMConfig: []byte("vm")})
	b.wantSays(unknown, "create(1 0)", "vm_start(1 2)", "vm config -> 0 vm", "configure(1 0)")
	r := b.exchange(message{head: simpleHead}, okAnswer, p)
	b.wantSays("create(2 1)", "request(2 5 1)", "response(2 3 0)", "response_body(2 5 1)", "done(2)", "log(2)", "delete(2)")
	if r.got != "hello" || r.err != nil {
		t.Errorf("%q %v", r.got, r.err)
	}
}

const unknown = "! the module imports what the host does not have, and is answered UNIMPLEMENTED where it calls it: env.proxy_never_heard_of(i32,i64)->(i32)"
