package telemetry

import "go.opentelemetry.io/otel/attribute"

// Span names.
const (
	spanConnection = "upstream.connection"         // a root: from the first effort to open a connection until it is usable
	spanSegment    = "upstream.connection.segment" // a part of its life after that
	spanDNS        = "dns.lookup"
	spanConnect    = "tcp.connect"
	spanTLS        = "tls.handshake"
	spanWait       = "wait_for_connection" // .NET's name for the time until a request has a connection
	spanPlugin     = "plugin.call"
)

// Attributes of OpenTelemetry's semantic conventions, 1.40.
const (
	attrMethod         = attribute.Key("http.request.method")
	attrMethodOriginal = attribute.Key("http.request.method_original")
	attrResend         = attribute.Key("http.request.resend_count")
	attrRequestBody    = attribute.Key("http.request.body.size")
	attrResponseBody   = attribute.Key("http.response.body.size")
	attrStatus         = attribute.Key("http.response.status_code")
	attrRoute          = attribute.Key("http.route")
	attrPath           = attribute.Key("url.path")
	attrScheme         = attribute.Key("url.scheme")
	attrURL            = attribute.Key("url.full")
	attrUserAgent      = attribute.Key("user_agent.original")
	attrClientAddress  = attribute.Key("client.address")
	attrServerAddress  = attribute.Key("server.address")
	attrServerPort     = attribute.Key("server.port")
	attrPeerAddress    = attribute.Key("network.peer.address")
	attrPeerPort       = attribute.Key("network.peer.port")
	attrProtocol       = attribute.Key("network.protocol.version")
	attrErrorType      = attribute.Key("error.type")
	attrExcType        = attribute.Key("exception.type")
	attrExcMessage     = attribute.Key("exception.message")
	attrTLSVersion     = attribute.Key("tls.protocol.version")
	attrTLSServerName  = attribute.Key("tls.client.server_name")
	attrTLSALPN        = attribute.Key("tls.next_protocol")
	attrQuestion       = attribute.Key("dns.question.name")
)

// Attributes of our own.
const (
	attrListener      = attribute.Key("wasmgate.listener")
	attrUpstream      = attribute.Key("wasmgate.upstream")
	attrClientConn    = attribute.Key("wasmgate.client.connection.id")
	attrClientOrdinal = attribute.Key("wasmgate.client.connection.ordinal")
	attrErrorSource   = attribute.Key("wasmgate.error.source")
	attrConnID        = attribute.Key("wasmgate.connection.id")
	attrConnOrdinal   = attribute.Key("wasmgate.connection.ordinal")
	attrConnReused    = attribute.Key("wasmgate.connection.reused")
	attrConnAge       = attribute.Key("wasmgate.connection.age")
	attrConnIdle      = attribute.Key("wasmgate.connection.idle")
	attrConnWhyNew    = attribute.Key("wasmgate.connection.why_new")
	attrConnWhyOpened = attribute.Key("wasmgate.connection.why_opened")
	attrConnWhyClosed = attribute.Key("wasmgate.connection.why_closed")
	attrConnRequests  = attribute.Key("wasmgate.connection.requests")
	attrConnBytesIn   = attribute.Key("wasmgate.connection.bytes_in")
	attrConnBytesOut  = attribute.Key("wasmgate.connection.bytes_out")
	attrConnMoved     = attribute.Key("wasmgate.connection.moved")
	attrConnSegment   = attribute.Key("wasmgate.connection.segment")
	attrPoolWait      = attribute.Key("wasmgate.pool.wait")
	attrDNSAge        = attribute.Key("wasmgate.dns.age")
	attrDNSTTL        = attribute.Key("wasmgate.dns.ttl")
	attrDNSServer     = attribute.Key("wasmgate.dns.server")
	attrDNSStale      = attribute.Key("wasmgate.dns.stale")
	attrPlugin        = attribute.Key("wasmgate.plugin.name")
	attrPluginPhase   = attribute.Key("wasmgate.plugin.phase")
	attrPluginFuel    = attribute.Key("wasmgate.plugin.fuel")
	attrPluginOutcome = attribute.Key("wasmgate.plugin.outcome")
	attrDropped       = attribute.Key("wasmgate.dropped") // attempts, calls and tags beyond what a record holds
	attrTagPrefix     = "wasmgate.tag."                   // before the key of an attribute that a plugin set
)

// Events on spans.
const (
	eventHeadRead  = "request.head_read"
	eventRouted    = "request.routed"
	eventSent      = "request.sent"
	eventFirstByte = "response.first_byte"
	eventException = "exception"
)
