package demo

import (
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/internal/testkit"
)

// row is a line of the table of upstream connections.
var row = regexp.MustCompile(`(?m)^ +\d+  (acme|shared) +127\.0\.0\.1:\d+  (.*?)  +(\d+) +(\d+)  ([1-4 ]+?)  +(.*)$`)

func TestSummaryAddsUp(t *testing.T) {
	var out testkit.Buffer
	if err := Run(Options{Out: &out, Once: true}); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	rows := row.FindAllStringSubmatch(text, -1)
	if len(rows) < 2 || len(rows) > 2*Clients {
		t.Errorf("%d connections for %d clients and two upstreams", len(rows), Clients)
	}
	forwarded, reused := 0, 0
	for _, r := range rows {
		n, _ := strconv.Atoi(r[3])
		again, _ := strconv.Atoi(r[4])
		forwarded, reused = forwarded+n, reused+again
		if strings.Contains(r[6], "acme") != (r[1] == "acme") {
			t.Errorf("a connection of upstream %s carried requests for %s", r[1], r[6])
		}
	}
	if forwarded != Requests*9/10 || reused != forwarded-len(rows) {
		t.Errorf("%d requests on %d connections, %d of them reusing one", forwarded, len(rows), reused)
	}
	for _, want := range []string{
		"first to this address", strconv.Itoa(len(rows)) + " connections to upstreams; the upstreams counted " + strconv.Itoa(len(rows)),
		"200 requests in ", "180 of them forwarded", "denied: 403 for /admin", "upstream shared (the default)",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

var address = regexp.MustCompile(`on (http://127\.0\.0\.1:\d+)`)

func TestLiveAccount(t *testing.T) {
	var out testkit.Buffer
	signals, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() { ended <- Run(Options{Out: &out, Signals: signals}) }()
	testkit.Eventually(t, "it invites", func() bool { return strings.Contains(out.String(), "Ctrl-C ends") })
	url := address.FindStringSubmatch(out.String())[1]
	ask := func(path, tenant, host string) string {
		r, err := http.NewRequest(http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Tenant", tenant)
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	body := ask("/orders?id=1", "acme", "")
	for _, want := range []string{"Upstream acme: GET /orders?id=1", "X-Tenant-Id: acme", "X-Routed-By: tenant-router", "X-Forwarded-For: 127.0.0.1"} {
		if !strings.Contains(body, want) {
			t.Errorf("the upstream saw no %q:\n%s", want, body)
		}
	}
	ask("/admin/users", "acme", "")
	if body := ask("/", "", "globex.example.test"); !strings.Contains(body, "X-Tenant-Id: globex") {
		t.Errorf("a tenant by host name:\n%s", body)
	}
	for _, want := range []string{
		"GET /orders?id=1 200: tenant acme → upstream acme, connection ",
		"(reused, request ",
		"GET /admin/users 403: tenant acme → denied by the plugin, no upstream asked",
		"GET / 200: tenant globex → upstream shared, connection ",
	} {
		testkit.Eventually(t, want+"\n"+out.String(), func() bool { return strings.Contains(out.String(), want) })
	}
	http.DefaultClient.CloseIdleConnections()
	signals <- os.Interrupt
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPortThatIsTaken(t *testing.T) {
	port := testkit.Port(t) // which nobody else takes when it is free again
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if _, _, err := choosePort(port, true); err == nil {
		t.Error("a port that was asked for and is taken is no error")
	}
	chosen, note, err := choosePort(port, false)
	if err != nil || chosen != 0 || !strings.Contains(note, strconv.Itoa(port)) {
		t.Errorf("chose %d, %q, %v", chosen, note, err)
	}
	ln.Close()
	if chosen, note, err := choosePort(port, true); err != nil || chosen != port || note != "" {
		t.Errorf("chose %d, %q, %v", chosen, note, err)
	}
}

func TestTable(t *testing.T) {
	var out testkit.Buffer
	(&teller{out: &out}).table([]string{">n", "who", ">how many"}, [][]string{{"1", "ä", "10"}, {"10", "bcd", "9"}})
	const want = "   n  who  how many\n   1  ä          10\n  10  bcd         9\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestMicros(t *testing.T) {
	for d, want := range map[time.Duration]string{
		900: "0.9 µs", 12 * time.Microsecond: "12 µs", 1400 * time.Microsecond: "1.4 ms",
	} {
		if got := micros(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}
