package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// Span names.
const (
	spanConnection = "upstream.connection"         // a root: from the first effort to open a connection until it is usable
	spanSegment    = "upstream.connection.segment" // a part of its life after that
	spanDNS        = "dns.lookup"
	spanConnect    = "tcp.connect"
	spanTLS        = "tls.handshake"
	spanWait       = "wait_for_connection" // .NET's name for the time until a request has a connection
	spanPlugin     = "plugin.call"
	spanSession    = "tcp.session"
	spanQueue      = "wait.queue" // what an attempt has waited for, in its wait_for_connection
	spanWaitDNS    = "wait.dns"
	spanWaitDial   = "wait.connect"
	spanWaitTLS    = "wait.tls"
	spanFailed     = "wait.failed"
	spanAnswer     = "wait_for_answer"
	spanBody       = "response.body"
)

// Attributes of OpenTelemetry's semantic conventions, 1.43. The constants are theirs, so that a name of ours cannot drift.
const (
	attrMethod         = semconv.HTTPRequestMethodKey         // http.request.method
	attrMethodOriginal = semconv.HTTPRequestMethodOriginalKey // http.request.method_original
	attrResend         = semconv.HTTPRequestResendCountKey    // http.request.resend_count
	attrRequestBody    = semconv.HTTPRequestBodySizeKey       // http.request.body.size
	attrResponseBody   = semconv.HTTPResponseBodySizeKey      // http.response.body.size
	attrStatus         = semconv.HTTPResponseStatusCodeKey    // http.response.status_code
	attrRoute          = semconv.HTTPRouteKey                 // http.route
	attrPath           = semconv.URLPathKey                   // url.path
	attrScheme         = semconv.URLSchemeKey                 // url.scheme
	attrURL            = semconv.URLFullKey                   // url.full
	attrUserAgent      = semconv.UserAgentOriginalKey         // user_agent.original
	attrClientAddress  = semconv.ClientAddressKey             // client.address
	attrClientPort     = semconv.ClientPortKey                // client.port
	attrServerAddress  = semconv.ServerAddressKey             // server.address
	attrServerPort     = semconv.ServerPortKey                // server.port
	attrPeerAddress    = semconv.NetworkPeerAddressKey        // network.peer.address
	attrPeerPort       = semconv.NetworkPeerPortKey           // network.peer.port
	attrProtocol       = semconv.NetworkProtocolVersionKey    // network.protocol.version
	attrTransport      = semconv.NetworkTransportKey          // network.transport
	attrErrorType      = semconv.ErrorTypeKey                 // error.type
	attrExcType        = semconv.ExceptionTypeKey             // exception.type
	attrExcMessage     = semconv.ExceptionMessageKey          // exception.message
	attrTLSVersion     = semconv.TLSProtocolVersionKey        // tls.protocol.version
	attrTLSCipher      = semconv.TLSCipherKey                 // tls.cipher
	attrTLSResumed     = semconv.TLSResumedKey                // tls.resumed
	attrTLSALPN        = semconv.TLSNextProtocolKey           // tls.next_protocol
	attrTLSSubject     = semconv.TLSClientSubjectKey          // tls.client.subject
	attrTLSIssuer      = semconv.TLSClientIssuerKey           // tls.client.issuer
	attrTLSHash        = semconv.TLSClientHashSha256Key       // tls.client.hash.sha256
	attrQuestion       = semconv.DNSQuestionNameKey           // dns.question.name
	attrRPCSystem      = semconv.RPCSystemNameKey             // rpc.system.name
	attrRPCMethod      = semconv.RPCMethodKey                 // rpc.method
	attrRPCStatus      = semconv.RPCResponseStatusCodeKey     // rpc.response.status_code
)

