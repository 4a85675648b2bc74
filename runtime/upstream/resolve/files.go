package resolve

import (
	"bufio"
	"errors"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	hostsTTL   = 5 * time.Second // how long an answer of the hosts file is used, and how often the files are looked at
	maxServers = 8
	maxNames   = 32 // of the search list

	// What a server that the upstream names is given; for those of resolv.conf it says.
	ownTimeout  = 2 * time.Second
	ownAttempts = 2
)

// servers is whom to ask, for which names.
type servers struct {
	addrs  []string      // host:port
	listen time.Duration // how long each is listened to
	names  []string      // in this order, each with its last dot
}

// servers reads resolv.conf, unless the server is named.
func (r *Resolver) servers(host, server string) (servers, error) {
	if !isName(host) {
		return servers{}, errors.New("not a domain name")
	}
	if server != "" {
		return servers{addrs: []string{withPort(server)}, listen: ownTimeout * ownAttempts, names: []string{dns.Fqdn(host)}}, nil
	}
	c, err := dns.ClientConfigFromFile(r.options.ResolvConf)
	if err != nil {
		return servers{}, err
	}
	if len(c.Servers) == 0 {
		c.Servers = []string{"127.0.0.1"} // as resolv.conf(5) says
	}
	s := servers{listen: time.Duration(min(c.Timeout, 30)*min(c.Attempts, 5)) * time.Second}
	for _, a := range c.Servers[:min(len(c.Servers), maxServers)] {
		if a = withPort(a); !slices.Contains(s.addrs, a) {
			s.addrs = append(s.addrs, a)
		}
	}
	for _, name := range c.NameList(host) {
		if isName(name) && !slices.Contains(s.names, name) && len(s.names) < maxNames {
			s.names = append(s.names, name)
		}
	}
	return s, nil
}

func isName(s string) bool {
	_, ok := dns.IsDomainName(s)
	return ok
}

// withPort completes the address of a name server.
func withPort(server string) string {
	if host, port, err := net.SplitHostPort(server); err == nil {
		return net.JoinHostPort(host, port)
	}
	return net.JoinHostPort(strings.Trim(server, "[]"), "53")
}

// hosts returns what the hosts file says of a name.
func (r *Resolver) hosts(host string, family Family) []netip.Addr {
	f, err := os.Open(r.options.Hosts)
	if err != nil {
		return nil
	}
	defer f.Close()
	host = strings.TrimSuffix(host, ".")
	var addrs []netip.Addr
	for s := bufio.NewScanner(f); s.Scan(); {
		line, _, _ := strings.Cut(s.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 || !slices.ContainsFunc(fields[1:], func(name string) bool { return strings.EqualFold(strings.TrimSuffix(name, "."), host) }) {
			continue
		}
		if addr, err := netip.ParseAddr(fields[0]); err == nil && family.has(addr.Unmap()) {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

// stamp is a file as it was seen.
type stamp struct{ info fs.FileInfo }

func look(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info}
}

func (s stamp) same(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil
	}
	return os.SameFile(s.info, o.info) && s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size()
}

func (r *Resolver) look() [2]stamp {
	return [2]stamp{look(r.options.Hosts), look(r.options.ResolvConf)}
}

// remember counts a name in that asks by the files. The first one makes the resolver look at them.
func (r *Resolver) remember(n *Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.names[n] = struct{}{}
	if r.watcher == nil && !r.closed {
		r.watcher = &watcher{seen: r.look()}
		r.arm(r.watcher)
	}
}

// watcher looks at the files, as long as it is the resolver's.
type watcher struct {
	seen [2]stamp
	stop func() bool
}

// arm sets the time of the next look; r.mu is held.
func (r *Resolver) arm(w *watcher) {
	w.stop = r.after(hostsTTL, func() { r.watch(w) })
}

// unwatch ends looking at the files; r.mu is held.
func (r *Resolver) unwatch() {
	if r.watcher != nil {
		r.watcher.stop()
		r.watcher = nil
	}
}

func (r *Resolver) forget(n *Name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.names, n)
	if len(r.names) == 0 {
		r.unwatch()
	}
}

// watch asks anew for the names that ask by the files when these have changed, whatever the TTLs of their answers.
func (r *Resolver) watch(w *watcher) {
	now := r.look()
	r.mu.Lock()
	if r.watcher != w {
		r.mu.Unlock()
		return
	}
	r.arm(w)
	var names []*Name
	if !now[0].same(w.seen[0]) || !now[1].same(w.seen[1]) {
		names = slices.Collect(maps.Keys(r.names))
	}
	w.seen = now
	r.mu.Unlock()
	for _, n := range names {
		n.mu.Lock()
		n.begin(true)
		n.mu.Unlock()
	}
}
