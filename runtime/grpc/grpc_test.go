package grpc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
)

func TestContentTypes(t *testing.T) {
	for value, want := range map[string]struct {
		kind   Kind
		format string
	}{
		"application/grpc":                        {GRPC, ""},
		"application/grpc+proto":                  {GRPC, "+proto"},
		"Application/GRPC+json":                   {GRPC, "+json"},
		"application/grpc;charset=utf-8":          {GRPC, ""},
		"application/grpc+proto ; x=y":            {GRPC, "+proto"},
		"application/grpc-web":                    {Web, ""},
		"application/grpc-web+proto":              {Web, "+proto"},
		"application/grpc-web-text":               {WebText, ""},
		"application/grpc-web-text+proto; q=1":    {WebText, "+proto"},
		"application/grpc-web-text-base64":        {None, ""},
		"application/grpcs":                       {None, ""},
		"application/json":                        {None, ""},
		"application/grp":                         {None, ""},
		"":                                        {None, ""},
		"x-application/grpc":                      {None, ""},
		"text/plain; not=application/grpc":        {None, ""},
		"application/grpc-webs":                   {None, ""},
		"application/grpc, application/grpc":      {None, ""},
		"application/json;v=\"application/grpc\"": {None, ""},
	} {
		kind, format := KindOf([]byte(value))
		if kind != want.kind || string(format) != want.format {
			t.Errorf("%q: %d %q", value, kind, format)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for value, want := range map[string]Code{"0": OK, "14": Unavailable, "16": Unauthenticated, "17": Unknown, "-1": Unknown, "": Unknown, "00000000014": Unavailable, "99999999999999999999": Unknown, "1x": Unknown} {
		var h http1.Head
		h.Add("grpc-status", value)
		if got, ok := StatusOf(&h); got != want || !ok {
			t.Errorf("%q: %s", value, got)
		}
	}
	if _, ok := StatusOf(&http1.Head{}); ok {
		t.Error("a status where there is none")
	}
}

func TestTimeouts(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"1n": 1, "0S": 0, "250m": 250 * time.Millisecond, "99999999u": 99999999 * time.Microsecond, "20S": 20 * time.Second, "2M": 2 * time.Minute,
		"3H": 3 * time.Hour, "99999999H": maxTimeout,
		"": -1, "1": -1, "S": -1, "123456789S": -1, "1s": -1, "-1S": -1, "+1S": -1, "1.5S": -1, " 1S": -1, "1S ": -1,
	} {
		got, ok := Timeout([]byte(value))
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v %t", value, got, ok)
		}
	}
	for d, want := range map[time.Duration]string{
		-1: "0n", 0: "0n", 1: "1n", 99999999: "99999999n", 100 * time.Millisecond: "100000u", time.Minute: "60000000u",
		2 * time.Minute: "120000m", 30 * time.Hour: "108000S", maxTimeout: "76861433M",
	} {
		if got := string(AppendTimeout(nil, d)); got != want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// FuzzTimeout: what is written is read again, and is no more than what it was.
func FuzzTimeout(f *testing.F) {
	f.Add(int64(123456789012))
	f.Add(int64(1))
	f.Fuzz(func(t *testing.T, n int64) {
		d := time.Duration(n)
		text := AppendTimeout(nil, d)
		back, ok := Timeout(text)
		if !ok || back > max(d, 0) || d > 0 && d < maxTimeout && float64(d-back) > float64(d)*1e-3+1 && back != maxTimeout {
			t.Errorf("%v: %s, %v", d, text, back)
		}
	})
}

func TestMessages(t *testing.T) {
	for text, want := range map[string]string{
		"all well":                "all well",
		" 100 %\n":                "100 %25",
		"übel: \r\n\x00~\x7f":     "%C3%BCbel: %0D%0A%00~%7F",
		"":                        "",
		strings.Repeat("x", 9000): strings.Repeat("x", MaxMessage),
	} {
		value := AppendMessage(nil, []byte(text))
		if string(value) != want || !http1.ValidFieldValue(value) {
			t.Errorf("%q: %q, want %q", text, value, want)
		}
	}
	for value, want := range map[string]string{"a%20b": "a b", "100%": "100%", "%zz%2": "%zz%2", "%C3%BC": "ü", "%+1": "%+1"} {
		if got := Message([]byte(value)); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

func FuzzMessage(f *testing.F) {
	f.Add("a %\x00 ")
	f.Fuzz(func(t *testing.T, text string) {
		value := AppendMessage(nil, []byte(text))
		if !http1.ValidFieldValue(value) {
			t.Errorf("%q cannot stand in a field", value)
		}
		if trimmed := strings.TrimSpace(text); len(trimmed) <= MaxMessage && Message(value) != trimmed && len(strings.TrimFunc(trimmed, func(r rune) bool { return r < 128 })) == 0 {
			t.Errorf("%q became %q", trimmed, Message(value))
		}
	})
}

func TestMethods(t *testing.T) {
	for path, want := range map[string]string{"/a.B/C": "a.B C", "/a/b/C": "a/b C", "/B/C": "B C", "/": "-", "/C": "-", "/a/": "-", "//C": "-", "": "-", "a/b": "-"} {
		s, m, ok := SplitMethod([]byte(path))
		got := "-"
		if ok {
			got = string(s) + " " + string(m)
		}
		if got != want {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// TestStatusesAreTheLibrarys: numbers and names are those of the public library.
func TestStatusesAreTheLibrarys(t *testing.T) {
	for c := OK; int(c) < Codes; c++ {
		var theirs codes.Code
		if err := theirs.UnmarshalJSON([]byte(`"` + c.String() + `"`)); err != nil || uint32(theirs) != uint32(c) {
			t.Errorf("%d is %s: %v", c, c, err)
		}
	}
}

func TestFromHTTP(t *testing.T) {
	for status, want := range map[int]Code{
		200: Unknown, 400: Internal, 401: Unauthenticated, 403: PermissionDenied, 404: Unimplemented, 405: Unknown, 408: Unknown, 429: Unavailable,
		431: Internal, 500: Unknown, 501: Unknown, 502: Unavailable, 503: Unavailable, 504: Unavailable,
	} {
		if got := FromHTTP(status); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}

func TestResets(t *testing.T) {
	for code, want := range map[uint32]Code{
		0: Internal, 1: Internal, 2: Internal, 3: Internal, 4: Internal, 5: Internal, 6: Internal, 7: Unavailable, 8: Cancelled, 9: Internal, 10: Internal,
		11: ResourceExhausted, 12: PermissionDenied, 13: Internal, 1 << 31: Internal,
	} {
		err := &fault.Error{Kind: fault.UpstreamClosed, Status: 502, Reset: true, ResetCode: code}
		if got := FromFault(err); got != want {
			t.Errorf("%d: %s, want %s", code, got, want)
		}
	}
	for c := OK; int(c) < Codes; c++ {
		switch got := FromReset(Reset(c)); got {
		case c, Internal:
		case Cancelled:
			if c != DeadlineExceeded {
				t.Errorf("%s is told as %s", c, got)
			}
		default:
			t.Errorf("%s is told as %s", c, got)
		}
	}
}

func TestFaults(t *testing.T) {
	for kind := range fault.Kinds {
		err := &fault.Error{Kind: fault.Kind(kind), Status: 503} //nolint:gosec // a few
		if c := FromFault(err); c == OK || c == Unknown {
			t.Errorf("%s is %s", err.Kind, c)
		}
	}
	for _, c := range []struct {
		err  *fault.Error
		want Code
	}{
		{fault.New(fault.Denied, fault.Plugin, 401, ""), Unauthenticated},
		{fault.New(fault.Denied, fault.Plugin, 403, ""), PermissionDenied},
		{fault.New(fault.NoRoute, fault.Client, 404, ""), Unimplemented},
		{fault.New(fault.RequestTimeout, fault.Upstream, 504, ""), DeadlineExceeded},
		{fault.New(fault.BodyTooLarge, fault.Client, 413, ""), ResourceExhausted},
		{fault.New(fault.Connect, fault.Upstream, 502, ""), Unavailable},
		{fault.From(errors.New("x")), Internal},
	} {
		if got := FromFault(c.err); got != c.want {
			t.Errorf("%s: %s, want %s", c.err, got, c.want)
		}
	}
}

// TestNobodyIsBlamedForItsClients: what a caller does wrong counts as no failure of its upstream.
func TestNobodyIsBlamedForItsClients(t *testing.T) {
	for c := OK; int(c) < Codes; c++ {
		blamed := c.HTTP() >= 500
		switch c {
		case Unknown, Internal, Unavailable, DataLoss, DeadlineExceeded:
			if !blamed {
				t.Errorf("%s is good health", c)
			}
		default:
			if blamed {
				t.Errorf("%s is bad health", c)
			}
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	var h http1.Head
	h.Add("content-type", "application/grpc+proto")
	h.Add("grpc-status", "0")
	buf := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		Of(&h)
		StatusOf(&h)
		d, _ := Timeout([]byte("250m"))
		buf = AppendTimeout(buf[:0], d)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