// Attributes of our own.
const (
	attrListener        = attribute.Key("wasmgate.listener")
	attrUpstream        = attribute.Key("wasmgate.upstream")
	attrUpstreamHost    = attribute.Key("wasmgate.upstream.host")
	attrUpstreamAddress = attribute.Key("wasmgate.upstream.address")
	attrAttemptNumber   = attribute.Key("wasmgate.attempt.number")
	attrAttemptWhy      = attribute.Key("wasmgate.attempt.why")
	attrSessionBytesIn  = attribute.Key("wasmgate.session.bytes_in")
	attrSessionBytesOut = attribute.Key("wasmgate.session.bytes_out")
	attrSessionWhyEnded = attribute.Key("wasmgate.session.why_ended")
	attrTunnel          = attribute.Key("wasmgate.tunnel.protocol")
	attrTunnelWhyEnded  = attribute.Key("wasmgate.tunnel.why_ended")
	attrConnHealthCheck = attribute.Key("wasmgate.connection.health_check")
	attrClientConn      = attribute.Key("wasmgate.client.connection.id")
	attrClientOrdinal   = attribute.Key("wasmgate.client.connection.ordinal")
	attrErrorSource     = attribute.Key("wasmgate.error.source")
	attrConnID          = attribute.Key("wasmgate.connection.id")
	attrConnOrdinal     = attribute.Key("wasmgate.connection.ordinal")
	attrConnReused      = attribute.Key("wasmgate.connection.reused")
	attrConnAge         = attribute.Key("wasmgate.connection.age")
	attrConnIdle        = attribute.Key("wasmgate.connection.idle")
	attrConnIdleTotal   = attribute.Key("wasmgate.connection.idle_total")
	attrConnWhyNew      = attribute.Key("wasmgate.connection.why_new")
	attrConnWhyOpened   = attribute.Key("wasmgate.connection.why_opened")
	attrConnWhyClosed   = attribute.Key("wasmgate.connection.why_closed")
	attrConnRequests    = attribute.Key("wasmgate.connection.requests")
	attrConnBytesIn     = attribute.Key("wasmgate.connection.bytes_in")
	attrConnBytesOut    = attribute.Key("wasmgate.connection.bytes_out")
	attrConnMoved       = attribute.Key("wasmgate.connection.moved")
	attrConnSegment     = attribute.Key("wasmgate.connection.segment")
	attrGoAwayReceived  = attribute.Key("wasmgate.http2.goaway.received") // codes by RFC 9113's names
	attrGoAwaySent      = attribute.Key("wasmgate.http2.goaway.sent")
	attrResetReceived   = attribute.Key("wasmgate.http2.reset.received")
	attrResetSent       = attribute.Key("wasmgate.http2.reset.sent")
	attrPoolWait        = attribute.Key("wasmgate.pool.wait")
	attrDNSAge          = attribute.Key("wasmgate.dns.age")
	attrDNSTTL          = attribute.Key("wasmgate.dns.ttl")
	attrDNSServer       = attribute.Key("wasmgate.dns.server")
	attrDNSStale        = attribute.Key("wasmgate.dns.stale")
	attrTLSServerName   = attribute.Key("wasmgate.tls.server_name") // the conventions have retired theirs
	attrPlugin          = attribute.Key("wasmgate.plugin.name")
	attrPluginPhase     = attribute.Key("wasmgate.plugin.phase")
	attrPluginFuel      = attribute.Key("wasmgate.plugin.fuel")
	attrPluginOutcome   = attribute.Key("wasmgate.plugin.outcome")
	attrKept            = attribute.Key("wasmgate.kept")
	attrChosen          = attribute.Key("wasmgate.target.chosen")
	attrPassed          = attribute.Key("wasmgate.target.passed")
	attrRefused         = attribute.Key("wasmgate.retry.reason")
	attrBaggagePrefix   = "wasmgate.baggage."               // before the name of a member of baggage
	attrDropped         = attribute.Key("wasmgate.dropped") // attempts, calls and tags beyond what a record holds
	attrTagPrefix       = "wasmgate.tag."                   // before the key of an attribute that a plugin set
)

// Events on spans.
const (
	eventHeadRead         = "request.head_read"
	eventRouted           = "request.routed"
	eventSent             = "request.sent"
	eventFirstByte        = "response.first_byte"
	eventException        = "exception"
	eventSessionRouted    = "session.routed"
	eventSessionConnected = "session.connected"
	eventMatched          = "route.matched" // the decision trail: what was decided, when, and why
	eventPlugin           = "plugin.decided"
	eventChosen           = "target.chosen"
	eventEjected          = "target.ejected"
	eventBegun            = "attempt.begun"
	eventRefused          = "retry.refused"
	eventBodySent         = "request.body_sent"
)
