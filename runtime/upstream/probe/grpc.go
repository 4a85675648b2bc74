package probe

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/http2"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/pool"
)

// GRPC is a check by the health checking protocol of gRPC: a call of grpc.health.v1.Health/Check. A target is well that
// answers SERVING.
type GRPC struct {
	Service string        // that is asked about; empty: the server as a whole
	Host    string        // the authority; empty: the target's own
	Timeout time.Duration // that the target is told; 0: none
}

// maxHealth is the size of an answer that cannot be one, in bytes.
const maxHealth = 1 << 10

// The number of the one field of the request, and of the answer, and the state in which a service takes calls.
const (
	fieldService = 1
	fieldState   = 1
	serving      = 1
)

var states = [...]string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

// Probe makes the call, and reads its answer to the end. The connection's deadlines bound it.
func (g *GRPC) Probe(t *netloop.Task, c *pool.Conn, authority []byte) error {
	session, ok := c.Session.(*http2.Conn)
	if !ok {
		return fault.New(fault.Internal, fault.Gateway, 500, "a connection that does not speak HTTP/2")
	}
	s, err := session.Open(g.request(authority), http2.Outgoing{Scheme: scheme(c), Framing: http1.Framing{Kind: http1.Chunked}, Trailers: true})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.Write(t, g.message(), true, 0); err != nil && !errors.Is(err, http2.ErrStopped) { // it may be answered already
		return failed(err)
	}
	status := 0
	for status < 200 {
		var err error
		if status, err = s.Head(t, 0); err != nil { // the connection's deadline ends the connection
			return failed(err)
		}
	}
	if code, ok := grpc.StatusOf(s.Fields()); ok {
		return g.refused(code, s.Fields())
	}
	switch {
	case status != 200:
		return unwell("the health check was answered %d of HTTP, and not by gRPC", status)
	case grpc.Of(s.Fields()) != grpc.GRPC:
		return unwell("the health check was answered, and not by gRPC")
	}
	var answer []byte
	for {
		data, err := s.Next(t, 0)
		if err == io.EOF {
			break
		}
		if err != nil {
			return failed(err)
		}
		if answer = append(answer, data...); len(answer) > maxHealth {
			return unwell("the health check's answer is over %d bytes", maxHealth)
		}
	}
	if code, ok := grpc.StatusOf(s.Trailers()); !ok || code != grpc.OK {
		return g.refused(code, s.Trailers())
	}
	return g.state(answer)
}

func (g *GRPC) request(authority []byte) *http1.Request {
	if g.Host != "" {
		authority = []byte(g.Host)
	}
	r := &http1.Request{}
	r.SetMethod([]byte("POST"))
	r.SetAuthority(authority)
	r.SetPath([]byte("/grpc.health.v1.Health/Check"))
	if g.Timeout > 0 {
		r.AddBytes([]byte(grpc.FieldTimeout), grpc.AppendTimeout(nil, g.Timeout))
	}
	r.Add("Content-Type", grpc.GRPC.ContentType())
	r.Add("User-Agent", "wasmgate-health-check")
	return r
}

// message is grpc.health.v1.HealthCheckRequest, framed.
func (g *GRPC) message() []byte {
	var m []byte
	if g.Service != "" {
		m = protowire.AppendString(protowire.AppendTag(nil, fieldService, protowire.BytesType), g.Service)
	}
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(m))), m...) //nolint:gosec // of the config
}

// state reads a grpc.health.v1.HealthCheckResponse.
func (g *GRPC) state(framed []byte) error {
	const prefix = 5
	if len(framed) < prefix || framed[0] != 0 || uint64(binary.BigEndian.Uint32(framed[1:])) != uint64(len(framed)-prefix) {
		return unwell("the health check's answer is not one message")
	}
	state := uint64(0) // as protobuf has it: a field that is 0 is not sent
	for m := framed[prefix:]; len(m) > 0; {
		field, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return unwell("the health check's answer is no HealthCheckResponse")
		}
		m = m[n:]
		if field == fieldState && kind == protowire.VarintType {
			state, n = protowire.ConsumeVarint(m)
		} else {
			n = protowire.ConsumeFieldValue(field, kind, m)
		}
		if n < 0 {
			return unwell("the health check's answer is no HealthCheckResponse")
		}
		m = m[n:]
	}
	switch {
	case state == serving:
		return nil
	case state < uint64(len(states)):
		return unwell("the health check%s was answered %s", g.about(), states[state])
	}
	return unwell("the health check%s was answered by a state that nobody knows: %d", g.about(), min(state, math.MaxInt32))
}

// refused says what a status says that came instead of an answer.
func (g *GRPC) refused(code grpc.Code, h *http1.Head) error {
	switch code {
	case grpc.OK:
		return unwell("the health check was answered without a message")
	case grpc.Unimplemented:
		return unwell("the server has no grpc.health.v1.Health: add that service to it, or say `type: tcp` (health.active)")
	case grpc.NotFound:
		return unwell("the server does not know the service %q (health.active.service)", g.Service)
	case grpc.DeadlineExceeded:
		return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "the health check%s was not answered in time (health.active.timeout)", g.about())
	}
	text, _ := h.Get(grpc.FieldMessage)
	const most = 200 // bytes of it, for the log
	return unwell("the health check%s failed with %s: %q", g.about(), code, grpc.Message(text[:min(len(text), most)]))
}

func (g *GRPC) about() string {
	if g.Service == "" {
		return ""
	}
	return " of " + g.Service
}

func unwell(format string, args ...any) error {
	return fault.New(fault.Malformed, fault.Upstream, 502, format, args...)
}
