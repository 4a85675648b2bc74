// Package abi is the native plugin ABI, version 1, in Go: its names, numbers and byte layouts, as sdk/abi.md
// specifies them. The host and the Go SDK share it, so that there is one encoder and one decoder of each structure.
//
// It imports the standard library only and uses none of its heavy parts: it is compiled into every Go plugin.
// Everything is little-endian. Nothing here allocates except errors and what says so.
package abi

// Version is the major version. It is part of the name of every export and of the import module.
const Version = 1

// Minor is the minor version that this package describes. A minor version only adds: numbers to enumerations, fields
// to the end of a fixed part, imports.
const Minor = 2

// The module that a guest imports host functions from, and those functions.
const (
	Module           = "wasmgate_v1"
	ImportLog        = "log"         // (level, ptr, len i32)
	ImportGetHeader  = "get_header"  // (message, name_ptr, name_len, index, out_ptr, out_cap i32) -> i32
	ImportCall       = "call"        // (upstream, request_ptr, request_len, out_ptr, out_cap i32) -> i64; from minor version 1, like all that follow
	ImportCallAnswer = "call_answer" // (out_ptr, out_cap i32) -> i32
	ImportKVGet      = "kv_get"      // (store, key_ptr, key_len, out_ptr, out_cap i32) -> i64
	ImportKVSet      = "kv_set"      // (store, key_ptr, key_len, value_ptr, value_len, version i32, ttl i64) -> i64
	ImportKVDelete   = "kv_delete"   // (store, key_ptr, key_len, version i32) -> i64
	ImportKVAdd      = "kv_add"      // (store, key_ptr, key_len i32, delta, ttl i64, out_ptr i32) -> i32
	ImportReadBody   = "read_body"   // (message, offset, out_ptr, out_cap i32) -> i32
	ImportMetric     = "metric"      // (id i32, value f64)
)

// The exports of a guest. ExportPrefix begins the names that belong to the ABI; a number and "_" follow it.
const (
	ExportPrefix    = "wasmgate_v"
	ExportMemory    = "memory"
	ExportInit      = "_initialize"           // () : optional, called once before everything else
	ExportArena     = "wasmgate_v1_arena"     // (which i32) -> i64
	ExportConfigure = "wasmgate_v1_configure" // (len i32) -> i64
	ExportRequest   = "wasmgate_v1_request"   // (len i32) -> i64
	ExportResponse  = "wasmgate_v1_response"  // (len i32) -> i64; optional
	ExportResize    = "wasmgate_v1_resize"    // (which, need i32) -> i64; optional
	ExportBody      = "wasmgate_v1_body"      // (len i32) -> i64; optional
	ExportTick      = "wasmgate_v1_tick"      // (len i32) -> i64; optional
)

// Arena says which arena is meant.
const (
	RequestArena uint32 = 0 // the host writes, the guest reads
	AnswerArena  uint32 = 1 // the guest writes, the host reads
)

// Pack returns high<<32 | low: an answer (code, value) or an arena (capacity, pointer).
func Pack(high, low uint32) uint64 { return uint64(high)<<32 | uint64(low) }

// Unpack is the inverse of Pack.
func Unpack(v uint64) (high, low uint32) { return uint32(v >> 32), uint32(v) } //nolint:gosec // the halves of a word

// Code is the high half of an answer.
type Code uint32

// The codes. In answer to configure only CodeOK and CodeError are known.
const (
	CodeContinue   Code = 0 // value 0
	CodeNoMatch    Code = 1 // value 0; role match, request phase
	CodeRoute      Code = 2 // value: the upstream's id; request phase
	CodeDeny       Code = 3 // value: the status, 400 to 599; 0 is 403
	CodeOperations Code = 4 // value: length of the operation list in the answer arena
	CodeError      Code = 5 // value: length of the text in the answer arena
	CodeReplace    Code = 6 // body; value: length of what goes instead of the piece, in the answer arena

	CodeOK Code = 0 // configure; value: length of the manifest in the answer arena
)

// The roles of a call: the place in the configuration that the plugin is called from.
const (
	RoleRoute    uint32 = 0
	RoleMatch    uint32 = 1
	RoleListener uint32 = 2
)

// The phases of a call.
const (
	PhaseRequest  uint32 = 0
	PhaseResponse uint32 = 1
)

// The flags of a view. Unknown bits are ignored.
const (
	FlagHasQuery uint32 = 1 << 0 // the target has a '?', even if nothing follows it
	FlagSampled  uint32 = 1 << 1 // the trace is recorded: span attributes are not in vain
	FlagLocal    uint32 = 1 << 2 // response phase: the answer was made by the gateway or a plugin, not by an upstream
	FlagBody     uint32 = 1 << 3 // the message's body is held, for read_body
	FlagPart     uint32 = 1 << 4 // with FlagBody: only its beginning, because it is longer than the manifest's bound
)

