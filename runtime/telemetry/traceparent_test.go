package telemetry

import (
	"bytes"
	"strings"
	"testing"

	"wasmgate/runtime/exchange"
)

const validParent = "00-" + callerTrace + "-" + callerSpan + "-01"

// What is a traceparent and what is not: W3C Trace Context §3.2.
func TestTraceparent(t *testing.T) {
	for _, c := range []struct {
		name, value string
		ok, sampled bool
	}{
		{"sampled", validParent, true, true},
		{"not sampled", validParent[:53] + "00", true, false},
		{"random flag and sampled", validParent[:53] + "03", true, true},
		{"flags to come, not sampled", validParent[:53] + "fe", true, false},
		{"a later version", "cc" + validParent[2:], true, true},
		{"a later version, longer", "cc" + validParent[2:] + "-what-the-future-brings", true, true},
		{"a later version, longer without a dash", "cc" + validParent[2:] + "x", false, false},
		{"a later version, dash only", "01" + validParent[2:] + "-", true, true},
		{"version ff", "ff" + validParent[2:], false, false},
		{"version 00, longer", validParent + "-00", false, false},
		{"empty", "", false, false},
		{"short", validParent[:54], false, false},
		{"no trace id", "00-" + strings.Repeat("0", 32) + "-" + callerSpan + "-01", false, false},
		{"no parent id", "00-" + callerTrace + "-" + strings.Repeat("0", 16) + "-01", false, false},
		{"upper case", strings.ToUpper(validParent), false, false},
		{"upper case version", "CC" + validParent[2:], false, false},
		{"no hex in the trace id", "00-g" + validParent[4:], false, false},
		{"no hex in the parent id", validParent[:36] + "x" + validParent[37:], false, false},
		{"no hex in the flags", validParent[:53] + "0x", false, false},
		{"no hex in the version", "0." + validParent[2:], false, false},
		{"other dashes", strings.ReplaceAll(validParent, "-", "_"), false, false},
		{"a dash moved", "00" + validParent[3:] + "-0", false, false},
		{"white space before", " " + validParent, false, false},
		{"white space after", validParent + " ", false, false},
		{"a list", validParent + "," + validParent, false, false},
		{"NUL", validParent[:10] + "\x00" + validParent[11:], false, false},
		{"high bytes", validParent[:10] + "\xff" + validParent[11:], false, false},
		{"huge", strings.Repeat("0", 1<<16), false, false},
	} {
		p, ok := parseTraceparent([]byte(c.value))
		if ok != c.ok || p.sampled != c.sampled {
			t.Errorf("%s: valid %v, sampled %v", c.name, ok, p.sampled)
		}
		if ok && (id(p.traceID[:]) != callerTrace || id(p.spanID[:]) != callerSpan) {
			t.Errorf("%s: read as %x %x", c.name, p.traceID, p.spanID)
		}
	}
}

// FuzzTraceparent holds the parser against the grammar, said another way.
func FuzzTraceparent(f *testing.F) {
	for _, s := range []string{validParent, "cc" + validParent[2:] + "-x", "", strings.ToUpper(validParent), "ff" + validParent[2:], "\x00\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, ok := parseTraceparent(b)
		if !bytes.Equal(b, before) {
			t.Fatal("the parser changed its input")
		}
		if !ok {
			return
		}
		version, rest, _ := bytes.Cut(b, []byte("-"))
		parts := bytes.SplitN(rest, []byte("-"), 4)
		if len(parts) < 3 || string(version) == "00" && len(parts) != 3 || string(version) == "ff" {
			t.Fatalf("%q was taken", b)
		}
		if id(p.traceID[:]) != string(parts[0]) || id(p.spanID[:]) != string(parts[1]) || len(parts[2]) != 2 {
			t.Fatalf("%q was read as %x %x", b, p.traceID, p.spanID)
		}
		// What goes out for it is a traceparent again.
		out := AppendTraceparent(nil, &exchange.Trace{Sampled: p.sampled, TraceID: p.traceID}, p.spanID)
		if again, ok := parseTraceparent(out); !ok || again != p {
			t.Fatalf("%q was written as %q", b, out)
		}
		if len(out) != traceparentLen || string(out[3:52]) != string(b[3:52]) {
			t.Fatalf("%q was written as %q", b, out)
		}
	})
}

