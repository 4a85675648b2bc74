package http1

import (
	"strings"
	"testing"
	"time"
)

func TestKeepAliveHint(t *testing.T) {
	for _, c := range []struct {
		field   string
		timeout time.Duration
		max     uint64
	}{
		{"timeout=5, max=100", 5 * time.Second, 100},
		{"timeout=5,max=100", 5 * time.Second, 100},
		{"max=7", 0, 7},
		{" Timeout = 15 , other=1, MAX=3", 15 * time.Second, 3},
		{"timeout=9, timeout=4, timeout=6", 4 * time.Second, 0},
		{"timeout=0, max=0", 0, 0},
		{"", 0, 0},
		{",,=,timeout,max=,=5", 0, 0},
		{"timeout=-1, max=+5", 0, 0},
		{"timeout=5s, max=0x10", 0, 0},
		{"timeout=5.5, max=1e3", 0, 0},
		{`timeout="5"`, 0, 0},
		{"timeout=5; max=4", 0, 0},
		{"timeout=86401, max=4294967297", 24 * time.Hour, 1 << 32},
		{"timeout=" + strings.Repeat("9", 500) + ", max=" + strings.Repeat("9", 500), 24 * time.Hour, 1 << 32},
		{"timeout=" + strings.Repeat("0", 500) + "3", 3 * time.Second, 0},
	} {
		var r Response
		if _, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: "+c.field+"\r\n\r\n"), nil, []byte("GET")); err != nil {
			t.Fatal(err)
		}
		r.StripHopByHop()
		if timeout, most := r.KeepAliveHint(); timeout != c.timeout || most != c.max {
			t.Errorf("%q: got %v, %d; want %v, %d", c.field, timeout, most, c.timeout, c.max)
		}
	}
	var r Response
	if _, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"), nil, []byte("GET")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), nil, []byte("GET")); err != nil {
		t.Fatal(err)
	}
	if timeout, _ := r.KeepAliveHint(); timeout != 0 {
		t.Errorf("the hint of the answer before is still there: %v", timeout)
	}
}

func FuzzKeepAliveHint(f *testing.F) {
	f.Add("timeout=5, max=100")
	f.Add("timeout=,max==,,")
	f.Fuzz(func(t *testing.T, field string) {
		if !ValidFieldValue(field) {
			return
		}
		var r Response
		if _, err := r.Parse([]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: "+field+"\r\n\r\n"), nil, []byte("GET")); err != nil {
			return
		}
		if timeout, most := r.KeepAliveHint(); timeout < 0 || timeout > maxHintTimeout || most > maxHintMax {
			t.Errorf("%q: %v, %d", field, timeout, most)
		}
	})
}

func TestARequestForAnUpstreamOfHTTP10(t *testing.T) {
	for _, c := range []struct {
		in   string
		out  Outgoing
		want string
	}{
		{"GET /a HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n", Outgoing{}, "GET /a HTTP/1.0|Host: h|Accept: */*|Connection: keep-alive||"},
		{"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", Outgoing{Close: true}, "GET /a HTTP/1.0|Host: h|Connection: close||"},
		{"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n", Outgoing{Framing: Framing{Length, 3}},
			"POST /a HTTP/1.0|Host: h|Content-Length: 3|Connection: keep-alive||"},
		{"GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: upgrade, te\r\nUpgrade: websocket\r\n\r\n", Outgoing{Upgrade: []byte("websocket"), Trailers: true},
			"GET / HTTP/1.0|Host: h|Connection: keep-alive||"},
	} {
		r, _ := parseRequest(t, c.in)
		r.StripHopByHop()
		c.out.HTTP10 = true
		if got := lines(AppendRequest(nil, r, c.out)); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestAnAnswerOnAConnectionThatStays(t *testing.T) {
	length := Framing{Length, 0}
	minute := KeepAlive{Timeout: time.Minute, Max: 9}
	for _, c := range []struct {
		out  ResponseOut
		want string
	}{
		{ResponseOut{Minor: 1, Framing: length, KeepAlive: minute}, ""},
		{ResponseOut{Minor: 1, Framing: length, KeepAlive: minute, Advertise: true}, "Connection: keep-alive|Keep-Alive: timeout=60, max=9|"},
		{ResponseOut{Minor: 1, Framing: length, KeepAlive: minute, Advertise: true, Close: true}, "Connection: close|"},
		{ResponseOut{Minor: 1, Framing: Framing{Kind: UntilClose}, KeepAlive: minute, Advertise: true}, "Connection: close|"},
		{ResponseOut{Minor: 0, Framing: length, KeepAlive: minute}, "Connection: keep-alive|Keep-Alive: timeout=60, max=9|"},
		{ResponseOut{Minor: 0, Framing: length}, "Connection: keep-alive|"},
		{ResponseOut{Minor: 0, Framing: length, KeepAlive: KeepAlive{Timeout: 1999 * time.Millisecond}}, "Connection: keep-alive|Keep-Alive: timeout=1|"},
		{ResponseOut{Minor: 0, Framing: length, KeepAlive: KeepAlive{Timeout: 999 * time.Millisecond, Max: 3}}, "Connection: keep-alive|"},
		{ResponseOut{Minor: 0, Framing: length, KeepAlive: minute, Close: true}, "Connection: close|"},
	} {
		var r Response
		r.Status = 200
		r.Add("Keep-Alive", "timeout=1") // an upstream's is about another connection
		want := "HTTP/1.1 200 OK|"
		if c.out.Framing.Kind == Length {
			want += "Content-Length: 0|"
		}
		if got := lines(AppendResponse(nil, &r, c.out)); got != want+c.want+"|" {
			t.Errorf("got  %s\nwant %s|", got, want+c.want)
		}
	}
}