// The log levels.
const (
	LogDebug uint32 = 0
	LogInfo  uint32 = 1
	LogWarn  uint32 = 2
	LogError uint32 = 3
)

// The messages of get_header. Those of read_body and of a body's view are the first two.
const (
	MessageRequest          uint32 = 0
	MessageResponse         uint32 = 1
	MessageRequestTrailers  uint32 = 2
	MessageResponseTrailers uint32 = 3
	MessageTLS              uint32 = 4 // what is known of the client's TLS connection, under the names below; from minor version 2
)

// The names of MessageTLS. Those from TLSSubject on are of the client's verified certificate.
const (
	TLSVersion     = "version"     // 1.2 or 1.3
	TLSCipher      = "cipher"      // the suite, by its name at IANA
	TLSALPN        = "alpn"        // the protocol that was agreed on, if one was
	TLSServerName  = "server-name" // that the client asked for, if it did; in lower case
	TLSResumed     = "resumed"     // 1 or 0
	TLSSubject     = "subject"     // in the notation of RFC 2253
	TLSIssuer      = "issuer"      // likewise
	TLSSerial      = "serial"      // in lower-case hexadecimal digits
	TLSSHA256      = "sha256"      // of the certificate, likewise
	TLSDNS         = "dns"         // the names that it is for; several values
	TLSURI         = "uri"         // likewise
	TLSEmail       = "email"       // likewise
	TLSIP          = "ip"          // likewise
	TLSNotBefore   = "not-before"  // since when it is valid, as in 2006-01-02T15:04:05Z
	TLSNotAfter    = "not-after"   // and until when
	TLSCertificate = "certificate" // all of it, as PEM
)

// Result is what a call of the host came to.
type Result uint32

// The results.
const (
	ResultOK       Result = 0
	ResultTimeout  Result = 1  // call: no whole answer in time
	ResultConnect  Result = 2  // call: no connection to the upstream
	ResultDenied   Result = 3  // not here: while the guest is configured
	ResultTooLarge Result = 4  // call: the answer; kv: the key or the value
	ResultInvalid  Result = 5  // call: the request is not valid
	ResultFailed   Result = 6  // call: the upstream broke off, or did not speak HTTP
	ResultLimit    Result = 7  // call: the guest has made too many in this call of it
	ResultMismatch Result = 8  // kv: the key has another version, or the value is no counter
	ResultFull     Result = 9  // kv: the store has no room
	ResultAbsent   Result = 10 // kv_delete: there is no such key
)

// IfAbsent is the version for kv_set that says: only if the key is not there. 0 says: whatever is there.
const IfAbsent uint32 = 0xFFFF_FFFF

// DefaultDeny is the status of CodeDeny with value 0.
const DefaultDeny = 403

// The bounds of version 1. What exceeds them is a bad answer, or refused at load.
const (
	MaxSlots        = 128       // declared names for each of the messages
	MaxUpstreams    = 4096      // declared upstreams
	MaxManifest     = 256 << 10 // bytes
	MaxText         = 4 << 10   // bytes of an error text or a log message
	MaxOperations   = 1024      // records in a list
	MaxHeaderEdits  = 256       // header records in a list, the headers of a respond record included
	MaxHeaderBytes  = 64 << 10  // their names and values together
	MaxHeaderName   = 256       // bytes
	MaxHeaderValue  = 16 << 10  // bytes
	MaxMethod       = 32        // bytes
	MaxAuthority    = 261       // bytes: a name of 255, a colon, a port
	MaxTarget       = 8 << 10   // bytes of path or query
	MaxAttributes   = 32        // span attributes in a list
	MaxAttributeKey = 128       // bytes
	MaxAttribute    = 1 << 10   // bytes of a span attribute's value
	MaxTimeout      = 3_600_000 // milliseconds
	MaxCalled       = 256       // declared upstreams to call
	MaxCalls        = 32        // outbound calls in one call of the guest
	MaxCallTimeout  = 60_000    // milliseconds
	MaxCallBody     = 1 << 20   // bytes of an outbound request's body, and of its answer's
	MaxStores       = 64        // declared stores
	MaxKey          = 1 << 10   // bytes of a key in a store
	MaxMetrics      = 128       // declared metrics
	MaxMetricName   = 128       // bytes
	MaxBounds       = 64        // bounds of a histogram's buckets
	MaxKeep         = 64 << 10  // bytes that a guest keeps back of a body's piece
	MaxBody         = 64 << 20  // bytes of a body that is held
	MinTick         = 20        // milliseconds
	MaxTick         = 3_600_000 // milliseconds
)
