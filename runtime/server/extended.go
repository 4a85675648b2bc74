package server

import (
	"io"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/websocket"
)

// extendedSide is the client's side of an extended CONNECT (RFC 8441). To routes, plugins and upstreams it is what it is in
// HTTP/1.1: a GET that would switch protocols, without a body. What the client sends is the tunnel's, once there is one.
type extendedSide struct {
	*http2.Request
	open bool
	key  []byte // that the gateway made up: there is none in HTTP/2, and the answer to it is the gateway's to check
}

var _ Side = (*extendedSide)(nil)

// extended serves one.
func (s *http2Session) extended(t *netloop.Task, r *http2.Request, protocol []byte) {
	side := &extendedSide{Request: r}
	s.Session.Serve(t, side, func(q *http1.Request) error {
		if err := r.Fill(q, s.Snapshot().Limits); err != nil {
			return err
		}
		return side.asUpgrade(q, protocol)
	})
}

// asUpgrade makes the request one of HTTP/1.1.
func (e *extendedSide) asUpgrade(q *http1.Request, protocol []byte) error {
	if !http1.EqualFold(protocol, exchange.TunnelWebSocket) {
		return fault.New(fault.Unsupported, fault.Client, 501, "a CONNECT for another protocol than websocket")
	}
	q.Method, q.Upgrade = []byte("GET"), []byte(exchange.TunnelWebSocket)
	q.Framing, q.ExpectContinue = http1.Framing{Kind: http1.NoBody, Length: -1}, false
	e.key = websocket.AppendKey(nil)
	q.Set("Sec-WebSocket-Key", string(e.key))
	return nil
}

// Next is Side's.
func (e *extendedSide) Next(t *netloop.Task) ([]byte, error) {
	if !e.open {
		return nil, io.EOF
	}
	return e.Request.Next(t)
}

// Ready is Side's.
func (e *extendedSide) Ready() ([]byte, error) {
	if !e.open {
		return nil, nil
	}
	return e.Request.Ready()
}

// Done is Side's.
func (e *extendedSide) Done() bool { return !e.open || e.Request.Done() }

// Tunnel is Side's.
func (e *extendedSide) Tunnel() {
	e.open = true
	e.Request.Tunnel()
}

// notOpened is what an upstream's answer means to a client that has sent an extended CONNECT, if that is not what it says: any
// 2xx would tell the client that its tunnel is there.
func (w *work) notOpened() *fault.Error {
	e, ok := w.side.(*extendedSide)
	if resp := &w.x.Response; ok {
		switch {
		case resp.Status == 101:
			accept, _ := resp.Get("Sec-WebSocket-Accept")
			if string(accept) != string(websocket.AppendAccept(nil, e.key)) {
				return fault.New(fault.Malformed, fault.Upstream, 502, "switched to websocket without the Sec-WebSocket-Accept of its key")
			}
			resp.Del("Sec-WebSocket-Accept")
		case resp.Status/100 == 2:
			return fault.New(fault.Unsupported, fault.Upstream, 502, "answered %d to a request for a WebSocket", resp.Status)
		}
	}
	return nil
}

// deny sees to it that an answer of the gateway's own, or of a plugin's, to an extended CONNECT does not say that there is a tunnel.
func (w *work) deny() {
	if _, ok := w.side.(*extendedSide); ok && w.x.Local.Status/100 == 2 {
		w.x.Local.Status = 501
	}
}

// refuseTunnel answers a client whose tunnel the upstream did not open.
func (s *Session) refuseTunnel(t *netloop.Task, w *work, err *fault.Error) outcome {
	w.letGo()
	w.flight.Abandon(facts.CloseNotDrained)
	w.flight.Finish(t)
	return s.refuse(t, w, err)
}
