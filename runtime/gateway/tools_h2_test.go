package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client is Go's client of HTTP/2, without TLS.
func h2Client(t *testing.T) *http.Client {
	tr := &http.Transport{Protocols: &http.Protocols{}}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 40 * time.Second}
}

// newBackend is a server of HTTP/1.1.
func newBackend(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h} //nolint:gosec // its client is the gateway
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return "http://" + l.Addr().String()
}

// h2Raw is a client that a test writes by hand.
type h2Raw struct {
	*http2.Framer
	t    testing.TB
	conn net.Conn
	buf  bytes.Buffer
	enc  *hpack.Encoder
}

func dialH2(t testing.TB, addr string, settings ...http2.Setting) *h2Raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return newH2(t, c, settings...)
}

// newH2 begins a connection of HTTP/2, which is over at the test's end.
func newH2(t testing.TB, c net.Conn, settings ...http2.Setting) *h2Raw {
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	v := &h2Raw{Framer: http2.NewFramer(c, c), t: t, conn: c}
	v.AllowIllegalWrites = true
	v.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	v.enc = hpack.NewEncoder(&v.buf)
	_, _ = io.WriteString(c, http2.ClientPreface)
	_ = v.WriteSettings(settings...)
	_ = v.WriteSettingsAck()
	return v
}

// ask sends the head of a request: names and values in turn.
func (v *h2Raw) ask(id uint32, end bool, fields ...string) error {
	v.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = v.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return v.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: v.buf.Bytes(), EndHeaders: true, EndStream: end})
}

func (v *h2Raw) get(id uint32, path string) error {
	return v.ask(id, true, ":method", "GET", ":scheme", "http", ":authority", "h", ":path", path)
}

// answer reads to the end of a stream.
func (v *h2Raw) answer(id uint32) (status, body string, code http2.ErrCode) {
	for {
		f, err := v.ReadFrame()
		if err != nil {
			return status, body, http2.ErrCodeConnect
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != 0 {
				return status, body, f.ErrCode
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				if f.PseudoValue("status") != "" {
					status = f.PseudoValue("status")
				}
				if f.StreamEnded() {
					return status, body, 0
				}
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				if body += string(f.Data()); f.StreamEnded() {
					return status, body, 0
				}
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				return status, body, f.ErrCode
			}
		}
	}
}

// h2spec is the public conformance suite, built by the Go command from the module proxy.
const h2spec = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"

func buildH2spec(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	path := filepath.Join(cache, "wasmgate-tests", "h2spec-v2.2.1")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, need(t, "go"), "install", h2spec)
	cmd.Dir = t.TempDir()
	cmd.Env = append(cmd.Environ(), "GOBIN="+cmd.Dir, "GOWORK=off", "GOOS=", "GOARCH=")
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("h2spec, which cannot be built (%v): %s", err, bytes.TrimSpace(out)))
	}
	text, err := os.ReadFile(filepath.Join(cmd.Dir, "h2spec"))
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o700) //nolint:gosec // it is a program
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// conforms runs all strict cases of h2spec.
func conforms(t *testing.T, addr string, more ...string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(addr)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, buildH2spec(t), append([]string{"--strict", "-h", host, "-p", port, "-o", "5"}, more...)...).CombinedOutput()
	m := regexp.MustCompile(`(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed`).FindSubmatch(out)
	if err != nil || m == nil || string(m[0]) != "146 tests, 146 passed, 0 skipped, 0 failed" {
		text := string(out)
		if i := strings.Index(text, "Failures:"); i >= 0 {
			text = text[i:]
		}
		t.Errorf("%v\n%s", err, text)
	}
}

// overHTTP2 asks on a connection that has agreed on HTTP/2.
func overHTTP2(c *tls.Conn) (func(*http.Request) (*http.Response, error), error) {
	tr := &http.Transport{Protocols: &http.Protocols{}, DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	tr.Protocols.SetHTTP2(true)
	h, err := tr.NewClientConn(context.Background(), "https", c.RemoteAddr().String())
	if err != nil {
		return nil, err
	}
	return h.RoundTrip, nil
}
