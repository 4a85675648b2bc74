// A plugin that asks a service about each request before it lets it pass.
package main

import wasmgate "wasmgate/sdk/go"

var authz wasmgate.Service

func init() {
	wasmgate.Configure(func(c *wasmgate.Config) error {
		authz = c.Service("authz")
		return nil
	})
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		answer, err := r.Call(authz, wasmgate.OutboundRequest{Path: "/check" + r.Path()})
		switch {
		case err != nil:
			return wasmgate.Deny(502)
		case answer.Status() != 200:
			return wasmgate.Deny(403)
		}
		r.SetHeader("x-checked-by", answer.Header("x-backend"))
		return wasmgate.Continue
	})
}

func main() {} // never called
