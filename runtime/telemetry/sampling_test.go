package telemetry

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"wasmgate/runtime/exchange"
)

func ratio(v float64) *float64 { return &v }

// sampled says whether a new request with these fields is traced.
func sampled(t testing.TB, r *Recorder, fields ...string) *exchange.Exchange {
	x := request(t, append([]string{"GET / HTTP/1.1", "Host: a"}, fields...)...)
	r.Begin(x)
	return x
}

// Of requests without a caller's decision the configured share is traced; a caller's decision is followed.
func TestTheRatioHoldsAndACallerDecidesFirst(t *testing.T) {
	yes, no := callerParent, strings.TrimSuffix(callerParent, "1")+"0"
	for _, share := range []float64{0, 0.25, 1} {
		tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t), Sample: ratio(share)}})
		r := tel.Loop(0)
		const requests = 4000
		n := 0.0
		for range requests {
			if sampled(t, r).Trace.Sampled {
				n++
			}
		}
		if got := n / requests; got < share-0.05 || got > share+0.05 || share == 0 && n != 0 || share == 1 && n != requests {
			t.Errorf("sample %v: %v of the requests were traced", share, got)
		}
		if x := sampled(t, r, yes); !x.Trace.Sampled || id(x.Trace.TraceID[:]) != callerTrace || id(x.Trace.Parent[:]) != callerSpan {
			t.Errorf("sample %v: a caller who samples is not followed: %+v", share, x.Trace)
		}
		if x := sampled(t, r, no); x.Trace.Sampled {
			t.Errorf("sample %v: a caller who does not sample is not followed", share)
		}
	}
	if _, err := New(Options{Traces: Traces{Endpoint: "http://localhost:4318", Sample: ratio(1.5)}}); err == nil {
		t.Error("a share of 1.5 is taken")
	}
}

