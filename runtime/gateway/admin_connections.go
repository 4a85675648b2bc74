package gateway

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/internal/unixaddr"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/upstream/pool"
)

// maxUsePath is how much of a request's path is told.
const maxUsePath = 200

// fits says whether a filter means the connection.
func fits(f *admin.ConnectionFilter, c *pool.Conn) bool {
	if f.State == "idle" && c.IdleSince() == 0 || f.State == "busy" && c.IdleSince() != 0 {
		return false
	}
	return fitsFacts(f, &c.Facts)
}

// fitsFacts is fits, but for the state.
func fitsFacts(f *admin.ConnectionFilter, b *facts.Connection) bool {
	if f.ID != 0 && f.ID != b.ID || f.Upstream != "" && f.Upstream != b.Upstream {
		return false
	}
	return f.Address == "" || strings.EqualFold(f.Address, b.Host) || sameAddress(f.Address, b.Address)
}

// sameAddress says whether a text is the address, with its port or without.
func sameAddress(text string, a netip.AddrPort) bool {
	if p, ok := unixaddr.Parse(text); ok {
		return p.Port() == a.Port() && p.Addr().Unmap() == a.Addr().Unmap()
	}
	ip, err := netip.ParseAddr(strings.Trim(text, "[]"))
	return err == nil && ip.Unmap() == a.Addr().Unmap()
}

