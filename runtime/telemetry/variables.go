package telemetry

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/internal/unixaddr"
)

// Fields are the names that Part.Field may have, in alphabetical order. README.md says what they mean.
func Fields() []string {
	return slices.Sorted(maps.Keys(variables))
}

type ofRequest = func(r *Recorder, b []byte, x *exchange.Exchange) []byte

// variables has two that are fields of the request's head, and so are made by compile.
var variables = map[string]*variable{
	"user_agent": {}, "referer": {},

	"time": {ours: true,
		request: func(r *Recorder, b []byte, x *exchange.Exchange) []byte { return r.clock.append(b, endOf(x)) },
		session: func(r *Recorder, b []byte, s *exchange.Session) []byte { return r.clock.append(b, endOfSession(s)) }},
	"time_clf": {ours: true,
		request: func(r *Recorder, b []byte, x *exchange.Exchange) []byte { return r.clock.appendCLF(b, endOf(x)) },
		session: func(r *Recorder, b []byte, s *exchange.Session) []byte { return r.clock.appendCLF(b, endOfSession(s)) }},
	"time_unix": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendMillis(b, endOf(x)) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendMillis(b, endOfSession(s)) }},

	"client": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendAddr(b, x.Client.Addr) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendAddr(b, s.Client.Addr) }},
	"client_port": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendPort(b, x.Client.Peer) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendPort(b, s.Client.Peer) }},
	"via": {ours: true, request: nothing,
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendAddrPort(b, s.Via) }},
	"listener": {
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendText(b, x.Client.Server) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendText(b, s.Client.Server) }},
	"scheme": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, x.Client.Scheme...) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return append(b, s.Client.Scheme...) }},
	"sni": {request: nothing,
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendText(b, s.SNI) }},
	"tls_version":             tlsText(func(t *exchange.TLS) string { return t.Version }),
	"tls_cipher":              tlsText(func(t *exchange.TLS) string { return t.Cipher }),
	"tls_server_name":         tlsText(func(t *exchange.TLS) string { return t.ServerName }),
	"tls_resumed":             tlsText(func(t *exchange.TLS) string { return strconv.FormatBool(t.Resumed) }),
	"client_cert_subject":     peerText(func(c *exchange.Certificate) string { return c.Subject }),
	"client_cert_fingerprint": peerText(func(c *exchange.Certificate) string { return c.SHA256 }),
	"client_connection": count(
		func(x *exchange.Exchange) uint64 { return x.Client.Conn }, func(s *exchange.Session) uint64 { return s.Client.Conn }),
	"client_ordinal": count(func(x *exchange.Exchange) uint64 { return x.Client.Ordinal }, nil),

	"request": {request: requestLine, session: sessionRequest},
	"method": {request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return append(b, cutTo(x.Asked.Method, 32)...)
	},
		session: func(_ *Recorder, b []byte, _ *exchange.Session) []byte { return append(b, sessionMethod...) }},
	"host": {request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return append(b, cutTo(x.Asked.Authority, maxAgent)...)
	}, session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendText(b, s.SNI) }},
	"path": {request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return append(b, cutTo(x.Asked.Path, maxPath)...)
	}},
	"query": {request: func(r *Recorder, b []byte, x *exchange.Exchange) []byte {
		if !r.redact.query {
			return b
		}
		return r.redact.appendQuery(b, cutTo(x.Asked.Query, maxPath))
	}},
	"uri": {request: appendURI, session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendText(b, sessionName(s)) }},
	"protocol": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, protocolOf(x)...) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return append(b, sessionProtocol(s)...) }},

	"status": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendStatus(b, x.StatusSent) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendStatus(b, sessionStatus(s)) }},
	"grpc_status": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, rpcStatus(&x.RPC)...) }},
	"bytes_in":    number(func(x *exchange.Exchange) int64 { return x.BytesIn }, func(s *exchange.Session) int64 { return s.BytesIn }),
	"bytes_out":   number(func(x *exchange.Exchange) int64 { return x.BytesOut }, func(s *exchange.Session) int64 { return s.BytesOut }),
	"bytes_plain": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if x.Compressed.Coding == "" {
			return b
		}
		return strconv.AppendInt(b, x.Compressed.In, 10)
	}},
	"compressed":  {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, x.Compressed.Coding...) }},
	"duration_us": number(func(x *exchange.Exchange) int64 { return micros(x.Ended - x.Started) }, func(s *exchange.Session) int64 { return micros(s.Ended - s.Started) }),
	"duration_s": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendMillis(b, x.Ended-x.Started) },
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendMillis(b, s.Ended-s.Started) }},
	"first_byte_us": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if x.FirstByte == 0 {
			return b
		}
		return strconv.AppendInt(b, micros(x.FirstByte-x.Started), 10)
	}},
	"route": {request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return appendText(b, x.Route) }},

	"upstream": {request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return appendText(b, a.Upstream) }),
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendText(b, s.Upstream) }},
	"upstream_host": {request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return appendHost(b, a.Host, a.Address, a.Err) }),
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte {
			return appendHost(b, s.Host, s.Address, s.Err)
		}},
	"upstream_address": {request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return appendUpstream(b, a.Address, a.Err) }),
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return appendUpstream(b, s.Address, s.Err) }},
	"upstream_status": {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte {
		if a.Status == 0 {
			return b
		}
		return appendStatus(b, a.Status)
	})},
	"connection_id": {ours: true, request: ofConnection(func(b []byte, a *exchange.Attempt) []byte { return strconv.AppendUint(b, a.ConnID, 10) }),
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte {
			if s.ConnID == 0 {
				return b
			}
			return strconv.AppendUint(b, s.ConnID, 10)
		}},
	"connection_ordinal": {ours: true, request: ofConnection(func(b []byte, a *exchange.Attempt) []byte { return strconv.AppendUint(b, a.Ordinal, 10) })},
	"reused":             {ours: true, request: ofConnection(func(b []byte, a *exchange.Attempt) []byte { return strconv.AppendBool(b, a.Reused) })},
	"connection_age_us":  {ours: true, request: ofConnection(func(b []byte, a *exchange.Attempt) []byte { return appendMicros(b, a.Age) })},
	"connection_idle_us": {ours: true, request: ofConnection(func(b []byte, a *exchange.Attempt) []byte {
		if !a.Reused {
			return b
		}
		return appendMicros(b, a.Idle)
	})},
	"why_new":    {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return append(b, a.WhyNew...) })},
	"why_closed": {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return append(b, a.WhyClosed...) })},
	"pool_wait_us": {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return appendMicros(b, a.PoolWait) }),
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte {
			if s.Upstream == "" {
				return b
			}
			return appendMicros(b, s.PoolWait)
		}},
	"upstream_first_byte_us": {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte {
		if a.FirstByte == 0 || a.Sent == 0 {
			return b
		}
		return strconv.AppendInt(b, micros(a.FirstByte-a.Sent), 10)
	})},
	"attempts": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return strconv.AppendInt(b, int64(len(x.Attempts)), 10)
	}},
	"attempt_why": {ours: true, request: ofAttempt(func(b []byte, a *exchange.Attempt) []byte { return append(b, a.Why...) })},
	"tunnel": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, x.Tunnel.Protocol...) }},
	"tunnel_why_ended": {ours: true,
		request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte { return append(b, x.Tunnel.Why...) }},
	"why_ended": {ours: true, request: nothing,
		session: func(_ *Recorder, b []byte, s *exchange.Session) []byte { return append(b, s.Why...) }},

	"error":        ofError(func(b []byte, e *fault.Error) []byte { return append(b, e.Kind.String()...) }),
	"error_source": ofError(func(b []byte, e *fault.Error) []byte { return append(b, e.Source.String()...) }),
	"plugin":       ofError(func(b []byte, e *fault.Error) []byte { return appendText(b, e.Plugin) }),
	"plugin_phase": ofError(func(b []byte, e *fault.Error) []byte { return appendText(b, e.Phase) }),
	"error_detail": ofError(func(b []byte, e *fault.Error) []byte { return appendText(b, e.Detail) }),
	"error_cause": ofError(func(b []byte, e *fault.Error) []byte {
		if e.Err == nil {
			return b
		}
		return appendText(b, e.Err.Error())
	}),

	"trace_id": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return appendID(b, &x.Trace, x.Trace.TraceID[:])
	},
		session: func(r *Recorder, b []byte, _ *exchange.Session) []byte {
			return appendID(b, &r.sessionTrace, r.sessionTrace.TraceID[:])
		}},
	"span_id": {ours: true, request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		return appendID(b, &x.Trace, x.Trace.Server[:])
	},
		session: func(r *Recorder, b []byte, _ *exchange.Session) []byte {
			return appendID(b, &r.sessionTrace, r.sessionTrace.Server[:])
		}},
}

