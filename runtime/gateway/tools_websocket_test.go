package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"
)

// webSockets is a WebSocket server that sends each message back, once it has all of it. github.com/coder/websocket is what it and
// the tests' clients speak by: it follows RFC 6455 closely, and has no dependencies.
type webSockets struct {
	addr string
	open atomic.Int64

	mu     sync.Mutex
	closed map[websocket.StatusCode]int // how connections have ended: what the client said, -1 for nothing
}

func startWebSockets(t *testing.T) *webSockets {
	t.Helper()
	e := &webSockets{closed: map[websocket.StatusCode]int{}}
	server := httptest.NewUnstartedServer(e)
	ctx, cancel := context.WithCancel(context.Background())
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
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
	for {
		if err := e.once(c); err != nil {
			e.mu.Lock()
			e.closed[websocket.CloseStatus(err)]++
			e.mu.Unlock()
			return
		}
	}
}

// closedWith is how many connections have ended with this code.
func (e *webSockets) closedWith(code websocket.StatusCode) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed[code]
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

// chat is a WebSocket client.
type chat struct {
	*testing.T
	*websocket.Conn
}

// patienceOfChats is how long a client waits for anything.
const patienceOfChats = 20 * time.Second

func dialChat(t *testing.T, addr, path string) *chat {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfChats)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://"+addr+path, &websocket.DialOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		t.Fatalf("%v (%v)", err, resp)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	c.SetReadLimit(-1)
	return &chat{t, c}
}

// says sends a message and wants it back.
func (c *chat) says(text string) {
	c.Helper()
	if err := c.try(text); err != nil {
		c.Fatal(err)
	}
}

// try is says where the tunnel may have ended: its time is short, and the machine may have stood still.
func (c *chat) try(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfChats)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		return err
	}
	_, back, err := c.Read(ctx)
	if err == nil && string(back) != text {
		err = fmt.Errorf("%.50q came back for %.50q", back, text)
	}
	return err
}

// ends waits until the server closes, and returns how.
func (c *chat) ends() (code websocket.StatusCode, reason string) {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patienceOfChats)
	defer cancel()
	for {
		if _, _, err := c.Read(ctx); err != nil {
			var closed websocket.CloseError
			if !errors.As(err, &closed) {
				c.Errorf("it ended without a Close frame: %v", err)
			}
			return closed.Code, closed.Reason
		}
	}
}
