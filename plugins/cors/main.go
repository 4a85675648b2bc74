// cors lets pages of other origins use what is behind the gateway, as the Fetch standard says: see README.md.
package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// maxOrigin is how long an origin can be: a scheme, a name of 253 bytes, and a port.
const maxOrigin = 300

// settings are the plugin's configuration.
type settings struct {
	any         bool            // every origin
	exact       map[string]bool // by the origin in lower case
	wild        map[string]bool // the same of those with *., as "https://" and ".example.com:443"
	anyPort     map[string]bool // the same of those with :*, without it
	credentials bool
	methods     string // with commas
	headers     string // likewise; "" with anyHeader: what the page asks for
	anyHeader   bool
	expose      string
	maxAge      string
}

var (
	conf      settings
	origin    = wasmgate.RequestHeader("origin")
	method    = wasmgate.RequestHeader("access-control-request-method")
	headers   = wasmgate.RequestHeader("access-control-request-headers")
	vary      = wasmgate.ResponseHeader("vary")
	candidate [maxOrigin + 8]byte // the key that is looked up
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
	wasmgate.HandleResponse(response)
}

func configure(c *wasmgate.Config) error {
	conf = settings{exact: map[string]bool{}, wild: map[string]bool{}, anyPort: map[string]bool{}, methods: "GET, HEAD, POST"}
	age := 5 * time.Minute
	err := kit.Read(c, kit.Keys{
		"origins":     func(v kit.Value) error { return v.List(addOrigin) },
		"credentials": kit.Bool(&conf.credentials),
		"methods":     names(&conf.methods, nil),
		"headers":     names(&conf.headers, &conf.anyHeader),
		"expose":      names(&conf.expose, nil),
		"max_age":     kit.Duration(&age, 0, 24*time.Hour),
	})
	conf.maxAge = strconv.Itoa(int(age / time.Second))
	switch {
	case err != nil:
	case !conf.any && len(conf.exact)+len(conf.wild)+len(conf.anyPort) == 0:
		err = errors.New(`config.origins is missing: the origins whose pages may use this, such as https://app.example.com, https://*.example.com, or "*" for all`)
	case conf.any && conf.credentials:
		err = errors.New(`config.origins: "*" with credentials would have every page of the world act for its visitors: name the origins`)
	case conf.credentials && conf.exact["null"]:
		err = errors.New(`config.origins: "null" with credentials would have every page of the world act for its visitors, by a frame without an origin`)
	}
	return err
}

// addOrigin takes an origin: scheme://host or scheme://host:port, where the host can begin with "*." and the port can be *.
func addOrigin(v kit.Value) error {
	s, err := v.Text()
	if err != nil {
		return err
	}
	s = kit.Lower(s)
	if s == "*" {
		conf.any = true
		return nil
	}
	if s == "null" {
		conf.exact[s] = true
		return nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	host, port := cutPort(rest)
	if !ok || scheme == "" || host == "" || len(s) > maxOrigin || !plain(rest) {
		return v.Wrong("is not an origin such as https://app.example.com or http://localhost:3000, without a path")
	}
	if port != "*" && port != "" && !isPort(port) {
		return v.Wrong("has a port that is none")
	}
	if scheme == "http" && port == "80" || scheme == "https" && port == "443" {
		return v.Wrong("names the port that goes without saying; browsers leave it out")
	}
	name, wild := strings.CutPrefix(host, "*.")
	switch {
	case strings.Contains(name, "*"):
		return v.Wrong(`has a * that is not for whole labels in front, as in https://*.example.com`)
	case wild && !strings.Contains(name, "."):
		return v.Wrong("would let in all of a top-level domain")
	case wild && port == "*":
		return v.Wrong("has * for both the name and the port")
	case wild:
		conf.wild[scheme+"://."+rest[2:]] = true
	case port == "*":
		conf.anyPort[scheme+"://"+host] = true
	default:
		conf.exact[s] = true
	}
	return nil
}

// cutPort divides host:port. An IPv6 address is in brackets.
func cutPort(s string) (host, port string) {
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ']') {
		return s[:i], s[i+1:]
	}
	return s, ""
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 1<<16 && s[0] != '0' && s[0] != '+'
}

// plain says whether s is printable ASCII without what ends an authority, or is no part of an origin's.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '/' || c == '?' || c == '#' || c == '@' || c == ',' {
			return false
		}
	}
	return true
}

// names reads tokens, which become one text with commas; "*" is taken only where everything can stand for it.
func names(to *string, everything *bool) func(kit.Value) error {
	return func(v kit.Value) error {
		var list []string
		err := v.List(func(v kit.Value) error {
			s, err := v.Text()
			switch {
			case err != nil:
				return err
			case s == "*" && everything != nil:
				*everything = true
				return nil
			case s == "*" || !kit.Token(s):
				return v.Wrong("is not a name")
			}
			list = append(list, s)
			return nil
		})
		*to = strings.Join(list, ", ")
		return err
	}
}

