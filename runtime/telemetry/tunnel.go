package telemetry

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/rs/zerolog"

	"wasmgate/runtime/exchange"
)

var (
	mTunnelsOpen    = metric{"wasmgate_tunnels_open", gauge, "Tunnels that are open: requests that were answered 101."}
	mTunnels        = metric{"wasmgate_tunnels_total", counter, "Tunnels that have ended, by why."}
	mTunnelBytesIn  = metric{"wasmgate_tunnel_received_bytes_total", counter, "Bytes of tunnels that have ended, from clients to upstreams."}
	mTunnelBytesOut = metric{"wasmgate_tunnel_sent_bytes_total", counter, "Bytes of tunnels that have ended, from upstreams to clients."}
)

type tunnelKey struct{ listener, upstream, protocol string }

// tunnelSeries counts the tunnels with one combination of listener, upstream and protocol.
type tunnelSeries struct {
	tunnelKey
	open     atomic.Int64
	ended    [endSlots]atomic.Uint64
	bytesIn  atomic.Uint64
	bytesOut atomic.Uint64
	rest     rest
}

// TunnelBegan is called when a request has become a tunnel; that it has ended is told with the request's end.
func (r *Recorder) TunnelBegan(x *exchange.Exchange) { r.cells.tunnel(tunnelOf(x)).open.Add(1) }

func tunnelOf(x *exchange.Exchange) tunnelKey {
	k := tunnelKey{listener: x.Client.Server, protocol: x.Tunnel.Protocol}
	if a := x.Attempt(); a != nil {
		k.upstream = a.Upstream
	}
	return k
}

// countTunnel counts a tunnel that has ended, if the request was one.
func (r *Recorder) countTunnel(x *exchange.Exchange) {
	if x.Tunnel.Protocol == "" {
		return
	}
	s := r.cells.tunnel(tunnelOf(x))
	s.ended[slot(endReasons, x.Tunnel.Why, endSlots)].Add(1)
	if x.BytesIn > 0 {
		s.bytesIn.Add(uint64(x.BytesIn))
	}
	if x.BytesOut > 0 {
		s.bytesOut.Add(uint64(x.BytesOut))
	}
	s.open.Add(-1) // last: who sees that none is open finds all of them counted
}

// tunnel returns the series of these names.
func (c *cells) tunnel(k tunnelKey) *tunnelSeries {
	s := c.tunnels[k]
	if s == nil && len(c.tunnels) >= maxSeries {
		k = tunnelKey{otherName, otherName, k.protocol}
		s = c.tunnels[k]
	}
	if s == nil {
		s = &tunnelSeries{tunnelKey: k}
		c.tunnels[k] = s
		publish(&c.tunnelList, s)
	}
	return s
}

// count is what Forget goes by: it changes as long as there is a tunnel.
func (s *tunnelSeries) count() (n uint64) {
	for i := range s.ended {
		n += s.ended[i].Load()
	}
	return n
}

// lineTunnel writes what became of a request whose protocol was switched.
func lineTunnel(e *zerolog.Event, x *exchange.Exchange) {
	if x.Tunnel.Protocol != "" {
		e.Str("tunnel", x.Tunnel.Protocol).Str("tunnel_why_ended", x.Tunnel.Why)
	}
}

type tunnelTotals struct {
	open              int64
	ended             [endSlots]uint64
	bytesIn, bytesOut uint64
}

func (t *Telemetry) tunnelMetrics(p *page) {
	sums := map[tunnelKey]*tunnelTotals{}
	var keys []tunnelKey
	for _, r := range t.recorders {
		for _, s := range *r.cells.tunnelList.Load() {
			sum := sums[s.tunnelKey]
			if sum == nil {
				sum = new(tunnelTotals)
				sums[s.tunnelKey] = sum
				keys = append(keys, s.tunnelKey)
			}
			sum.open += s.open.Load()
			for i := range s.ended {
				sum.ended[i] += s.ended[i].Load()
			}
			sum.bytesIn += s.bytesIn.Load()
			sum.bytesOut += s.bytesOut.Load()
		}
	}
	slices.SortFunc(keys, func(a, b tunnelKey) int {
		return cmp.Or(cmp.Compare(a.listener, b.listener), cmp.Compare(a.upstream, b.upstream), cmp.Compare(a.protocol, b.protocol))
	})
	each := func(m metric, tell func(sum *tunnelTotals, labels ...string)) {
		p.head(m)
		for _, k := range keys {
			tell(sums[k], "listener", k.listener, "upstream", k.upstream, "protocol", k.protocol)
		}
	}
	each(mTunnelsOpen, func(s *tunnelTotals, l ...string) { p.value(float64(s.open), l...) })
	each(mTunnels, func(s *tunnelTotals, l ...string) { p.reasons(s.ended[:], exchange.EndReasons, l...) })
	each(mTunnelBytesIn, func(s *tunnelTotals, l ...string) { p.count(s.bytesIn, l...) })
	each(mTunnelBytesOut, func(s *tunnelTotals, l ...string) { p.count(s.bytesOut, l...) })
}
