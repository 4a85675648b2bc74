// jwt-check lets requests in that bring a valid JSON Web Token: see README.md.
package main

import (
	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

var (
	accepted = wasmgate.NewCounter("accepted", "requests with a valid token")
	refused  = wasmgate.NewCounter("refused", "requests without one")
	fetched  = wasmgate.NewCounter("fetched", "times that the key set was fetched")
	unread   = wasmgate.NewCounter("fetch_failed", "times that it could not be had")

	raw    = make([]byte, 0, 2*kit.MaxText) // what has the token
	text   = make([]byte, 0, 2*kit.MaxText) // a claim's
	fields = make([]string, 0, 16)
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

// problem says why a request is not let in; "" if it is.
type problem string

const (
	// missing, unavailable and insufficient have answers of their own.
	missing      problem = "no token"
	unavailable  problem = "no keys"
	insufficient problem = "the token does not grant this"
)

func request(r *wasmgate.Request) wasmgate.Decision {
	token, p := tokenOf(r)
	if p == missing && conf.optional {
		return admit(r, nil)
	}
	var c *claims
	if p == "" {
		c, p = check(r, token)
	}
	if p == "" {
		p = c.require()
	}
	if p != "" {
		refused.Add(1)
		return refuse(r, p)
	}
	accepted.Add(1)
	return admit(r, c)
}

// tokenOf finds the request's token. A scheme in front of it, as in Authorization, must be Bearer.
func tokenOf(r *wasmgate.Request) (token string, p problem) {
	for i := range conf.from {
		var fits bool
		if raw, fits = conf.from[i].Append(raw[:0], r); !fits {
			return "", "the token is too long"
		}
		if len(raw) == 0 {
			continue
		}
		token = kit.View(raw)
		if at := space(token); at < len(token) {
			if !kit.EqualFold(token[:at], "bearer") {
				continue // other credentials
			}
			for at < len(token) && token[at] == ' ' {
				at++
			}
			token = token[at:]
		}
		return token, ""
	}
	return "", missing
}

// space is the place of the first one, or the end.
func space(s string) int {
	i := 0
	for i < len(s) && s[i] != ' ' {
		i++
	}
	return i
}

// admit lets the request go on, with the claims in headers; without claims, in none: what a client says there is gone.
func admit(r *wasmgate.Request, c *claims) wasmgate.Decision {
	for i := range conf.headers {
		h := &conf.headers[i]
		text = text[:0]
		if c != nil {
			text = c.appendText(text, h.path)
		}
		if len(text) == 0 || len(text) > kit.MaxText || !kit.FieldValue(kit.View(text)) {
			r.RemoveHeader(h.name)
		} else {
			r.SetHeader(h.name, kit.View(text))
		}
	}
	if !conf.forward && r.HeaderCount(authorization) > 0 {
		r.RemoveHeader("authorization")
	}
	return wasmgate.Continue
}

// refuse answers as RFC 6750, 3 says.
func refuse(r *wasmgate.Request, p problem) wasmgate.Decision {
	if r.Sampled() {
		r.Attribute("jwt.refused", string(p))
	}
	status, challenge := 401, "Bearer"
	switch p {
	case missing:
	case unavailable:
		fields = append(fields[:0], "retry-after", "1", "cache-control", "no-store")
		return r.Respond(503, "", fields...)
	case insufficient:
		status, challenge = 403, `Bearer error="insufficient_scope"`
	default:
		text = append(append(append(text[:0], `Bearer error="invalid_token", error_description="`...), p...), '"')
		challenge = kit.View(text)
	}
	fields = append(fields[:0], "www-authenticate", challenge, "cache-control", "no-store")
	return r.Respond(status, "", fields...)
}

func main() {} // never called: everything is registered in init