// OTEL_TRACES_SAMPLER and its argument mean what they mean to every other program.
func TestTheStandardVariablesChooseTheSampler(t *testing.T) {
	yes, no := callerParent, strings.TrimSuffix(callerParent, "1")+"0"
	for _, c := range []struct {
		name, arg          string
		alone, byYes, byNo bool
	}{
		{"", "", true, true, false},
		{"parentbased_always_on", "", true, true, false},
		{"parentbased_always_off", "", false, true, false},
		{"parentbased_traceidratio", "1", true, true, false},
		{"parentbased_traceidratio", "0", false, true, false},
		{"always_on", "", true, true, true},
		{"always_off", "", false, false, false},
		{"traceidratio", "1.0", true, true, true},
		{"traceidratio", "0", false, false, false},
	} {
		t.Run(c.name+c.arg, func(t *testing.T) {
			t.Setenv("OTEL_TRACES_SAMPLER", c.name)
			t.Setenv("OTEL_TRACES_SAMPLER_ARG", c.arg)
			got := httpCollector(t)
			tel := start(t, Options{Traces: Traces{Endpoint: got.url}})
			r := tel.Loop(0)
			alone, byYes, byNo := sampled(t, r).Trace.Sampled, sampled(t, r, yes).Trace.Sampled, sampled(t, r, no).Trace.Sampled
			if alone != c.alone || byYes != c.byYes || byNo != c.byNo {
				t.Errorf("traced: alone %v, with a sampling caller %v, with one that does not %v", alone, byYes, byNo)
			}
			conn := connection(1)
			r.ConnOpened(conn)
			if conn.Sampled != (c.alone || c.byYes || c.byNo) {
				t.Errorf("connections are traced: %v", conn.Sampled)
			}
		})
	}
	for _, c := range [][2]string{{"sometimes", ""}, {"traceidratio", "half"}, {"traceidratio", "-1"}, {"traceidratio", "NaN"}} {
		env := map[string]string{"OTEL_TRACES_SAMPLER": c[0], "OTEL_TRACES_SAMPLER_ARG": c[1], "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}
		if _, err := New(Options{Env: func(k string) string { return env[k] }}); err == nil {
			t.Errorf("OTEL_TRACES_SAMPLER=%s OTEL_TRACES_SAMPLER_ARG=%s is taken", c[0], c[1])
		}
	}
}

// Every program that samples a trace by its id and the same ratio decides alike: OpenTelemetry compares the lower
// eight bytes without the lowest bit.
func TestTheSameTraceIsSampledByEverybody(t *testing.T) {
	g := rand.New(rand.NewPCG(1, 2))
	s := ratioSampler(0.3, false)
	for range 1000 {
		var id [16]byte
		v := g.Uint64()
		binary.BigEndian.PutUint64(id[8:], v)
		if got, want := randomBelow(id, s.bound), float64(v>>1) < 0.3*(1<<63); got != want {
			t.Fatalf("%x: %v", id, got)
		}
	}
}

// The environment alone is enough to have traces, and says who they are from.
func TestTheEnvironmentIsEnough(t *testing.T) {
	for protocol, receive := range map[string]func(testing.TB) *collector{ProtocolHTTP: httpCollector, ProtocolGRPC: grpcCollector} {
		t.Run(protocol, func(t *testing.T) {
			got := receive(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", got.url)
			t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
			t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20env")
			t.Setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
			t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=from-attributes")
			tel := start(t, Options{})
			x := sampled(t, tel.Loop(0))
			end(tel.Loop(0), x, 200)
			finish(t, tel)
			got.all().one(t, "GET")
			if got.resource["deployment.environment.name"] != "test" || got.resource["service.name"] != "from-attributes" {
				t.Errorf("resource %v", got.resource)
			}
			if got.header.Get("Authorization") != "Bearer env" {
				t.Errorf("the collector was sent %v", got.header)
			}
		})
	}
}

// OTEL_SERVICE_NAME is stronger than a name among the attributes, and the configuration stronger than both.
func TestTheServiceNameComesFromTheStrongestSource(t *testing.T) {
	for _, c := range []struct{ attributes, name, config, want string }{
		{"", "", "", "wasmgate"},
		{"service.name=a", "", "", "a"},
		{"service.name=a", "b", "", "b"},
		{"service.name=a", "b", "c", "c"},
		{"this is not a list", "b", "", "b"},
	} {
		t.Setenv("OTEL_RESOURCE_ATTRIBUTES", c.attributes)
		t.Setenv("OTEL_SERVICE_NAME", c.name)
		got := httpCollector(t)
		tel := start(t, Options{Traces: Traces{Endpoint: got.url, ServiceName: c.config}})
		end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
		finish(t, tel)
		if got.resource["service.name"] != c.want {
			t.Errorf("%+v: service.name is %v", c, got.resource["service.name"])
		}
	}
}

// Where it says that there shall be no traces, a request goes through as it came.
func TestTracesCanBeSwitchedOffByTheEnvironment(t *testing.T) {
	for k, v := range map[string]string{"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "none"} {
		t.Run(k, func(t *testing.T) {
			t.Setenv(k, v)
			tel := start(t, Options{Traces: Traces{Endpoint: "http://localhost:4318"}})
			x := sampled(t, tel.Loop(0), callerParent)
			x.Attempts = append(x.Attempts, exchange.Attempt{})
			tel.Loop(0).StartAttempt(x, x.Attempt())
			if x.Trace.Sampled || headerValue(x, "traceparent") != strings.TrimPrefix(callerParent, "traceparent: ") {
				t.Errorf("%+v, traceparent %q", x.Trace, headerValue(x, "traceparent"))
			}
		})
	}
}

// What is wrong is said at the start, and not by silence for ever after.
func TestWrongSettingsAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"protocol": {Traces: Traces{Endpoint: "http://localhost:4318", Protocol: "udp"}},
		"scheme":   {Traces: Traces{Endpoint: "localhost:4318"}},
		"no host":  {Traces: Traces{Endpoint: "http://"}},
		"no URL":   {Traces: Traces{Endpoint: "http://[::1"}},
		"no folder": {AccessLog: AccessLog{Output: t.TempDir() + "/none/access.log"},
			Traces: Traces{Endpoint: "http://localhost:4318"}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
