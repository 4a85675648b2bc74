// Package probe asks a target whether it is well, over a connection that was opened for the question: by one GET, and the
// status of the answer, or by a call of gRPC. It is package upstream's Check.Probe; the TCP kind of check needs nothing but
// the connection itself.
//
// A target under check may be anything: the answer's head is bounded and parsed as strictly as any upstream's, and of
// its body no byte is read; of gRPC's no more than the message that it must be. That is read by protobuf's own protowire:
// one field each way is not worth generated code.
package probe

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/health"
	"wasmgate/runtime/upstream/pool"
	"wasmgate/runtime/wire"
)

// HTTP is a check by a request.
type HTTP struct {
	Target string // path, and query if there is one
	Host   string // the Host field; empty: the target's own
	Status health.Ranges
	HTTP10 bool
}

var limits = http1.DefaultLimits

// Probe sends the request and reads the head of the answer. The connection's deadlines bound it. The error says what
// was wrong.
func (h *HTTP) Probe(t *netloop.Task, c *pool.Conn, authority []byte) error {
	if h.Host != "" {
		authority = []byte(h.Host)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: wasmgate-health-check\r\nConnection: close\r\n\r\n", h.Target, authority)
	request := b.Bytes()
	if h.HTTP10 {
		request = bytes.Replace(request, []byte("HTTP/1.1"), []byte("HTTP/1.0"), 1)
	}
	n, err := c.Stream.Write(t, request)
	c.Facts.BytesOut += uint64(n)
	if err != nil {
		return failed(err)
	}
	var in wire.Reader
	in.Open(c.Stream, t.Loop(), &limits)
	defer in.Close()
	defer func() { c.Facts.BytesIn += in.Total() }()
	var answer http1.Response
	for {
		if b := in.Buffered(); len(b) > 0 {
			n, err := answer.Parse(b, &limits, []byte("GET"))
			if err != nil {
				return err
			}
			in.Consume(n)
			switch {
			case n > 0 && answer.Status >= 200 && h.Status.Has(answer.Status):
				return nil
			case n > 0 && answer.Status >= 200:
				return fault.New(fault.Malformed, fault.Upstream, 502, "the health check %s was answered %d", h.Target, answer.Status)
			case n > 0:
				answer.Reset()
				continue
			}
		}
		if err := in.Fill(t); err != nil {
			return failed(err)
		}
	}
}

func failed(err error) error {
	switch {
	case errors.Is(err, netloop.ErrDeadline):
		return fault.New(fault.HeaderTimeout, fault.Upstream, 504, "the health check was not answered in time (health.active.timeout)")
	case errors.Is(err, io.EOF):
		return fault.New(fault.UpstreamClosed, fault.Upstream, 502, "the health check was not answered: the connection was closed")
	}
	return &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Err: err}
}
