package filter

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// Network is a filter of connections whose bytes are passed on, as listeners in TCP mode do: what Envoy calls a network
// filter. It is shared by all loops.
type Network interface {
	Name() string
	// Connect is told of a client's connection before an upstream is chosen for it, and may park t. nil: the filter has
	// nothing to do with this connection. An error is that of a filter that failed and fails closed, or does not want the
	// connection; it has been counted and logged.
	Connect(t *netloop.Task, s *exchange.Session) (Connection, *fault.Error)
}

// Connection is a filter's part of one connection. It belongs to a loop; each direction is moved by a task of its own. An
// error is as Network.Connect has it: both ends are to be closed then.
type Connection interface {
	// Upstream says where the connection goes.
	Upstream(s *exchange.Session)
	// FromClient appends to dst what is to be sent to the upstream for a piece that the client has sent; nothing, if the
	// filter keeps it back. last: the client sends no more; data may be empty then. It may park t.
	FromClient(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error)
	// FromUpstream is FromClient for the other direction.
	FromUpstream(t *netloop.Task, dst, data []byte, last bool) ([]byte, *fault.Error)
	// Close says that the connection is over, and who closed its ends. It is called once, also while a direction waits
	// for the filter, and after an error.
	Close(t *netloop.Task, client, upstream Peer)
}

// Peer says who closed a connection.
type Peer uint32

// The peers. The numbers are Proxy-Wasm's.
const (
	PeerUnknown Peer = iota
	PeerLocal        // we did
	PeerRemote
)
