// Package facts is what is known about one upstream connection: how it came to be, what it carried, why it ended.
//
// The upstream package writes these facts and interprets nothing; telemetry reads them and makes spans, metrics and
// log fields of them. The reasons are closed lists of words: each is a metric label, a span attribute and a log field,
// so a new one is added here and nowhere else.
package facts

import (
	"net/netip"
	"time"

	"wasmgate/runtime/fault"
)

// Connection is the life of one upstream connection. It belongs to the loop that owns the connection and moves with
// it; nothing else may read it. Times are Unix nanoseconds of the wall clock; 0 means that it did not happen.
type Connection struct {
	ID       uint64 // unique in this process
	Upstream string // the upstream's name in the configuration
	Host     string // host:port as configured or asked for, before resolution
	Address  netip.AddrPort

	TLS        bool
	TLSVersion string // "1.2", "1.3"; empty without TLS
	ALPN       string // what was negotiated; empty if nothing was
	ServerName string // the name that was sent and verified
	TLSSuite   string // the cipher suite, by IANA's name; empty without TLS
	TLSResumed bool   // a session of an earlier connection was resumed

	WhyOpened string // one of the Open reasons

	Opened             int64 // the attempt to open it began
	DNSStart, DNSEnd   int64 // 0: the answer was at hand, or Host is an address
	DialStart, DialEnd int64
	TLSStart, TLSEnd   int64
	Established        int64         // it was usable; 0: it never was, and Err says why
	DNSAnswerAt        int64         // when the answer that gave Address had been received
	DNSTTL             time.Duration // the answer's time to live
	DNSServer          string        // who answered
	DNSStale           bool          // the answer was past its TTL, and served because there was no newer one
	Requests           uint64        // requests given to it so far
	BytesIn, BytesOut  uint64        // bytes on the socket, inside of TLS: from the upstream, to it
	IdleTotal          time.Duration // time spent in the pool
	MovedBetweenLoops  int
	Closed             int64
	GoAwayReceived     string       // the code of the upstream's last GOAWAY, by RFC 9113's name; empty: there was none
	GoAwaySent         string       // and of ours
	WhyClosed          string       // one of the Close reasons
	Err                *fault.Error // what it failed with, if it did

	// The connection's span. Telemetry chooses it when the connection is established (Recorder.ConnOpened), before
	// anything can link to it. With Sampled false there is none.
	TraceID [16]byte
	SpanID  [8]byte
	Sampled bool

	// User is what uses it at the moment: an *exchange.Exchange or an *exchange.Session, which sets it when it has got the
	// connection. The pool clears it. Nobody keeps it: it is for who looks, on the loop.
	User any

	// What telemetry notes down of the segments in which the connection's life is exported.
	Segments        int
	SegmentFrom     int64  // where the next one begins
	SegmentRequests uint64 // Requests at the end of the last one
	Place           int    // in the list of what lives on the loop, from 1; 0: it is not there
}

// Why a connection was opened.
const (
	OpenFirst           = "first"            // nothing was open to this address yet
	OpenNoIdle          = "no_idle"          // connections are open, and every one of them is in use
	OpenNeverReuse      = "reuse_never"      // the upstream is configured to use each connection once
	OpenSafeOnly        = "reuse_safe"       // the idle ones must not carry a request that cannot be sent again
	OpenPreviousRetired = "previous_retired" // the idle one was past max_age, or the peer's own idle timeout was near, when it was asked for
	OpenPreviousDead    = "previous_dead"    // the idle one turned out closed, or had unexpected bytes on it
	OpenRetry           = "retry"            // another attempt of a request that failed on a reused one
	OpenUpgrade         = "upgrade"          // the request becomes a tunnel and wants a connection of its own
	OpenPrewarm         = "prewarm"          // opened before anybody asked
	OpenHealthCheck     = "health_check"     // a probe
	OpenAddressChanged  = "address_changed"  // the idle ones lead to addresses that DNS no longer gives
	OpenTunnel          = "tunnel"           // TCP mode
	OpenHedge           = "hedge"            // a second attempt beside one that is slow to answer
	OpenProxyProtocol   = "proxy_protocol"   // the idle ones began with a PROXY header that speaks for other clients
)

// OpenReasons lists every reason to open a connection.
var OpenReasons = []string{OpenFirst, OpenNoIdle, OpenNeverReuse, OpenSafeOnly, OpenPreviousRetired, OpenPreviousDead,
	OpenRetry, OpenUpgrade, OpenPrewarm, OpenHealthCheck, OpenAddressChanged, OpenTunnel, OpenHedge, OpenProxyProtocol}

