package tcp

import (
	"io"

	"wasmgate/runtime/netloop"
)

// startStream lets bytes flow between the client and a stream on top of the upstream's connection. What is encrypted
// cannot be spliced, and a socket does not tell what its stream has buffered: each direction keeps a task for as long as
// the session lasts, and the one from the upstream a buffer too.
func (s *session) startStream(l *netloop.Loop) {
	l.Go(s.copyToStream)
	l.Go(s.copyFromStream)
}

// copyToStream passes on what the client sends, until its end.
func (s *session) copyToStream(t *netloop.Task) {
	l := t.Loop()
	for goOn := true; goOn; {
		_ = s.client.conn.WaitReadable(t) // what it fails with, Read tells
		b := l.Buffer()
		goOn = s.copy(t, &s.client, s.client.conn, s.stream, b)
		l.Recycle(b)
	}
}

// copyFromStream passes on what comes from the upstream, until its end.
func (s *session) copyFromStream(t *netloop.Task) {
	b := t.Loop().Buffer()
	defer t.Loop().Recycle(b)
	for s.copy(t, &s.upstream, s.stream, s.client.conn, b) {
	}
}

// copy passes on one piece of what comes from d. It says whether there may be more.
func (s *session) copy(t *netloop.Task, d *side, from, to Stream, b []byte) bool {
	n, err := from.Read(t, b)
	if n > 0 && !s.over { // what else was wrong, the next Read tells
		if _, err := to.Write(t, b[:n]); err != nil && !s.over {
			s.broke(d.other(), err)
		}
		if s.over {
			return false
		}
		d.flow.Bytes += int64(n)
		s.touch()
		return true
	}
	switch {
	case s.over:
	case err == nil:
		return true
	case err != io.EOF:
		s.broke(d, err)
	case d == &s.client:
		s.end(d, s.closeStream(t))
	default:
		s.end(d, s.client.conn.CloseWrite())
	}
	return false
}

// closeStream ends what is sent to the upstream.
func (s *session) closeStream(t *netloop.Task) error {
	if c, ok := s.stream.(interface {
		CloseWrite(*netloop.Task) error
	}); ok {
		return c.CloseWrite(t)
	}
	return s.upstream.conn.CloseWrite()
}
