package tcp

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/proxyproto"
	"wasmgate/runtime/upstream/facts"
)

// Snapshot is the configuration of a listener at one moment. It is immutable once a Server uses it. A session is ruled
// by the one that is in force when its upstream is chosen.
type Snapshot struct {
	Name         string
	AcceptProxy  []netip.Prefix   // peers that must begin with a PROXY protocol header; from others it is not looked for
	SNI          *Names           // upstreams by TLS server name; nil: nothing is read of what the client says
	Default      Upstream         // for all others, also for what is not TLS; nil: those are closed
	Filters      []filter.Network // what the bytes pass through, from the client's side; sessions that have any are copied, not spliced
	IdleTimeout  time.Duration    // silence in both directions that ends a session; 0: none does
	HelloTimeout time.Duration    // for a whole PROXY protocol header and ClientHello, from the connection's beginning; 0: no limit

	users netloop.Users
}

// Upstream gives sessions connections. Acquire runs on loops.
type Upstream interface {
	Name() string
	// Acquire returns a connection that nobody has used, on the task's loop. It may park.
	Acquire(t *netloop.Task, r Request) (Acquired, *fault.Error)
}

// Request is what an upstream must know of a session.
type Request struct {
	Client      netip.AddrPort // who is served: the peer, or whom its PROXY protocol header names
	Destination netip.AddrPort // where the client connected to
	SNI         string         // the TLS server name; "" if none was read
}

// Acquired is a connection to an upstream. The session owns it until Release.
type Acquired struct {
	Net    *netloop.Conn
	Stream Stream             // what is written to and read from: Net itself (or nil), or TLS on top of it
	Facts  *facts.Connection  // may be nil; the session fills in BytesIn, BytesOut and Err
	Proxy  proxyproto.Version // the header to begin with; Off: none, or it has been written
	Queued time.Duration      // in the upstream's queue; known of a failure too, as is
	Failed []*fault.Error     // of servers that were tried in vain, the first few, without the error that Acquire returns
	// Release ends the use of the connection, which is not to be used by anybody else; reason is one of the Close reasons
	// of package facts. Net may be closed already.
	Release func(reason string)
}

// Stream carries bytes both ways at once, a task for each; Read and Write park the task. If it has a method
// CloseWrite(*netloop.Task) error, that ends what is written; otherwise the connection below it is half-closed.
type Stream interface {
	Read(t *netloop.Task, b []byte) (int, error)
	Write(t *netloop.Task, b []byte) (int, error)
}

// mustSpeak says whether something has to be read of the client before its upstream is known.
func (s *Snapshot) mustSpeak(peer netip.Addr) bool { return s.SNI != nil || s.behind(peer) }

// behind says whether the peer is a balancer that sends a PROXY protocol header.
func (s *Snapshot) behind(peer netip.Addr) bool {
	for _, p := range s.AcceptProxy {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// Names are upstreams by server name. They are immutable.
type Names struct {
	exact  map[string]Upstream
	suffix map[string]Upstream // by what follows "*."
}

// Route sends the connections for some server names to an upstream.
type Route struct {
	Hosts    []string // exact, or "*." and a suffix for one or more labels in front of it; case does not matter
	Upstream Upstream
}

// NewNames makes the table of the routes. An exact name counts before a suffix, and a longer suffix before a shorter
// one. A name that cannot be one, or is there twice, is an error.
func NewNames(routes []Route) (*Names, error) {
	n := &Names{exact: map[string]Upstream{}, suffix: map[string]Upstream{}}
	for _, r := range routes {
		for _, host := range r.Hosts {
			name, isSuffix := strings.CutPrefix(strings.ToLower(host), "*.")
			table := n.exact
			if isSuffix {
				table = n.suffix
			}
			if !validName([]byte(name)) {
				return nil, fmt.Errorf("%q is neither a host name nor *. and a host name", host)
			}
			if table[name] != nil {
				return nil, fmt.Errorf("%q is there twice", host)
			}
			table[name] = r.Upstream
		}
	}
	return n, nil
}

// find returns the upstream for a name in lower case, or nil.
func (n *Names) find(name []byte) Upstream {
	if u := n.exact[string(name)]; u != nil {
		return u
	}
	for i, c := range name {
		if c == '.' {
			if u := n.suffix[string(name[i+1:])]; u != nil {
				return u
			}
		}
	}
	return nil
}

// Choose returns the upstream for a TLS server name in lower case, empty if there is none, or why there is none for it.
func (s *Snapshot) Choose(name []byte) (Upstream, *fault.Error) {
	u := s.Default
	if s.SNI != nil {
		if special := s.SNI.find(name); special != nil {
			u = special
		}
	}
	if u == nil {
		return nil, fault.New(fault.NoRoute, fault.Client, 0, "no upstream for the server name %q, and none for all others", name)
	}
	return u, nil
}

// Prepare makes the snapshot ready for so many loops; it must be called before a Server uses it.
func (s *Snapshot) Prepare(loops int) *Snapshot {
	s.users = netloop.NewUsers(loops)
	return s
}

// Retire calls done on each loop once no session of that loop can ask the snapshot's upstreams for a connection any
// more; sessions that have one go on, and those that have filters are waited for, which are the snapshot's. No Server may use
// it for new sessions by then. It may be called from any goroutine.
func (s *Snapshot) Retire(g *netloop.Group, done func()) { s.users.Retire(g, done) }
