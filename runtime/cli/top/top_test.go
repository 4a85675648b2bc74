package top

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/cli/ask"
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// fixed is what a gateway says at one of two times, 2 seconds apart.
func fixed(second int) *reading {
	k := uint64(second)
	r := &reading{
		at:       start.Add(time.Duration(second) * 2 * time.Second),
		answers:  map[string]sum{"shop": {10 + 0.5*float64(k), 1000 + 100*float64(k)}},
		failures: map[string]float64{"shop": 5 + 3*float64(k)},
		lag:      map[int]float64{0: 0.0123},
	}
	r.process = admin.Process{Version: "1.2.3", Uptime: 93784, Clients: 17}
	for i := range 2 {
		r.process.Loops = append(r.process.Loops, admin.Loop{Loop: i, Connections: 9 - i, Tasks: i, Busy: 100 + float64(k)*float64(i+1)/2, Elapsed: 1000 + 2*float64(k)})
	}
	member := func(health string) admin.Member { return admin.Member{Health: health} }
	r.upstreams = []admin.Upstream{
		{Name: "shop", Open: 12, Idle: 7, Waiting: 3, RetriesLeft: 10, Reused: 900 + 90*k, New: map[string]uint64{"none_idle": 100 + 10*k}, Members: []admin.Member{member("healthy"), member("ejected")}},
		{Name: "quiet", RetriesLeft: 10, Reused: 5, Members: []admin.Member{member("healthy")}},
		{Name: "a-name-that-is-longer-than-others\x1b[2J", BreakerOpen: true, Open: 1, Idle: 1, Reused: 2 * k, Members: []admin.Member{member("unhealthy")}},
		{Name: "empty"},
	}
	r.plugins = []admin.Plugin{
		{Name: "tenant", ABI: "native", Figures: admin.PluginFigures{Calls: 1000 + 100*k, Fuel: 800_000 + 81_200*k, Instances: 4, Memory: 5 << 20, Failures: map[string]uint64{"plugin_trap": 3}}},
		{Name: "gone", ABI: "none", Missing: "connection refused"},
	}
	for i := range 25 {
		c := admin.Connection{ID: uint64(100 + i), Upstream: "shop", Address: "10.0.0.7:8080", State: "idle", Why: "none_idle", Age: float64(1000 * (i + 1)), Idle: float64(i), Requests: uint64(i)}
		if i == 3 {
			c.State, c.Requests, c.Use = "busy", 1000+42*k, &admin.Use{Kind: "request", Method: "GET", Path: "/cart"}
		}
		r.connections.Connections = append(r.connections.Connections, c)
	}
	return r
}

func TestGoldenText(t *testing.T) {
	for _, width := range []int{0, 100, 60, 24} {
		got := text(fixed(0), fixed(1), width)
		file := filepath.Join("testdata", fmt.Sprintf("width-%d.txt", width))
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("width %d: got\n%s\nwant\n%s", width, got, want)
		}
		for i, line := range strings.Split(got, "\n") {
			if i > 0 && width > 0 && utf8.RuneCountInString(line) > width {
				t.Errorf("width %d: %q has %d", width, line, utf8.RuneCountInString(line))
			}
		}
	}
}

func TestFiguresOfTwoReadings(t *testing.T) {
	before, now := fixed(0), fixed(1)
	row := func(v view, name string) string {
		tb := v.table(before, now, 0)
		for _, r := range tb.rows {
			if r[0] == name {
				return strings.Join(r, "|")
			}
		}
		return ""
	}
	for _, c := range []struct {
		view       int
		name, want string
	}{
		{0, "shop", "shop|1/2 healthy|50|5.00ms|1.5|12|7|3|90%|10"}, // 100 requests in 2 s, that took 0.5 s, 90 of them reused
		{0, "quiet", "quiet|healthy|0|-|0|0|0|0|-|10"},
		{1, "#103", "#103|shop|10.0.0.7:8080|busy|21|1042|4.0s|-|none idle|request GET /cart"},
		{2, "tenant", "tenant|well|50|812|4|5.0MiB|3|1100|native"},
		{2, "gone", "gone|no module|0|-|0|0B|0|0|none"},
		{3, "0", "0|25%|12ms|9|0"},
		{3, "1", "1|50%|-|8|1"},
	} {
		if got := row(views[c.view], c.name); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
	// A gateway that was restarted counts anew: its figures are what it has counted since.
	if got := growth(1000, 7); got != 7 {
		t.Errorf("from 1000 to 7: %v", got)
	}
}

func TestSortingPutsTheMostFirst(t *testing.T) {
	for _, c := range []struct {
		view, sort int
		first      string
	}{{0, 0, "shop"}, {0, 3, "shop"}, {1, 0, "#103"}, {1, 1, "#124"}, {1, 2, "#124"}, {1, 3, "#100"}, {2, 1, "tenant"}, {3, 1, "1"}, {3, 2, "0"}} {
		tb := views[c.view].table(fixed(0), fixed(1), c.sort)
		if got := tb.rows[0][0]; got != c.first {
			t.Errorf("%s by %s: %s is the first, not %s", views[c.view].title, views[c.view].sorts[c.sort], got, c.first)
		}
	}
}

// endpoint answers like a gateway's admin endpoint that has more to tell each time.
type endpoint struct {
	*httptest.Server
	token string
	asked atomic.Int64 // for metrics, which come last
	gone  atomic.Bool
}

func startEndpoint(t testing.TB) *endpoint {
	e := &endpoint{}
	mux := http.NewServeMux()
	say := func(v func(*reading) any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode(v(fixed(int(e.asked.Load()))))
		}
	}
	mux.HandleFunc("GET /version", say(func(r *reading) any { return r.process }))
	mux.HandleFunc("GET /upstreams", say(func(r *reading) any { return r.upstreams }))
	mux.HandleFunc("GET /plugins", say(func(r *reading) any { return r.plugins }))
	mux.HandleFunc("GET /connections", say(func(r *reading) any { return r.connections }))
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		k := e.asked.Add(1) - 1
		fmt.Fprintf(w, "# TYPE wasmgate_upstream_first_byte_seconds histogram\nwasmgate_upstream_first_byte_seconds_bucket{upstream=\"shop\",le=\"+Inf\"} %d\n"+
			"wasmgate_upstream_first_byte_seconds_sum{upstream=\"shop\"} %v\nwasmgate_upstream_first_byte_seconds_count{upstream=\"shop\"} %d\n"+
			"# TYPE wasmgate_loop_worst_turn_seconds gauge\nwasmgate_loop_worst_turn_seconds{loop=\"0\"} 0.0123\n"+
			"# TYPE wasmgate_upstream_errors_total counter\nwasmgate_upstream_errors_total{upstream=\"shop\",kind=\"a\"} %d\nwasmgate_upstream_errors_total{upstream=\"shop\",kind=\"b\"} %d\n",
			1000+100*k, 10+0.5*float64(k), 1000+100*k, k, 5+2*k)
	})
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case e.gone.Load():
			panic(http.ErrAbortHandler)
		case e.token != "" && r.Header.Get("Authorization") != "Bearer "+e.token:
			http.Error(w, "a token is needed", http.StatusUnauthorized)
		default:
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) options(out io.Writer) Options {
	return Options{Endpoint: ask.Endpoint{Admin: strings.TrimPrefix(e.URL, "http://")}, Once: true, Interval: time.Millisecond, Out: out}
}

