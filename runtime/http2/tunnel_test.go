package http2

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

const upgrade = "GET /chat?a=b HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// pass takes what a tunnel says to its end, which must come, and ends it.
func pass(task *netloop.Task, n *Tunnel, most int, t testing.TB) (said string, err error) {
	n.SetReadDeadline(task.Loop().Now() + int64(patience))
	n.SetWriteDeadline(task.Loop().Now() + 1e6)
	_ = n.Write(task, []byte("piece"))
	for err == nil {
		var data []byte
		n.Rest()
		data, err = n.Next(task)
		said += string(data)
	}
	if len(said) > most || errors.Is(err, netloop.ErrDeadline) {
		t.Errorf("%d bytes out of %d, %v", len(said), most, err)
	}
	_ = n.CloseWrite(task)
	return said, err
}

// tunnelTo opens a tunnel to a server that a test writes, which answers what it is asked for.
func tunnelTo(t *testing.T, do func(p *peer, id uint32), use func(task *netloop.Task, c *Conn, s *Stream)) {
	t.Helper()
	b := newBench(t)
	addr := listen(t, func(nc net.Conn) {
		p := newPeer(t, nc, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		f, ok := p.await(http2.FrameHeaders).(*http2.HeadersFrame)
		if !ok {
			t.Error("nothing was asked")
			return
		}
		fields, _ := hpack.NewDecoder(4096, nil).DecodeFull(f.HeaderBlockFragment())
		var text []string
		for _, one := range fields {
			text = append(text, one.Name+"="+one.Value)
		}
		const want = ":method=CONNECT :protocol=websocket :scheme=http :authority=h :path=/chat?a=b sec-websocket-version=13"
		if got := strings.Join(text, " "); got != want || f.StreamEnded() {
			t.Errorf("%s, end %v; want %s", got, f.StreamEnded(), want)
		}
		do(p, f.StreamID)
		p.drain()
	})
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		if !c.Extended() {
			t.Error("SETTINGS_ENABLE_CONNECT_PROTOCOL was not taken")
		}
		s, err := c.Open(request(t, upgrade), Outgoing{Scheme: "http", Protocol: "websocket", Framing: http1.Framing{Kind: http1.NoBody, Length: -1}})
		if err != nil {
			t.Error(err)
			return
		}
		use(task, c, s)
		s.Close()
		_ = c.net.Close()
	})
}

// TestTunnelsOfAClient: what may come on a stream that is a tunnel, and what ends it.
func TestTunnelsOfAClient(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(p *peer, id uint32)
		said string
		err  string // of reading on; "": the end
	}{
		"to its end": {func(p *peer, id uint32) {
			_ = p.WriteData(id, false, []byte("ab"))
			_ = p.WriteData(id, true, []byte("c"))
		}, "abc", ""},
		"HEADERS": {func(p *peer, id uint32) { _ = p.WriteData(id, false, []byte("ab")); p.head(id, true, "a", "b") }, "ab", "HEADERS in a tunnel"},
		"reset": {func(p *peer, id uint32) {
			_ = p.WriteData(id, false, []byte("ab"))
			_ = p.WriteRSTStream(id, http2.ErrCodeCancel)
		}, "ab", "reset the stream: CANCEL"},
		"too much": {func(p *peer, id uint32) {
			for range 20 {
				_ = p.WriteData(id, false, make([]byte, 16<<10))
			}
		}, "", "more DATA than the stream's window allows"},
		"the setting is taken back": {func(p *peer, _ uint32) {
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 0})
		}, "", "takes back that it takes extended CONNECT"},
		"a setting that is none": {func(p *peer, _ uint32) {
			_ = p.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 2})
		}, "", "HTTP/2: "},
	} {
		t.Run(name, func(t *testing.T) {
			tunnelTo(t, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "content-length", "1"); c.do(p, id) }, func(task *netloop.Task, conn *Conn, s *Stream) {
				if status, err := s.Head(task, task.Loop().Now()+int64(patience)); status != 200 {
					t.Errorf("%d, %v", status, err)
					return
				}
				if name == "too much" { // nobody reads until it has come
					for s.err == nil {
						task.Sleep(1e6)
					}
				}
				said, err := pass(task, s.Tunnel(), 1<<20, t)
				if c.said != "" && said != c.said || c.err == "" && err != io.EOF || c.err != "" && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%.20q, %v; want %q, %s", said, err, c.said, c.err)
				}
				if alone := !strings.Contains(name, "setting"); conn.Alive() != alone {
					t.Errorf("that the connection goes on: %v", conn.Alive())
				}
			})
		})
	}
}

