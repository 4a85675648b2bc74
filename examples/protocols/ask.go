package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/quic-go/quic-go/http3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// asker asks the gateway in each protocol.
type asker struct {
	ctx           context.Context
	trust         *x509.CertPool
	secure, clear string // the gateway's addresses
}

// table asks, and prints a line for each answer. It ends with the first that cannot be had.
func (a *asker) table(out io.Writer) error {
	ctx, cancel := context.WithTimeout(a.ctx, 30*time.Second)
	defer cancel()
	ask := *a
	ask.ctx = ctx
	for _, q := range []struct {
		what string
		ask  func() (string, error)
	}{
		{"http → https", ask.redirect},
		{"HTTP/1.1", func() (string, error) { return ask.page(transport(a.trust, false), "/", "") }},
		{"HTTP/2", func() (string, error) { return ask.page(transport(a.trust, true), "/", "") }},
		{"HTTP/3", func() (string, error) { return ask.page(&http3.Transport{TLSClientConfig: a.tls()}, "/", "") }},
		{"zstd", func() (string, error) { return ask.page(transport(a.trust, true), "/big", "zstd") }},
		{"br", func() (string, error) { return ask.page(transport(a.trust, true), "/big", "br") }},
		{"gzip", func() (string, error) { return ask.page(transport(a.trust, true), "/big", "gzip") }},
		{"gRPC", ask.call},
		{"WebSocket", ask.talk},
	} {
		answer, err := q.ask()
		if err != nil {
			return fmt.Errorf("%s: %w", q.what, err)
		}
		fmt.Fprintf(out, "%-13s %s\n", q.what, answer)
	}
	return nil
}

func (a *asker) tls() *tls.Config { return &tls.Config{RootCAs: a.trust, ServerName: "localhost"} }

// transport speaks HTTP/1.1, or HTTP/2, over TLS and leaves answers compressed.
func transport(trust *x509.CertPool, http2 bool) *http.Transport {
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trust, ServerName: "localhost"}, DisableCompression: true, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(!http2)
	t.Protocols.SetHTTP2(http2)
	return t
}

// page asks for a page, and tells the version of the answer and what it was.
func (a *asker) page(t http.RoundTripper, path, encoding string) (string, error) {
	if c, ok := t.(io.Closer); ok {
		defer c.Close()
	}
	client := &http.Client{Transport: t}
	defer client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(a.ctx, http.MethodGet, "https://"+a.secure+path, nil)
	if err != nil {
		return "", err
	}
	if encoding != "" {
		r.Header.Set("Accept-Encoding", encoding)
	}
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	switch {
	case err != nil:
		return "", err
	case answer.StatusCode != http.StatusOK:
		return "", fmt.Errorf("%s: %s", answer.Status, body)
	case encoding != answer.Header.Get("Content-Encoding"):
		return "", fmt.Errorf("the answer is compressed by %q", answer.Header.Get("Content-Encoding"))
	case encoding != "":
		return fmt.Sprintf("%s %s, 38000 bytes in %d", answer.Proto, answer.Status, len(body)), nil
	}
	said := fmt.Sprintf("%s %s, the upstream says: %s", answer.Proto, answer.Status, strings.TrimSpace(string(body)))
	if announced := answer.Header.Get("Alt-Svc"); announced != "" {
		said += "; Alt-Svc: " + announced
	}
	return said, nil
}

func (a *asker) redirect() (string, error) {
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	r, err := http.NewRequestWithContext(a.ctx, http.MethodGet, "http://"+a.clear+"/a?b=c", nil)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer client.CloseIdleConnections()
	defer answer.Body.Close()
	return answer.Status + " to " + answer.Header.Get("Location"), nil
}

// call asks the gRPC server for its health.
func (a *asker) call() (string, error) {
	c, err := grpc.NewClient(a.secure, grpc.WithTransportCredentials(credentials.NewTLS(a.tls())))
	if err != nil {
		return "", err
	}
	defer c.Close()
	answer, err := grpc_health_v1.NewHealthClient(c).Check(a.ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return "", err
	}
	return "grpc.health.v1.Health/Check: " + answer.GetStatus().String(), nil
}

// talk sends a message on a WebSocket, and waits for it to come back.
func (a *asker) talk() (string, error) {
	client := &http.Client{Transport: transport(a.trust, false)}
	defer client.CloseIdleConnections()
	c, answer, err := websocket.Dial(a.ctx, "wss://"+a.secure+"/echo", &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // it is the WebSocket's
	if err != nil {
		return "", err
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(a.ctx, websocket.MessageText, []byte("hello")); err != nil {
		return "", err
	}
	_, message, err := c.Read(a.ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, and %q came back", answer.Status, message), c.Close(websocket.StatusNormalClosure, "")
}