// request answers preflight requests. Others go on whoever sends them: it is the browser that keeps the answer from a page.
func request(r *wasmgate.Request) wasmgate.Decision {
	if r.Method() != "OPTIONS" || r.HeaderCount(origin) == 0 || r.HeaderCount(method) == 0 {
		return wasmgate.Continue
	}
	const varies = "origin, access-control-request-method, access-control-request-headers"
	if !allowed(r) {
		return r.Respond(403, "this origin is not allowed here\n", "content-type", "text/plain", "vary", varies)
	}
	fields = append(fields[:0], "vary", varies, allowOrigin, conf.named(r), "access-control-allow-methods", conf.methods, "access-control-max-age", conf.maxAge)
	if conf.credentials {
		fields = append(fields, allowCredentials, "true")
	}
	asked := r.Header(headers)
	switch {
	case conf.anyHeader && asked != "" && r.HeaderCount(headers) == 1 && len(asked) <= kit.MaxText:
		fields = append(fields, "access-control-allow-headers", asked)
	case conf.headers != "":
		fields = append(fields, "access-control-allow-headers", conf.headers)
	}
	return r.Respond(204, "", fields...)
}

// named is the value that allows the request's origin.
func (s *settings) named(x kit.Exchange) string {
	if s.any {
		return "*"
	}
	return x.HeaderAt(origin, 0)
}

// allowed says whether pages of the request's origin may see the answer.
func allowed(x kit.Exchange) bool {
	if conf.any {
		return true
	}
	if x.HeaderCount(origin) != 1 {
		return false
	}
	s := x.HeaderAt(origin, 0)
	if len(s) > maxOrigin {
		return false
	}
	return lookUp(candidate[:lower(candidate[:], s)])
}

// lower writes s to b, in lower case.
func lower(b []byte, s string) int {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		b[i] = c
	}
	return len(s)
}

// lookUp looks for an origin in lower case, and spoils it.
func lookUp(b []byte) bool {
	if conf.exact[string(b)] {
		return true
	}
	host := 0 // where it begins
	for host < len(b) && b[host] != '/' {
		host++
	}
	if host += 2; host >= len(b) {
		return false
	}
	if colon := len(b) - 1; len(conf.anyPort) > 0 {
		for colon > host && b[colon] >= '0' && b[colon] <= '9' {
			colon--
		}
		if b[colon] != ':' {
			colon = len(b)
		}
		if conf.anyPort[string(b[:colon])] {
			return true
		}
	}
	if len(conf.wild) == 0 {
		return false
	}
	// The scheme is written in front of each dot of the name, over what was there: https://.example.com.
	for i := host; i < len(b); i++ {
		switch c := b[i]; {
		case c == '.' && i > host:
			copy(b[i-host:i], b[:host])
			if conf.wild[string(b[i-host:])] {
				return true
			}
			copy(b[:host], b[i-host:i]) // where the two overlap
		case (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_':
			return false // the port, or what no browser sends
		}
	}
	return false
}

const (
	allowOrigin      = "access-control-allow-origin"
	allowCredentials = "access-control-allow-credentials"
)

// fields are those of the answer under way.
var fields = make([]string, 0, 16)

// response says who may read the answer, whoever made it: the upstream's own opinion is gone.
func response(r *wasmgate.Response) wasmgate.Decision {
	if !conf.any && !variesByOrigin(r) {
		r.AppendHeader("vary", "origin") // even without one: a cache must not give this answer to others
	}
	if !allowed(r) {
		for i := range ours {
			if r.HeaderCount(ours[i].field) > 0 {
				r.RemoveHeader(ours[i].name)
			}
		}
		return wasmgate.Continue
	}
	r.SetHeader(allowOrigin, conf.named(r))
	if conf.credentials {
		r.SetHeader(allowCredentials, "true")
	} else if r.HeaderCount(ours[1].field) > 0 {
		r.RemoveHeader(allowCredentials)
	}
	if conf.expose != "" {
		r.SetHeader("access-control-expose-headers", conf.expose)
	}
	return wasmgate.Continue
}

// ours are the fields by which an answer says who may read it.
var ours = []struct {
	name  string
	field wasmgate.Header
}{
	{allowOrigin, wasmgate.ResponseHeader(allowOrigin)},
	{allowCredentials, wasmgate.ResponseHeader(allowCredentials)},
}

// variesByOrigin says whether the answer's Vary says so already.
func variesByOrigin(r *wasmgate.Response) bool {
	for k := range r.HeaderCount(vary) {
		s := r.HeaderAt(vary, k)
		for s = s[:min(len(s), 512)]; s != ""; { // that of an upstream gone mad is said once more
			var name string
			name, s, _ = strings.Cut(s, ",")
			if name = strings.Trim(name, " \t"); name == "*" || kit.EqualFold(name, "origin") {
				return true
			}
		}
	}
	return false
}

func main() {} // never called: everything is registered in init
