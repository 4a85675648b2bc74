package gateway_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// webSockets is a WebSocket server that sends each message back, once it has all of it. github.com/coder/websocket is what it and
// the tests' clients speak by: it follows RFC 6455 closely, and has no dependencies.
type webSockets struct {
	addr string
	open atomic.Int64
}

func startWebSockets(t *testing.T) *webSockets {
	t.Helper()
	e := &webSockets{}
	server := httptest.NewServer(e)
	ctx, cancel := context.WithCancel(context.Background())
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	e.addr = server.Listener.Addr().String()
	return e
}

// ServeHTTP implements http.Handler.
func (e *webSockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, CompressionMode: websocket.CompressionContextTakeover, Subprotocols: []string{"chat"},
	})
	if err != nil {
		return // it has been answered
	}
	e.open.Add(1)
	defer e.open.Add(-1)
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(-1)
	for echoed := true; echoed; {
		echoed = e.once(c) == nil
	}
}

var errNotText = errors.New("text that is not UTF-8")

func (e *webSockets) once(c *websocket.Conn) error {
	kind, data, err := c.Read(context.Background())
	if err != nil {
		return err
	}
	if kind == websocket.MessageText && !utf8.Valid(data) {
		_ = c.Close(websocket.StatusInvalidFramePayloadData, "not UTF-8")
		return errNotText
	}
	return c.Write(context.Background(), kind, data)
}
