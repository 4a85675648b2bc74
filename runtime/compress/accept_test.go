package compress

import (
	"testing"

	"wasmgate/runtime/http1"
)

func accepts(fields ...string) Accepted {
	h := http1.Head{}
	h.Add("Host", "h")
	for _, f := range fields {
		h.Add("Accept-Encoding", f)
	}
	return Accepts(&h)
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		fields []string
		want   Coding // of zstd, br, gzip, which is the gateway's preference
	}{
		{nil, Identity},
		{[]string{""}, Identity},
		{[]string{"gzip"}, Gzip},
		{[]string{"GZip"}, Gzip},
		{[]string{"x-gzip"}, Gzip},
		{[]string{"deflate"}, Identity},
		{[]string{"compress, identity"}, Identity},
		{[]string{"gzip, deflate, br, zstd"}, Zstd},
		{[]string{"gzip, deflate, br"}, Brotli},
		{[]string{"gzip", "br"}, Brotli},
		{[]string{"gzip;q=1, br;q=0.9, zstd;q=0.8"}, Gzip},
		{[]string{"gzip;q=0.001"}, Gzip},
		{[]string{"gzip;q=0"}, Identity},
		{[]string{"gzip;q=0.000, br"}, Brotli},
		{[]string{"gzip ; q=1.000 ,\tbr ;\tQ=0.999"}, Gzip},
		{[]string{"*"}, Zstd},
		{[]string{"*;q=0.5, zstd;q=0"}, Brotli},
		{[]string{"*;q=0"}, Identity},
		{[]string{"gzip, *;q=0"}, Gzip},
		{[]string{"*;q=0.5, gzip"}, Gzip},
		{[]string{"identity"}, Identity},
		{[]string{"identity, gzip;q=0.5"}, Identity},
		{[]string{"identity, gzip"}, Gzip},
		{[]string{"identity;q=0.5, gzip;q=0.5"}, Gzip},
		{[]string{"identity;q=0, gzip"}, Gzip},
		{[]string{"identity;q=0"}, Identity}, // there is nothing else to send
		{[]string{"identity;q=0, *"}, Zstd},
		{[]string{"gzip;q=0, gzip"}, Identity},
		// What is wrong counts for nothing.
		{[]string{"gzip;q=2"}, Identity},
		{[]string{"gzip;q=1.001"}, Identity},
		{[]string{"gzip;q=0.1234"}, Identity},
		{[]string{"gzip;q=.5"}, Identity},
		{[]string{"gzip;q="}, Identity},
		{[]string{"gzip;q=-1"}, Identity},
		{[]string{"gzip;q=0,5"}, Identity},
		{[]string{"gzip;level=9"}, Identity},
		{[]string{"gzip;"}, Identity},
		{[]string{";q=1, gzip"}, Gzip},
		{[]string{",,gzip,,"}, Gzip},
		{[]string{"gzip br"}, Identity},
		{[]string{"gzipped, brotli, zst"}, Identity},
		{[]string{"gzip;q=foo, br"}, Brotli},
	} {
		a := accepts(c.fields...)
		if got := a.Choose([]Coding{Zstd, Brotli, Gzip}); got != c.want {
			t.Errorf("%q: %s, want %s", c.fields, got, c.want)
		}
	}
}

func TestPreferenceIsTheGateways(t *testing.T) {
	a := accepts("gzip, br, zstd")
	for _, order := range [][]Coding{{Gzip, Brotli, Zstd}, {Brotli, Gzip}, {Zstd}} {
		if got := a.Choose(order); got != order[0] {
			t.Errorf("%v: %s", order, got)
		}
	}
	if got := a.Choose(nil); got != Identity {
		t.Errorf("of nothing: %s", got)
	}
}

func TestNegotiatingAllocatesNothing(t *testing.T) {
	h := http1.Head{}
	h.Add("Accept-Encoding", "gzip, deflate, br;q=0.9, zstd;q=0.8, *;q=0.1")
	order := []Coding{Zstd, Brotli, Gzip}
	if n := testing.AllocsPerRun(1000, func() {
		a := Accepts(&h)
		if a.Choose(order) != Gzip {
			t.Fatal("another coding")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzAccepts holds the parser to a slow one of the same grammar.
func FuzzAccepts(f *testing.F) {
	for _, s := range []string{"gzip, deflate, br, zstd", "gzip;q=0.5,*;q=0", "identity;q=0, br;q=1.000", ";;,,=", "gzip;q=1.0000", "*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, c := range []byte(s) {
			if c < ' ' && c != '\t' || c == 0x7f {
				return // no field value
			}
		}
		a := accepts(s)
		got := a.Choose([]Coding{Zstd, Brotli, Gzip})
		if want := slowChoose(s); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	})
}
