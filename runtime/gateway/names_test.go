package gateway_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"wasmgate/runtime/internal/dnstest"
	"wasmgate/runtime/internal/testkit"
)

// TestWhenDNSFails: shows the row "DNS itself fails". Whatever becomes of the name server, requests go on as before, to
// the last good answer, which is said to be stale.
func TestWhenDNSFails(t *testing.T) {
	list := startBackends(t, 2)
	server := dnstest.New(t)
	good := func() { server.Set("backend.test", nameTTL, ips(list)...) }
	good()
	p := startPlant(t, named(server, list[0].port(), "drain: 1s"))
	doubt := func() string {
		var u struct {
			Members []struct {
				Doubt string `json:"dns_doubt"`
			}
		}
		if err := json.Unmarshal([]byte(get(t, "http://"+p.AdminAddr().String()+"/upstreams/web")), &u); err != nil || len(u.Members) != 2 {
			t.Fatalf("the admin endpoint: %v, %d members; want 2", err, len(u.Members))
		}
		return u.Members[0].Doubt
	}
	f := flowing(t, p.addr.String(), "backend.test", 8, 5*time.Millisecond)
	f.pass(t, 100)
	for _, c := range []struct {
		name, says string
		fails      func()
	}{
		{"NXDOMAIN", "NXDOMAIN", func() { server.Fail("backend.test", dns.RcodeNameError) }},
		{"empty", "without an address", func() { server.Set("backend.test", nameTTL) }},
		{"SERVFAIL", "SERVFAIL", func() { server.Fail("backend.test", dns.RcodeServerFailure) }},
		{"silence", "no answer", func() { server.Silence(true) }},
	} {
		despiteStalls(t, func(wrong func(format string, args ...any)) {
			f.slowest.Store(0)
			c.fails()
			said := ""
			// An answer that comes late is said to be none, until it is there.
			testkit.Eventually(t, fmt.Sprintf("%s is said: %q", c.name, c.says), func() bool {
				f.pass(t, 20)
				said = doubt()
				return strings.Contains(said, c.says)
			})
			f.pass(t, 500) // for a while longer
			t.Logf("%s: said %q; %v", c.name, said, f)
			server.Silence(false)
			good()
			testkit.Eventually(t, "the doubt ends", func() bool {
				f.pass(t, 20)
				return doubt() == ""
			})
			if slowest := time.Duration(f.slowest.Load()); slowest > 500*time.Millisecond && !raceEnabled {
				wrong("%s: a request took %v", c.name, slowest)
			}
		})
	}
	f.stop()
	if n := f.failed.Load(); n > 0 {
		t.Error(f)
	}
	for _, b := range list {
		if b.open.Load() != b.accepted.Load() || b.accepted.Load() > 8 {
			t.Errorf("%s has %d of %d connections", b.addr, b.open.Load(), b.accepted.Load())
		}
	}
}

// failed is the attributes of the first span of this name that failed, with what its status says.
func (s *spans) failed(name string) map[string]string {
	for _, s := range s.named(name) {
		if s.Status.GetCode() != tracepb.Status_STATUS_CODE_ERROR {
			continue
		}
		all := map[string]string{"status": s.Status.Message}
		for _, a := range s.Attributes {
			all[a.Key] = strings.Trim(strings.SplitN(a.Value.String(), ":", 2)[1], `"`)
		}
		return all
	}
	return nil
}

