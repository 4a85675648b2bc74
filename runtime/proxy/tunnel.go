package proxy

import (
	"encoding/base64"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/websocket"
)

// Tunnel is the upstream's side of an exchange whose protocol was switched. One task may read while another writes; each may
// set deadlines, and end it. An error after it was ended by us is netloop.ErrClosed.
type Tunnel interface {
	Next(t *netloop.Task) ([]byte, error)     // what has come, valid until the next call; io.EOF when that is all
	Write(t *netloop.Task, data []byte) error // parks while the upstream does not take it
	CloseWrite(t *netloop.Task) error         // nothing more is written
	SetReadDeadline(at int64)                 // loop time after which Next returns netloop.ErrDeadline, also one that waits; 0: never
	SetWriteDeadline(at int64)                // the same for Write
	Rest()                                    // nothing comes for now: memory can go
	Shut()                                    // ends it behind what was written
	Close()                                   // ends it at once
}

// Tunnel is the upstream's side of the exchange, after Forward has returned with a 101. It is over with Finish.
func (f *Flight) Tunnel() Tunnel {
	if f.stream != nil {
		return f.stream.Tunnel()
	}
	return &wholeConn{flight: f}
}

// wholeConn is an upstream connection of HTTP/1.1 that is nothing but a tunnel any more.
type wholeConn struct {
	flight *Flight
	given  int // bytes of what is buffered that Next has returned
}

func (c *wholeConn) Next(t *netloop.Task) ([]byte, error) {
	from := &c.flight.Answer
	from.Consume(c.given)
	if c.given = len(from.Buffered()); c.given == 0 {
		from.Rest()
		if err := from.Fill(t); err != nil {
			return nil, err
		}
		c.given = len(from.Buffered())
	}
	return from.Buffered(), nil
}

func (c *wholeConn) Write(t *netloop.Task, data []byte) error {
	up := &c.flight.up
	n, err := up.Stream.Write(t, data)
	up.Facts.BytesOut += uint64(n) //nolint:gosec // not negative
	return err
}

func (c *wholeConn) CloseWrite(t *netloop.Task) error {
	if s, ok := c.flight.up.Stream.(interface {
		CloseWrite(*netloop.Task) error
	}); ok {
		return s.CloseWrite(t)
	}
	return c.flight.up.Net.CloseWrite()
}

func (c *wholeConn) SetReadDeadline(at int64)  { c.flight.up.Net.SetReadDeadline(at) }
func (c *wholeConn) SetWriteDeadline(at int64) { c.flight.up.Net.SetWriteDeadline(at) }
func (c *wholeConn) Rest()                     {} // Next does so
func (c *wholeConn) Shut()                     { c.Close() }
func (c *wholeConn) Close()                    { _ = c.flight.up.Net.Close() }

// extended says whether the request is given to the upstream as an extended CONNECT (RFC 8441): it would become a WebSocket,
// and HTTP/2 has no other way. What would switch to another protocol goes as a plain request, as RFC 9110 section 7.8 allows.
func (f *Flight) extended() bool {
	r := &f.X.Request
	return f.Options.HTTP2 && r.Upgrade != nil && string(r.Method) == "GET" && http1.HasToken(r.Upgrade, exchange.TunnelWebSocket)
}

const (
	fieldKey    = "Sec-WebSocket-Key"
	fieldAccept = "Sec-WebSocket-Accept"
)

// mayOpen says why the upstream cannot be asked for a WebSocket, if so. None of it is the upstream's failure: to ask for what
// it does not have must not take it out of service.
func (f *Flight) mayOpen(c *http2.Conn) *fault.Error {
	if !c.Extended() {
		return fault.New(fault.Unsupported, fault.Gateway, 501, "the upstream is spoken to in HTTP/2, and takes no WebSockets there "+
			"(its SETTINGS do not say SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441): enable that there, or give the route an upstream with protocol: http1.1")
	}
	key, _ := f.X.Request.Get(fieldKey)
	var b [18]byte // what it decodes to is of 16 bytes; 18 have room for any text of that length
	if n := base64.StdEncoding.EncodedLen(16); len(key) == n {
		if n, err := base64.StdEncoding.Strict().Decode(b[:], key); err == nil && n == 16 {
			return nil
		}
	}
	return fault.New(fault.Malformed, fault.Client, 400, "a request for a WebSocket without the Sec-WebSocket-Key of 16 bytes (RFC 6455 section 4.2.1)")
}

// opened makes the answer to an extended CONNECT what it would be in HTTP/1.1. The upstream has not seen the client's key: the proof
// that the request was understood is ours to give.
func (f *Flight) opened() {
	resp := &f.X.Response
	if resp.Status/100 != 2 {
		_ = f.stream.End(nil) // there is no tunnel: what was asked ends here
		return
	}
	resp.Status, resp.Upgrade = 101, []byte(exchange.TunnelWebSocket)
	resp.Framing = http1.Framing{Kind: http1.NoBody, Length: -1}
	resp.Del("Content-Length") // says nothing there
	key, _ := f.X.Request.Get(fieldKey)
	resp.Set(fieldAccept, string(websocket.AppendAccept(nil, key)))
}
