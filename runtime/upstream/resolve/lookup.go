package resolve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Bounds of what an answer can make us keep and do.
const (
	maxEndpoints = 256
	maxTargets   = 64                     // of a service
	maxAsking    = 8                      // targets of one service at a time
	otherFamily  = 250 * time.Millisecond // that an address of one family is kept back for the other's
)

// errNoSuchName is an answer that says that there are no addresses.
var errNoSuchName = errors.New("the name has no address")

// result is what a look-up found.
type result struct {
	endpoints []Endpoint
	ttl       time.Duration
	server    string
	name      string                  // which name of the search list it is of; "": the hosts file's
	known     map[string][]netip.Addr // addresses of each name that was asked for
	doubt     string                  // what could not be asked for, and stays as it was
}

// lookUp is one look-up under way.
type lookUp struct {
	*Resolver
	host    string
	options *NameOptions
	last    *result // of the look-up before; nil: none
	servers servers
}

// run looks a name up, when it is its turn.
func (r *Resolver) run(n *Name, last *result) (*result, error) {
	ctx, cancel := context.WithCancelCause(n.ctx)
	defer cancel(nil)
	stop := r.options.Clock.AfterFunc(lookUpLimit, func() { cancel(fmt.Errorf("no answer in %s", lookUpLimit)) })
	defer stop()
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l := &lookUp{Resolver: r, host: n.host, options: &n.options, last: last}
	return l.search(ctx)
}

// search asks the hosts file, then the servers, for each name that the search list makes of the host.
func (l *lookUp) search(ctx context.Context) (*result, error) {
	if addrs := l.byHosts(l.host); len(addrs) > 0 && !IsService(l.host) {
		return &result{endpoints: endpoints(addrs, Endpoint{}), ttl: hostsTTL, server: l.Resolver.options.Hosts}, nil
	}
	var err error
	if l.servers, err = l.Resolver.servers(l.host, l.options.Server); err != nil {
		return nil, err
	}
	var missing, failed error
	for _, name := range l.servers.names {
		res, err := l.find(ctx, name)
		var f *failure
		switch {
		case err == nil && failed != nil && l.last != nil && l.last.name != name:
			return nil, failed // an outage does not put one name in the place of another
		case err == nil:
			return res, nil
		case errors.Is(err, errNoSuchName):
			missing = err
		case ctx.Err() != nil:
			return nil, cmp.Or(failed, context.Cause(ctx))
		case errors.As(err, &f) && f.silent:
			return nil, cmp.Or(failed, err)
		default:
			failed = cmp.Or(failed, err)
		}
	}
	return nil, cmp.Or(failed, missing)
}

// byHosts is what the hosts file says, if it is asked.
func (l *lookUp) byHosts(name string) []netip.Addr {
	if l.options.Server != "" {
		return nil
	}
	return l.hosts(name, l.options.Family)
}

// find asks for one name.
func (l *lookUp) find(ctx context.Context, name string) (*result, error) {
	if IsService(name) {
		return l.service(ctx, name)
	}
	f, err := l.addresses(ctx, name)
	if err != nil {
		return nil, err
	}
	return &result{endpoints: endpoints(f.addrs, Endpoint{}), ttl: f.ttl, server: f.server, name: name,
		known: map[string][]netip.Addr{fold(name): f.addrs}, doubt: f.doubt}, nil
}

// found is the addresses of one name.
type found struct {
	addrs  []netip.Addr
	ttl    time.Duration
	server string
	doubt  string
}

// errOther is that one kind of address took much longer than the other. What is known of it stays.
var errOther = fmt.Errorf("no answer %s after that for the other address family", otherFamily)

// part is what the servers say of one kind of address.
type part struct {
	kind   uint16
	addrs  []netip.Addr
	ttl    time.Duration
	server string
	err    error
}

// addresses asks for the IPv4 and IPv6 addresses of a name, both at once.
func (l *lookUp) addresses(ctx context.Context, name string) (found, error) {
	kinds := l.options.Family.kinds()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := make(chan part, len(kinds))
	for _, kind := range kinds {
		go func() { parts <- l.part(ctx, name, kind) }()
	}
	var good, bad []part
	for range kinds {
		p := <-parts
		switch {
		case p.err != nil:
			bad = append(bad, p)
			if errors.Is(p.err, errNXDOMAIN) {
				cancel(nil) // the other kind's answer could only be the same
			}
		default:
			good = append(good, p)
			stop := l.Resolver.options.Clock.AfterFunc(otherFamily, func() { cancel(errOther) })
			defer stop()
		}
	}
	if len(good) == 0 {
		slices.SortStableFunc(bad, func(a, b part) int { return weight(a.err) - weight(b.err) })
		return found{}, bad[0].err
	}
	return l.together(name, good, bad), nil
}

// weight orders the reasons for which there are no addresses: that the name does not exist is said of all kinds; that it
// has none of one kind is less than that the other kind is not known.
func weight(err error) int {
	switch {
	case errors.Is(err, errNXDOMAIN):
		return 0
	case errors.Is(err, errNoSuchName):
		return 2
	}
	return 1
}

