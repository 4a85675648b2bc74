package upstream

import (
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/breaker"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/balance"
	"wasmgate/runtime/upstream/health"
)

func (f *fixture) preview(u *Upstream, r Request) (p Preview) {
	f.on(0, func(t *netloop.Task) { p = u.Preview(t.Loop(), &r) })
	return p
}

// agrees holds a preview to what Acquire does then: the error, and the address if the preview is sure of it.
func (f *fixture) agrees(u *Upstream, r Request) Preview {
	f.Helper()
	p := f.preview(u, r)
	a, err := f.ask(u, r)
	switch {
	case (err == nil) != (p.Err == nil), err != nil && err.Error() != p.Err.Error():
		f.Fatalf("acquired with %v, previewed %v", err, p.Err)
	case err != nil:
		return p
	}
	for _, m := range p.Members {
		if got := m.Address == a.Member.Address.String(); got && !m.Eligible || m.Next && !got {
			f.Errorf("it went to %v: %+v", a.Member.Address, m)
		}
	}
	f.release(a)
	return p
}

func TestPreviewAgreesWithAcquire(t *testing.T) {
	ips := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	f := setUp(t, ips...)
	for _, a := range []balance.Algorithm{balance.RoundRobin, balance.LeastRequests, balance.First, balance.Hash} {
		u := f.upstream(func(c *Config) { c.Targets, c.Balance.Algorithm = f.targets(ips...), a })
		sure := map[string]bool{}
		for key := range uint64(30) {
			for _, m := range f.agrees(u, Request{Key: Key([]byte{byte(key)}), HasKey: true}).Members {
				if m.Next {
					sure[m.Address] = true
				}
			}
		}
		if want := map[balance.Algorithm]int{balance.First: 1, balance.Hash: 3}[a]; len(sure) != want {
			t.Errorf("%v: sure of %v", a, sure)
		}
	}
	u := f.upstream(func(c *Config) { c.Targets = f.targets(ips...) })
	for _, ip := range ips {
		p := f.agrees(u, Request{Token: []byte(f.tokenOf(u, ip))})
		for _, m := range p.Members {
			if own := strings.HasPrefix(m.Address, ip+":"); !p.Session || m.Next != own || m.Eligible != own {
				t.Errorf("the session of %s: %+v", ip, m)
			}
		}
	}
	for i, ip := range ips {
		off := balance.Disabled
		if err := u.SetTarget(f.hostport(ip), Change{State: &off}); err != nil {
			t.Fatal(err)
		}
		p := f.agrees(u, Request{})
		if last := i == len(ips)-1; (p.Err != nil) != last || last && p.Err.Kind != fault.Unavailable {
			t.Errorf("with %d disabled: %v", i+1, p.Err)
		}
	}
}

func TestPreviewOfRefusals(t *testing.T) {
	f := setUp(t, "127.0.0.1")
	u := f.upstream(func(c *Config) {
		c.Dynamic = &Dynamic{Max: 2, Allow: func(a string) (string, uint16, bool) {
			return strings.TrimSuffix(a, ":80"), f.port, strings.HasPrefix(a, "127.")
		}}
	})
	f.agrees(u, Request{})
	f.agrees(u, Request{Authority: []byte("10.0.0.1:80")})
	if p := f.agrees(u, Request{Authority: []byte("127.0.0.1:80")}); len(p.Members) != 0 {
		t.Errorf("nobody had named it: %+v", p)
	}
	if p := f.agrees(u, Request{Authority: []byte("127.0.0.1:80")}); len(p.Members) != 1 || !p.Members[0].Eligible {
		t.Errorf("%+v", p)
	}
	f.agrees(f.upstream(func(c *Config) { c.Targets = f.targets("127.0.0.1") }), Request{Authority: []byte("x:80")})

	u = f.upstream(func(c *Config) {
		c.Targets, c.Breaker = f.targets("127.0.0.1"), breaker.Options{Ratio: 0.1, Requests: 1, Window: time.Minute, Open: time.Hour}
		c.Health.Passive.Failures = 1000
	})
	for range 3 {
		if a, err := f.ask(u, Request{}); err == nil {
			f.on(0, func(t *netloop.Task) {
				a.Report(t.Loop(), health.Reset)
				a.Release("")
			})
		}
	}
	if p := f.preview(u, Request{}); p.Err == nil || p.Err.Kind != fault.Overloaded || p.Err.RetryAfter <= 0 {
		t.Errorf("%+v", p.Err)
	}
	f.agrees(u, Request{})
}
