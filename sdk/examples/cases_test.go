package examples

import "strings"

const tenants = `{"default": "users", "domain": "Example.com", "tenants": {"acme": "acme-upstream", "Globex": "globex-upstream", "x\u00e9": "globex-upstream"}}`

// routed is what comes of a request for a tenant.
func routed(upstream, tenant string, more ...string) string {
	return "continue with upstream " + upstream + "\n> GET example.com /\n" + strings.Join(more, "") + "> x-tenant-id: " + tenant + "\n> x-routed-by: tenant-router\n"
}

func field(name, value string) string { return "> " + name + ": " + value + "\n" }

// at is an outcome with another authority or path.
func at(target, outcome string) string {
	return strings.Replace(outcome, "example.com /", target, 1)
}

// allowed is what comes of a request whose credential is good; user is empty for one that has no name.
func allowed(user, credential string) string {
	s := "continue\n> GET example.com /\n> " + credential + "\n"
	if user != "" {
		s += "> " + user + "\n"
	}
	return s
}

// called is the line about a call of the service.
func called(credential string) string {
	return "called 9 GET /authorise for 1s, authorization: " + credential + "\n"
}

func long(n int) string { return strings.Repeat("l", n) }

var suites = []suite{
	{name: "tenants", example: "tenant-router", config: tenants, steps: []step{
		{message{}, routed("1", "default")},
		{message{fields: []string{"X-Tenant: acme"}}, routed("2", "acme", field("x-tenant", "acme"))},
		{message{fields: []string{"X-Tenant: ACME", "X-Tenant: globex"}}, routed("2", "acme", field("x-tenant", "ACME"), field("x-tenant", "globex"))},
		{message{fields: []string{"X-Tenant: gLOBEX"}, sampled: true}, routed("3", "globex", field("x-tenant", "gLOBEX")) + "attribute tenant.id: globex\n"},
		{message{fields: []string{"X-Tenant: unknown"}, sampled: true}, routed("1", "default", field("x-tenant", "unknown")) + "attribute tenant.id: default\n"},
		{message{fields: []string{"X-Tenant-Id: forged", "X-Routed-By: me"}}, "continue with upstream 1\n> GET example.com /\n> x-tenant-id: default\n> x-routed-by: tenant-router\n"},
		{message{fields: []string{"X-Tenant: x\xc3\xa9"}}, routed("3", "x\xc3\xa9", field("x-tenant", "x\xc3\xa9"))},
		{message{fields: []string{"X-Tenant: \xff"}}, routed("1", "default", field("x-tenant", "\xff"))},
		{message{fields: []string{"X-Tenant:"}}, routed("1", "default", "> x-tenant: \n")},
		{message{fields: []string{"X-Tenant: " + strings.Repeat("a", 63)}}, routed("1", "default", field("x-tenant", strings.Repeat("a", 63)))},
		{message{fields: []string{"X-Tenant: " + strings.Repeat("a", 5000)}}, routed("1", "default", field("x-tenant", strings.Repeat("a", 5000)))},
		{message{host: "acme.example.com"}, at("acme.example.com /", routed("2", "acme"))},
		{message{host: "Acme.EXAMPLE.com:8080"}, at("Acme.EXAMPLE.com:8080 /", routed("2", "acme"))},
		{message{host: "a.acme.example.com"}, at("a.acme.example.com /", routed("1", "default"))},
		{message{host: "acme.example.org"}, at("acme.example.org /", routed("1", "default"))},
		{message{host: "acmeexample.com"}, at("acmeexample.com /", routed("1", "default"))},
		{message{host: "[::1]:80"}, at("[::1]:80 /", routed("1", "default"))},
		{message{host: "acme.example.com", fields: []string{"X-Tenant: globex"}}, at("acme.example.com /", routed("3", "globex", field("x-tenant", "globex")))},
		{message{line: "GET /admin"}, "respond\n< 403\n"},
		{message{line: "POST /admin/x?y", fields: []string{"X-Tenant: acme"}}, "respond\n< 403\n"},
		{message{line: "GET /administer"}, at("example.com /administer", routed("1", "default"))},
		{message{line: "GET /a/admin"}, at("example.com /a/admin", routed("1", "default"))},
	}},
	{name: "no domain", example: "tenant-router", config: `{"default": "users", "tenants": {"acme": "acme-upstream"}}`, steps: []step{
		{message{host: "acme."}, at("acme. /", routed("1", "default"))},
		{message{fields: []string{"x-tenant: acme"}}, routed("2", "acme", field("x-tenant", "acme"))},
	}},
	{name: "no tenants", example: "tenant-router", config: `{"default": "acme-upstream"}`, steps: []step{
		{message{fields: []string{"x-tenant: acme"}}, routed("2", "default", field("x-tenant", "acme"))},
	}},

	{name: "nothing", example: "header-policy", steps: []step{
		{message{fields: []string{"A: 1"}, answer: "200 OK", headers: []string{"Server: x"}}, "continue\n> GET example.com /\n> a: 1\ncontinue\n< 200\n< server: x\n"},
	}},
	{name: "requests", example: "header-policy", config: `{"request": {
			"remove": ["Cookie", "x-gone", "x-none"], "rename": {"X-Old": "x-new", "x-absent": "x-kept"},
			"set": {"x-set": "1", "X-Empty": "", "x-utf8": "\u00e9\ud83d\ude00"}, "append": {"x-add": "last", "x-set": "2"}}}`,
		steps: []step{
			{message{fields: []string{"Cookie: a=1", "cookie: b=2", "X-Gone: 1", "Accept: */*"}, answer: "200 OK", headers: []string{"Cookie: 1", "X-Old: 2"}}, `
				continue
				> GET example.com /
				> accept: */*
				> x-set: 1
				> x-empty: 
				> x-utf8: é😀
				> x-add: last
				> x-set: 2
				continue
				< 200
				< cookie: 1
				< x-old: 2
			`},
			{message{fields: []string{"x-old: 1", "X-New: forged", "X-OLD: 2\xff", "x-old:", "X-Set: a", "X-Set: b", "X-Add: first", "X-Kept: stays"}}, `
				continue
				> GET example.com /
				> x-new: 1
				> x-set: 1
				> x-add: first
				> x-kept: stays
				> x-new: 2` + "\xff" + `
				> x-new: 
				> x-empty: 
				> x-utf8: é😀
				> x-add: last
				> x-set: 2
			`},
		}},
	{name: "answers", example: "header-policy", config: `{"response": {"remove": ["server"], "rename": {"x-a": "x-b"}, "set": {"x-frame-options": "deny"}, "append": {"vary": "origin"}}}`,
		steps: []step{
			{message{fields: []string{"Server: not this", "X-A: nor this"}, answer: "404 Not Found", headers: []string{"Server: x", "X-A: 1", "X-A: 2", "Vary: accept", "X-Frame-Options: sameorigin"}}, `
				continue
				> GET example.com /
				> server: not this
				> x-a: nor this
				continue
				< 404
				< vary: accept
				< x-frame-options: deny
				< x-b: 1
				< x-b: 2
				< vary: origin
			`},
		}},
	{name: "what a plugin must not do", example: "header-policy", config: `{"request": {"set": {"content-length": "7"}}}`, steps: []step{
		{message{}, "failed: plugin_answer\n> GET example.com /\n"},
	}},
	{name: "credentials", example: "authorisation", config: `{"service": "auth", "store": "cache"}`, steps: []step{
		{message{}, "respond\n< 401\n< www-authenticate: Bearer\n"},
		{message{fields: []string{"Authorization: Bearer ann", "X-User: forged"}, sampled: true},
			allowed("x-user: ann", "authorization: Bearer ann") + "attribute authorisation.cache: miss\n" + called("Bearer ann")},
		{message{fields: []string{"Authorization: Bearer ann", "X-User: forged"}, sampled: true}, allowed("x-user: ann", "authorization: Bearer ann") + "attribute authorisation.cache: hit\n"},
		{message{fields: []string{"authorization: Bearer bob"}}, allowed("x-user: bob", "authorization: Bearer bob") + called("Bearer bob")},
		{message{fields: []string{"authorization: bearer bob"}}, "error \"the authorisation service: no connection to the upstream\"\n> GET example.com /\n> authorization: bearer bob\n" + called("bearer bob")},
		{message{fields: []string{"authorization: Nobody", "X-User: forged"}}, allowed("", "authorization: Nobody") + called("Nobody")},
		{message{fields: []string{"authorization: Nobody", "X-User: forged"}}, allowed("", "authorization: Nobody")},
		{message{fields: []string{"authorization: Bad 1"}, sampled: true}, "respond\n< 403\nattribute authorisation.cache: miss\n" + called("Bad 1")},
		{message{fields: []string{"authorization: Bad 1"}, sampled: true}, "respond\n< 403\nattribute authorisation.cache: hit\n"},
		{message{fields: []string{"authorization: Unknown"}}, "respond\n< 403\n" + called("Unknown")},
		{message{fields: []string{"authorization: Unknown"}}, "respond\n< 403\n"},
		{message{fields: []string{"authorization: Broken"}}, "error \"the authorisation service answered 500\"\n> GET example.com /\n> authorization: Broken\n" + called("Broken")},
		{message{fields: []string{"authorization: Broken"}}, "error \"the authorisation service answered 500\"\n> GET example.com /\n> authorization: Broken\n" + called("Broken")},
		{message{fields: []string{"authorization: Late"}}, "error \"the authorisation service: no answer in time\"\n> GET example.com /\n> authorization: Late\n" + called("Late")},
		{message{fields: []string{"authorization: Bearer ann", "Authorization: Bearer bob"}}, "respond\n< 400\n"},
		{message{fields: []string{"authorization:"}}, "error \"the authorisation service: no connection to the upstream\"\n> GET example.com /\n> authorization: \n" + called("")},
		{message{fields: []string{"authorization: Bearer \xc3\xa9\xff"}}, allowed("x-user: \xc3\xa9\xff", "authorization: Bearer \xc3\xa9\xff") + called("Bearer \xc3\xa9\xff")},
		{message{fields: []string{"authorization: Bearer \xc3\xa9\xff"}}, allowed("x-user: \xc3\xa9\xff", "authorization: Bearer \xc3\xa9\xff")},
		{message{fields: []string{"authorization: Bearer " + long(980)}}, allowed("x-user: "+long(980), "authorization: Bearer "+long(980)) + called("Bearer "+long(980))},
		{message{fields: []string{"authorization: Bearer " + long(980)}}, allowed("x-user: "+long(980), "authorization: Bearer "+long(980))},
		// A key of 1024 bytes is kept, and its value too large for this store; one of 1025 bytes is not kept.
		{message{fields: []string{"authorization: Bearer " + long(1003)}}, allowed("x-user: "+long(1003), "authorization: Bearer "+long(1003)) + called("Bearer "+long(1003))},
		{message{fields: []string{"authorization: Bearer " + long(1004)}}, allowed("x-user: "+long(1004), "authorization: Bearer "+long(1004)) + called("Bearer "+long(1004))},
		{message{fields: []string{"authorization: Bearer " + long(1004)}}, allowed("x-user: "+long(1004), "authorization: Bearer "+long(1004)) + called("Bearer "+long(1004))},
		{message{fields: []string{"authorization: Bad " + long(1005)}}, "respond\n< 403\n" + called("Bad "+long(1005))},
		{message{fields: []string{"authorization: Bad " + long(1005)}}, "respond\n< 403\n"},
	}},
	{name: "another path and another time", example: "authorisation", config: `{"service": "auth", "store": "cache", "path": "/who", "ttl": "1", "timeout": 250}`, steps: []step{
		{message{fields: []string{"authorization: Bad"}}, "respond\n< 403\n" + strings.NewReplacer("/authorise", "/who", "1s", "250ms").Replace(called("Bad"))},
	}},
	{name: "a path that is none", example: "authorisation", config: `{"service": "auth", "store": "cache", "path": "/who?"}`, steps: []step{
		{message{fields: []string{"authorization: Bad"}}, "error \"the authorisation service: not a valid request\"\n> GET example.com /\n> authorization: Bad\n"},
	}},

	{name: "one header to another twice", example: "header-policy", config: `{"request": {"rename": {"x-a": "x-b", "x-b": "x-a"}}}`, steps: []step{
		{message{fields: []string{"x-a: 1", "x-b: 2"}}, "continue\n> GET example.com /\n> x-a: 2\n"},
	}},
}

