package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// logLinesOf reads a log as its readers do: one JSON object on each line.
func logLinesOf(t testing.TB, b []byte) (lines []map[string]any) {
	t.Helper()
	if len(b) > 0 && b[len(b)-1] != '\n' {
		t.Errorf("the log ends within a line")
	}
	for line := range bytes.Lines(b) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil || !utf8.Valid(line) {
			t.Fatalf("%q is no line of JSON: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// A request that was retried leaves this line, byte for byte.
func TestAnAccessLogLine(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Options{AccessLog: AccessLog{Writer: &out, Query: true}, Traces: Traces{Endpoint: nowhere(t)}})
	r := tel.Loop(0)
	x := request(t, "GET /users/42?page=2 HTTP/1.1", "Host: api.test", "User-Agent: curl/8", callerParent)
	x.Client.Addr = netip.MustParseAddr("::ffff:198.51.100.9")
	r.Begin(x)
	server := id(x.Trace.Server[:])
	x.Route, x.FirstByte, x.BytesIn, x.BytesOut = "user-by-id", at(15), 5, 1234
	x.Request.SetPath([]byte("/elsewhere")) // the log tells what was asked
	c := connection(900)
	attempt(x, r, c)
	a := attempt(x, r, c)
	a.Reused, a.WhyNew, a.Age, a.Idle, a.PoolWait = true, "", 3*time.Second, 2*time.Second, 50*time.Microsecond
	a.WhyClosed = facts.CloseMaxRequests
	end(r, x, 200)
	finish(t, tel)
	want := `{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","listener":"public","scheme":"http","method":"GET",` +
		`"host":"api.test","path":"/users/42","query":"page=2","protocol":"HTTP/1.1","status":200,"bytes_in":5,"bytes_out":1234,` +
		`"duration_us":20000,"first_byte_us":15000,"route":"user-by-id","upstream":"users","upstream_host":"users.test:8443",` +
		`"upstream_address":"192.0.2.7:8443","upstream_status":200,"connection_id":900,"connection_ordinal":2,"reused":true,` +
		`"connection_age_us":3000000,"connection_idle_us":2000000,"why_closed":"max_requests","pool_wait_us":50,` +
		`"upstream_first_byte_us":8000,"attempts":2,"user_agent":"curl/8","client_connection":7,"client_ordinal":3,` +
		`"trace_id":"` + callerTrace + `","span_id":"` + server + `"}` + "\n"
	if out.String() != want {
		t.Errorf("the line is\n%swant\n%s", out.String(), want)
	}
}

// What failed says so; what was not known is left out.
func TestAnAccessLogLineOfAFailure(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Options{AccessLog: AccessLog{Writer: &out}})
	r := tel.Loop(0)
	x := request(t, "GET /secret?token=1 HTTP/1.0", "Host: a")
	r.Begin(x)
	x.Err = &fault.Error{Kind: fault.PluginTrap, Source: fault.Plugin, Status: 500, Plugin: "tenant", Phase: "request_head", Detail: "unreachable", Err: os.ErrInvalid}
	end(r, x, 500)
	broken := &exchange.Exchange{} // its head could not be read
	broken.Reset()
	arrive(broken)
	r.Begin(broken)
	broken.Err = failure(fault.Malformed, fault.Client, 400, "no request line")
	end(r, broken, 400)
	finish(t, tel)
	want := `{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","listener":"public","scheme":"http","method":"GET","host":"a",` +
		`"path":"/secret","protocol":"HTTP/1.0","status":500,"bytes_in":0,"bytes_out":0,"duration_us":20000,"client_connection":7,` +
		`"client_ordinal":3,"error":"plugin_trap","error_source":"plugin","plugin":"tenant","plugin_phase":"request_head",` +
		`"error_detail":"unreachable","error_cause":"invalid argument"}` + "\n" +
		`{"time":"2026-03-01T12:30:45.698901Z","client":"198.51.100.9","listener":"public","scheme":"http","method":"","host":"",` +
		`"path":"","status":400,"bytes_in":0,"bytes_out":0,"duration_us":20000,"client_connection":7,` +
		`"client_ordinal":3,"error":"malformed","error_source":"client","error_detail":"no request line"}` + "\n"
	if out.String() != want {
		t.Errorf("the lines are\n%swant\n%s", out.String(), want)
	}
}

// Whatever bytes a client or a plugin sends: one request is one line, and the line is JSON and bounded.
func TestHostileBytesNeverBreakALine(t *testing.T) {
	var out bytes.Buffer
	tel := start(t, Options{AccessLog: AccessLog{Writer: &out, Query: true}})
	r := tel.Loop(0)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	hostile := []string{string(all), "\n{\"status\":200}\n", `","status":999,"x":"`, "\xff\xfe\x80", "\u2028\u2029\u0085", "\x1b[2J\x07", "\r\n\r\n",
		strings.Repeat("\x00", 40_000), strings.Repeat("é", 40_000), "\xed\xa0\x80", `\`, `\u`, "\x7f"}
	for _, h := range hostile {
		x := sampled(t, r)
		x.Request.SetMethod([]byte(h))
		x.Request.SetPath([]byte(h))
		x.Request.SetQuery([]byte(h))
		x.Request.SetAuthority([]byte(h))
		x.Request.Set("User-Agent", h)
		r.Begin(x)
		x.Client.Addr = netip.MustParseAddr("fe80::1").WithZone(h)
		x.Attempts = append(x.Attempts, exchange.Attempt{Upstream: h, Host: h})
		x.Err = &fault.Error{Kind: fault.PluginAnswer, Source: fault.Plugin, Plugin: h, Phase: h, Detail: h}
		end(r, x, 500)
	}
	finish(t, tel)
	lines := logLinesOf(t, out.Bytes())
	if len(lines) != len(hostile) {
		t.Fatalf("%d requests, %d lines", len(hostile), len(lines))
	}
	for i, l := range lines {
		if l["status"] != 500.0 || l["client"] != "fe80::1" || len(l["path"].(string)) > 6*maxPath {
			t.Errorf("%.40q: %.300v", hostile[i], l)
		}
	}
	for line := range bytes.Lines(out.Bytes()) {
		if bytes.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r < 0x20 }) {
			t.Errorf("a line has control characters: %.100q", line)
		}
	}
}

// A file is appended to, by one process after the other, and is not for everybody to read.
func TestTheAccessLogIsAppendedToAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	for range 2 {
		tel := start(t, Options{Loops: 3, AccessLog: AccessLog{Output: file}})
		for i := range 300 {
			end(tel.Loop(i%3), sampled(t, tel.Loop(i%3)), 200+i)
		}
		finish(t, tel)
	}
	b, err := os.ReadFile(file)
	if err != nil || len(logLinesOf(t, b)) != 600 {
		t.Errorf("%v, %d bytes", err, len(b))
	}
	if info, _ := os.Stat(file); info.Mode().Perm()&0o007 != 0 {
		t.Errorf("the file's mode is %v", info.Mode())
	}
}

// stdout and stderr are the process' own, and stay open.
func TestTheAccessLogGoesToStandardOutput(t *testing.T) {
	for name, stream := range map[string]**os.File{"stdout": &os.Stdout, "stderr": &os.Stderr} {
		in, out, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		old := *stream
		*stream = out
		tel, err := New(Options{Loops: 1, AccessLog: AccessLog{Output: name}})
		*stream = old
		if err != nil {
			t.Fatal(err)
		}
		end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
		finish(t, tel)
		if _, err := out.WriteString("still open"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		out.Close()
		var b bytes.Buffer
		b.ReadFrom(in)
		line, ok := strings.CutSuffix(b.String(), "still open")
		if lines := logLinesOf(t, []byte(line)); !ok || len(lines) != 1 || lines[0]["status"] != 200.0 {
			t.Errorf("%s: %q", name, b.String())
		}
	}
}

// Lines of a loop come in the order of their requests, and soon: nobody waits for a buffer to fill.
func TestLinesComeSoonAndInOrder(t *testing.T) {
	out := &messages{}
	tel := start(t, Options{AccessLog: AccessLog{Writer: out}})
	r := tel.Loop(0)
	for i := range 2000 {
		x := sampled(t, r)
		x.Client.Ordinal = uint64(i)
		end(r, x, 200)
	}
	eventually(t, "the lines are written without more of them", func() bool { return strings.Count(out.String(), "\n") == 2000 })
	for i, l := range logLinesOf(t, []byte(out.String())) {
		if l["client_ordinal"] != float64(i) {
			t.Fatalf("line %d is that of request %v", i, l["client_ordinal"])
		}
	}
}
