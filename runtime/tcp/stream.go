package tcp

import (
	"io"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// startStream lets bytes flow between the client and a stream to the upstream, which is its connection where filters see what
// passes. What is encrypted, or looked at, cannot be spliced, and a socket does not tell what its stream has buffered: each
// direction keeps a task for as long as the session lasts, and the one from a stream on top of a connection a buffer too.
func (s *session) startStream(l *netloop.Loop) {
	l.Go(s.copyToStream)
	l.Go(s.copyFromStream)
}

// copyToStream passes on what the client sends, until its end.
func (s *session) copyToStream(t *netloop.Task) {
	l := t.Loop()
	defer s.filtered.use(l)()
	for goOn := true; goOn; {
		_ = s.client.conn.WaitReadable(t) // what it fails with, Read tells
		b := l.Buffer()
		goOn = s.copy(t, &s.client, s.client.conn, s.stream, b)
		l.Recycle(b)
	}
}

// copyFromStream passes on what comes from the upstream, until its end.
func (s *session) copyFromStream(t *netloop.Task) {
	l := t.Loop()
	defer s.filtered.use(l)()
	for goOn := true; goOn; {
		if s.stream == Stream(s.upstream.conn) {
			_ = s.upstream.conn.WaitReadable(t)
		}
		b := l.Buffer()
		goOn = s.copy(t, &s.upstream, s.stream, s.client.conn, b)
		l.Recycle(b)
	}
}

// copy passes on one piece of what comes from d. It says whether there may be more.
func (s *session) copy(t *netloop.Task, d *side, from, to Stream, b []byte) bool {
	n, err := from.Read(t, b)
	if n > 0 && !s.over { // what else was wrong, the next Read tells
		return s.pass(t, d, to, b[:n], false)
	}
	switch {
	case s.over:
	case err == nil:
		return true
	case err != io.EOF:
		s.broke(d, err)
	case s.filtered != nil && !s.pass(t, d, to, nil, true):
	case d == &s.client:
		s.end(d, s.closeStream(t))
	default:
		s.end(d, s.client.conn.CloseWrite())
	}
	return false
}

// pass passes on a piece of what comes from d, as far as filters let it. It says whether the session goes on. last: no more
// comes.
func (s *session) pass(t *netloop.Task, d *side, to Stream, data []byte, last bool) bool {
	if s.filtered != nil {
		l := t.Loop()
		b := l.Buffer()
		defer l.Recycle(b)
		var err *fault.Error
		if data, err = s.filtered.move(t, b, d == &s.client, data, last); err != nil {
			s.finish(exchange.EndPlugin, err)
		}
		if s.over {
			return false
		}
	}
	if len(data) > 0 {
		if _, err := to.Write(t, data); err != nil && !s.over {
			s.broke(d.other(), err)
		}
		if s.over {
			return false
		}
		d.flow.Bytes += int64(len(data))
	}
	s.touch()
	return true
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