// TestErrorsOfConnectionsNameTheAnswer: shows the row "error names only an IP": the access log's line and the spans name
// the upstream, host and address, and how old the answer of DNS was that had the address, and its TTL.
func TestErrorsOfConnectionsNameTheAnswer(t *testing.T) {
	b := startBackends(t, 1)[0]
	server := dnstest.New(t)
	server.Set("backend.test", time.Minute, b.ip())
	collector := &spans{}
	at := httptest.NewServer(collector)
	t.Cleanup(at.Close)
	file := filepath.Join(t.TempDir(), "access.log")
	g := startText(t, fmt.Sprintf(`
telemetry: { access_log: { output: '%s' }, traces: { endpoint: '%s' } }
admin: { address: '' }
plugin_cache: { dir: 'off' }
listeners: [{ name: test, address: '127.0.0.1:0' }]
`, file, at.URL)+named(server, b.port(), "", "pool: { reuse: never }"))
	get(t, g.url("/"))
	b.stop()
	if got := get(t, g.url("/")); !strings.HasPrefix(got, "502") {
		t.Fatalf("answered %q", got)
	}
	host := fmt.Sprintf("backend.test:%d", b.port())
	var line map[string]any
	testkit.Eventually(t, "the access log has the line", func() bool {
		text, _ := os.ReadFile(file)
		for one := range strings.Lines(string(text)) { // each loop writes its own, in its own time
			if strings.Contains(one, `"status":502`) && json.Unmarshal([]byte(one), &line) == nil {
				return true
			}
		}
		return false
	})
	t.Log("line:", line)
	for key, want := range map[string]string{"upstream": "web", "upstream_host": host, "upstream_address": b.addr, "error": "connect", "error_cause": "refused"} {
		if got := fmt.Sprint(line[key]); !strings.Contains(got, want) {
			t.Errorf("the access log's %s is %q; want %q in it", key, got, want)
		}
	}
	for _, want := range []string{"DNS answer ", "s old, with a TTL of 1m0s"} {
		if got := fmt.Sprint(line["error_detail"]); !strings.Contains(got, want) {
			t.Errorf("the access log's error_detail is %q; want %q in it", got, want)
		}
	}
	var attempt, connection map[string]string
	testkit.Eventually(t, "the spans arrive", func() bool {
		attempt, connection = collector.failed("GET web"), collector.failed("upstream.connection")
		return attempt != nil && connection != nil
	})
	t.Log("attempt:", attempt)
	t.Log("connection:", connection)
	for _, want := range []string{"web", host, b.addr, "DNS answer ", "TTL of 1m0s"} {
		if !strings.Contains(fmt.Sprint(connection), want) {
			t.Errorf("the connection's span does not say %q: %v", want, connection)
		}
		if !strings.Contains(fmt.Sprint(attempt), want) {
			t.Errorf("the attempt's span does not say %q: %v", want, attempt)
		}
	}
	if connection["wasmgate.dns.ttl"] == "" || connection["wasmgate.dns.age"] == "" || connection["wasmgate.dns.server"] != server.Addr() {
		t.Errorf("the connection's span: %v; want age, TTL and server of the answer", connection)
	}
}

// TestServices: a name that begins with an underscore has ports, priorities and weights of its own, and these change too.
func TestServices(t *testing.T) {
	first, second := startBackends(t, 3), startBackends(t, 1) // with a port each
	server := dnstest.New(t)
	for i, b := range first {
		server.Set(fmt.Sprintf("n%d.test", i), nameTTL, b.ip())
	}
	server.Set("m.test", nameTTL, second[0].ip())
	record := func(priority, weight uint16, target string, b *backend) dnstest.SRV {
		return dnstest.SRV{Priority: priority, Weight: weight, Port: b.port(), Target: target}
	}
	records := []dnstest.SRV{record(10, 3, "n0.test", first[0]), record(10, 1, "n1.test", first[1]), record(20, 1, "m.test", second[0])}
	server.SetSRV("_http._tcp.backend.test", nameTTL, records)
	p := startPlant(t, fmt.Sprintf("loops: 2\nupstreams: { web: { targets: ['http://_http._tcp.backend.test'], dns: { server: '%s' } } }\nroutes: [{ upstream: web }]\n", server.Addr()))
	f := flowing(t, p.addr.String(), "backend.test", 8, time.Millisecond)
	f.pass(t, 2000)
	n0, n1, m := first[0].requests.Load(), first[1].requests.Load(), second[0].requests.Load()
	t.Logf("weights 3 and 1: %d and %d requests; the next priority had %d", n0, n1, m)
	if share := float64(n0) / float64(n0+n1); share < 0.73 || share > 0.77 || m > 0 {
		t.Errorf("the first had %.3f of the requests, want 0.75; the second priority had %d, want 0", share, m)
	}
	// The whole first priority goes: the second takes over, without a failed request.
	first[0].stop()
	first[1].stop()
	f.pass(t, 500)
	if second[0].requests.Load() < 400 {
		t.Errorf("the second priority had %d requests after the first was gone", second[0].requests.Load())
	}
	// A service moves to another port and host by a change of DNS alone.
	server.SetSRV("_http._tcp.backend.test", nameTTL, []dnstest.SRV{record(10, 1, "n2.test", first[2])})
	testkit.Eventually(t, "the new target is used", func() bool {
		f.pass(t, 20)
		return first[2].requests.Load() > 0
	})
	f.pass(t, 100)
	for try := 1; ; try++ { // one that was on its way may arrive only now
		was := second[0].requests.Load()
		f.pass(t, 300)
		if second[0].requests.Load() == was {
			break
		}
		if try == 3 {
			t.Error("the target that the service has no more still has requests")
			break
		}
	}
	f.stop()
	t.Log(f)
	if f.failed.Load() > 0 {
		t.Error(f)
	}
}

