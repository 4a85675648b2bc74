package modules

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	maxRedirects  = 5
	dialTimeout   = 10 * time.Second
	maxHeadBytes  = 64 << 10
	idleTimeout   = 30 * time.Second
	maxConnsOfOne = 4
)

// transport sends each request the way its host wants it: with its own authorities, or without TLS on loopback.
type transport struct {
	plain   *http.Transport            // never leaves the machine
	secure  *http.Transport            // of hosts about which nothing is said
	special map[string]*http.Transport // by hostKey
}

func newTransport(o *Options) (*transport, error) {
	roots, err := authorities(o.CAFile, true)
	if err != nil {
		return nil, err
	}
	t := &transport{plain: base(o), secure: base(o), special: map[string]*http.Transport{}}
	t.plain.Proxy, t.plain.DialContext = nil, (&net.Dialer{Timeout: dialTimeout, Control: onlyLoopback}).DialContext
	t.secure.TLSClientConfig.RootCAs = roots
	for host, h := range o.Hosts {
		if h.CAFile == "" {
			continue
		}
		own := base(o)
		if own.TLSClientConfig.RootCAs, err = authorities(h.CAFile, false); err != nil {
			return nil, err
		}
		t.special[hostKey(host)] = own
	}
	return t, nil
}

func base(o *Options) *http.Transport {
	return &http.Transport{
		Proxy:                  Proxies(o.Env),
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  o.Stall,
		MaxResponseHeaderBytes: maxHeadBytes,
		IdleConnTimeout:        idleTimeout,
		MaxConnsPerHost:        maxConnsOfOne,
		DisableCompression:     true, // a digest is of the bytes as they are sent
		ForceAttemptHTTP2:      true,
	}
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		if !isLoopback(r.URL.Hostname()) {
			return nil, &Error{Kind: KindRefused, Message: "plain HTTP to " + r.URL.Host + ", which is not this machine", Help: "it would be read and changed by whoever is on the way"}
		}
		return t.plain.RoundTrip(r)
	}
	if own := t.special[hostKey(r.URL.Host)]; own != nil {
		return own.RoundTrip(r)
	}
	return t.secure.RoundTrip(r)
}

func (t *transport) closeIdle() {
	t.plain.CloseIdleConnections()
	t.secure.CloseIdleConnections()
	for _, each := range t.special {
		each.CloseIdleConnections()
	}
}

// redirected follows a few redirects, and none to another scheme.
func redirected(r *http.Request, via []*http.Request) error {
	for _, hop := range append(via[1:len(via):len(via)], r) {
		// net/http keeps the field for another port of the same host, and for who comes back.
		if hostKey(hop.URL.Host) != hostKey(via[0].URL.Host) {
			r.Header.Del("Authorization")
		}
	}
	if first := via[0].URL; r.URL.Scheme != first.Scheme {
		to := url.URL{Scheme: r.URL.Scheme, Host: r.URL.Host, Path: r.URL.Path} // the rest may be secret
		return &Error{Kind: KindRefused, Message: fmt.Sprintf("%s redirects from %s to %s", first.Host, first.Scheme, clean(to.String())), Help: "name the address that it leads to"}
	}
	if len(via) > maxRedirects {
		return &Error{Kind: KindRefused, Message: fmt.Sprintf("%s redirects more than %d times", via[0].URL.Host, maxRedirects)}
	}
	return nil
}

// hostKey is how a host is called among Options.Hosts, whether the port that https has anyway is said or not, and where
// Docker's registry has another name than people call it by.
func hostKey(host string) string {
	if host = strings.TrimSuffix(strings.ToLower(host), ":443"); host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}

// isLoopback says whether a host is the machine itself by its name alone.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.Unmap().IsLoopback())
}

// onlyLoopback holds connections without TLS to loopback addresses, whatever the resolver says localhost is.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	if to, err := netip.ParseAddrPort(address); err != nil || !to.Addr().Unmap().IsLoopback() {
		return fmt.Errorf("%s is not a loopback address, and plain HTTP is for those only", address)
	}
	return nil
}

// authorities reads a file of certificates. Without one it is nil, which stands for the system's.
func authorities(file string, system bool) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pool := x509.NewCertPool()
	if system {
		if of, err := x509.SystemCertPool(); err == nil {
			pool = of
		}
	}
	pem, err := os.ReadFile(file)
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("no certificate in PEM form is in it")
	}
	if err != nil {
		return nil, fmt.Errorf("the authorities of %s: %w", file, err)
	}
	return pool, nil
}

// Proxies reads the variables that name proxies, as net/http does. Loopback addresses are reached without one.
func Proxies(env func(string) string) func(*http.Request) (*url.URL, error) {
	either := func(name string) string {
		if v := env(name); v != "" {
			return v
		}
		return env(strings.ToLower(name))
	}
	c := httpproxy.Config{HTTPProxy: either("HTTP_PROXY"), HTTPSProxy: either("HTTPS_PROXY"), NoProxy: either("NO_PROXY")}
	of := c.ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return of(r.URL) }
}

// watchdog ends a context when nothing was read for a while.
type watchdog struct {
	timer *time.Timer
	limit time.Duration
}

func watch(ctx context.Context, limit time.Duration) (context.Context, *watchdog, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watchdog{limit: limit}
	w.timer = time.AfterFunc(limit, func() { cancel(errStalled) })
	return ctx, w, func() { w.timer.Stop(); cancel(context.Canceled) }
}

func (w *watchdog) alive() { w.timer.Reset(w.limit) }