func TestOnceReadsTwice(t *testing.T) {
	e := startEndpoint(t)
	var out bytes.Buffer
	if err := Run(context.Background(), e.options(&out)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"wasmgate 1.2.3, up 1d02h: ", "\nUpstreams\nUPSTREAM", " 5.00ms ", " 90% ", "\nPlugins\n", " 812 ", "12ms", "… and 5 more\n"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Errorf("control sequences in plain text: %q", out.String())
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	e := startEndpoint(t)
	e.token = "correct-horse-battery"
	closed := httptest.NewServer(nil)
	closed.Close()
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer other.Close()
	for _, c := range []struct{ what, admin, token, want string }{
		{"no token", e.URL, "", "wants a token: give the file that has one with --token-file"},
		{"another token", e.URL, "wrong", "does not accept the token"},
		{"nobody there", closed.URL, "", "cannot be reached: dial tcp"},
		{"nobody there", closed.URL, "", "is this its admin.address?"},
		{"no gateway", other.URL, "", "is not a gateway's"},
		{"no address", "http://a b", "", "is no address"},
	} {
		o := e.options(io.Discard)
		o.Endpoint.Admin, o.Endpoint.Token = c.admin, c.token
		if err := Run(context.Background(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	o := e.options(io.Discard)
	o.Endpoint.Token = e.token
	if err := Run(context.Background(), o); err != nil {
		t.Error(err)
	}
}

func TestFramesFitTheScreen(t *testing.T) {
	s := newScreen(Options{}, nil, nil, fixed(0))
	s.take(outcome{fixed(1), nil})
	for _, size := range [][2]int{{120, 40}, {80, 24}, {40, 10}, {20, 6}, {1, 1}} {
		s.width, s.height = size[0], size[1]
		for range views {
			s.press([]byte("\t"))
			frame := s.frame()
			for _, sequence := range []string{begin, end, home, eraseTo, erase, bold, reverse, plain} {
				frame = strings.ReplaceAll(frame, sequence, "")
			}
			lines := strings.Split(frame, "\r\n")
			if len(lines) != s.height {
				t.Errorf("%d lines on a screen of %d", len(lines), s.height)
			}
			for _, l := range lines {
				if utf8.RuneCountInString(l) > s.width || strings.Contains(l, "\x1b") {
					t.Errorf("%v: %q", size, l)
				}
			}
		}
	}
}

func TestKeys(t *testing.T) {
	s := newScreen(Options{}, nil, nil, fixed(0))
	s.width, s.height = 80, 12
	for _, c := range []struct {
		keys               string
		view, sort, offset int
		stays              bool
	}{
		{"c", 1, 0, 0, true}, {"jj", 1, 0, 2, true}, {"\x1b[A", 1, 0, 1, true}, {"s", 1, 1, 0, true}, {"\x1b[B\x1b[B\x1b[B", 1, 1, 3, true}, {strings.Repeat("j", 100), 1, 1, 18, true},
		{"\x1b[C", 2, 0, 0, true}, {"\x1b[D", 1, 1, 0, true}, {"\x1b[Z", 0, 0, 0, true}, {"l", 3, 0, 0, true}, {"\t", 0, 0, 0, true}, {"x?", 0, 0, 0, true}, {"p", 2, 0, 0, true}, {"u", 0, 0, 0, true},
		{"q", 0, 0, 0, false}, {"\x03", 0, 0, 0, false}, {"\x1b", 0, 0, 0, false},
	} {
		stays := s.press([]byte(c.keys))
		s.frame()
		if s.view != c.view || s.sort[s.view] != c.sort || s.offset != c.offset || stays != c.stays {
			t.Errorf("%q: view %d, sort %d, offset %d, %v", c.keys, s.view, s.sort[s.view], s.offset, stays)
		}
	}
}
