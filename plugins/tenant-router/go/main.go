// tenant-router chooses the upstream by tenant: see README.md of the plugin. The C version beside it does the same.
package main

import (
	"errors"
	"strings"

	wasmgate "wasmgate/sdk/go"
)

const maxName = 63 // a host label's

type tenant struct {
	name     string
	upstream wasmgate.Upstream
}

var (
	header   = wasmgate.RequestHeader("x-tenant")
	domain   string // lower case, without a leading dot; empty: hosts do not say the tenant
	fallback tenant
	tenants  map[string]*tenant
	lower    [maxName]byte // the name that is looked up
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func configure(c *wasmgate.Config) error {
	domain, fallback, tenants = "", tenant{}, map[string]*tenant{}
	err := c.Walk(func(path []string, value string) error {
		switch {
		case len(path) == 1 && path[0] == "default":
			fallback = tenant{"default", c.Upstream(value)}
		case len(path) == 1 && path[0] == "domain":
			domain = strings.ToLower(value)
		case len(path) == 2 && path[0] == "tenants":
			return addTenant(path[1], c.Upstream(value))
		default:
			return errors.New("config: the keys are default, domain and tenants")
		}
		return nil
	})
	if err == nil && fallback.name == "" {
		err = errors.New("config.default is missing: the upstream of unknown tenants")
	}
	return err
}

func addTenant(key string, u wasmgate.Upstream) error {
	name := string(lowerLabel(key))
	switch {
	case name == "":
		return errors.New("config.tenants: a tenant's name has 1 to 63 bytes")
	case tenants[name] != nil:
		return errors.New("config.tenants: a tenant is there twice")
	}
	tenants[name] = &tenant{name, u}
	return nil
}

// lowerLabel returns s in lower case, until the next call; nil if it cannot be a tenant's name.
func lowerLabel(s string) []byte {
	if len(s) > maxName {
		return nil
	}
	for i := range len(s) {
		lower[i] = lowerByte(s[i])
	}
	return lower[:len(s)]
}

func lowerByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// hostLabel returns the one label in front of the domain; "" if there is none.
func hostLabel(host string) string {
	n := len(host) - len(domain) - 1
	if domain == "" || n < 1 || host[n] != '.' || strings.IndexByte(host[:n], '.') >= 0 {
		return ""
	}
	for i := range len(domain) {
		if lowerByte(host[n+1+i]) != domain[i] {
			return ""
		}
	}
	return host[:n]
}

func request(r *wasmgate.Request) wasmgate.Decision {
	if wasmgate.PathUnder(r.Path(), "/admin") {
		return wasmgate.Deny(403)
	}
	asked := r.Header(header)
	if asked == "" {
		asked = hostLabel(r.Host())
	}
	t := tenants[string(lowerLabel(asked))]
	if t == nil {
		t = &fallback
	}
	r.SetHeader("x-tenant-id", t.name)
	r.SetHeader("x-routed-by", "tenant-router")
	if r.Sampled() {
		r.Attribute("tenant.id", t.name)
	}
	return wasmgate.RouteTo(t.upstream)
}

func main() {} // never called: everything is registered in init
