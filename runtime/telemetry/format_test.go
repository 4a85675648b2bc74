package telemetry

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// formatOf is a format as it is written in a config.
func formatOf(t testing.TB, text string) (parts []Part) {
	t.Helper()
	list, err := config.AccessLogFormat(text).Parts()
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	for _, p := range list {
		parts = append(parts, Part(p))
	}
	return parts
}

// logged is what a log says of what is told to a recorder.
func logged(t testing.TB, a AccessLog, tell func(r *Recorder)) string {
	t.Helper()
	var out bytes.Buffer
	a.Writer = &out
	tel := start(t, Options{AccessLog: a})
	tell(tel.Loop(0))
	finish(t, tel)
	return out.String()
}

// How those who read logs take them apart: Logstash's COMMONAPACHELOG and COMBINEDAPACHELOG, and what Apache's manual says.
var (
	commonLine   = regexp.MustCompile(`^(\S+) (\S+) (\S+) \[(\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\] "((?:[^"\\]|\\.)*)" (\d{3}) (\d+|-)\n$`)
	combinedLine = regexp.MustCompile(strings.TrimSuffix(commonLine.String(), `\n$`) + ` "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n$`)
	grokRequest  = regexp.MustCompile(`^(\w+) (\S+)(?: HTTP/(\d+(?:\.\d+)?))?$`)
)

// The formats of Apache and nginx, byte for byte, for a request, for one that could not be read, and for a session.
func TestLinesAsApacheAndNginxWriteThem(t *testing.T) {
	tell := func(r *Recorder) {
		x := request(t, "GET /apache_pb.gif?size=2 HTTP/1.0", "Host: api.test", "Referer: http://www.example.com/start.html?from=mail", "User-Agent: Mozilla/4.08 [en] (Win98; I ;Nav)")
		r.Begin(x)
		x.Request.Set("User-Agent", "the gateway") // as a route may
		x.BytesOut = 2326
		end(r, x, 200)
		broken := &exchange.Exchange{}
		broken.Reset()
		arrive(broken)
		r.Begin(broken)
		broken.Err = failure(fault.Malformed, fault.Client, 400, "no request line")
		end(r, broken, 400)
		s := session(connection(1))
		s.SNI, s.Client.Scheme = "db.test", "tls"
		r.Session(s)
		s.SNI, s.Client.Scheme, s.Why, s.ConnID = "", "tcp", exchange.EndConnectFailed, 0
		r.Session(s)
	}
	lines := []string{
		`198.51.100.9 - - [01/Mar/2026:12:30:45 +0000] "GET /apache_pb.gif?size=2 HTTP/1.0" 200 2326`,
		`198.51.100.9 - - [01/Mar/2026:12:30:45 +0000] "-" 400 0`,
		`198.51.100.9 - - [01/Mar/2026:12:30:45 +0000] "CONNECT db.test TLS" 200 2222`,
		`198.51.100.9 - - [01/Mar/2026:12:30:45 +0000] "CONNECT database TCP" 502 2222`,
	}
	more := []string{` "http://www.example.com/start.html?from=mail" "Mozilla/4.08 [en] (Win98; I ;Nav)"`, ` "-" "-"`, ` "-" "-"`, ` "-" "-"`}
	for format, pattern := range map[string]*regexp.Regexp{"common": commonLine, "combined": combinedLine} {
		got := logged(t, AccessLog{Format: formatOf(t, format), Query: true}, tell)
		want := ""
		for i, line := range lines {
			if want += line; format == "combined" {
				want += more[i]
			}
			want += "\n"
		}
		if got != want {
			t.Errorf("%s: the lines are\n%swant\n%s", format, got, want)
		}
		for line := range strings.Lines(got) {
			m := pattern.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: a parser does not take %q", format, line)
				continue
			}
			if _, err := time.Parse("02/Jan/2006:15:04:05 -0700", m[4]); err != nil {
				t.Error(err)
			}
		}
		if m := grokRequest.FindStringSubmatch(commonLine.FindStringSubmatch(lines[0] + "\n")[5]); m == nil || m[2] != "/apache_pb.gif?size=2" || m[3] != "1.0" {
			t.Errorf("the request line is taken apart as %q", m)
		}
	}
}