// TestAFewAddressesOfManyInTurn: the name server gives two of eight addresses, other ones each time, as large services
// do. Each answer is followed, and yet connections are not opened anew: those to addresses that are not in the answer
// wait for its return.
func TestAFewAddressesOfManyInTurn(t *testing.T) {
	list := startBackends(t, 8)
	server := dnstest.New(t)
	server.Rotate("backend.test", nameTTL, 2, ips(list)...)
	p := startPlant(t, named(server, list[0].port(), ""))
	f := flowing(t, p.addr.String(), "backend.test", 8, 2*time.Millisecond)
	testkit.Eventually(t, "every address had its turn", func() bool {
		f.pass(t, 50)
		for _, b := range list {
			if b.requests.Load() == 0 {
				return false
			}
		}
		return true
	})
	for try := 1; ; try++ { // where the machine stands still, requests meet, and want more connections at once: then one more turn
		began := total(list, acceptedOf)
		asked := server.Queries("backend.test")
		for server.Queries("backend.test") < asked+8 { // four more answers: each address once more
			f.pass(t, 50)
		}
		grown := total(list, acceptedOf) - began
		t.Logf("%v; %d connections after each address had its turn, %d more in the next", f, began, grown)
		if grown <= began/2 {
			break
		}
		if try == 3 {
			t.Errorf("%d connections, and %d more in another turn of the same addresses", began, grown)
			break
		}
	}
	f.stop()
	closed := total(list, acceptedOf) - total(list, func(b *backend) *atomic.Int64 { return &b.open })
	t.Logf("%v; %d connections at the end; %d were closed", f, total(list, acceptedOf), closed)
	if f.failed.Load() > 0 || closed > 0 {
		t.Errorf("%v, and %d connections were closed", f, closed)
	}
}

// TestOneFamilyDoesNotAnswer: a name has an IPv6 address that is not reachable and an IPv4 one that is, as behind many a
// tunnel. Requests must not wait for the first for longer than it takes to try the second (RFC 8305).
func TestOneFamilyDoesNotAnswer(t *testing.T) {
	despiteStalls(t, func(wrong func(format string, args ...any)) {
		if slowest := oneFamily(t); slowest > time.Second && !raceEnabled {
			wrong("a request took %v; the other address is tried after 250 ms", slowest)
		}
	})
}