// A request that brings something else than one valid traceparent begins a trace of its own, and the upstream is told
// of that one only, without the state of the other.
func TestATraceparentThatIsNotValidIsReplaced(t *testing.T) {
	for name, fields := range map[string][]string{
		"none":       {"Tracestate: vendor=1"},
		"not valid":  {"Traceparent: 00-zz", "Tracestate: vendor=1"},
		"two":        {callerParent, callerParent, "Tracestate: vendor=1"},
		"one of two": {callerParent, "traceparent: x", "Tracestate: vendor=1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, Options{Traces: Traces{Endpoint: nowhere(t)}}).Loop(0)
			x := sampled(t, r, fields...)
			if !x.Trace.Sampled || x.Trace.Parent != [8]byte{} || x.Trace.TraceID == [16]byte{} || id(x.Trace.TraceID[:]) == callerTrace {
				t.Errorf("%+v", x.Trace)
			}
			x.Attempts = append(x.Attempts, exchange.Attempt{})
			r.StartAttempt(x, x.Attempt())
			want := "00-" + id(x.Trace.TraceID[:]) + "-" + id(x.Attempts[0].SpanID[:]) + "-01"
			if values(x, "traceparent") != want || values(x, "tracestate") != "" {
				t.Errorf("the upstream is sent traceparent %q and tracestate %q", values(x, "traceparent"), values(x, "tracestate"))
			}
		})
	}
}

// values joins the values of all fields with this name.
func values(x *exchange.Exchange, name string) string {
	var all []string
	h := &x.Request.Head
	for i := range h.Len() {
		if strings.EqualFold(string(h.Name(i)), name) {
			all = append(all, string(h.Value(i)))
		}
	}
	return strings.Join(all, " | ")
}

// A retry is an attempt with a span of its own, and the upstream that answers is told that one.
func TestEachAttemptIsNamedToItsUpstream(t *testing.T) {
	r := start(t, Options{Traces: Traces{Endpoint: nowhere(t)}}).Loop(0)
	x := sampled(t, r, callerParent, "Tracestate: a=1", "Tracestate: b=2")
	seen := map[string]bool{}
	for range 3 {
		x.Attempts = append(x.Attempts, exchange.Attempt{})
		r.StartAttempt(x, x.Attempt())
		v := values(x, "traceparent")
		if seen[v] || !strings.HasPrefix(v, "00-"+callerTrace+"-") || len(v) != traceparentLen {
			t.Errorf("traceparent %q", v)
		}
		seen[v] = true
	}
	if values(x, "tracestate") != "a=1 | b=2" || x.Trace.State != "a=1,b=2" {
		t.Errorf("tracestate goes on as %q and is kept as %q", values(x, "tracestate"), x.Trace.State)
	}
}

// Tracestate: W3C Trace Context §3.3. What is not valid goes nowhere.
func TestTracestate(t *testing.T) {
	long := strings.Repeat("x", 256)
	for value, ok := range map[string]bool{
		"a=1":                                 true,
		"a=1,b=2, c=3":                        true,
		"a=1,,b=2":                            true,
		"tenant@system=x":                     true,
		"0a/b_c-d*e=v":                        true,
		"a= leading space":                    true,
		"":                                    false,
		",":                                   false,
		"a":                                   false,
		"a=":                                  false,
		"=1":                                  false,
		"A=1":                                 false,
		"a=1=2":                               false,
		"a=\x01":                              false,
		"a=\xff":                              false,
		"@b=1":                                false,
		"a@=1":                                false,
		"a@B=1":                               false,
		"a@0b=1":                              false,
		long + "=1":                           true,
		long + "x=1":                          false,
		"a=" + long:                           true,
		"a=" + long + "x":                     false,
		strings.Repeat("a=1,", 32) + "a=1":    false,
		"a=" + long + ",b=" + long:            false, // more than 512 bytes
		strings.Repeat("a", 242) + "@b=1":     false,
		"a@" + strings.Repeat("b", 15) + "=1": false,
	} {
		if got := validTracestate([]byte(value)); got != ok {
			t.Errorf("%q is valid: %v", value, got)
		}
	}
}