func nothing(_ *Recorder, b []byte, _ *exchange.Exchange) []byte { return b }

func number(x func(*exchange.Exchange) int64, s func(*exchange.Session) int64) *variable {
	return &variable{ours: true,
		request: func(_ *Recorder, b []byte, e *exchange.Exchange) []byte { return strconv.AppendInt(b, x(e), 10) },
		session: func(_ *Recorder, b []byte, e *exchange.Session) []byte { return strconv.AppendInt(b, s(e), 10) }}
}

func count(x func(*exchange.Exchange) uint64, s func(*exchange.Session) uint64) *variable {
	v := &variable{ours: true, request: func(_ *Recorder, b []byte, e *exchange.Exchange) []byte { return strconv.AppendUint(b, x(e), 10) }}
	if s != nil {
		v.session = func(_ *Recorder, b []byte, e *exchange.Session) []byte { return strconv.AppendUint(b, s(e), 10) }
	}
	return v
}

// ofAttempt is about the attempt that gave the answer, or else the last.
func ofAttempt(of func(b []byte, a *exchange.Attempt) []byte) ofRequest {
	return func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if a := x.Attempt(); a != nil {
			return of(b, a)
		}
		return b
	}
}

func ofConnection(of func(b []byte, a *exchange.Attempt) []byte) ofRequest {
	return func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if a := x.Attempt(); a != nil && a.ConnID != 0 {
			return of(b, a)
		}
		return b
	}
}