// Every variable can be written, of requests and of sessions, and what there is nothing of is a dash.
func TestEveryVariable(t *testing.T) {
	if !slices.Equal(Fields(), config.AccessLogFields) {
		t.Fatalf("the config takes\n%q\ntelemetry knows\n%q", config.AccessLogFields, Fields())
	}
	text := ""
	for _, f := range Fields() {
		text += f + "=${" + f + "} "
	}
	seen := map[string]map[string]bool{}
	out := logged(t, AccessLog{Format: formatOf(t, text), Query: true}, func(r *Recorder) {
		r.Session(session(connection(1)))
		emitEverything(t, r)
		x := request(t, "GET / HTTP/1.1", "Host: a", "Referer: http://b/")
		r.Begin(x)
		x.Trace = exchange.Trace{Sampled: true}
		end(r, x, 200)
		s := session(connection(2))
		s.Err = &fault.Error{Detail: "d", Err: fmt.Errorf("cause"), Plugin: "p", Phase: "p"}
		r.Session(s)
	})
	for line := range strings.Lines(out) {
		for _, field := range strings.Fields(line) {
			name, value, _ := strings.Cut(field, "=")
			if seen[name] == nil {
				seen[name] = map[string]bool{}
			}
			seen[name][value] = true
		}
	}
	for _, f := range Fields() {
		if len(seen[f]) == 0 || len(seen[f]) == 1 && seen[f]["-"] {
			t.Errorf("%s is never more than a dash", f)
		}
	}
	for name, want := range map[string]string{
		"time": "2026-03-01T12:30:45.698901Z", "time_unix": "1772368245.698", "duration_s": "0.020", "duration_us": "20000", "status": "500", "uri": "/users/42?page=2",
		"query": "page=2", "upstream": "users", "upstream_address": "192.0.2.7:8443", "reused": "true", "via": "10.0.0.9:5000", "client_port": "40000", "referer": "http://b/",
	} {
		if !seen[name][want] {
			t.Errorf("%s is never %s, but %v", name, want, seen[name])
		}
	}
}

// Fields of the request are as the client sent them, those of the answer as the client got them.
func TestNamedHeaders(t *testing.T) {
	out := logged(t, AccessLog{Format: formatOf(t, `"$request_header_x_request_id" $request_header_X_Forwarded_For "$request_header_none" ${response_header_x_cache}s $response_header_none $$$status`)}, func(r *Recorder) {
		x := request(t, "GET / HTTP/1.1", "Host: a", "X-Request-Id: 7 and 8", "X-Forwarded-For: 192.0.2.1", "X-FORWARDED-FOR: 192.0.2.2")
		r.Begin(x)
		x.Request.Del("X-Request-Id")
		x.Request.Set("X-Forwarded-For", "127.0.0.1")
		x.Response.Add("X-Cache", "hit")
		x.Response.Add("x-cache", "again")
		end(r, x, 200)
		// The exchange's next request has nothing of it.
		read(t, x, "GET / HTTP/1.1", "Host: a")
		r.Begin(x)
		end(r, x, 0)
	})
	want := `"7 and 8" 192.0.2.1,\x20192.0.2.2 "-" hit,\x20agains - $200` + "\n" + `"-" - "-" -s - $000` + "\n"
	if out != want {
		t.Errorf("the lines are\n%swant\n%s", out, want)
	}
}

// Whatever bytes come from outside, a line has the fields that it shall have, and no others.
func TestNobodyForgesALineOrAField(t *testing.T) {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	hostile := []string{string(all), `" 200 1 "-" "-"` + "\n" + `127.0.0.1 - - [01/Mar/2026:12:30:45 +0000] "GET /admin HTTP/1.1" 200 5`, `\`, `\"`, `\x22`,
		"\r\n", "\x00", "\x1b[2J", "é\u2028\u0085", "\xff", "|", "a b", "\t", "]", strings.Repeat(`"`, 10_000)}
	formats := map[string]*regexp.Regexp{
		"common": commonLine, "combined": combinedLine,
		`$client|$user_agent|$request_header_x|$response_header_x|$route|$error_detail|$status`: regexp.MustCompile(`^198\.51\.100\.9(\|[!-{}~]+){5}\|500\n$`),
		"$client\t$user_agent\t$path\t$status":                                                  regexp.MustCompile(`^198\.51\.100\.9(\t[!-~]+){2}\t500\n$`),
		"[$client] [$user_agent] [$host] [$status]":                                             regexp.MustCompile(`^\[198\.51\.100\.9\]( \[[!-Z\\^-~]+\]){2} \[500\]\n$`),
	}
	for format, pattern := range formats {
		out := logged(t, AccessLog{Format: formatOf(t, format), Query: true}, func(r *Recorder) {
			for _, h := range hostile {
				x := request(t, "GET / HTTP/1.1", "Host: a")
				x.Request.SetMethod([]byte(h))
				x.Request.SetPath([]byte(h))
				x.Request.SetQuery([]byte(h))
				x.Request.SetAuthority([]byte(h))
				for _, name := range []string{"User-Agent", "Referer", "X"} {
					x.Request.Set(name, h)
				}
				r.Begin(x)
				x.Response.Set("X", h)
				x.Route, x.Client.Addr = h, netip.MustParseAddr("::ffff:198.51.100.9")
				x.Err = &fault.Error{Kind: fault.PluginAnswer, Source: fault.Plugin, Detail: h}
				end(r, x, 500)
			}
		})
		n := 0
		for line := range strings.Lines(out) {
			n++
			if !pattern.MatchString(line) || strings.ContainsFunc(line[:len(line)-1], func(r rune) bool { return r >= 0x7f || r < ' ' && r != '\t' }) {
				t.Errorf("%s: %.300q", format, line)
			}
		}
		if n != len(hostile) {
			t.Errorf("%s: %d requests, %d lines", format, len(hostile), n)
		}
	}
}

