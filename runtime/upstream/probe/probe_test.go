package probe

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
)

// ask asks a target that answers with this text, and returns what the target was asked, what was found, and how many
// bytes were counted. With end the target closes after its answer. The target is given so long.
func ask(t *testing.T, h *HTTP, answer string, end bool, patience time.Duration) (asked string, out, in uint64, found error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer c.Close()
		var b [4096]byte
		text := ""
		for !strings.HasSuffix(text, "\r\n\r\n") {
			n, err := c.Read(b[:])
			if text += string(b[:n]); err != nil {
				break
			}
		}
		_, _ = io.WriteString(c, answer)
		heard <- text
		if !end {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	g, err := netloop.New(netloop.Options{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	defer g.Close()
	l, done := g.Loop(0), make(chan struct{})
	l.Post(func() {
		l.Go(func(task *netloop.Task) {
			defer close(done)
			c, err := l.Dial(task, netip.MustParseAddrPort(ln.Addr().String()), 0, netloop.DialOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			c.SetReadDeadline(l.Now() + int64(patience))
			p := &pool.Conn{Net: c, Stream: c}
			found = h.Probe(task, p, []byte("web.test:81"))
			out, in = p.Facts.BytesOut, p.Facts.BytesIn
			_ = c.Close()
		})
	})
	<-done
	return <-heard, out, in, found
}

var good = health.Ranges{{First: 200, Last: 399}}

func TestTheQuestion(t *testing.T) {
	for want, h := range map[string]*HTTP{
		"GET /up?a=b HTTP/1.1\r\nHost: web.test:81\r\nUser-Agent: wasmgate-health-check\r\nConnection: close\r\n\r\n": {Target: "/up?a=b", Status: good},
		"GET / HTTP/1.0\r\nHost: other.test\r\nUser-Agent: wasmgate-health-check\r\nConnection: close\r\n\r\n":        {Target: "/", Host: "other.test", Status: good, HTTP10: true},
	} {
		const answer = "HTTP/1.1 204 No Content\r\n\r\n"
		asked, out, in, err := ask(t, h, answer, true, long)
		if asked != want || err != nil || out != uint64(len(want)) || in != uint64(len(answer)) {
			t.Errorf("asked %q: %v; %d bytes out, %d in", asked, err, out, in)
		}
	}
}

func TestTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		end    bool
		want   string // "": it is well
	}{
		"well":                           {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, ""},
		"its body is not read":           {"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nxx", true, ""},
		"HTTP/1.0":                       {"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n", true, ""},
		"after informational answers":    {"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", false, ""},
		"another status":                 {"HTTP/1.1 503 Service Unavailable\r\n\r\n", false, "answered 503"},
		"an informational one only":      {"HTTP/1.1 103 Early Hints\r\n\r\n", false, "not answered in time"},
		"nothing":                        {"", true, "the connection was closed"},
		"silence":                        {"", false, "not answered in time"},
		"half a head":                    {"HTTP/1.1 200 OK\r\nA: ", true, "the connection was closed"},
		"half a head, and then silence":  {"HTTP/1.1 200 OK\r\nA: ", false, "not answered in time"},
		"another protocol":               {"SSH-2.0-OpenSSH_9.2\r\n", false, "malformed"},
		"a head without end":             {"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 1<<14), false, "malformed"},
		"a field of more than one line":  {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", false, "malformed"},
		"a status that is none":          {"HTTP/1.1 2000 OK\r\n\r\n", false, "malformed"},
		"lengths that contradict":        {"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, "malformed"},
		"informational ones without end": {strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1<<10), false, "not answered in time"},
	} {
		patience := long
		if c.want == "not answered in time" {
			patience = 300 * time.Millisecond
		}
		_, _, _, err := ask(t, &HTTP{Target: "/", Status: good}, c.answer, c.end, patience)
		switch {
		case c.want == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil:
			t.Errorf("%s: it is well", name)
		case c.want != "malformed" && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
