package plugin

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// echoes are upstreams that answer with who they are and what reached them. They use net/http, because they are the
// other side of the wire.
type echoes struct {
	servers []*http.Server
	origins map[string]string
}

// origin is that of the upstream with this name, which is started if there is none yet.
func (e *echoes) origin(name string) (string, error) {
	if o, ok := e.origins[name]; ok {
		return o, nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("upstream %s: %w", name, err)
	}
	s := &http.Server{Handler: echo(name), ReadHeaderTimeout: 10 * time.Second}
	e.servers = append(e.servers, s)
	if e.origins == nil {
		e.origins = map[string]string{}
	}
	e.origins[name] = "http://" + ln.Addr().String()
	go func() { _ = s.Serve(ln) }()
	return e.origins[name], nil
}

func (e *echoes) close() {
	for _, s := range e.servers {
		_ = s.Close()
	}
}

// mostEchoed bounds the body that is echoed, in bytes.
const mostEchoed = 1 << 20

// echo tells a request as it arrived.
func echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(io.LimitReader(r.Body, mostEchoed))
		var b strings.Builder
		fmt.Fprintf(&b, "Upstream %s got:\n\n%s %s\n", name, r.Method, r.URL.RequestURI())
		fields := []string{"Host: " + r.Host}
		for field, values := range r.Header {
			for _, v := range values {
				fields = append(fields, field+": "+v)
			}
		}
		slices.Sort(fields)
		b.WriteString(strings.Join(fields, "\n") + "\n")
		if len(body) > 0 {
			b.WriteString("\n" + string(body) + "\n")
		}
		if err != nil {
			fmt.Fprintf(&b, "\n(the body broke off: %v)\n", err)
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Upstream", name)
		_, _ = w.Write([]byte(b.String()))
	})
}