// Of requests that went well a part is logged; of those that did not, and of slow ones, all are.
func TestSampling(t *testing.T) {
	for _, c := range []struct {
		sample float64
		status int
		err    bool
		took   time.Duration
		least  int
		most   int
	}{
		{1, 200, false, 0, 2000, 2000},
		{0, 200, false, 0, 0, 0},
		{0, 404, false, 0, 0, 0},
		{0, 500, false, 0, 2000, 2000},
		{0, 200, true, 0, 2000, 2000},
		{0, 200, false, time.Second, 2000, 2000},
		{0, 200, false, time.Second - 1, 0, 0},
		{0.1, 200, false, 0, 120, 290}, // six standard deviations either way
	} {
		for _, format := range []string{"json", "common"} {
			out := logged(t, AccessLog{Sample: &c.sample, Slow: time.Second, Format: formatOf(t, format)}, func(r *Recorder) {
				x := request(t, "GET / HTTP/1.1", "Host: a")
				for range 2000 {
					r.Begin(x)
					if c.err {
						x.Err = failure(fault.ClientClosed, fault.Client, 0, "gone")
					}
					x.StatusSent, x.Ended = c.status, x.Started+int64(c.took)
					r.End(x)
				}
			})
			if n := strings.Count(out, "\n"); n < c.least || n > c.most {
				t.Errorf("%s, %+v: %d lines of 2000", format, c, n)
			}
		}
	}
	none := 0.0
	out := logged(t, AccessLog{Sample: &none, Slow: time.Millisecond}, func(r *Recorder) {
		s := session(connection(1))
		r.Session(s) // long, as sessions are
		s.Err = failure(fault.UpstreamClosed, fault.Upstream, 0, "reset")
		r.Session(s)
	})
	if strings.Count(out, "\n") != 1 {
		t.Errorf("of two sessions, one of them failed: %q", out)
	}
	for _, wrong := range []float64{-1, 2} {
		if _, err := New(Options{AccessLog: AccessLog{Writer: &bytes.Buffer{}, Sample: &wrong}}); err == nil {
			t.Errorf("a ratio of %v is taken", wrong)
		}
	}
}

