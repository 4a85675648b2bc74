// Package fault is the one error type of the data path. An error says what failed (Kind), whose doing it was
// (Source), whether the request may be sent again (Retryable), and which upstream, host, address or plugin it is about,
// so that the answer to the client, the log line, the span and the metric are all told from one value.
//
// It imports nothing of ours: every other package may return it.
package fault

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Source is the party whose doing an error was. It decides the class of the status: a client's mistake is never
// reported as a 502 that blames the upstream.
type Source uint8

// The parties of an exchange.
const (
	Gateway  Source = iota // our own limits, config or bugs
	Client                 // the peer that sent the request
	Upstream               // the peer that should have answered it
	Plugin                 // a WebAssembly plugin
)

var sources = [...]string{Gateway: "gateway", Client: "client", Upstream: "upstream", Plugin: "plugin"}

func (s Source) String() string { return sources[s] }

// Kind says what failed. Its text is stable: it is a metric label, a span attribute and a log field.
type Kind uint8

// What can fail, in the order in which a request meets it.
const (
	Internal          Kind = iota // an invariant of ours broke
	Malformed                     // bytes that are not the protocol
	HeadTooLarge                  // head, field count or trailer over its limit
	TargetTooLong                 // request target over its limit
	BodyTooLarge                  // body over its limit
	Unsupported                   // correct, but not something that we do: CONNECT, an unknown coding, HTTP/2.0
	ClientTimeout                 // the client did not send in time
	ClientClosed                  // the client went away
	NoRoute                       // nothing matched
	Denied                        // refused by rule: not on an allow list, excluded, or by a plugin
	PoolExhausted                 // no connection within acquire_timeout
	Unavailable                   // every target is ejected, unhealthy, drained or disabled
	DNS                           // the name has no address
	Connect                       // refused, unreachable
	ConnectTimeout                // not connected in time
	TLS                           // the handshake failed
	WriteFailed                   // the upstream took no or not all bytes of the request
	UpstreamClosed                // closed before its answer was whole
	HeaderTimeout                 // no response head in time
	IdleTimeout                   // no bytes for too long while a body was under way
	RequestTimeout                // the whole request took too long
	PluginTrap                    // the guest trapped
	PluginFuel                    // the guest ran out of fuel
	PluginMemory                  // the guest ran out of memory
	PluginAnswer                  // the guest's answer was not valid
	PluginUnavailable             // no instance: breaker open, or it cannot start
	Overloaded                    // a process-wide limit of ours
	ShuttingDown                  // the gateway is stopping
)

var kinds = [...]string{
	Internal: "internal", Malformed: "malformed", HeadTooLarge: "head_too_large", TargetTooLong: "target_too_long",
	BodyTooLarge: "body_too_large", Unsupported: "unsupported", ClientTimeout: "client_timeout", ClientClosed: "client_closed",
	NoRoute: "no_route", Denied: "denied", PoolExhausted: "pool_exhausted", Unavailable: "no_target_available", DNS: "dns", Connect: "connect",
	ConnectTimeout: "connect_timeout", TLS: "tls", WriteFailed: "write_failed", UpstreamClosed: "upstream_closed",
	HeaderTimeout: "response_header_timeout", IdleTimeout: "idle_read_timeout", RequestTimeout: "request_timeout",
	PluginTrap: "plugin_trap", PluginFuel: "plugin_fuel", PluginMemory: "plugin_memory", PluginAnswer: "plugin_answer",
	PluginUnavailable: "plugin_unavailable", Overloaded: "overloaded", ShuttingDown: "shutting_down",
}

func (k Kind) String() string { return kinds[k] }

// Kinds is the number of kinds, for tables indexed by Kind.
const Kinds = len(kinds)

// Error is an error of the data path. Its fields are facts, not prose; the text is made by Error().
type Error struct {
	Kind      Kind
	Source    Source
	Retryable bool // no byte of the request can have been acted upon, or it is safe to send again
	Status    int  // the status that answers the client; 0: the connection is closed without an answer
	// RetryAfter is when the client may ask again, told with a status of 503, or with any if it is set: whole seconds, rounded
	// up. 0 is a second.
	RetryAfter time.Duration
	Upstream   string // the upstream's name in the config
	Host       string // the host that was asked for, before resolution
	Address    string // the address that was dialled
	// The upstream connection that could not be opened, if that is what failed: its id, 0 if it came to no socket, and its
	// span, zero if it has none.
	ConnID    uint64
	ConnTrace [16]byte
	ConnSpan  [8]byte
	ConnBegan int64 // loop time in nanoseconds: the effort to open it; 0: it was not for a request
	ConnEnded int64
	Ejected   bool // with it, the server's address had failed too often, and is given no requests for a while
	// The peer has ended the stream of HTTP/2 with ResetCode (RST_STREAM), and not its connection.
	Reset     bool
	ResetCode uint32
	Plugin    string
	Phase     string
	Detail    string // what exactly, and what to do about it
	Err       error  // the cause, if another error is it
}

// New returns an error with a formatted detail.
func New(k Kind, s Source, status int, format string, args ...any) *Error {
	return &Error{Kind: k, Source: s, Status: status, Detail: fmt.Sprintf(format, args...)}
}

// Error says what, where, and why: "connect: upstream users, host users.internal, address 10.0.0.7:1323: connection refused".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Kind.String())
	sep := ": "
	for _, part := range [...]struct{ name, value string }{
		{"upstream", e.Upstream}, {"host", e.Host}, {"address", e.Address}, {"plugin", e.Plugin}, {"phase", e.Phase},
	} {
		if part.value != "" {
			b.WriteString(sep + part.name + " " + part.value)
			sep = ", "
		}
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// From returns the *Error in err's chain, or wraps err as an internal one.
func From(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Source: Gateway, Status: 500, Err: err}
}
