package gateway_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Trailers that both sides send: two that go on, and those that must not (security: framing, routing, authentication and identity).
var (
	goodTrailers = []string{"x-sum: 1", "grpc-like: a b"}
	badTrailers  = []string{"content-length: 5", "host: evil.example", "authorization: Basic eA==", "x-forwarded-for: 1.2.3.4", "x_forwarded_for: 1.2.3.4", "cookie: a=b"}
)

// trailing is an upstream that writes down the trailers of a request, and sends its own.
type trailing struct {
	addr string
	saw  chan []string // the lines, in lower case
}

// trailingH1 reads and writes its bytes itself, so that nothing is put right on the way.
func trailingH1(t *testing.T) *trailing {
	u := &trailing{saw: make(chan []string, 1)}
	l, open := eachConn(t, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		raw, b := []byte(nil), make([]byte, 4096)
		for !bytes.Contains(raw, []byte("\r\n0\r\n")) || !bytes.HasSuffix(raw, []byte("\r\n\r\n")) {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			raw = append(raw, b[:n]...)
		}
		_, section, _ := strings.Cut(string(raw), "\r\n0\r\n")
		u.saw <- linesOf(section)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n4\r\nwell\r\n0\r\n"+
			strings.Join(slices.Concat(goodTrailers, badTrailers, []string{"transfer-encoding: chunked", "connection: x-sum"}), "\r\n")+"\r\n\r\n")
	})
	u.addr = l.Addr().String()
	t.Cleanup(func() { _ = l.Close(); open.Wait() })
	return u
}

// linesOf are the lines of a trailer section.
func linesOf(section string) (list []string) {
	for line := range strings.SplitSeq(strings.ToLower(section), "\r\n") {
		if line != "" {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

// block is a header block of lines.
func block(lines ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		_ = e.WriteField(hpack.HeaderField{Name: name, Value: value})
	}
	return b.Bytes()
}

// fieldsOf are the lines of a header block that has come.
func fieldsOf(f *http2.MetaHeadersFrame) (list []string) {
	for _, h := range f.RegularFields() {
		list = append(list, h.Name+": "+h.Value)
	}
	slices.Sort(list)
	return list
}

func trailingH2(t *testing.T) *trailing {
	u := &trailing{saw: make(chan []string, 1)}
	p := startH2Peer(t, nil, func(*h2Link, *http2.MetaHeadersFrame) {})
	p.trailers = func(l *h2Link, f *http2.MetaHeadersFrame) {
		u.saw <- fieldsOf(f)
		id := f.StreamID
		_ = l.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x88}, EndHeaders: true}) // :status 200
		_ = l.WriteData(id, false, []byte("well"))
		_ = l.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block(slices.Concat(goodTrailers, badTrailers)...), EndHeaders: true, EndStream: true})
	}
	u.addr = p.addr
	return u
}

// TestTrailersPass both ways, whatever clients and upstreams speak, and those that say something of framing, routing, authentication
// or identity do not.
func TestTrailersPass(t *testing.T) {
	clients := map[string]func(t *testing.T, addr string) (body string, trailers []string){
		"HTTP/1.1": func(t *testing.T, addr string) (string, []string) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE, close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"+
				strings.Join(slices.Concat(goodTrailers, badTrailers, []string{"transfer-encoding: chunked", "connection: x-sum"}), "\r\n")+"\r\n\r\n")
			all, err := io.ReadAll(c)
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(all), "\r\n\r\n")
			body, section, ok := strings.Cut(rest, "\r\n0\r\n")
			if !ok {
				t.Fatalf("no chunks: %q", all)
			}
			_, body, _ = strings.Cut(body, "\r\n")
			return body, linesOf(section)
		},
		"HTTP/2": func(t *testing.T, addr string) (body string, trailers []string) {
			v := dialH2(t, addr)
			_ = v.ask(1, false, ":method", "POST", ":scheme", "http", ":authority", "h", ":path", "/", "te", "trailers")
			_ = v.WriteData(1, false, []byte("hi"))
			_ = v.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(slices.Concat(goodTrailers, badTrailers)...), EndHeaders: true, EndStream: true})
			for {
				f, err := v.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				switch f := f.(type) {
				case *http2.MetaHeadersFrame:
					if f.StreamEnded() {
						return body, fieldsOf(f)
					}
				case *http2.DataFrame:
					if body += string(f.Data()); f.StreamEnded() {
						return body, nil
					}
				case *http2.RSTStreamFrame, *http2.GoAwayFrame:
					t.Fatal(inWords(f))
				}
			}
		},
	}
	want := slices.Sorted(slices.Values(goodTrailers))
	for version, ask := range clients {
		for protocol, start := range map[string]func(*testing.T) *trailing{"http1.1": trailingH1, "http2": trailingH2} {
			t.Run(version+" to "+protocol, func(t *testing.T) {
				u := start(t)
				p := startPlant(t, fmt.Sprintf("loops: 1\nupstreams: { web: { targets: ['http://%s'], protocol: %s } }\n%s", u.addr, protocol, h2Routes))
				body, trailers := ask(t, p.addr.String())
				if saw := receive(t, u.saw); !slices.Equal(saw, want) {
					t.Errorf("the upstream got the trailers %q", saw)
				}
				if body != "well" || !slices.Equal(trailers, want) {
					t.Errorf("the client got %q and the trailers %q", body, trailers)
				}
			})
		}
	}
}