// What shall not be kept is in no format.
func TestRedaction(t *testing.T) {
	a := AccessLog{Query: true, RedactHeaders: []string{"Authorization", "COOKIE", "set-cookie", "user-agent"}, RedactQuery: []string{"Token", "pass word"}}
	tell := func(r *Recorder) {
		x := request(t, "GET /login?a=1&TOKEN=s3cret;more&tok%65n=s3cret&pass+word=s3cret&next=/x?token=s3cret&mytoken=2&token HTTP/1.1", "Host: a",
			"Referer: http://a/?token=s3cret&b=2", "User-Agent: s3cret", "Authorization: Bearer s3cret", "Cookie: s3cret", "X-Fine: fine")
		r.Begin(x)
		x.Response.Add("Set-Cookie", "s3cret")
		x.Response.Add("Set-Cookie", "s3cret")
		x.Response.Add("Location", "/there?token=s3cret")
		end(r, x, 302)
	}
	shown := `/login?a=1&TOKEN=***&tok%65n=***&pass+word=***&next=/x?token=***&mytoken=2&token`
	for format, want := range map[string]string{
		"json":     `"query":"` + strings.TrimPrefix(shown, "/login?") + `"`,
		"combined": `"GET ` + shown + ` HTTP/1.1" 302 0 "http://a/?token=***&b=2" "***"`,
		`$uri $query $referer $user_agent $request_header_authorization $request_header_cookie $request_header_referer $request_header_user_agent ` +
			`$response_header_set_cookie $response_header_location $request_header_x_fine`: shown + " " + strings.TrimPrefix(shown, "/login?") +
			` http://a/?token=***&b=2 *** *** *** http://a/?token=***&b=2 *** *** /there?token=*** fine`,
	} {
		a.Format = formatOf(t, format)
		out := logged(t, a, tell)
		if format == "json" {
			if want = strings.ReplaceAll(want, "&", `&`); strings.Contains(out, "s3cret") || !strings.Contains(out, `"user_agent":"***"`) {
				t.Errorf("the line is %s", out)
			}
		}
		if strings.Contains(out, "s3cret") || !strings.Contains(out, want) {
			t.Errorf("%s: the line is\n%swant in it\n%s", format, out, want)
		}
	}
	// Without queries, no address has one; a field that is not there is a dash.
	a = AccessLog{RedactHeaders: []string{"host", "etag"}, Format: formatOf(t, `$uri $query $request $referer $host $response_header_etag $response_header_location`)}
	if out := logged(t, a, tell); out != `/login - GET\x20/login\x20HTTP/1.1 http://a/ *** - /there`+"\n" {
		t.Errorf("without queries the line is %q", out)
	}
	a.Format = nil
	if out := logged(t, a, tell); !strings.Contains(out, `"host":"***"`) || strings.Contains(out, `"query"`) {
		t.Errorf("without queries the line is %q", out)
	}
}

func TestFormatsThatAreRefused(t *testing.T) {
	for _, f := range [][]Part{{{Field: "teapot"}}, make([]Part, maxParts+1)} {
		if _, err := New(Options{AccessLog: AccessLog{Writer: &bytes.Buffer{}, Format: f}}); err == nil {
			t.Errorf("a format of %d parts is taken", len(f))
		}
	}
}

// Values of any bytes, in any format: one line, and no byte in it that is not printable.
func FuzzFormatLine(f *testing.F) {
	f.Add(`"$request" $user_agent`, "/\"", "a=b&token=c", "x\n")
	f.Add("$uri|$referer\t$host", "/", "token=%3d;token=;?", "http://?&=")
	f.Fuzz(func(t *testing.T, text, path, query, value string) {
		parts, err := config.AccessLogFormat(text).Parts()
		if err != nil || strings.ContainsAny(text, "\n") {
			return
		}
		a := AccessLog{Query: true, RedactQuery: []string{"token"}, Format: []Part{}}
		for _, p := range parts {
			a.Format = append(a.Format, Part(p))
		}
		if a.Format == nil {
			return
		}
		out := logged(t, a, func(r *Recorder) {
			x := request(t, "GET / HTTP/1.1", "Host: a")
			x.Request.SetPath([]byte(path))
			x.Request.SetQuery([]byte(query))
			for _, name := range []string{"User-Agent", "Referer", "X"} {
				x.Request.Set(name, value)
			}
			r.Begin(x)
			end(r, x, 200)
		})
		if strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
			t.Fatalf("%q", out)
		}
		plain := ""
		for _, p := range parts {
			plain += p.Text
		}
		for _, c := range []byte(strings.TrimSuffix(out, "\n")) {
			if (c < ' ' || c >= 0x7f) && strings.IndexByte(plain, c) < 0 {
				t.Fatalf("%q", out)
			}
		}
		if strings.Count(out, `"`) != strings.Count(plain, `"`) {
			t.Fatalf("%q has other quotes than its format %q", out, text)
		}
	})
}

// Whatever a query is, no value of a parameter that was named is left in it.
func FuzzRedactedQuery(f *testing.F) {
	for _, s := range []string{"token=1", "a=1&tok%65n=2", ";token=3;x", "a?token==", "%", "token", "=&=;?", "token=%26token=1"} {
		f.Add(s)
	}
	d := redaction{query: true, names: []string{"token"}}
	f.Fuzz(func(t *testing.T, query string) {
		out := string(d.appendQuery(nil, []byte(query)))
		for pair := range strings.SplitSeq(out, "&") {
			for part := range strings.FieldsFuncSeq(pair, func(r rune) bool { return r == ';' || r == '?' }) {
				name, value, _ := strings.Cut(part, "=")
				if sameName([]byte(name), "token") && strings.Contains(part, "=") && value != hiddenText {
					t.Fatalf("%q becomes %q", query, out)
				}
			}
		}
		if again := string(d.appendQuery(nil, []byte(out))); again != out {
			t.Fatalf("%q becomes %q, and that %q", query, out, again)
		}
	})
}
