package gateway_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/internal/testkit"
)

// h2Peer is a server of HTTP/2 that does what a test says to each request, and writes down what it is sent.
type h2Peer struct {
	t     *testing.T
	addr  string
	serve func(*h2Link, *http2.MetaHeadersFrame)
	// trailers is told of those of a request; nil: nobody is. It is set before there is any.
	trailers func(*h2Link, *http2.MetaHeadersFrame)
	mu       sync.Mutex
	links    []*h2Link
	closed   bool // what comes now is closed too
}

// h2Link is a connection of it. The test's functions for it run on its goroutine, and must not use the others'; but answer may be called
// anywhere, once a request has come.
type h2Link struct {
	*http2.Framer
	peer *h2Peer
	conn net.Conn
	nth  int        // from 1
	out  sync.Mutex // held by answer, and by what the link says by itself
	mu   sync.Mutex
	said []string // each frame that came, in words, and how the connection has ended
}

// startH2Peer starts one; cfg nil: without TLS. settings are those that a connection begins with.
func startH2Peer(t *testing.T, cfg *tls.Config, serve func(*h2Link, *http2.MetaHeadersFrame), settings ...http2.Setting) *h2Peer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveH2Peer(t, l, cfg, serve, settings...)
}

func serveH2Peer(t *testing.T, l net.Listener, cfg *tls.Config, serve func(*h2Link, *http2.MetaHeadersFrame), settings ...http2.Setting) *h2Peer {
	p := &h2Peer{t: t, addr: l.Addr().String(), serve: serve}
	var open sync.WaitGroup
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if cfg != nil {
				cfg := cfg.Clone()
				cfg.NextProtos = []string{"h2"}
				c = tls.Server(c, cfg)
			}
			p.mu.Lock()
			link := &h2Link{peer: p, conn: c, nth: len(p.links) + 1}
			if p.links = append(p.links, link); p.closed {
				_ = c.Close() // it came with the end
			}
			p.mu.Unlock()
			open.Go(func() { link.run(settings) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		for _, link := range p.links {
			_ = link.conn.Close()
		}
		p.mu.Unlock()
		open.Wait()
	})
	return p
}

func (l *h2Link) run(settings []http2.Setting) {
	defer l.conn.Close()
	_ = l.conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(l.conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	l.Framer = http2.NewFramer(l.conn, l.conn)
	l.AllowIllegalWrites = true
	l.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = l.WriteSettings(settings...)
	for {
		f, err := l.ReadFrame()
		if err != nil {
			l.note("end " + err.Error())
			return
		}
		l.note(inWords(f))
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			switch {
			case f.PseudoValue("method") != "":
				l.peer.serve(l, f)
			case l.peer.trailers != nil:
				l.peer.trailers(l, f)
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				l.out.Lock()
				_ = l.WriteSettingsAck()
				l.out.Unlock()
			}
		}
	}
}

func (l *h2Link) note(s string) {
	l.mu.Lock()
	l.said = append(l.said, s)
	l.mu.Unlock()
}

// inWords is a frame as a test compares it.
func inWords(f http2.Frame) string {
	switch f := f.(type) {
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %s", f.LastStreamID, f.ErrCode)
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST_STREAM %d %s", f.StreamID, f.ErrCode)
	case *http2.MetaHeadersFrame:
		return fmt.Sprintf("HEADERS %d %s", f.StreamID, f.PseudoValue("path"))
	case *http2.DataFrame:
		return fmt.Sprintf("DATA %d %s", f.StreamID, f.Data())
	}
	return f.Header().Type.String()
}

// answer is a whole answer with a body.
func (l *h2Link) answer(id uint32, body string) {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	_ = e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	_ = e.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(len(body))})
	l.out.Lock()
	defer l.out.Unlock()
	_ = l.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndHeaders: true})
	_ = l.WriteData(id, true, []byte(body))
}

// ok answers each request at once.
func ok(l *h2Link, h *http2.MetaHeadersFrame) { l.answer(h.StreamID, "well") }

// all is what was said on the connections so far, one after the other.
func (p *h2Peer) all() (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.mu.Lock()
		list = append(list, l.said...)
		l.mu.Unlock()
	}
	return list
}

// count is how many frames were said that begin like this.
func (p *h2Peer) count(prefix string) (n int) {
	for _, s := range p.all() {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

func (p *h2Peer) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// ended waits for the end of the first connection and returns the last that was said on it, and how it has ended.
func (p *h2Peer) ended() (last, end string) {
	p.t.Helper()
	testkit.Eventually(p.t, "the connection ends", func() bool {
		list := p.first()
		return len(list) > 1 && strings.HasPrefix(list[len(list)-1], "end ")
	})
	list := p.first()
	return list[len(list)-2], list[len(list)-1]
}

func (p *h2Peer) first() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.links) == 0 {
		return nil
	}
	p.links[0].mu.Lock()
	defer p.links[0].mu.Unlock()
	return append([]string(nil), p.links[0].said...)
}

// receive is what comes next on a channel.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing has come for 30 s")
	}
	return v
}
