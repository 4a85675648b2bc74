package acme

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	askTimeout  = 30 * time.Second // for one question to the issuer, with its answer
	maxAnswer   = 1 << 20          // bytes
	maxHead     = 64 << 10
)

// web is how the issuer is asked: within limits, of time and of size.
type web struct {
	client    *http.Client
	transport *http.Transport
}

func newWeb(o *Options, proxy func(*http.Request) (*url.URL, error)) *web {
	w := &web{transport: &http.Transport{
		Proxy:                  proxy,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  askTimeout,
		MaxResponseHeaderBytes: maxHead,
		IdleConnTimeout:        askTimeout,
		ForceAttemptHTTP2:      true,
	}}
	w.client = &http.Client{Transport: w, Timeout: askTimeout}
	return w
}

// RoundTrip implements http.RoundTripper.
func (w *web) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("the issuer is asked by https:// only, and not at %s", r.URL.Redacted())
	}
	resp, err := w.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &short{resp.Body, maxAnswer}
	return resp, nil
}

func (w *web) close() { w.transport.CloseIdleConnections() }

// short is an answer's body that must not be long.
type short struct {
	io.ReadCloser
	left int
}

// Read implements io.Reader.
func (s *short) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if s.left -= n; s.left < 0 {
		return 0, fmt.Errorf("the issuer's answer is longer than %d bytes", maxAnswer)
	}
	return n, err
}