// TestTunnelsAreEndedByUs, from the task that reads or beside it: whoever is at it gets ErrClosed.
func TestTunnelsAreEndedByUs(t *testing.T) {
	for name, end := range map[string]func(n *Tunnel){"at once": (*Tunnel).Close, "behind what was written": (*Tunnel).Shut} {
		t.Run(name, func(t *testing.T) {
			told := make(chan string, 1)
			tunnelTo(t, func(p *peer, id uint32) {
				p.head(id, false, ":status", "200")
				text := ""
				for text == "" || !strings.HasSuffix(text, ".") {
					switch f, _ := p.ReadFrame(); f := f.(type) {
					case *http2.DataFrame:
						if text += string(f.Data()); f.StreamEnded() {
							text += " END_STREAM."
						}
					case *http2.RSTStreamFrame:
						text += " " + f.ErrCode.String() + "."
					case nil:
						text += " nothing."
					}
				}
				told <- text
			}, func(task *netloop.Task, _ *Conn, s *Stream) {
				if _, err := s.Head(task, task.Loop().Now()+int64(patience)); err != nil {
					t.Error(err)
				}
				n, over := s.Tunnel(), false
				task.Loop().Go(func(own *netloop.Task) {
					if err := n.Write(own, []byte("said")); err != nil {
						t.Error(err)
					}
					end(n)
					if err := n.Write(own, []byte("more")); !errors.Is(err, netloop.ErrClosed) {
						t.Errorf("writing goes on: %v", err)
					}
					over = true
					task.Wake()
				})
				if data, err := n.Next(task); !errors.Is(err, netloop.ErrClosed) {
					t.Errorf("%q, %v", data, err)
				}
				for !over {
					task.Park()
				}
			})
			want := "said CANCEL."
			if name != "at once" {
				want = "said END_STREAM."
			}
			if got := <-told; got != want {
				t.Errorf("the server was told %q; want %q", got, want)
			}
		})
	}
}

// TestATunnelThatIsNotOpened is answered as every request, and a server that is not asked for one says so.
func TestATunnelThatIsNotOpened(t *testing.T) {
	tunnelTo(t, func(p *peer, id uint32) {
		p.head(id, false, ":status", "403", "content-length", "2")
		_ = p.WriteData(id, true, []byte("no"))
	}, func(task *netloop.Task, _ *Conn, s *Stream) {
		if status, err := s.Head(task, task.Loop().Now()+int64(patience)); status != 403 || err != nil || s.End(nil) != nil {
			t.Errorf("%d, %v", status, err)
		}
		if data, err := s.Next(task, task.Loop().Now()+int64(patience)); string(data) != "no" || err != nil {
			t.Errorf("%q, %v", data, err)
		}
	})
	b := newBench(t)
	addr := serve(t, echo)
	b.on(func(task *netloop.Task) {
		c, err := b.dial(task, addr, Options{})
		if err != nil {
			t.Error(err)
			return
		}
		if c.Extended() {
			t.Error("Go's server does not take extended CONNECT unless it is told to")
		}
		_ = c.net.Close()
	})
}

// TestTrailersInATunnel of a server's: a client may send nothing but DATA there.
func TestTrailersInATunnel(t *testing.T) {
	ended := make(chan error, 1)
	s := open(t, Options{ExtendedConnect: true}, func(task *netloop.Task, r *Request) {
		q := &http1.Request{}
		if err := r.Fill(q, nil); err != nil {
			ended <- err
			return
		}
		r.Head(&http1.Response{Status: 101}, http1.ResponseOut{Framing: http1.Framing{Kind: http1.NoBody, Length: -1}})
		r.Tunnel()
		_ = r.Flush(task)
		_, err := r.Next(task)
		ended <- err
	})
	v := s.visit()
	v.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "h", ":path", "/")
	if v.await(http2.FrameHeaders) == nil {
		t.Fatal("it was not answered")
	}
	v.head(1, true, "a", "b")
	var fe *fault.Error
	if err := <-ended; !errors.As(err, &fe) || !strings.Contains(fe.Detail, "HEADERS in a tunnel") {
		t.Errorf("it ends with %v", err)
	}
	if f, ok := v.await(http2.FrameRSTStream).(*http2.RSTStreamFrame); !ok || f.ErrCode != http2.ErrCodeProtocol {
		t.Errorf("the client was told %v", f)
	}
}
