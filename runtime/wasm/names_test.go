package wasm

import "testing"

func TestReadableNames(t *testing.T) {
	for name, want := range map[string]string{
		"_ZN3std9panicking20rust_panic_with_hook17h1b1329eaa36c7fa5E":                              "std::panicking::rust_panic_with_hook",
		"_ZN3std9panicking19begin_panic_handler28_$u7b$$u7b$closure$u7d$$u7d$17h106d97be21bfe094E": "std::panicking::begin_panic_handler::{{closure}}",
		"_ZN58_$LT$alloc..string..String$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE":  "<alloc::string::String as core::fmt::Debug>::fmt",
		"_ZN3foo3barEv": "foo::bar", "main": "main", "_ZN": "_ZN", "_ZN3fo": "_ZN3fo", "_ZN3foo": "_ZN3foo", "_ZN0E": "_ZN0E", "_ZN99999999fooE": "_ZN99999999fooE", "": "",
	} {
		if got := readable(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestCallerOfAPanic(t *testing.T) {
	trace := func(names ...string) (list []traced) {
		for _, n := range names {
			list = append(list, traced{function: n})
		}
		return list
	}
	for _, c := range []struct {
		trace []traced
		want  string
	}{
		{trace("abort", "__rust_start_panic", "rust_panic", "std::panicking::begin_panic_handler", "core::panicking::panic_bounds_check", "hello::decide", "main"), "hello::decide"},
		{trace("runtime.abort", "runtime.fatalpanic", "runtime.gopanic", "runtime.goPanicIndex", "main.decide"), "main.decide"},
		{trace("abort", "decide"), "abort"},
		{trace("abort", "rust_panic"), "abort"},
		{trace("decide"), "decide"},
	} {
		if got := caller(c.trace)[0].function; got != c.want {
			t.Errorf("%v: %s, want %s", c.trace, got, c.want)
		}
	}
	if caller(nil) != nil {
		t.Error("a stack of nothing")
	}
}
