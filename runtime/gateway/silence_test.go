package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// halfARecord is how a record of TLS begins.
const halfARecord = "\x17\x03\x03"

// sayings are what a side of HTTP/1.1 or HTTP/2 has said when it falls silent.
type sayings map[string]string

const (
	post1   = "POST /read HTTP/1.1\r\nHost: a.test\r\n"
	socket1 = "GET /u/ws/ HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	ok1     = "HTTP/1.1 200 OK\r\n"
)

var silentClients1 = sayings{
	"nothing": "", "half a method": "GE", "half a head": "GET / HTTP/1.1\r\nHost: a", "half a body": post1 + "Content-Length: 10\r\n\r\n12",
	"half of a chunk's size": post1 + "Transfer-Encoding: chunked\r\n\r\n5", "half a chunk": post1 + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
	"between chunks": post1 + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "half a trailer": post1 + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ",
	"no body after 100 (Continue)": post1 + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n", "a whole request": "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"half a second head": "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET /", "an answer that is not read": "GET /large HTTP/1.1\r\nHost: a.test\r\n\r\n",
	"an answer that does not come": "GET /stuck HTTP/1.1\r\nHost: a.test\r\n\r\n", "a request behind one whose answer does not come": "GET /stuck HTTP/1.1\r\nHost: a.test\r\n\r\nGET /",
	"a tunnel": socket1, "half a frame in a tunnel": socket1 + "\x81\x85ab",
}

var silentUpstreams1 = sayings{
	"nothing": "", "half a head": ok1 + "Content-Le", "an interim answer": "HTTP/1.1 103 Early Hints\r\n\r\n", "half a body": ok1 + "Content-Length: 10\r\n\r\n12",
	"half of a chunk's size": ok1 + "Transfer-Encoding: chunked\r\n\r\n5", "half a chunk": ok1 + "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
	"half a trailer": ok1 + "Transfer-Encoding: chunked\r\n\r\n0\r\nX: ", "a body until the end": ok1 + "\r\nsome", "a whole answer": ok1 + "Content-Length: 2\r\n\r\nok",
	"half of what nobody asked for": ok1 + "Content-Length: 2\r\n\r\nokHTTP/1.1 ",
}

// said2 is what a side of HTTP/2 says by a Framer.
func said2(say func(f *http2.Framer)) string {
	var b bytes.Buffer
	f := http2.NewFramer(&b, nil)
	f.AllowIllegalWrites = true
	say(f)
	return b.String()
}

// head2 is a head of stream 1, by names and values in turn.
func head2(f *http2.Framer, end, whole bool, fields ...string) {
	var b bytes.Buffer
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b.Bytes(), EndStream: end, EndHeaders: whole})
}

func silentClients2() sayings {
	preface := http2.ClientPreface + said2(func(f *http2.Framer) { _ = f.WriteSettings(); _ = f.WriteSettingsAck() })
	ask := func(method, path string, end, whole bool) string {
		return said2(func(f *http2.Framer) { head2(f, end, whole, to(method, path)...) })
	}
	data := said2(func(f *http2.Framer) { _ = f.WriteData(1, false, []byte("1234567890")) })
	return sayings{
		"half a preface": http2.ClientPreface[:20], "a preface": http2.ClientPreface, "SETTINGS": preface, "half a frame's header": preface + "\x00\x00",
		"half a frame": preface + ask("GET", "/", true, true)[:12], "half a header block": preface + ask("GET", "/", true, false),
		"a whole request": preface + ask("GET", "/", true, true), "half a frame after a request": preface + ask("GET", "/", true, true) + "\x00\x00",
		"no body": preface + ask("POST", "/read", false, true), "half a body": preface + ask("POST", "/read", false, true) + data,
		"half a frame of a body": preface + ask("POST", "/read", false, true) + data[:12], "an answer that is not read": preface + ask("GET", "/large", true, true),
		"an answer that does not come": preface + ask("GET", "/stuck", true, true),
		"no window": http2.ClientPreface + said2(func(f *http2.Framer) {
			_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		}) + ask("GET", "/large", true, true),
		"a tunnel": preface + said2(func(f *http2.Framer) {
			head2(f, false, true, append(to("CONNECT", "/u/ws/"), ":protocol", "websocket", "sec-websocket-version", "13")...)
		}),
	}
}

