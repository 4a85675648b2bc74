// authorisation asks a service who a request's credential belongs to, and keeps the answer for a while: see ../../README.md.
// The versions in other languages do the same.
package main

import (
	"errors"
	"strconv"

	wasmgate "wasmgate/sdk/go"
)

const maxKey = 1024 // of a store

var (
	credential = wasmgate.RequestHeader("authorization")
	asked      = wasmgate.NewCounter("asked", "requests to the service")
	service    wasmgate.Service
	store      wasmgate.Store
	path       string
	ttl        int64 // milliseconds, like timeout
	timeout    int
	known      []byte // what the store has; used again and again
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func configure(c *wasmgate.Config) error {
	path, ttl, timeout = "/authorise", 60_000, 1000
	hasService, hasStore := false, false
	err := c.Walk(func(key []string, value string) error {
		if len(key) != 1 {
			return errKeys
		}
		switch key[0] {
		case "service":
			service, hasService = c.Service(value), true
		case "store":
			store, hasStore = c.Store(value), true
		case "path":
			path = value
		case "ttl", "timeout":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil || n == 0 {
				return errors.New("config." + key[0] + " is a number of milliseconds, 1 to 2147483647")
			}
			if key[0] == "ttl" {
				ttl = int64(n) //nolint:gosec // 31 bits
			} else {
				timeout = int(n) //nolint:gosec // see above
			}
		default:
			return errKeys
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case !hasService:
		return errors.New("config.service is missing: the upstream that is asked")
	case !hasStore:
		return errors.New("config.store is missing: where answers are kept")
	}
	return nil
}

var errKeys = errors.New("config: the keys are service, store, path, ttl and timeout")

func request(r *wasmgate.Request) wasmgate.Decision {
	switch r.HeaderCount(credential) {
	case 0:
		return r.Respond(401, "", "www-authenticate", "Bearer")
	case 1:
	default:
		return wasmgate.Deny(400) // which of them would the upstream believe?
	}
	key := "authorisation/" + r.Header(credential)
	if len(key) <= maxKey {
		var version wasmgate.Version
		if known, version = store.Get(known[:0], key); version != 0 {
			return decide(r, string(known), "hit")
		}
	}
	asked.Add(1)
	answer, err := r.Call(service, wasmgate.OutboundRequest{Path: path, Header: []string{"authorization", r.Header(credential)}, Timeout: timeout})
	if err != nil {
		return wasmgate.Fail("the authorisation service: " + err.Error())
	}
	verdict := "-"
	switch answer.Status() {
	case 200:
		verdict = "+" + answer.Header("x-user")
	case 401, 403:
	default:
		return wasmgate.Fail("the authorisation service answered " + strconv.Itoa(answer.Status()))
	}
	if len(key) <= maxKey {
		_ = store.Set(key, []byte(verdict), ttl) // a store that is full only costs another question
	}
	return decide(r, verdict, "miss")
}

// decide does what the service said: "+" and who it is, or "-".
func decide(r *wasmgate.Request, verdict, cache string) wasmgate.Decision {
	if r.Sampled() {
		r.Attribute("authorisation.cache", cache)
	}
	if verdict[0] != '+' {
		return wasmgate.Deny(403)
	}
	if user := verdict[1:]; user != "" {
		r.SetHeader("x-user", user)
	} else {
		r.RemoveHeader("x-user")
	}
	return wasmgate.Continue
}

func main() {} // never called: everything is registered in init
