package http3

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	quichttp3 "github.com/quic-go/quic-go/http3"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/testkit"
	"wasmgate/runtime/netloop"
)

// certificate makes a certificate for localhost, and what trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// bench is a listener on a group of loops, and the clients' side of TLS.
type bench struct {
	t      testing.TB
	group  *netloop.Group
	ln     *Listener
	client *tls.Config
	closed chan struct{} // a handler's Close was called
}

// served is what a handler is given.
type served struct {
	*Stream
	request *http1.Request
	err     error // of Fill
}

// newBench serves with fn, which runs on a loop.
func newBench(t testing.TB, o Options, fn func(t *netloop.Task, s served) (keep bool)) *bench {
	t.Helper()
	leaks(t)
	if o.Group == nil {
		o.Group = newGroup(t, netloop.Options{Loops: 2})
	}
	cert, pool := certificate(t)
	b := &bench{t: t, group: o.Group, client: &tls.Config{RootCAs: pool, ServerName: "localhost"}, closed: make(chan struct{}, 1000)}
	o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	o.Accept = func(*Conn) Handler { return handler{fn, b.closed} }
	var err error
	if b.ln, err = Listen("127.0.0.1:0", o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.ln.Close)
	return b
}

func newGroup(t testing.TB, o netloop.Options) *netloop.Group {
	t.Helper()
	o.OnPanic = func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }
	g, err := netloop.New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	t.Cleanup(g.Close)
	return g
}

// leaks fails the test if goroutines of quic-go, or ours, are left when it has ended.
func leaks(t testing.TB) {
	t.Cleanup(func() {
		testkit.Eventually(t, "no goroutine is left", func() bool { return len(ours()) == 0 })
	})
}

// ours are the stacks of goroutines that a listener, a connection or a stream has begun.
func ours() (list []string) {
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]
	for g := range strings.SplitSeq(string(all), "\n\n") {
		if (strings.Contains(g, "quic-go") || strings.Contains(g, "runtime/http3.(*")) && !strings.Contains(g, "testing.tRunner") {
			list = append(list, g)
		}
	}
	return list
}

type handler struct {
	fn     func(*netloop.Task, served) bool
	closed chan struct{}
}

func (h handler) Serve(t *netloop.Task, s *Stream) bool {
	r := &http1.Request{}
	err := s.Fill(r)
	return h.fn(t, served{s, r, err})
}

func (h handler) Close() { h.closed <- struct{}{} }

// answer sends a whole answer.
func (s served) answer(t *netloop.Task, status int, body string) bool {
	r := &http1.Response{Status: status}
	r.Add("Content-Type", "text/plain")
	s.Head(r, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Length, Length: int64(len(body))}})
	s.Add([]byte(body))
	s.End(nil)
	return s.Flush(t) == nil
}

// echo answers with the request's body, piece by piece, and its trailers.
func echo(t *netloop.Task, s served) bool {
	if s.err != nil {
		fe := fault.From(s.err)
		if fe.Status == 0 {
			return false
		}
		return s.answer(t, fe.Status, fe.Error())
	}
	r := &http1.Response{Status: 200}
	r.Add("X-Method", string(s.request.Method))
	r.Add("X-Path", string(s.request.Path)+"?"+string(s.request.Query()))
	s.Head(r, http1.ResponseOut{Framing: http1.Framing{Kind: http1.Chunked}})
	for {
		data, err := s.Next(t)
		if err == io.EOF {
			s.End(s.Trailers())
			return s.Flush(t) == nil
		}
		if err != nil || s.Write(t, data) != nil {
			s.Abort()
			return false
		}
	}
}

// transport is quic-go's client.
func (b *bench) transport() *quichttp3.Transport {
	tr := &quichttp3.Transport{TLSClientConfig: b.client, QUICConfig: &quic.Config{MaxIdleTimeout: 20 * time.Second}}
	b.t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func (b *bench) url(path string) string {
	return "https://" + strings.Replace(b.ln.Addr().String(), "127.0.0.1", "localhost", 1) + path
}

// do sends a request, and reads the answer whole.
func (b *bench) do(tr *quichttp3.Transport, r *http.Request) (*http.Response, string) {
	b.t.Helper()
	resp, err := tr.RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func (b *bench) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	b.t.Helper()
	r, err := http.NewRequestWithContext(ctx, method, b.url(path), body)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// raw is a connection on which anything can be said.
type raw struct {
	t    testing.TB
	conn *quic.Conn
}

func (b *bench) raw() *raw {
	b.t.Helper()
	c := b.client.Clone()
	c.NextProtos = []string{"h3"}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	q, err := quic.DialAddr(ctx, b.ln.Addr().String(), c, &quic.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = q.CloseWithError(errNoError, "") })
	return &raw{b.t, q}
}

// open opens a stream and writes parts to it; end: and nothing more.
func (r *raw) open(end bool, parts ...[]byte) *quic.Stream {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := r.conn.OpenStreamSync(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	_, _ = s.Write(bytes.Join(parts, nil)) // it fails where the other side has had enough before the end
	if end {
		_ = s.Close()
	}
	return s
}

// uni opens a unidirectional stream.
func (r *raw) uni(parts ...[]byte) *quic.SendStream {
	r.t.Helper()
	s, err := r.conn.OpenUniStream()
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := s.Write(bytes.Join(parts, nil)); err != nil {
		r.t.Fatal(err)
	}
	return s
}

// closed waits until the connection is closed, and returns the code.
func (r *raw) closed() quic.ApplicationErrorCode {
	r.t.Helper()
	select {
	case <-r.conn.Context().Done():
	case <-time.After(20 * time.Second):
		r.t.Fatal("the connection is still open")
	}
	err := context.Cause(r.conn.Context())
	app, ok := err.(*quic.ApplicationError)
	if !ok || !app.Remote {
		r.t.Fatalf("the connection ended with %v", err)
	}
	return app.ErrorCode
}

// frame makes a frame.
func frame(kind uint64, payload []byte) []byte {
	return append(appendFrameHeader(nil, kind, uint64(len(payload))), payload...)
}

// headers makes a HEADERS frame of names and values.
func headers(pairs ...string) []byte { return frame(frameHeaders, fieldSection(pairs...)) }

func fieldSection(pairs ...string) []byte {
	var b bytes.Buffer
	e := qpack.NewEncoder(&b)
	for i := 0; i < len(pairs); i += 2 {
		_ = e.WriteField(qpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return b.Bytes()
}

// get is a request without a body.
func get(pairs ...string) []byte {
	return headers(append([]string{":method", "GET", ":scheme", "https", ":authority", "localhost", ":path", "/"}, pairs...)...)
}

func post(pairs ...string) []byte {
	return headers(append([]string{":method", "POST", ":scheme", "https", ":authority", "localhost", ":path", "/"}, pairs...)...)
}

// status reads the head of an answer; reset: there is none, since the request was malformed.
func status(t testing.TB, s *quic.Stream) string {
	t.Helper()
	got, err := statusOf(s)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return got
}

// statusOf is status for who expects that there may be none.
func statusOf(s *quic.Stream) (string, error) {
	_ = s.SetReadDeadline(time.Now().Add(20 * time.Second))
	h := readHead(s, make([]byte, firstSize), 64<<10)
	var se *quic.StreamError
	if errors.As(h.err, &se) && se.Remote && se.ErrorCode == errMessage {
		return "reset", nil
	}
	if h.err != nil {
		return "", h.err
	}
	f, err := new(qpack.Decoder).Decode(h.section)()
	if err == nil && f.Name != ":status" {
		err = errors.New("it begins with " + f.Name)
	}
	return f.Value, err
}
