package exchange

import (
	"net/netip"
	"time"

	"wasmgate/runtime/fault"
)

// Session is one client connection of a listener in TCP mode: what Exchange is to a request. It belongs to one loop.
// Times are of the loop's clock (netloop.Loop.Now), in nanoseconds; 0 means that it did not happen.
type Session struct {
	Client Client         // Peer and Addr are whom a PROXY protocol header named, if there was one; Scheme is "tcp" or, if a TLS ClientHello was read, "tls"
	Via    netip.AddrPort // the other end of the socket, if that was a balancer that sent a PROXY protocol header; invalid otherwise
	SNI    string         // the server name of the ClientHello, in lower case; "" if none was read

	Upstream  string         // the upstream's name in the configuration; "": there was none for it
	Host      string         // host:port as configured, before resolution
	Address   netip.AddrPort // that was connected to
	TLS       bool           // the connection to the upstream is encrypted by us
	ConnID    uint64         // of the upstream connection; 0: it came to none
	ConnTrace [16]byte       // the upstream connection's span, if it is sampled
	ConnSpan  [8]byte
	PoolWait  time.Duration  // time in Acquire, dialling included
	Queued    time.Duration  // of that, in the queue for a connection
	Setup     Setup          // of the connection
	Failed    []*fault.Error // of servers that were tried in vain before it, the first few; nobody changes them any more
	DNSAge    time.Duration  // age of the DNS answer the connection was dialled by

	Started     int64 // accepted
	WallStarted int64 // Started, as Unix nanoseconds
	Routed      int64 // what had to be read first was read, and the upstream chosen
	Acquired    int64 // the upstream connection was there
	Ended       int64
	BytesIn     int64 // from the client, without a PROXY protocol header, as far as the upstream's socket has taken them
	BytesOut    int64 // to the client, as far as its socket has taken them

	Why string       // one of the End reasons
	Err *fault.Error // what went wrong, if something did
}

// Why a session ended. Each is a metric label and a log field.
const (
	EndClientClosed   = "client_closed"   // both sides ended, the client first; or the client did before there was an upstream
	EndUpstreamClosed = "upstream_closed" // both sides ended, the upstream first
	EndClientReset    = "client_reset"    // the client broke it off; the upstream has got a reset too
	EndUpstreamReset  = "upstream_reset"  // the upstream broke it off; the client has got a reset too
	EndIdleTimeout    = "idle_timeout"    // nothing moved in either direction for idle_timeout
	EndDrained        = "drained"         // the listener or the gateway was stopped, and the time for it was over
	EndHelloTimeout   = "hello_timeout"   // no whole PROXY protocol header or ClientHello in time
	EndMalformed      = "malformed"       // the PROXY protocol header or the ClientHello was not one
	EndNoRoute        = "no_route"        // no upstream for the server name, and none for all others
	EndConnectFailed  = "connect_failed"  // the upstream gave no connection
	EndPlugin         = "plugin"          // a plugin closed it, or failed
	EndMaxAge         = "max_age"         // it was as old as it may become; tunnels only
	EndError          = "error"           // something else; Err says what
)

// EndReasons lists every reason for a session's end.
var EndReasons = []string{EndClientClosed, EndUpstreamClosed, EndClientReset, EndUpstreamReset, EndIdleTimeout, EndDrained,
	EndHelloTimeout, EndMalformed, EndNoRoute, EndConnectFailed, EndPlugin, EndMaxAge, EndError}
