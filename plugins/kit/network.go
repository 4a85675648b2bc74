package kit

import (
	"encoding/binary"
	"net/netip"
	"sort"
	"strings"
)

// Networks is a set of IPv4 and IPv6 networks. To look an address up takes a binary search, however many there are.
type Networks struct {
	ranges []span // after Seal in order, and apart
}

// address is an IPv6 address, or an IPv4 one that is mapped into IPv6.
type address struct{ high, low uint64 }

func (a address) less(b address) bool { return a.high < b.high || a.high == b.high && a.low < b.low }

type span struct{ first, last address }

func toAddress(a netip.Addr) address {
	b := a.As16()
	return address{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// Add takes a network such as 10.0.0.0/8, or an address.
func (n *Networks) Add(v Value) error {
	s, err := v.Text()
	if err != nil {
		return err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return v.Wrong("is neither a network such as 10.0.0.0/8 or 2001:db8::/32, nor an address")
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p != p.Masked() {
		return v.Wrong("has bits behind the prefix; the network is " + p.Masked().String())
	}
	if p.Addr().Is4In6() {
		return v.Wrong("is an IPv4 address within IPv6: write it as IPv4")
	}
	n.ranges = append(n.ranges, spanOf(p))
	return nil
}

func spanOf(p netip.Prefix) span {
	first := toAddress(p.Addr())
	free := 128 - p.Bits() // bits that do not matter
	if p.Addr().Is4() {
		free -= 96
	}
	last := first
	if free > 64 {
		last.high |= 1<<(free-64) - 1
		last.low = 1<<64 - 1
	} else {
		last.low |= 1<<free - 1 // all of them where free is 64
	}
	return span{first, last}
}

// Seal makes the set ready to be asked: call it after the last Add.
func (n *Networks) Seal() {
	r := n.ranges
	sort.Slice(r, func(i, j int) bool { return r[i].first.less(r[j].first) })
	kept := r[:0]
	for _, s := range r {
		switch last := len(kept) - 1; {
		case last < 0 || kept[last].last.less(s.first):
			kept = append(kept, s)
		case kept[last].last.less(s.last):
			kept[last].last = s.last
		}
	}
	n.ranges = kept
}

// Empty says whether there is no network in the set.
func (n *Networks) Empty() bool { return len(n.ranges) == 0 }

// Contains says whether an address is in one of the networks.
func (n *Networks) Contains(a netip.Addr) bool {
	at := toAddress(a)
	low, high := 0, len(n.ranges)
	for low < high {
		if mid := (low + high) / 2; n.ranges[mid].last.less(at) {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low < len(n.ranges) && !at.less(n.ranges[low].first)
}

// ParseClient reads a client's address, as the gateway tells it.
func ParseClient(s string) (netip.Addr, bool) {
	s, _, _ = strings.Cut(s, "%") // an interface of the gateway's is no part of who the client is
	a, err := netip.ParseAddr(s)
	return a, err == nil
}