func (l *lookUp) part(ctx context.Context, name string, kind uint16) part {
	m, server, err := l.ask(ctx, name, kind)
	if err != nil {
		return part{kind: kind, err: err}
	}
	addrs, ttl := addresses(m.Answer, name, kind)
	if len(addrs) == 0 {
		return part{kind: kind, err: fmt.Errorf("%s answered without an address for %s: %w", server, name, errNoSuchName)}
	}
	return part{kind: kind, addrs: addrs, ttl: ttl, server: server}
}

// together joins the kinds. Those that could not be asked for are as they were.
func (l *lookUp) together(name string, good, bad []part) found {
	f := found{ttl: good[0].ttl, server: good[0].server}
	for _, p := range good {
		f.addrs = append(f.addrs, p.addrs...)
		f.ttl = min(f.ttl, p.ttl)
	}
	for _, p := range bad {
		if errors.Is(p.err, errNoSuchName) {
			continue
		}
		for _, a := range l.before(name) {
			if a.Is4() == (p.kind == dns.TypeA) {
				f.addrs = append(f.addrs, a)
				f.doubt = "no answer for " + dns.TypeToString[p.kind] + " of " + name + ": " + p.err.Error()
			}
		}
	}
	return f
}

// before is the addresses that the name had by the last look-up.
func (l *lookUp) before(name string) []netip.Addr {
	if l.last == nil {
		return nil
	}
	return l.last.known[fold(name)]
}

// service asks for the targets of a service and their addresses.
func (l *lookUp) service(ctx context.Context, name string) (*result, error) {
	m, server, err := l.ask(ctx, name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	records, ttl := services(m.Answer, name)
	targets := map[string]found{}
	for _, r := range records {
		if targets[fold(r.Target)].addrs == nil {
			targets[fold(r.Target)] = glue(m.Extra, r.Target, l.options.Family)
		}
	}
	l.missing(ctx, targets)
	res := &result{ttl: ttl, server: server, name: name, known: map[string][]netip.Addr{}}
	var all []Endpoint
	for _, r := range records {
		t := targets[fold(r.Target)]
		res.doubt = cmp.Or(res.doubt, t.doubt)
		if len(t.addrs) == 0 {
			continue
		}
		res.known[fold(r.Target)] = t.addrs
		if t.ttl > 0 || t.doubt == "" {
			res.ttl = min(res.ttl, t.ttl)
		}
		all = append(all, endpoints(t.addrs, Endpoint{Port: r.Port, Priority: r.Priority, Weight: r.Weight})...)
	}
	if len(all) == 0 && res.doubt != "" {
		return nil, &failure{what: res.doubt}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s answered without a target for %s: %w", server, name, errNoSuchName)
	}
	res.endpoints = tidy(all)
	return res, nil
}

// missing asks for the targets whose addresses did not come along. One that has none now, whatever the reason, is as it
// was: a service that names a target which is not there is in doubt.
func (l *lookUp) missing(ctx context.Context, targets map[string]found) {
	var mu sync.Mutex
	var asking sync.WaitGroup
	places := make(chan struct{}, maxAsking)
	names := make([]string, 0, len(targets))
	for name, t := range targets {
		if len(t.addrs) == 0 {
			names = append(names, name)
		}
	}
	for _, name := range names {
		places <- struct{}{}
		asking.Go(func() {
			t := l.target(ctx, name)
			mu.Lock()
			targets[name] = t
			mu.Unlock()
			<-places
		})
	}
	asking.Wait()
}

func (l *lookUp) target(ctx context.Context, name string) found {
	if addrs := l.byHosts(name); len(addrs) > 0 {
		return found{addrs: addrs, ttl: hostsTTL}
	}
	f, err := l.addresses(ctx, name)
	if err != nil {
		return found{addrs: l.before(name), doubt: "no address of the target " + name + ": " + err.Error()}
	}
	return f
}

// fold makes names that mean the same equal.
func fold(name string) string { return strings.ToLower(dns.Fqdn(name)) }

// endpoints gives each address the port, priority and weight of e.
func endpoints(addrs []netip.Addr, e Endpoint) []Endpoint {
	list := make([]Endpoint, len(addrs))
	for i, a := range addrs {
		e.Addr = a
		list[i] = e
	}
	return tidy(list)
}

// tidy puts IPv4 first and takes out what is there twice. Of more endpoints than are kept it takes the lowest, so that
// the choice does not depend on the order of the answer.
func tidy(list []Endpoint) []Endpoint {
	type place struct {
		addr netip.Addr
		port uint16
	}
	seen := make(map[place]bool, len(list))
	list = slices.DeleteFunc(list, func(e Endpoint) bool {
		p := place{e.Addr, e.Port}
		again := seen[p]
		seen[p] = true
		return again
	})
	if len(list) > maxEndpoints {
		slices.SortFunc(list, func(a, b Endpoint) int {
			return cmp.Or(cmp.Compare(a.Priority, b.Priority), a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
		})
		list = list[:maxEndpoints:maxEndpoints]
	}
	slices.SortStableFunc(list, func(a, b Endpoint) int { return a.Addr.BitLen() - b.Addr.BitLen() })
	return list
}
