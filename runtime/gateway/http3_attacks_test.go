package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"wasmgate/runtime/internal/testkit"
)

// raw3 opens a connection on which anything can be said.
func (p *plant) raw3(id *identity) *quic.Conn {
	p.Helper()
	q, err := p.quic(id.trust)
	if err != nil {
		p.Fatal(err)
	}
	return q
}

// open3 opens a stream and writes to it; end: and nothing more.
func (p *plant) open3(q *quic.Conn, end bool, parts ...[]byte) *quic.Stream {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), 20*time.Second)
	defer cancel()
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		p.Fatal(err)
	}
	_, _ = s.Write(bytes.Join(parts, nil)) // it fails where the other side has had enough before the end
	if end {
		_ = s.Close()
	}
	_ = s.SetReadDeadline(time.Now().Add(30 * time.Second))
	return s
}

// frame3 makes a frame.
func frame3(kind uint64, payload []byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload))), payload...)
}

// unharmed runs a load of others beside what do does, and fails if one of their requests does.
func unharmed(t *testing.T, p *plant, id *identity, do func()) {
	t.Helper()
	stop, asked := load3(p, id, "/x", 2)
	testkit.Eventually(t, "the load runs", func() bool { return asked.Load() > 20 })
	do()
	seen := asked.Load()
	testkit.Eventually(t, "the load goes on", func() bool { return asked.Load() > seen+20 })
	if requests, failed, first := stop(); failed > 0 {
		t.Errorf("%d of %d requests of others failed, first: %s", failed, requests, first)
	}
}

// TestHTTP3HeaderBombs: field sections that are small as they come and large when they are read are refused before they are.
func TestHTTP3HeaderBombs(t *testing.T) {
	p, id, _ := startHTTP3(t, "")
	// Each byte or two is a field of the static table: 30 KB are more than a megabyte of names and values.
	bomb := frame3(1, append([]byte{0, 0}, bytes.Repeat([]byte{0xc0 | 0x3f, 0x16}, 15_000)...))
	unharmed(t, p, id, func() {
		before := heap()
		q := p.raw3(id)
		var streams []*quic.Stream
		for range 100 {
			streams = append(streams, p.open3(q, true, bomb))
		}
		for _, s := range streams {
			answer, err := io.ReadAll(s)
			if err != nil || !bytes.Contains(answer, []byte("431")) {
				t.Fatalf("%q %v", answer, err)
			}
		}
		if took := heap() - before; took > 50<<20 {
			t.Errorf("%d MiB are held", took>>20)
		}
	})
}

// TestHTTP3SlowClients: bodies that do not come and answers that are not taken end with their timeout, and others do not notice.
func TestHTTP3SlowClients(t *testing.T) {
	p, id, _ := startHTTP3(t, "limits: { body_idle_timeout: 500ms, head_timeout: 500ms }\n")
	unharmed(t, p, id, func() {
		q := p.raw3(id)
		var bodies, heads, readers []*quic.Stream
		for range 20 {
			readers = append(readers, p.open3(q, true, head3("GET", "/endless")))
		}
		// To take anything before that would keep them going.
		testkit.Eventually(t, "the upstream's connections are closed", func() bool { return p.closedFor("client_aborted") >= len(readers) })
		for _, s := range readers {
			var se *quic.StreamError
			if _, err := io.Copy(io.Discard, s); !errors.As(err, &se) || se.ErrorCode != 0x10c {
				t.Errorf("an answer that is not taken: %v", err)
			}
		}
		for range 20 {
			bodies = append(bodies, p.open3(q, false, head3("POST", "/echo"), frame3(0, []byte("a little"))))
			heads = append(heads, p.open3(q, false, head3("GET", "/x")[:9]))
		}
		for _, s := range heads {
			if answer, err := io.ReadAll(s); err != nil || !bytes.Contains(answer, []byte("408")) {
				t.Errorf("a head that does not come: %q %v", answer, err)
			}
		}
		for _, s := range bodies {
			if answer, err := io.ReadAll(s); err != nil || !bytes.Contains(answer, []byte("408")) {
				t.Errorf("a body that does not come: %q %v", answer, err)
			}
		}
	})
}