const (
	tenantKeys = "config: the keys are default, domain and tenants"
	policyKeys = "config: the keys are request and response, with remove, rename, set and append in each"
	authKeys   = "config: the keys are service, store, path, ttl and timeout"
	noJSON     = "the configuration is not JSON"
	tooDeep    = "the configuration is nested too deeply"
)

// refusals are configurations, by example, and what is said about each.
var refusals = map[string]map[string]string{
	"tenant-router": {
		"":                                   "config.default is missing: the upstream of unknown tenants",
		`{"tenants": {"a": "users"}}`:        "config.default is missing: the upstream of unknown tenants",
		`{"defualt": "users"}`:               tenantKeys,
		`"users"`:                            tenantKeys,
		`{"default": ["users"]}`:             tenantKeys,
		`{"default": "users", "tenants": 1}`: tenantKeys,
		`{"default": "users", "tenants": {"": "users"}}`:                                     "config.tenants: a tenant's name has 1 to 63 bytes",
		`{"default": "users", "tenants": {"` + strings.Repeat("a", 64) + `": "users"}}`:      "config.tenants: a tenant's name has 1 to 63 bytes",
		`{"default": "users", "tenants": {"` + strings.Repeat("\u00e9", 32) + `": "users"}}`: "config.tenants: a tenant's name has 1 to 63 bytes",
		`{"default": "users", "tenants": {"a": "users", "A": "acme-upstream"}}`:              "config.tenants: a tenant is there twice",
		`{"default": "users"`:                              noJSON,
		`{"default": "users"} x`:                           noJSON,
		`{"default": "us` + "\n" + `ers"}`:                 noJSON,
		`{"default": "\x"}`:                                noJSON,
		strings.Repeat("[", 18) + strings.Repeat("]", 18):  tooDeep,
		`{"default": "nowhere", "tenants": {"a": "away"}}`: "it wants to choose upstreams that it is not granted: nowhere, away (grant them in the plugin's upstreams)",
	},
	"authorisation": {
		"":                                      "config.service is missing: the upstream that is asked",
		`{"service":"auth"}`:                    "config.store is missing: where answers are kept",
		`{"store":"cache"}`:                     "config.service is missing: the upstream that is asked",
		`{"auth": "x"}`:                         authKeys,
		`"x"`:                                   authKeys,
		`{"service": ["a"]}`:                    authKeys,
		`{"ttl": 0}`:                            "config.ttl is a number of milliseconds, 1 to 2147483647",
		`{"ttl": "-1"}`:                         "config.ttl is a number of milliseconds, 1 to 2147483647",
		`{"ttl": "+1"}`:                         "config.ttl is a number of milliseconds, 1 to 2147483647",
		`{"ttl": ""}`:                           "config.ttl is a number of milliseconds, 1 to 2147483647",
		`{"timeout": 1.5}`:                      "config.timeout is a number of milliseconds, 1 to 2147483647",
		`{"ttl": 2147483648}`:                   "config.ttl is a number of milliseconds, 1 to 2147483647",
		`{"service": "none", "store": "cache"}`: "it wants to call upstreams that it is not granted: none (grant them in the plugin's calls)",
		`{"service": "auth", "store": "none"}`:  "it wants to use stores that it is not granted: none (grant them in the plugin's state)",
	},
	"header-policy": {
		`{"request": {"sets": {"a": "b"}}}`:    policyKeys,
		`{"requests": {"set": {"a": "b"}}}`:    policyKeys,
		`{"request": {"set": "a"}}`:            policyKeys,
		`12`:                                   policyKeys,
		`{"request": {"set": {"": "b"}}}`:      "config: a header has no name",
		`{"response": {"remove": ["a", ""]}}`:  "config: a header has no name",
		`{"response": {"rename": {"": "b"}}}`:  "config: a header has no name",
		`{"response": {"rename": {"a": ""}}}`:  "config: a header has no name",
		`{"request": {"append": {"": "b"}}}`:   "config: a header has no name",
		`{"request": {"set": {"a": {}, "b"}}}`: noJSON,
	},
}
