package telemetry

import (
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
)

// line writes the access log's line of x. Its fields are documented in README.md; those that do not apply are left out.
func (r *Recorder) line(x *exchange.Exchange) {
	e := r.log.Log()
	if e == nil {
		return // logging as a whole was switched off
	}
	e.RawJSON("time", r.clock.json(x.WallStarted+x.Ended-x.Started))
	if x.Client.Addr.IsValid() {
		r.scratch = clientAddress(x.Client.Addr).AppendTo(r.scratch[:0])
		e.Bytes("client", r.scratch)
	}
	e.Str("listener", x.Client.Server).Str("scheme", x.Client.Scheme)
	e.Bytes("method", cutTo(x.Asked.Method, 32))
	if r.redact.host && len(x.Asked.Authority) > 0 {
		e.Str("host", hiddenText)
	} else {
		e.Bytes("host", cutTo(x.Asked.Authority, maxAgent))
	}
	e.Bytes("path", cutTo(x.Asked.Path, maxPath))
	if r.redact.query && len(x.Asked.Query) > 0 {
		r.scratch = r.redact.appendQuery(r.scratch[:0], cutTo(x.Asked.Query, maxPath))
		e.Bytes("query", r.scratch)
	}
	text(e, "protocol", protocolOf(x))
	lineTLS(e, x.Client.TLS)
	e.Int("status", x.StatusSent).Int64("bytes_in", x.BytesIn).Int64("bytes_out", x.BytesOut)
	text(e, "grpc_status", rpcStatus(&x.RPC))
	if c := &x.Compressed; c.Coding != "" {
		e.Str("compressed", c.Coding).Int64("bytes_plain", c.In)
	}
	e.Int64("duration_us", micros(x.Ended-x.Started))
	if x.FirstByte != 0 {
		e.Int64("first_byte_us", micros(x.FirstByte-x.Started))
	}
	lineTunnel(e, x)
	text(e, "route", x.Route)
	if a := x.Attempt(); a != nil {
		r.lineAttempt(e, x, a)
	}
	if agent := userAgent(x); len(agent) == 0 {
		// there is none
	} else if r.redact.agent {
		e.Str("user_agent", hiddenText)
	} else {
		e.Bytes("user_agent", cutTo(agent, maxAgent))
	}
	e.Uint64("client_connection", x.Client.Conn).Uint64("client_ordinal", x.Client.Ordinal)
	if x.Err != nil {
		lineError(e, x.Err)
	}
	if x.Trace.Sampled || x.Trace.Kept != "" {
		e.Hex("trace_id", x.Trace.TraceID[:]).Hex("span_id", x.Trace.Server[:])
	}
	e.Send()
}

// lineAttempt writes what the last attempt, the one that gave the answer, was carried by.
func (r *Recorder) lineAttempt(e *zerolog.Event, x *exchange.Exchange, a *exchange.Attempt) {
	e.Str("upstream", a.Upstream)
	r.where(e, a.Host, a.Address, a.Err)
	if a.Status != 0 {
		e.Int("upstream_status", a.Status)
	}
	if a.ConnID != 0 {
		e.Uint64("connection_id", a.ConnID).Uint64("connection_ordinal", a.Ordinal).Bool("reused", a.Reused)
		e.Int64("connection_age_us", micros(int64(a.Age)))
		if a.Reused {
			e.Int64("connection_idle_us", micros(int64(a.Idle)))
		}
	}
	text(e, "why_new", a.WhyNew)
	text(e, "why_closed", a.WhyClosed)
	e.Int64("pool_wait_us", micros(int64(a.PoolWait)))
	if a.FirstByte != 0 && a.Sent != 0 {
		e.Int64("upstream_first_byte_us", micros(a.FirstByte-a.Sent))
	}
	e.Int("attempts", len(x.Attempts))
	text(e, "attempt_why", a.Why)
}

// maxDetail bounds the text of an error in bytes: a plugin may have had a say in it.
const maxDetail = 512

func lineError(e *zerolog.Event, err *fault.Error) {
	e.Str("error", err.Kind.String()).Str("error_source", err.Source.String())
	text(e, "plugin", err.Plugin)
	text(e, "plugin_phase", err.Phase)
	text(e, "error_detail", err.Detail)
	if err.Err != nil {
		text(e, "error_cause", err.Err.Error())
	}
}

// text writes a field that is left out when it is empty.
func text(e *zerolog.Event, key, value string) {
	if value != "" {
		e.Str(key, value[:min(len(value), maxDetail)])
	}
}

func micros(ns int64) int64 { return ns / int64(time.Microsecond) }

func cutTo(b []byte, limit int) []byte { return b[:min(len(b), limit)] }