func silentUpstreams2() sayings {
	settings := said2(func(f *http2.Framer) { _ = f.WriteSettings(); _ = f.WriteSettingsAck() })
	head := func(end, whole bool, fields ...string) string {
		return said2(func(f *http2.Framer) { head2(f, end, whole, append([]string{":status", "200"}, fields...)...) })
	}
	data := said2(func(f *http2.Framer) { _ = f.WriteData(1, false, []byte("1234567890")) })
	return sayings{
		"nothing": "", "half of SETTINGS": settings[:5], "SETTINGS": settings, "half a frame": settings + head(false, true)[:10], "half a header block": settings + head(false, false),
		"a head": settings + head(false, true), "half a body": settings + head(false, true) + data, "half a frame of a body": settings + head(false, true) + data[:12],
		"a whole answer": settings + head(true, true), "half a frame behind an answer": settings + head(true, true) + "\x00\x00",
		"no window": said2(func(f *http2.Framer) { _ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) }),
	}
}

// silentUpstream says this on each connection, when it has heard something there, and falls silent.
func silentUpstream(t *testing.T, cfg *tls.Config, what, behind string) (addr string) {
	t.Helper()
	l, _ := eachConn(t, func(raw net.Conn) {
		c := raw
		if cfg != nil {
			c = tls.Server(raw, cfg)
		}
		r := bufio.NewReader(c)
		for line := ""; line != "\r\n" && line != "SM\r\n"; { // the end of a head, or of a preface
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				return
			}
		}
		_, _ = io.WriteString(c, what)
		_, _ = io.WriteString(raw, behind)
		_, _ = io.Copy(io.Discard, raw) // until the gateway ends it
	})
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// hush is all that falls silent in a test: upstreams, and clients that come to a gateway.
type hush struct {
	*testing.T
	secure            *issuer
	upstreams, routes strings.Builder
	clients           map[string]func(t *testing.T, p *plant)
}

// says has a client say this on a connection, and then no more: in cleartext, by TLS, and by TLS with a part of a record behind it.
func (h *hush) says(name, protocol, what string) {
	cfg := h.secure.trust()
	cfg.NextProtos = []string{protocol}
	h.clients[name+", in cleartext"] = func(t *testing.T, p *plant) { silentClient(t, p, "test", nil, what, "") }
	h.clients[name+", by TLS"] = func(t *testing.T, p *plant) { silentClient(t, p, "secure", cfg, what, "") }
	h.clients[name+", by TLS, and half a record"] = func(t *testing.T, p *plant) { silentClient(t, p, "secure", cfg, what, halfARecord) }
}

