package grpc

import "wasmgate/runtime/fault"

// Code is a status of a call.
type Code uint8

// The statuses.
const (
	OK Code = iota
	Cancelled
	Unknown
	InvalidArgument
	DeadlineExceeded
	NotFound
	AlreadyExists
	PermissionDenied
	ResourceExhausted
	FailedPrecondition
	Aborted
	OutOfRange
	Unimplemented
	Internal
	Unavailable
	DataLoss
	Unauthenticated
)

// Codes is the number of statuses, for tables indexed by Code.
const Codes = int(Unauthenticated) + 1

var names = [Codes]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE",
	"DATA_LOSS", "UNAUTHENTICATED",
}

// String is the name of the status, as gRPC and OpenTelemetry write it.
func (c Code) String() string { return names[c] }

// FromHTTP is what a client takes an answer without a grpc-status for, by its HTTP status. An answer of the gateway's own
// with that HTTP status says the same to those who speak gRPC.
func FromHTTP(status int) Code {
	switch status {
	case 400, 431:
		return Internal
	case 401:
		return Unauthenticated
	case 403:
		return PermissionDenied
	case 404:
		return Unimplemented
	case 429, 502, 503, 504:
		return Unavailable
	}
	return Unknown
}

// HTTP is the HTTP status that a status counts as, where something that knows HTTP alone asks how an upstream does: health,
// breakers. What the caller has done wrong is 400, also a method that is not there: no caller is to have an upstream taken
// for a broken one.
func (c Code) HTTP() int {
	switch c {
	case OK:
		return 200
	case Unknown, Internal, DataLoss:
		return 500
	case Unavailable:
		return 503
	case DeadlineExceeded:
		return 504
	case ResourceExhausted:
		return 429
	case PermissionDenied:
		return 403
	case Unauthenticated:
		return 401
	case NotFound:
		return 404
	case AlreadyExists, Aborted:
		return 409
	case Cancelled:
		return 499
	}
	return 400
}

// Codes of HTTP/2 that have a meaning of their own (RFC 9113 section 7).
const (
	resetInternal   = 0x2
	resetRefused    = 0x7
	resetCancel     = 0x8
	resetCalm       = 0xb
	resetInadequate = 0xc
)

// FromReset is what the end of a stream by RST_STREAM means, by the code in it.
func FromReset(code uint32) Code {
	switch code {
	case resetRefused:
		return Unavailable
	case resetCancel:
		return Cancelled
	case resetCalm:
		return ResourceExhausted
	case resetInadequate:
		return PermissionDenied
	}
	return Internal
}

// Reset is the code of HTTP/2 with which a stream is to be reset that cannot be given the status, since its answer has
// begun. Its client makes of it what FromReset says, and DEADLINE_EXCEEDED of a cancelled one whose time is over.
func Reset(c Code) uint32 {
	switch c {
	case Cancelled, DeadlineExceeded:
		return resetCancel
	case ResourceExhausted:
		return resetCalm
	case PermissionDenied:
		return resetInadequate
	}
	return resetInternal // not REFUSED_STREAM: the upstream may have acted upon the call
}

// kinds are what the kinds of errors are, where it does not depend on anything else.
var kinds = [fault.Kinds]Code{
	fault.Internal: Internal, fault.Malformed: Internal,
	fault.HeadTooLarge: ResourceExhausted, fault.TargetTooLong: ResourceExhausted, fault.BodyTooLarge: ResourceExhausted,
	fault.Unsupported:   Unimplemented,
	fault.ClientTimeout: DeadlineExceeded, fault.HeaderTimeout: DeadlineExceeded, fault.IdleTimeout: DeadlineExceeded, fault.RequestTimeout: DeadlineExceeded,
	fault.ClientClosed:  Cancelled,
	fault.PoolExhausted: Unavailable, fault.Unavailable: Unavailable, fault.DNS: Unavailable, fault.Connect: Unavailable,
	fault.ConnectTimeout: Unavailable, fault.TLS: Unavailable, fault.WriteFailed: Unavailable, fault.UpstreamClosed: Unavailable,
	fault.PluginTrap: Internal, fault.PluginFuel: Internal, fault.PluginMemory: Internal, fault.PluginAnswer: Internal,
	fault.PluginUnavailable: Unavailable, fault.Overloaded: ResourceExhausted, fault.ShuttingDown: Unavailable,
	// OK: they go by their HTTP status.
	fault.NoRoute: OK, fault.Denied: OK,
}

// FromFault is what an error of the gateway's is to a client of gRPC.
func FromFault(err *fault.Error) Code {
	if err.Reset {
		return FromReset(err.ResetCode)
	}
	if c := kinds[err.Kind]; c != OK {
		return c
	}
	return FromHTTP(err.Status)
}
