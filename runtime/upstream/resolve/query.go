package resolve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/fault"
)

// Bounds of what a server can make us keep and do.
const (
	maxAddrs  = 64
	maxChain  = 8 // CNAMEs in one answer
	udpSize   = 1232
	hostsTTL  = 5 * time.Second // how long an answer of the hosts file is used
	perServer = 2 * time.Second
)

// errNoSuchName is an answer that says that there are no addresses.
var errNoSuchName = errors.New("the name has no address")

// lookUp asks the hosts file, then the servers, for each name that the search list makes of host.
func (r *Resolver) lookUp(ctx context.Context, host, server string) (*Answer, error) {
	if addrs := r.hosts(host); len(addrs) > 0 && server == "" {
		return &Answer{Addrs: addrs, TTL: hostsTTL, Server: r.options.Hosts}, nil
	}
	conf, err := r.conf(server)
	if err != nil {
		return nil, r.blame(host, "", err)
	}
	var last error
	asked := ""
	for _, name := range conf.NameList(host) {
		for range max(conf.Attempts, 1) {
			for _, s := range conf.Servers {
				asked = net.JoinHostPort(s, conf.Port)
				a, err := exchange(ctx, name, asked, time.Duration(conf.Timeout)*time.Second)
				if err == nil {
					return a, nil
				}
				last = err
				if errors.Is(err, errNoSuchName) || ctx.Err() != nil {
					break
				}
			}
			if errors.Is(last, errNoSuchName) || ctx.Err() != nil {
				break
			}
		}
	}
	return nil, r.blame(host, asked, last)
}

func (r *Resolver) blame(host, server string, err error) error {
	detail := "see the upstream's targets, dns.server, " + r.options.Hosts + " and " + r.options.ResolvConf
	if server != "" {
		detail = "asked " + server + "; " + detail
	}
	return &fault.Error{Kind: fault.DNS, Source: fault.Upstream, Status: 502, Retryable: true, Host: host, Detail: detail, Err: err}
}

// conf is the configuration of the look-up: resolv.conf's, or one with the server that was named.
func (r *Resolver) conf(server string) (*dns.ClientConfig, error) {
	if server == "" {
		return dns.ClientConfigFromFile(r.options.ResolvConf)
	}
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		host, port = strings.Trim(server, "[]"), "53"
	}
	return &dns.ClientConfig{Servers: []string{host}, Port: port, Ndots: 1, Timeout: int(perServer / time.Second), Attempts: 2}, nil
}

// exchange asks one server for the IPv4 and IPv6 addresses of a name, both at once.
func exchange(ctx context.Context, name, server string, timeout time.Duration) (*Answer, error) {
	type result struct {
		addrs []netip.Addr
		ttl   time.Duration
		err   error
	}
	kinds := [...]uint16{dns.TypeA, dns.TypeAAAA}
	results := make(chan result, len(kinds))
	for _, kind := range kinds {
		go func() {
			addrs, ttl, err := query(ctx, name, kind, server, timeout)
			results <- result{addrs, ttl, err}
		}()
	}
	a := &Answer{Server: server}
	var last error
	for range kinds {
		switch got := <-results; {
		case got.err != nil:
			if last == nil || !errors.Is(got.err, errNoSuchName) {
				last = got.err
			}
		default:
			if len(a.Addrs) == 0 || got.ttl < a.TTL {
				a.TTL = got.ttl
			}
			a.Addrs = append(a.Addrs, got.addrs...)
		}
	}
	if len(a.Addrs) == 0 {
		return nil, last
	}
	slices.SortStableFunc(a.Addrs, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	return a, nil
}

// query asks for one kind of address, by UDP, and by TCP if the answer was too large for that.
func query(ctx context.Context, name string, kind uint16, server string, timeout time.Duration) ([]netip.Addr, time.Duration, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), kind)
	q.SetEdns0(udpSize, false)
	c := dns.Client{Timeout: timeout, UDPSize: udpSize}
	m, _, err := c.ExchangeContext(ctx, q, server)
	if err == nil && m.Truncated {
		c.Net = "tcp"
		m, _, err = c.ExchangeContext(ctx, q, server)
	}
	if err != nil {
		return nil, 0, err
	}
	if len(m.Question) != 1 || m.Question[0].Qtype != kind || !strings.EqualFold(m.Question[0].Name, dns.Fqdn(name)) {
		return nil, 0, errors.New("the answer is to another question")
	}
	switch m.Rcode {
	case dns.RcodeSuccess:
		return addresses(m, name, kind)
	case dns.RcodeNameError:
		return nil, 0, fmt.Errorf("NXDOMAIN: %w", errNoSuchName)
	}
	return nil, 0, fmt.Errorf("the server answered %s", dns.RcodeToString[m.Rcode])
}

// addresses collects the addresses of name, by way of its CNAMEs. The TTL is the least one on the way.
func addresses(m *dns.Msg, name string, kind uint16) ([]netip.Addr, time.Duration, error) {
	at, ttl := dns.Fqdn(name), uint32(1<<31)
	for range maxChain {
		next := ""
		var addrs []netip.Addr
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, at) {
				continue
			}
			switch rr := rr.(type) {
			case *dns.CNAME:
				next = rr.Target
			case *dns.A:
				addrs = appendAddr(addrs, rr.A, kind == dns.TypeA)
			case *dns.AAAA:
				addrs = appendAddr(addrs, rr.AAAA, kind == dns.TypeAAAA)
			default:
				continue
			}
			ttl = min(ttl, rr.Header().Ttl)
		}
		if len(addrs) > 0 {
			return addrs, time.Duration(ttl) * time.Second, nil
		}
		if next == "" {
			break
		}
		at = next
	}
	return nil, 0, errNoSuchName
}

func appendAddr(list []netip.Addr, ip net.IP, wanted bool) []netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok || !wanted || len(list) >= maxAddrs || slices.Contains(list, a.Unmap()) {
		return list
	}
	return append(list, a.Unmap())
}

// hosts returns what the hosts file says of a name.
func (r *Resolver) hosts(host string) []netip.Addr {
	f, err := os.Open(r.options.Hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	var addrs []netip.Addr
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(fields[0])
		if err != nil || len(addrs) >= maxAddrs {
			continue
		}
		for _, name := range fields[1:] {
			if strings.EqualFold(strings.TrimSuffix(name, "."), host) && !slices.Contains(addrs, addr.Unmap()) {
				addrs = append(addrs, addr.Unmap())
			}
		}
	}
	slices.SortStableFunc(addrs, func(x, y netip.Addr) int { return x.BitLen() - y.BitLen() })
	return addrs
}