// TestHTTP3HalfOpenHandshakes: of many that begin and do not go on, those over a bound have to prove their address first, all end with
// their timeout, and whoever means it is served meanwhile.
func TestHTTP3HalfOpenHandshakes(t *testing.T) {
	srv, id := site3(t), newIdentity(t, t.TempDir(), 1)
	config := strings.Replace(id.listener("")+routes3(srv), "tls: {", "tls: { handshake_timeout: 2s,", 1)
	p := startPlant(t, config)
	var clients []net.Conn
	var packets [][]byte
	for range 200 {
		c, err := net.Dial("udp", p.addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		clients, packets = append(clients, c), append(packets, initial(t, id.trust))
	}
	unharmed(t, p, id, func() {
		noticed := func() float64 {
			return p.metric(`wasmgate_client_connections_accepted_total{listener="test"}`) + max(p.metric(`wasmgate_quic_retries_total{listener="test"}`), 0)
		}
		const batch = 50 // are room for in the kernel's smallest buffer, should nobody read for a moment
		before := noticed()
		for i, c := range clients {
			if _, err := c.Write(packets[i]); err != nil {
				t.Fatal(err)
			}
			if sent := i + 1; sent%batch == 0 {
				testkit.Eventually(t, "they are noticed", func() bool { return noticed() >= before+float64(sent) })
			}
		}
		if _, body := p.http3(id).get("/x"); body != "you asked for /x" {
			t.Errorf("meanwhile: %q", body)
		}
		testkit.Eventually(t, "they have ended", func() bool {
			return p.metric(`wasmgate_client_connections{listener="test"}`) <= 3 && p.handshakes("timeout") > 0
		})
	})
	retries, timeouts := p.metric(`wasmgate_quic_retries_total{listener="test"}`), p.handshakes("timeout")
	if retries < 1 || timeouts < 1 || retries+timeouts < 200 {
		t.Errorf("%v had to prove their address, %v have ended with their timeout", retries, timeouts)
	}
}

// TestHTTP3AmplifiesNothing: to an address that has shown no more than one packet, no more than three times as much is sent.
func TestHTTP3AmplifiesNothing(t *testing.T) {
	srv, id := site3(t), newIdentity(t, t.TempDir(), 1)
	p := startPlant(t, strings.Replace(id.listener("")+routes3(srv), "tls: {", "tls: { handshake_timeout: 2s,", 1))
	c, err := net.Dial("udp", p.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packet := initial(t, id.trust)
	if _, err := c.Write(packet); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the handshake has ended", func() bool { return p.handshakes("timeout") == 1 })
	got, b := 0, make([]byte, 2000)
	for wait := 30 * time.Second; ; wait = 100 * time.Millisecond { // something has been sent; then as long as more is there
		_ = c.SetReadDeadline(time.Now().Add(wait))
		n, err := c.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
	if got == 0 || got > 3*len(packet) {
		t.Errorf("%d bytes were sent for %d", got, len(packet))
	}
}

// TestHTTP3GoAway: a listener that is to speak HTTP/3 no more tells its clients, takes what is on its way, refuses what comes later
// so that it can be sent again, ends what is under way, and closes the connection then. What is on its way has a second, and another
// try where the machine stood still for so long.
func TestHTTP3GoAway(t *testing.T) {
	for try := 1; !goAway3(t); try++ {
		if try == 5 {
			t.Fatal("what was on its way was not taken")
		}
	}
}

// goAway3 says whether the request that was on its way was taken.
func goAway3(t *testing.T) (taken bool) {
	t.Helper()
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- struct{}{}
		<-release
		fmt.Fprint(w, strings.Repeat("whole", 20_000))
	}))
	t.Cleanup(srv.Close)
	id := newIdentity(t, t.TempDir(), 1)
	on := id.listener("") + routes3(srv)
	p := startPlant(t, on)
	q := p.raw3(id)
	u, err := q.AcceptUniStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = u.SetReadDeadline(time.Now().Add(30 * time.Second))
	slow := p.open3(q, true, head3("GET", "/slow"))
	<-entered
	p.reload(strings.Replace(on, "enabled: true", "enabled: false", 1))
	in := quicvarint.NewReader(u)
	if kind, err := quicvarint.Read(in); err != nil || kind != 0 {
		t.Fatal(kind, err)
	}
	goAway := func() (id uint64) {
		for {
			kind, err1 := quicvarint.Read(in)
			length, err2 := quicvarint.Read(in)
			payload := make([]byte, length)
			if _, err := io.ReadFull(in, payload); errors.Join(err1, err2, err) != nil {
				t.Fatal(err1, err2, err)
			}
			if kind == 7 {
				id, _, _ = quicvarint.Parse(payload)
				return id
			}
		}
	}
	if id := goAway(); id < 1<<60 {
		t.Errorf("the first GOAWAY says %d", id)
	}
	late := p.open3(q, true, head3("GET", "/late")) // it was on its way
	last := goAway()
	if last == uint64(late.StreamID()) {
		return false // the machine stood still, and it came too late
	}
	<-entered
	if last != uint64(late.StreamID())+4 {
		t.Errorf("the second GOAWAY says %d", last)
	}
	refused := p.open3(q, true, head3("GET", "/refused"))
	var se *quic.StreamError
	if _, err := refused.Read(make([]byte, 1)); !errors.As(err, &se) || se.ErrorCode != 0x10b {
		t.Errorf("after it: %v", err)
	}
	free()
	for _, s := range []*quic.Stream{slow, late} {
		if answer, err := io.ReadAll(s); err != nil || len(answer) < 100_000 {
			t.Errorf("%d bytes, %v", len(answer), err)
		}
	}
	<-q.Context().Done()
	var ae *quic.ApplicationError
	if err := context.Cause(q.Context()); !errors.As(err, &ae) || ae.ErrorCode != 0x100 || !ae.Remote {
		t.Errorf("the connection has ended with %v", err)
	}
	return true
}

// TestHTTP3ClientGivesUp: a client that does not wait any more, for an answer that does not come or in the midst of its request, has
// the upstream's connection ended at once.
func TestHTTP3ClientGivesUp(t *testing.T) {
	entered := make(chan struct{}, 10)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(srv.Close)
	id := newIdentity(t, t.TempDir(), 1)
	p := startPlant(t, id.listener("")+routes3(srv))
	q := p.raw3(id)
	closed := 0
	for name, test := range map[string]struct {
		ends  bool
		sent  []byte
		leave func(*quic.Stream)
	}{
		"an answer, and reads no more":   {true, head3("GET", "/"), func(s *quic.Stream) { s.CancelRead(0x10c) }},
		"its request, and sends no more": {false, append(head3("POST", "/"), frame3(0, []byte("begun"))...), func(s *quic.Stream) { s.CancelWrite(0x10c) }},
		"its request, and reads no more": {false, append(head3("POST", "/"), frame3(0, []byte("begun"))...), func(s *quic.Stream) { s.CancelRead(0x10c) }},
	} {
		s := p.open3(q, test.ends, test.sent)
		<-entered
		test.leave(s)
		closed++
		testkit.Eventually(t, name+": the upstream's connection is closed", func() bool { return p.closedFor("client_aborted") == closed })
	}
	testkit.Eventually(t, "they are told of", func() bool { return p.clientsGone() == 3 })
}