func silentClient(t *testing.T, p *plant, listener string, cfg *tls.Config, what, behind string) {
	t.Helper()
	raw, err := net.Dial("tcp", p.Addr(listener).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	c := raw
	if cfg != nil {
		c = tls.Client(raw, cfg)
	}
	if _, err := io.WriteString(c, what); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(raw, behind); err != nil {
		t.Fatal(err)
	}
}

// answers has upstreams answer this, and then say no more, in the same three ways; each is asked by a client.
func (h *hush) answers(name, protocol, alpn, what string) {
	pair, err := tls.LoadX509KeyPair(h.secure.file("a.pem"), h.secure.file("a.key"))
	if err != nil {
		h.Fatal(err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{alpn}}
	for _, way := range []struct {
		name, scheme, behind string
		cfg                  *tls.Config
	}{{"in cleartext", "http", "", nil}, {"by TLS", "https", "", cfg}, {"by TLS, and half a record", "https", halfARecord, cfg}} {
		id := fmt.Sprintf("u%d", strings.Count(h.upstreams.String(), "\n"))
		more := ""
		if way.cfg != nil {
			more = ", tls: { insecure_skip_verify: true }"
		}
		fmt.Fprintf(&h.upstreams, "  %s: { targets: ['%s://%s'], protocol: %s%s }\n", id, way.scheme, silentUpstream(h.T, way.cfg, what, way.behind), protocol, more)
		fmt.Fprintf(&h.routes, "  - { match: { path_prefix: /%s/ }, upstream: %s }\n", id, id)
		h.clients[name+", "+way.name] = func(t *testing.T, p *plant) {
			silentClient(t, p, "test", nil, "GET /"+id+"/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "")
		}
	}
}

// TestSilenceCostsNoCPU: clients and upstreams may fall silent at any point of what they say. Until their time is over that costs memory at
// most: no loop goes round for it.
func TestSilenceCostsNoCPU(t *testing.T) {
	h := &hush{T: t, secure: newIssuer(t), clients: map[string]func(*testing.T, *plant){}}
	h.secure.issue("a", "a.test")
	for name, what := range silentClients1 {
		h.says("a client of HTTP/1.1: "+name, "http/1.1", what)
	}
	for name, what := range silentClients2() {
		h.says("a client of HTTP/2: "+name, "h2", what)
	}
	for name, what := range silentUpstreams1 {
		h.answers("an upstream of HTTP/1.1: "+name, "http1.1", "http/1.1", what)
	}
	for name, what := range silentUpstreams2() {
		h.answers("an upstream of HTTP/2: "+name, "http2", "h2", what)
	}
	h.others()
	text, names := h.gateway(), slices.Sorted(maps.Keys(h.clients))
	used := h.cost(text, names)
	t.Logf("%v of CPU in a second, with %d that have fallen silent", used, len(names))
	if used < mostOfSilence {
		return
	}
	for try := 1; try < 4; try++ { // the machine may have had something else to do
		if used = h.cost(text, names); used < mostOfSilence {
			return
		}
	}
	t.Errorf("%v of CPU in a second, by:\n%s", used, strings.Join(h.who(text, names), "\n"))
}

// others are clients that begin something else than HTTP/1.1 or HTTP/2.
func (h *hush) others() {
	for name, what := range map[string]string{"nothing": "", "half a hello": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "half a record's header": "\x16\x03", "half a PROXY header": "PROXY TCP4 1"} {
		for _, listener := range []string{"secure", "tcp", "names", "proxied"} {
			h.clients[listener+": "+name] = func(t *testing.T, p *plant) { silentClient(t, p, listener, nil, what, "") }
		}
	}
	for name, parts := range map[string][][]byte{
		"nothing": nil, "half a head": {head3("GET", "/")[:4]}, "half a body": {head3("POST", "/read"), frame3(0, []byte("a little"))},
		"half a frame": {head3("POST", "/read"), []byte("\x00\x40\xff12")}, "an answer that does not come": {head3("GET", "/stuck")},
		"an answer that is not read": {head3("GET", "/large")},
	} {
		h.clients["a client of HTTP/3: "+name] = func(t *testing.T, p *plant) {
			cfg := h.secure.trust()
			at := plant{t, p.Gateway, p.journal, p.Addr("secure")}
			q, err := at.quic(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if parts != nil {
				at.open3(q, false, parts...)
			}
		}
	}
}

// mostOfSilence is a fifth of a loop's CPU: what is under way at all, such as timers and the garbage collector, is far less.
const mostOfSilence = 200 * time.Millisecond

// gateway is the configuration in which all of them have their place.
func (h *hush) gateway() string {
	web := newBackend(h.T, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/large":
			_, _ = w.Write(make([]byte, 16<<20))
		case "/stuck":
			_, _ = io.Copy(io.Discard, r.Body) // before its end nobody sees that the connection goes
			<-r.Context().Done()
		case "/read":
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})
	certificates := fmt.Sprintf("tls: { certificates: [{ cert: %q, key: %q }] }", h.secure.file("a.pem"), h.secure.file("a.key"))
	return fmt.Sprintf(`
loops: 1
listeners:
  - { name: test, address: '127.0.0.1:0' }
  - { name: secure, address: '127.0.0.1:0', %s, http3: { enabled: true } }
  - { name: tcp, address: '127.0.0.1:0', mode: tcp, upstream: web }
  - { name: names, address: '127.0.0.1:0', mode: tcp, sni: [{ host: a.test, upstream: web }] }
  - { name: proxied, address: '127.0.0.1:0', proxy_protocol: [127.0.0.0/8] }
upstreams:
%s  ws: { targets: ['http://%s'] }
  web: { targets: ['%s'] }
routes:
%s  - { match: { path_prefix: /u/ws/ }, upstream: ws, upgrades: [websocket] }
  - { upstream: web }
`, certificates, h.upstreams.String(), startWebSockets(h.T).addr, web, h.routes.String())
}

// who of these costs it: one, or several that do so together.
func (h *hush) who(text string, names []string) []string {
	for goOn := len(names) > 1; goOn; {
		half := len(names) / 2
		for _, some := range [][]string{names[:half], names[half:]} {
			if goOn = h.cost(text, some) >= mostOfSilence; goOn {
				names, goOn = some, len(some) > 1
				break
			}
		}
	}
	return names
}

// cost is the CPU of a second in which these are silent, all of them for longer than an idle connection takes to come to rest.
func (h *hush) cost(text string, names []string) (used time.Duration) {
	h.Helper()
	h.Run(fmt.Sprintf("%d silent", len(names)), func(t *testing.T) {
		p := startPlant(t, text)
		for _, name := range names {
			h.clients[name](t, p)
		}
		time.Sleep(2 * time.Second)
		there := 0.0
		for _, listener := range []string{"test", "secure", "tcp", "names", "proxied"} {
			there += max(p.metric(`wasmgate_client_connections{listener="`+listener+`"}`), 0)
		}
		if there < 0.9*float64(len(names)) && len(names) == len(h.clients) { // some have said what ends a connection at once
			t.Errorf("%v of %d clients are there: nothing is looked at", there, len(names))
		}
		before := cpu(t)
		time.Sleep(time.Second)
		used = cpu(t) - before
	})
	return used
}

// cpu is how much this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
