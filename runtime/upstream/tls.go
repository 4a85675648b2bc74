package upstream

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/pool"
)

// secure is TLS on top of a loop's connection. crypto/tls wants a net.Conn, whose methods know no task: the one that
// reads or writes at the moment is set for each call.
type secure struct {
	*tls.Conn
	raw rawConn
}

// rawConn is the net.Conn below TLS.
type rawConn struct {
	*netloop.Conn
	task *netloop.Task
}

func (r *rawConn) Read(b []byte) (int, error)       { return r.Conn.Read(r.task, b) }
func (r *rawConn) Write(b []byte) (int, error)      { return r.Conn.Write(r.task, b) }
func (r *rawConn) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(r.Conn.LocalAddr()) }
func (r *rawConn) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(r.Conn.RemoteAddr()) }
func (r *rawConn) SetDeadline(time.Time) error      { return nil } // deadlines are the netloop connection's
func (r *rawConn) SetReadDeadline(time.Time) error  { return nil }
func (r *rawConn) SetWriteDeadline(time.Time) error { return nil }

func (s *secure) Read(t *netloop.Task, b []byte) (int, error) {
	s.raw.task = t
	return s.Conn.Read(b)
}

func (s *secure) Write(t *netloop.Task, b []byte) (int, error) {
	s.raw.task = t
	return s.Conn.Write(b)
}

var tlsVersions = map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}

// handshake puts TLS on the connection, verified against the target's host or the configured server name.
func (m *Member) handshake(t *netloop.Task, c *pool.Conn) *fault.Error {
	u := m.cluster.upstream.config.Load()
	l, cfg := t.Loop(), u.TLS.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = m.target.Host
	}
	f := &c.Facts
	f.TLS, f.ServerName, f.TLSStart = true, cfg.ServerName, l.WallNow()
	s := &secure{raw: rawConn{Conn: c.Net, task: t}}
	s.Conn = tls.Client(&s.raw, cfg)
	c.Net.SetReadDeadline(deadline(l, u.Handshake))
	err := s.Handshake()
	c.Net.SetReadDeadline(0)
	if err != nil {
		_ = c.Net.Close()
		e := &fault.Error{Kind: fault.TLS, Source: fault.Upstream, Status: 502, Retryable: true, Err: err}
		if errors.Is(err, netloop.ErrDeadline) {
			e.Status, e.Detail = 504, "no TLS handshake within "+u.Handshake.String()
		}
		return e
	}
	state := s.ConnectionState()
	f.TLSEnd, f.TLSVersion, f.ALPN = l.WallNow(), tlsVersions[state.Version], state.NegotiatedProtocol
	c.Stream = s
	return nil
}
