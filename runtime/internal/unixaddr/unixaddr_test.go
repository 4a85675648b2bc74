package unixaddr

import (
	"net/netip"
	"testing"
)

func TestTexts(t *testing.T) {
	for _, c := range []struct {
		text string
		want netip.AddrPort
		path string
	}{
		{"unix:/run/app.sock", Of("/run/app.sock"), "/run/app.sock"},
		{"unix:/run/a b%:[1].sock", Of("/run/a b%:[1].sock"), "/run/a b%:[1].sock"},
		{"10.0.0.1:80", netip.MustParseAddrPort("10.0.0.1:80"), ""},
		{"[fe80::1%eth0]:80", netip.MustParseAddrPort("[fe80::1%eth0]:80"), ""},
	} {
		a, ok := Parse(c.text)
		path, unix := Path(a.Addr())
		if !ok || a != c.want || Text(a) != c.text || string(Append(nil, a)) != c.text || unix != (c.path != "") || unix && path != c.path {
			t.Errorf("%s: %v %v, %q, path %q", c.text, a, ok, Text(a), path)
		}
	}
	for _, bad := range []string{"", "unix:", "unix:app.sock", "/run/app.sock", "10.0.0.1"} {
		if a, ok := Parse(bad); ok {
			t.Errorf("%q is %v", bad, a)
		}
	}
	if Of("/a") == Of("/b") {
		t.Error("two paths are one address")
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := Path(Of("/run/app.sock").Addr()); !ok {
			t.Error("no path")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