// Connections implements admin.Gateway.
func (o operators) Connections(f admin.ConnectionFilter) admin.Connections {
	if f.State == admin.ConnectionClosed {
		return o.closedConnections(f)
	}
	type part struct {
		total int
		list  []admin.Connection
	}
	parts, missing := ask(o.group, func(l *netloop.Loop) (p part) {
		for _, c := range o.observers[l.Index()].conns {
			if !fits(&f, c) {
				continue
			}
			if p.total++; len(p.list) < f.Limit {
				p.list = append(p.list, connectionView(l, c))
			}
		}
		return p
	})
	all := admin.Connections{LoopsMissing: missing, Connections: []admin.Connection{}}
	for _, p := range parts {
		all.Total += p.total
		all.Connections = append(all.Connections, p.list...)
	}
	slices.SortFunc(all.Connections, func(a, b admin.Connection) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	all.Connections = all.Connections[:min(len(all.Connections), f.Limit)]
	return all
}

// CloseConnections implements admin.Gateway.
func (o operators) CloseConnections(f admin.ConnectionFilter, now bool) (all admin.Closed) {
	parts, missing := ask(o.group, func(l *netloop.Loop) (p admin.Closed) {
		for _, c := range slices.Clone(o.observers[l.Index()].conns) { // closing changes the list
			if !fits(&f, c) {
				continue
			}
			if now {
				c.Close(facts.CloseOperator)
			}
			if now || c.Condemn(facts.CloseOperator) {
				p.Closed++
			} else {
				p.Closing++
			}
		}
		return p
	})
	all.LoopsMissing = missing
	for _, p := range parts {
		all.Closed += p.Closed
		all.Closing += p.Closing
	}
	return all
}

// connectionView runs on the connection's loop.
func connectionView(l *netloop.Loop, c *pool.Conn) admin.Connection {
	f := &c.Facts
	v := factsView(l, f, l.WallNow())
	v.State, v.Closing = "busy", c.Condemned()
	if since := c.IdleSince(); since != 0 {
		v.State, v.Idle = "idle", ms(l.Now()-since)
	}
	if s, ok := c.Session.(interface {
		Streams() int
		MaxStreams() int
	}); ok {
		v.HTTP2 = &admin.Streams{Open: s.Streams(), Max: s.MaxStreams()}
	}
	switch u := f.User.(type) {
	case *exchange.Exchange:
		v.Use = requestUse(l, u)
	case *exchange.Session:
		v.Use = &admin.Use{Kind: "session", Listener: u.Client.Server, Client: u.Client.Addr.String(), For: ms(l.Now() - u.Started)}
	}
	return v
}

// factsView is what facts say of a connection's life until a time.
func factsView(l *netloop.Loop, f *facts.Connection, until int64) admin.Connection {
	v := admin.Connection{
		ID: f.ID, Upstream: f.Upstream, Host: f.Host, Loop: l.Index(),
		Why: f.WhyOpened, Opened: time.Unix(0, f.Opened), Age: ms(until - f.Opened), DNS: span(f.DNSStart, f.DNSEnd), Dial: span(f.DialStart, f.DialEnd),
		TLSFor: span(f.TLSStart, f.TLSEnd), Requests: f.Requests, BytesIn: f.BytesIn, BytesOut: f.BytesOut, IdleTotal: ms(int64(f.IdleTotal)),
		Moved: f.MovedBetweenLoops, DNSAge: ms(int64(f.DNSAge())), DNSTTL: ms(int64(f.DNSTTL)), DNSServer: f.DNSServer, DNSStale: f.DNSStale,
		TLS: f.TLS, TLSVersion: f.TLSVersion, TLSSuite: f.TLSSuite, TLSResumed: f.TLSResumed, ServerName: f.ServerName, ALPN: f.ALPN,
		GoAwayReceived: f.GoAwayReceived, GoAwaySent: f.GoAwaySent,
	}
	if f.Address.IsValid() {
		v.Address = unixaddr.Text(f.Address)
	}
	if f.Sampled {
		v.TraceID = hex.EncodeToString(f.TraceID[:])
	}
	return v
}

// clientView runs on the connection's loop.
func clientView(l *netloop.Loop, c *netloop.Conn) admin.Client {
	v := admin.Client{ID: c.ID(), Address: c.RemoteAddr().String(), Local: c.LocalAddr().String(), Loop: l.Index()}
	s, ok := server.LookAt(c)
	if !ok {
		return v
	}
	v.Requests = s.Requests
	if s.HTTP2 {
		v.HTTP2 = &admin.Streams{Open: s.Streams, Max: s.Most}
	}
	tellTLS(&v, s.TLS)
	return v
}

// http3View runs on the connection's loop.
func http3View(l *netloop.Loop, c *http3Conn) admin.Client {
	v := admin.Client{
		ID: c.Conn, Address: c.quic.RemoteAddr().String(), Local: c.Local.String(), Loop: l.Index(), Requests: c.Requests(),
		HTTP3: &admin.Streams{Open: c.open, Max: c.quic.MaxStreams()},
	}
	tellTLS(&v, c.TLS)
	return v
}

func tellTLS(v *admin.Client, t *exchange.TLS) {
	if t != nil {
		v.TLS, v.TLSVersion, v.TLSSuite, v.TLSResumed, v.ServerName, v.ALPN = true, t.Version, t.Cipher, t.Resumed, t.ServerName, t.ALPN
	}
}

func requestUse(l *netloop.Loop, x *exchange.Exchange) *admin.Use {
	u := &admin.Use{
		Kind: "request", Listener: x.Client.Server, Route: x.Route, Plugin: x.Plugin, Method: text(x.Request.Method, 32), Path: text(x.Request.Path, maxUsePath),
		For: ms(l.Now() - x.Started),
	}
	switch {
	case x.Plugin != "":
		u.Kind = "call"
	case x.Tunnel.Protocol != "":
		u.Kind = "tunnel"
	}
	if x.Client.Addr.IsValid() {
		u.Client = x.Client.Addr.Unmap().WithZone("").String()
	}
	if x.Trace.TraceID != [16]byte{} {
		u.TraceID = hex.EncodeToString(x.Trace.TraceID[:])
	}
	return u
}

// text copies what came from outside.
func text(b []byte, most int) string {
	return strings.ToValidUTF8(string(b[:min(len(b), most)]), "\uFFFD")
}

// ms is nanoseconds as milliseconds; what a clock that was set back makes negative is 0.
func ms(ns int64) float64 { return float64(max(ns, 0)) / 1e6 }

func span(from, to int64) float64 {
	if from == 0 || to == 0 {
		return 0
	}
	return ms(to - from)
}