// Why a connection was closed.
const (
	CloseIdleTimeout       = "idle_timeout"           // nobody used it for idle_timeout
	CloseAboveKeepIdle     = "above_keep_idle"        // more than keep_idle were idle
	CloseMaxRequests       = "max_requests"           // it has served max_requests, or as many as the upstream allows by its Keep-Alive field, or in HTTP/2 by its SETTINGS
	CloseMaxAge            = "max_age"                // it has lived max_age
	CloseNeverReuse        = "reuse_never"            // the upstream is configured to use each connection once
	ClosePeer              = "peer_closed"            // the upstream closed it while it was idle
	CloseUnexpectedBytes   = "unexpected_bytes"       // bytes arrived that no request had asked for
	CloseUpstreamSaidClose = "upstream_said_close"    // the answer had Connection: close
	CloseHTTP10            = "http10_no_keepalive"    // an HTTP/1.0 answer without keep-alive
	CloseDelimited         = "close_delimited"        // the end of the connection was the end of the answer
	CloseNotDrained        = "response_not_drained"   // the answer was not read to its end
	CloseRequestNotSent    = "request_not_fully_sent" // the answer came before the request was sent whole
	CloseClientAborted     = "client_aborted"         // the client went away while a request was under way
	CloseTimeout           = "timeout"                // a request's timeout expired on it
	CloseError             = "error"                  // reading or writing failed
	CloseProtocol          = "protocol_error"         // the answer was not HTTP
	CloseConnectFailed     = "connect_failed"         // it never was a connection: name, dial or handshake failed
	CloseUpgradeEnded      = "upgrade_ended"          // the tunnel that it became has ended
	CloseAddressGone       = "address_gone"           // DNS no longer gives its address
	CloseDraining          = "draining"               // its upstream or address is being drained, or left the config
	CloseShutdown          = "shutdown"               // the gateway stops
	CloseHealthCheckEnded  = "health_check_ended"     // it was opened for a health check, which is over
	CloseMoveFailed        = "move_failed"            // it could not be handed to another loop
	CloseLearnedIdle       = "learned_idle_timeout"   // idle for so long that the upstream is about to close it
	CloseMadePlace         = "made_place"             // idle at the limit, while a request that must not use it needed the place
	CloseEjected           = "ejected"                // its address is ejected
	CloseHedgeLost         = "hedge_lost"             // another attempt answered first
	CloseTunnelEnded       = "tunnel_ended"           // TCP mode: the session has ended
	CloseClientGone        = "client_gone"            // the client that it spoke for by the PROXY protocol has gone
	CloseOperator          = "operator"               // an operator closed it, by the admin API
)

// CloseReasons lists every reason to close a connection.
var CloseReasons = []string{CloseIdleTimeout, CloseAboveKeepIdle, CloseMaxRequests, CloseMaxAge, CloseNeverReuse,
	ClosePeer, CloseUnexpectedBytes, CloseUpstreamSaidClose, CloseHTTP10, CloseDelimited, CloseNotDrained,
	CloseRequestNotSent, CloseClientAborted, CloseTimeout, CloseError, CloseProtocol, CloseConnectFailed,
	CloseUpgradeEnded, CloseAddressGone, CloseDraining, CloseShutdown, CloseHealthCheckEnded, CloseMoveFailed, CloseLearnedIdle, CloseMadePlace,
	CloseEjected, CloseHedgeLost, CloseTunnelEnded, CloseClientGone, CloseOperator}

// Why a request was not carried by a pooled connection: exchange.Attempt.WhyNew. They are the reasons to open one,
// told from the request's side; an attempt that opened a connection has the same word as the connection.
const (
	NewFirst          = OpenFirst
	NewNoIdle         = OpenNoIdle
	NewNeverReuse     = OpenNeverReuse
	NewSafeOnly       = OpenSafeOnly
	NewRetired        = OpenPreviousRetired
	NewDeadWhenTaken  = OpenPreviousDead
	NewRetry          = OpenRetry
	NewUpgrade        = OpenUpgrade
	NewAddressChanged = OpenAddressChanged
	NewHedge          = OpenHedge
	NewProxyProtocol  = OpenProxyProtocol
)

// How the server of an attempt was chosen: exchange.Attempt.Chosen.
const (
	ChosenBalance = "balance" // by upstreams.*.balance
	ChosenSession = "session" // it is the sticky session's own
	ChosenNext    = "next"    // by balance too, after others that could not be connected to or were full
	ChosenQueue   = "queue"   // the first that had a connection for a request that has waited
)

// Took is how long each step of opening the connection took; 0: there was no such step, or it did not end.
func (c *Connection) Took() (dns, connect, tls time.Duration) {
	if c.DNSEnd != 0 {
		dns = time.Duration(c.DNSEnd - c.DNSStart)
	}
	if c.DialEnd != 0 {
		connect = time.Duration(c.DialEnd - c.DialStart)
	}
	if c.TLSEnd != 0 {
		tls = time.Duration(c.TLSEnd - c.TLSStart)
	}
	return dns, connect, tls
}

// DNSAge is how old the DNS answer was when the connection was dialled; 0 if no name was looked up.
func (c *Connection) DNSAge() time.Duration {
	if c.DNSAnswerAt == 0 || c.DialStart < c.DNSAnswerAt {
		return 0
	}
	return time.Duration(c.DialStart - c.DNSAnswerAt)
}
