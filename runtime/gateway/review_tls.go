package gateway

import (
	"fmt"
	"slices"
	"strings"

	"wasmgate/config"
)

// shown says for which certificates clients will refuse a connection, now or soon, and which are shown for no host that there
// is a route for.
func (s *state) shown() (list []Remark) {
	hosts := s.hosts()
	for i := range s.listeners {
		set, l := s.listeners[i].set, &s.config.Listeners[i]
		if set == nil {
			continue
		}
		path := func(pair int) string { return fmt.Sprintf("listeners[%d].tls.certificates[%d].cert", i, pair) }
		for _, f := range set.Flaws() {
			list = append(list, Remark{Path: path(f.Pair), Message: f.Message, Help: f.Help})
		}
		if len(hosts) == 0 || l.Mode == config.ModeTCP {
			continue
		}
		for j, names := range set.Names() {
			if l.TLS.Certificates[j].Default || slices.ContainsFunc(names, func(name string) bool {
				return slices.ContainsFunc(hosts, func(host string) bool { return meets(name, host) })
			}) {
				continue
			}
			list = append(list, Remark{
				Path: path(j), Message: "the certificate is for " + some(names) + ", and there are routes for " + some(hosts) + " only: nothing is served by it",
				Help: "add a route for its host, or take the certificate out",
			})
		}
	}
	return list
}

// hosts are those that there are routes for; none if there is a route for any.
func (s *state) hosts() (hosts []string) {
	for i := range s.config.Routes {
		of := s.config.Routes[i].Match.Host
		if len(of) == 0 {
			return nil
		}
		for _, host := range of {
			hosts = append(hosts, strings.ToLower(host))
		}
	}
	return hosts
}

// meets says whether a host may be both what a certificate is for, where *. stands for one label, and what a route is for, where
// it stands for one or more.
func meets(name, host string) bool {
	below, wild := strings.CutPrefix(host, "*.")
	switch suffix, one := strings.CutPrefix(name, "*."); {
	case one && wild:
		return suffix == below || strings.HasSuffix(suffix, "."+below)
	case one:
		_, rest, _ := strings.Cut(host, ".")
		return rest == suffix
	case wild:
		return strings.HasSuffix(name, "."+below)
	}
	return name == host
}

// some are the first few of a list, as text.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return strings.Join(list[:most], ", ") + fmt.Sprintf(" and %d more", len(list)-most)
	}
	return strings.Join(list, ", ")
}
