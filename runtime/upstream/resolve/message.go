package resolve

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	maxChain = 8       // CNAMEs in one answer
	maxTTL   = 1 << 31 // seconds; one of that and more is 0 (RFC 2181, section 8)
)

// kinds is the records that are asked for.
func (f Family) kinds() []uint16 {
	switch f {
	case IPv4:
		return []uint16{dns.TypeA}
	case IPv6:
		return []uint16{dns.TypeAAAA}
	default:
		return []uint16{dns.TypeA, dns.TypeAAAA}
	}
}

func (f Family) has(a netip.Addr) bool { return f == Any || (f == IPv4) == a.Is4() }

// owned returns the records of one kind that name has, by way of its CNAMEs, which may stand in any order, and the least
// TTL on the way, in seconds. The records are nil if there are none.
func owned(list []dns.RR, name string, kind uint16) ([]dns.RR, uint32) {
	ttl := uint32(maxTTL - 1)
	for range maxChain + 1 {
		next := ""
		var records []dns.RR
		for _, rr := range list {
			h := rr.Header()
			if h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name) || h.Rrtype != kind && h.Rrtype != dns.TypeCNAME {
				continue
			}
			if h.Rrtype == kind {
				records = append(records, rr)
			} else if c, ok := rr.(*dns.CNAME); ok && next == "" {
				next = c.Target
			}
			if h.Ttl < maxTTL {
				ttl = min(ttl, h.Ttl)
			} else {
				ttl = 0
			}
		}
		if len(records) > 0 {
			return records, ttl
		}
		if next == "" {
			break
		}
		name = next
	}
	return nil, 0
}

// addresses collects the addresses of name of one kind.
func addresses(list []dns.RR, name string, kind uint16) ([]netip.Addr, time.Duration) {
	records, ttl := owned(list, name, kind)
	var addrs []netip.Addr
	for _, rr := range records {
		var ip net.IP
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A.To4()
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if a, ok := netip.AddrFromSlice(ip); ok && usable(a, kind) {
			addrs = append(addrs, a)
		}
	}
	return addrs, time.Duration(ttl) * time.Second
}

// usable reports whether an address of an answer can be that of a server. 0.0.0.0 would be the gateway's own host.
func usable(a netip.Addr, kind uint16) bool {
	broadcast := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	return a.Is4() == (kind == dns.TypeA) && !a.Is4In6() && !a.IsUnspecified() && !a.IsMulticast() && a != broadcast
}

// services collects the records of a service, no more than maxTargets, the ones to be used first first.
func services(list []dns.RR, name string) ([]*dns.SRV, time.Duration) {
	records, ttl := owned(list, name, dns.TypeSRV)
	var all []*dns.SRV
	for _, rr := range records {
		if s, ok := rr.(*dns.SRV); ok && s.Port != 0 && s.Target != "." && s.Target != "" {
			all = append(all, s)
		}
	}
	if len(all) > maxTargets {
		slices.SortStableFunc(all, func(a, b *dns.SRV) int {
			if a.Priority != b.Priority {
				return int(a.Priority) - int(b.Priority)
			}
			return strings.Compare(fold(a.Target), fold(b.Target))
		})
		all = all[:maxTargets]
	}
	return all, time.Duration(ttl) * time.Second
}

// glue is the addresses of a target that came along with an answer.
func glue(extra []dns.RR, target string, family Family) found {
	var f found
	for _, kind := range family.kinds() {
		addrs, ttl := addresses(extra, target, kind)
		if len(addrs) == 0 {
			continue
		}
		if len(f.addrs) == 0 || ttl < f.ttl {
			f.ttl = ttl
		}
		f.addrs = append(f.addrs, addrs...)
	}
	return f
}
