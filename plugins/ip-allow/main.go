// ip-allow lets clients in by their address: see README.md.
package main

import (
	"errors"
	"net/netip"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// settings are the plugin's configuration.
type settings struct {
	allow, deny  kit.Networks
	allowOnly    bool // there is a list of those that may come in
	status       int
	body         string
	reportDenied bool
}

var conf settings

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func configure(c *wasmgate.Config) error {
	conf = settings{status: 403}
	var denies bool
	err := kit.Read(c, kit.Keys{
		"allow":  list(&conf.allow, &conf.allowOnly),
		"deny":   list(&conf.deny, &denies),
		"status": kit.Int(&conf.status, 400, 599),
		"body":   kit.Text(&conf.body),
		"log":    kit.Bool(&conf.reportDenied),
	})
	if err == nil && !conf.allowOnly && !denies {
		err = errors.New("config: allow or deny is needed, a list of networks")
	}
	return err
}

// list reads networks. One that is there lets nobody in if it is empty, or keeps nobody out: there says that it is.
func list(to *kit.Networks, there *bool) func(kit.Value) error {
	return func(v kit.Value) error {
		*there = true
		if err := v.List(to.Add); err != nil {
			return err
		}
		to.Seal()
		return nil
	}
}

func request(r *wasmgate.Request) wasmgate.Decision {
	a, ok := kit.ParseClient(r.Client())
	if ok && allowed(a) {
		return wasmgate.Continue
	}
	if conf.reportDenied {
		r.Log(wasmgate.Info, "keeps out "+r.Client())
	}
	if conf.body == "" {
		return wasmgate.Deny(conf.status)
	}
	return r.Respond(conf.status, conf.body, "content-type", "text/plain; charset=utf-8", "cache-control", "no-store")
}

func allowed(a netip.Addr) bool {
	return !conf.deny.Contains(a) && (!conf.allowOnly || conf.allow.Contains(a))
}

func main() {} // never called: everything is registered in init