// oneFamily is one try of it. It says how long the slowest request took until the address that does not answer was left alone.
func oneFamily(t *testing.T) (slowest time.Duration) {
	t.Helper()
	b := startBackends(t, 1)[0]
	dark, err := net.Listen("tcp", fmt.Sprintf("[::1]:%d", b.port()))
	if err != nil {
		missing(t, "::1 on loopback: "+err.Error())
	}
	defer dark.Close()
	plug(t, dark.(*net.TCPListener))
	server := dnstest.New(t)
	server.Set("backend.test", nameTTL, "::1", b.ip())
	p := startPlant(t, named(server, b.port(), ""))
	defer p.Close() // before another try begins
	f := flowing(t, p.addr.String(), "backend.test", 8, 10*time.Millisecond)
	testkit.Eventually(t, "the address that does not answer is left alone", func() bool {
		f.pass(t, 1)
		return strings.Contains(p.states(fmt.Sprintf("[::1]:%d", b.port())), "ejected")
	})
	t.Logf("at first: %v", f)
	slowest = time.Duration(f.slowest.Load())
	f.pass(t, 500)
	f.stop()
	t.Logf("then: %v", f)
	if f.failed.Load() > 0 {
		t.Error(f)
	}
	return slowest
}

// inNamespace is set, to a folder, for the test that runs itself again with files of its own in /etc.
const inNamespace = "WASMGATE_TEST_NAMESPACE"

// TestTheSystemsNames: without dns.server the machine's own way to names holds: /etc/hosts first, then the name servers
// of /etc/resolv.conf, with their search list. A change of /etc/hosts is seen without a restart.
func TestTheSystemsNames(t *testing.T) {
	dir := os.Getenv(inNamespace)
	if dir == "" {
		dir = t.TempDir()
		files := map[string]string{"/etc/hosts": filepath.Join(dir, "hosts"), "/etc/resolv.conf": filepath.Join(dir, "resolv.conf")}
		for _, file := range files {
			if err := os.WriteFile(file, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		cmd := namespaced(t, files, false, os.Args[0], "-test.run=^TestTheSystemsNames$", "-test.v")
		cmd.Env = append(os.Environ(), inNamespace+"="+dir)
		out, err := cmd.CombinedOutput()
		t.Logf("in namespaces:\n%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	list := startBackends(t, 3)
	server := dnstest.New(t)
	// In place, and so that there is no moment in which the file is empty: the gateway may look at it at any time.
	write := func(file, text string) {
		to, err := os.OpenFile("/etc/"+file, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = to.WriteString(text)
		if err = errors.Join(err, to.Truncate(int64(len(text))), to.Close()); err != nil {
			t.Fatal(err)
		}
	}
	host, port, _ := net.SplitHostPort(server.Addr())
	write("resolv.conf", fmt.Sprintf("nameserver [%s]:%s\nsearch corp.test\n", host, port))
	write("hosts", list[0].ip()+" backend.test\n")
	server.Set("backend.test", nameTTL, list[2].ip())   // is not asked for
	server.Set("shop.corp.test", nameTTL, list[2].ip()) // as "shop"
	p := startPlant(t, fmt.Sprintf(`
upstreams:
  web: { targets: ['http://backend.test:%[1]d'] }
  shop: { targets: ['http://shop:%[1]d'] }
routes: [{ match: { path: /shop }, upstream: shop }, { upstream: web }]
`, list[0].port()))
	if got := get(t, p.url("/")); got != "b1" {
		t.Errorf("a name that the hosts file has: %q; want b1", got)
	}
	if got := get(t, p.url("/shop")); got != "b3" {
		t.Errorf("a name of the search list's domain: %q; want b3", got)
	}
	f := flowing(t, p.addr.String(), "backend.test", 4, 5*time.Millisecond)
	f.pass(t, 50)
	write("hosts", list[1].ip()+" backend.test\n")
	changed := time.Now()
	testkit.Eventually(t, "the change of the hosts file is seen", func() bool {
		f.pass(t, 1)
		return list[1].requests.Load() > 0
	})
	t.Logf("the change of the hosts file was seen after %v; %v", time.Since(changed).Round(time.Millisecond), f)
	was := list[0].requests.Load()
	f.pass(t, 100)
	f.stop()
	if f.failed.Load() > 0 || list[0].requests.Load() > was+4 {
		t.Errorf("%v; the old address had %d requests more", f, list[0].requests.Load()-was)
	}
	if n := server.Queries("backend.test"); n > 0 {
		t.Errorf("DNS was asked %d times for a name that the hosts file has", n)
	}
}
