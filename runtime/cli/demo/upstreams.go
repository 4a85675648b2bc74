package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// upstreams are servers that answer with who they are and what reached them. They count the connections that they
// accept, so that what the gateway says about reuse is seen from the other side too.
type upstreams struct {
	servers []*http.Server
	origins map[string]string
	conns   atomic.Int64
}

// connKey is where a request of an upstream finds its connection.
type connKey struct{}

// conn is a connection as its upstream knows it.
type conn struct {
	number   int64
	requests atomic.Int64
}

func startUpstreams(names ...string) (*upstreams, error) {
	u := &upstreams{origins: map[string]string{}}
	for _, name := range names {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			u.close()
			return nil, fmt.Errorf("upstream %s: %w", name, err)
		}
		var accepted atomic.Int64
		s := &http.Server{
			Handler:           answer(name),
			ReadHeaderTimeout: 10 * time.Second,
			ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
				u.conns.Add(1)
				return context.WithValue(ctx, connKey{}, &conn{number: accepted.Add(1)})
			},
		}
		u.servers = append(u.servers, s)
		u.origins[name] = "http://" + ln.Addr().String()
		go func() { _ = s.Serve(ln) }()
	}
	return u, nil
}

func (u *upstreams) origin(name string) string { return u.origins[name] }

// accepted is how many connections all of them have accepted so far.
func (u *upstreams) accepted() int { return int(u.conns.Load()) }

func (u *upstreams) close() {
	for _, s := range u.servers {
		_ = s.Close()
	}
}

// answer tells the request as it arrived.
func answer(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := r.Context().Value(connKey{}).(*conn)
		var b strings.Builder
		fmt.Fprintf(&b, "Upstream %s: %s %s\n", name, r.Method, r.URL.RequestURI())
		fmt.Fprintf(&b, "Connection %d from the gateway, request %d on it. What arrived:\n", c.number, c.requests.Add(1))
		fields := []string{"Host: " + r.Host}
		for field, values := range r.Header {
			for _, v := range values {
				fields = append(fields, field+": "+v)
			}
		}
		slices.Sort(fields)
		for _, f := range fields {
			b.WriteString("  " + f + "\n")
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(b.String()))
	})
}