func ofError(of func(b []byte, e *fault.Error) []byte) *variable {
	session := func(_ *Recorder, b []byte, s *exchange.Session) []byte {
		if s.Err != nil {
			return of(b, s.Err)
		}
		return b
	}
	return &variable{request: func(_ *Recorder, b []byte, x *exchange.Exchange) []byte {
		if x.Err != nil {
			return of(b, x.Err)
		}
		return b
	}, session: session}
}

func endOf(x *exchange.Exchange) int64       { return x.WallStarted + x.Ended - x.Started }
func endOfSession(s *exchange.Session) int64 { return s.WallStarted + s.Ended - s.Started }

// requestLine appends the request line, as far as it could be read.
func requestLine(r *Recorder, b []byte, x *exchange.Exchange) []byte {
	if len(x.Asked.Method) == 0 {
		return b
	}
	b = append(append(b, cutTo(x.Asked.Method, 32)...), ' ')
	return append(append(appendURI(r, b, x), ' '), protocolOf(x)...)
}

func appendURI(r *Recorder, b []byte, x *exchange.Exchange) []byte {
	b = append(b, cutTo(x.Asked.Path, maxPath)...)
	if r.redact.query && len(x.Asked.Query) > 0 {
		b = r.redact.appendQuery(append(b, '?'), cutTo(x.Asked.Query, maxPath))
	}
	return b
}

// protocolOf is empty where the request line could not be read.
func protocolOf(x *exchange.Exchange) string {
	if len(x.Asked.Method) == 0 {
		return ""
	}
	return x.Client.Protocol()
}

// sessionMethod stands where a request has its method: what proxies write of tunnels that were asked for.
const sessionMethod = "CONNECT"

// sessionRequest makes of a session what looks like the request for a tunnel: where to, and TLS or TCP as the protocol.
func sessionRequest(_ *Recorder, b []byte, s *exchange.Session) []byte {
	b = appendText(append(b, sessionMethod+" "...), sessionName(s))
	return append(append(b, ' '), sessionProtocol(s)...)
}

func sessionName(s *exchange.Session) string {
	if s.SNI != "" {
		return s.SNI
	}
	return s.Client.Server
}

func sessionProtocol(s *exchange.Session) string {
	if s.Client.Scheme == "tls" {
		return "TLS"
	}
	return "TCP"
}

// sessionStatus is the status that a request with the same fate would have.
func sessionStatus(s *exchange.Session) int {
	switch s.Why {
	case exchange.EndHelloTimeout:
		return 408
	case exchange.EndMalformed:
		return 400
	case exchange.EndNoRoute:
		return 404
	case exchange.EndPlugin:
		return 403
	case exchange.EndConnectFailed:
		if s.Err != nil && s.Err.Status != 0 {
			return s.Err.Status
		}
		return 502
	case exchange.EndUpstreamReset:
		return 502
	case exchange.EndError:
		return 500
	}
	switch {
	case s.ConnID != 0:
		return 200
	case s.Why == exchange.EndDrained:
		return 503
	}
	return 499 // the client left before there was an upstream
}

// appendStatus writes three digits: 000 for no answer at all.
func appendStatus(b []byte, status int) []byte {
	if status < 100 {
		b = append(b, "00"[:2-min(status/10, 1)]...)
	}
	return strconv.AppendInt(b, int64(status), 10)
}

func appendText(b []byte, s string) []byte { return append(b, s[:min(len(s), maxDetail)]...) }

func appendMicros(b []byte, d time.Duration) []byte {
	return strconv.AppendInt(b, micros(int64(d)), 10)
}

// appendMillis writes seconds with three digits behind the point.
func appendMillis(b []byte, ns int64) []byte {
	ms := max(ns, 0) / int64(time.Millisecond)
	b = strconv.AppendInt(b, ms/1000, 10)
	return append(b, '.', '0'+byte(ms/100%10), '0'+byte(ms/10%10), '0'+byte(ms%10))
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return b
	}
	return clientAddress(a).AppendTo(b)
}

func appendPort(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	return strconv.AppendUint(b, uint64(a.Port()), 10)
}

func appendAddrPort(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return b
	}
	if _, ok := unixaddr.Path(a.Addr()); ok {
		return unixaddr.Append(b, a)
	}
	return netip.AddrPortFrom(clientAddress(a.Addr()), a.Port()).AppendTo(b)
}

// appendHost and appendUpstream write which server it was; see where.
func appendHost(b []byte, host string, address netip.AddrPort, err *fault.Error) []byte {
	if !address.IsValid() && err != nil {
		host = dialError(err).Host
	}
	return appendText(b, host)
}

func appendUpstream(b []byte, address netip.AddrPort, err *fault.Error) []byte {
	if !address.IsValid() && err != nil {
		return appendText(b, dialError(err).Address)
	}
	return appendAddrPort(b, address)
}

func appendID(b []byte, t *exchange.Trace, id []byte) []byte {
	if !t.Sampled {
		return b
	}
	return appendHex(b, id)
}
