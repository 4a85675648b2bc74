package main

import (
	"errors"
	"strings"
	"time"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// settings are the plugin's configuration.
type settings struct {
	from       []kit.Template // where the token is
	algorithms [len(algorithms)]bool
	issuers    []string
	audiences  []string
	leeway     int64 // seconds
	optional   bool
	forward    bool

	wanted   []string // claims
	headers  []claimHeader
	required []requirement
	set      keySet
}

// path leads to a claim: the number of its first name among the wanted ones, and the names below it.
type path struct {
	first int
	rest  []string
}

type claimHeader struct {
	name string
	path *path
}

type requirement struct {
	path   *path
	values []string
}

var (
	conf          settings
	authorization wasmgate.Header
)

const maxHeaders = 32

func configure(c *wasmgate.Config) error {
	conf = settings{leeway: 30, forward: true, wanted: []string{claimIss: "iss", claimAud: "aud", claimExp: "exp", claimNbf: "nbf"}}
	keys.all, keys.static = nil, 0
	seen.version, seen.at = 0, 0
	forget()
	authorization = wasmgate.RequestHeader("authorization")
	leeway := 30 * time.Second
	var token, only, set kit.Value
	later := func(to *kit.Value) func(kit.Value) error { return func(v kit.Value) error { *to = v; return nil } }
	err := kit.Read(c, kit.Keys{
		"keys":       func(v kit.Value) error { return v.List(readKey) },
		"jwks":       later(&set),
		"algorithms": later(&only),
		"issuer":     texts(&conf.issuers),
		"audience":   texts(&conf.audiences),
		"leeway":     kit.Duration(&leeway, 0, time.Hour),
		"token":      later(&token),
		"optional":   kit.Bool(&conf.optional),
		"forward":    kit.Bool(&conf.forward),
		"headers":    func(v kit.Value) error { return v.Map(readHeaderOf) },
		"require":    func(v kit.Value) error { return v.Map(readRequirement) },
	})
	conf.leeway = int64(leeway / time.Second)
	keys.static = len(keys.all)
	wasmgate.HandleTick(0, nil)
	for _, step := range []func() error{
		func() error { return readFrom(token) },
		func() error { return readKeySet(set, c) },
		func() error { return readAlgorithms(only) },
	} {
		if err == nil {
			err = step()
		}
	}
	if err == nil && keys.static == 0 && !conf.set.declared {
		err = errors.New("config: keys or jwks is needed: what tokens are signed with")
	}
	return err
}

func texts(to *[]string) func(kit.Value) error {
	return func(v kit.Value) error {
		return v.List(func(v kit.Value) error {
			s, err := v.Text()
			*to = append(*to, s)
			return err
		})
	}
}

// readFrom reads where tokens are: texts with placeholders.
func readFrom(v kit.Value) error {
	if v.JSON() == nil {
		raw, _ := kit.ParseJSON([]byte(`"{header.authorization}"`)) // it is JSON
		v = kit.NewValue("config.token", raw)
	}
	return v.List(func(v kit.Value) error {
		t, err := v.Template(false)
		conf.from = append(conf.from, t)
		return err
	})
}

// readAlgorithms reads which algorithms are allowed; those of the keys, if nothing is said.
func readAlgorithms(v kit.Value) error {
	if v.JSON() == nil {
		for i := range keys.all {
			conf.algorithms[keys.all[i].alg] = true
		}
		if conf.set.declared {
			conf.algorithms[rs256], conf.algorithms[es256], conf.algorithms[eddsa] = true, true, true
		}
		return nil
	}
	return v.List(func(v kit.Value) error {
		s, _ := v.Text()
		for a := range algorithms {
			if algorithms[a].name == s {
				conf.algorithms[a] = true
				return nil
			}
		}
		return v.Wrong("is not one of HS256, RS256, ES256 and EdDSA")
	})
}

// readKey reads a key of the configuration: a JWK, or one with pem or secret.
func readKey(v kit.Value) error {
	var k key
	problem, kinds := "", 0
	jwk, n := v.JSON().Get("kty")
	if n > 0 && jwk != nil {
		var other bool
		if k, other, problem = readJWK(v.JSON()); other && problem == "" {
			problem = "it is not for HS256, RS256, ES256 or EdDSA"
		}
		kinds = 1
	} else if err := v.Object(kit.Keys{
		"kid": kit.Text(&k.id),
		"pem": func(v kit.Value) error {
			s, err := v.Text()
			id := k.id
			k, problem = readPEM(s)
			k.id = id
			kinds++
			return err
		},
		"secret": func(v kit.Value) error {
			s, err := v.Text()
			k.alg, k.secret = hs256, []byte(s)
			problem = k.problem()
			kinds++
			return err
		},
	}); err != nil {
		return err
	}
	switch {
	case kinds != 1:
		problem = "it has not one of pem, secret and kty (then it is a JWK)"
	case len(keys.all) == maxKeys:
		problem = "there are too many"
	}
	if problem != "" {
		return errors.New(v.Path() + ": this is no key: " + problem) // without what it is: it may be a secret
	}
	keys.all = append(keys.all, k)
	return nil
}

// readHeaderOf reads a header and the claim that it has.
func readHeaderOf(name string, v kit.Value) error {
	if err := v.Editable(name); err != nil {
		return err
	}
	p, err := readPath(v)
	if err != nil {
		return err
	}
	name = kit.Lower(name)
	conf.headers = append(conf.headers, claimHeader{name, p})
	if len(conf.headers) > maxHeaders {
		return v.Wrong("is one header too many")
	}
	return nil
}

// readPath reads a claim: names with dots between them, or a list of names, which may have dots in them.
func readPath(v kit.Value) (*path, error) {
	var names []string
	if v.JSON().Kind() == '[' {
		if err := texts(&names)(v); err != nil {
			return nil, err
		}
	} else {
		s, err := v.Text()
		if err != nil {
			return nil, err
		}
		names = strings.Split(s, ".")
	}
	return pathOf(v, names)
}

func pathOf(v kit.Value, names []string) (*path, error) {
	for _, s := range names {
		if s == "" || len(s) > 128 {
			return nil, v.Wrong("is not the name of a claim, nor names with dots between them")
		}
	}
	if len(names) == 0 || len(names) > kit.MaxDepth {
		return nil, v.Wrong("is not the path of a claim")
	}
	p := &path{first: -1, rest: names[1:]}
	for i, w := range conf.wanted {
		if w == names[0] {
			p.first = i
		}
	}
	if p.first < 0 {
		if len(conf.wanted) == maxClaims {
			return nil, v.Wrong("is one claim too many")
		}
		p.first = len(conf.wanted)
		conf.wanted = append(conf.wanted, names[0])
	}
	return p, nil
}

// readRequirement reads a claim and what it must be.
func readRequirement(claim string, v kit.Value) error {
	p, err := pathOf(v, strings.Split(claim, "."))
	if err != nil {
		return err
	}
	q := requirement{path: p}
	if err = texts(&q.values)(v); err == nil && len(q.values) == 0 {
		err = v.Wrong("can never be")
	}
	conf.required = append(conf.required, q)
	return err
}

func readKeySet(v kit.Value, c *wasmgate.Config) error {
	if v.JSON() == nil {
		return nil
	}
	service, store, target := "", "", "/.well-known/jwks.json"
	every, keep, cooldown, timeout := 10*time.Minute, 24*time.Hour, 30*time.Second, 5*time.Second
	s := &conf.set
	err := v.Object(kit.Keys{
		"service":  kit.Text(&service),
		"store":    kit.Text(&store),
		"path":     kit.Text(&target),
		"host":     kit.Text(&s.authority),
		"refresh":  kit.Duration(&every, time.Second, time.Hour),
		"keep":     kit.Duration(&keep, time.Second, 30*24*time.Hour),
		"cooldown": kit.Duration(&cooldown, time.Second, time.Hour),
		"timeout":  kit.Duration(&timeout, time.Millisecond, time.Minute),
	})
	switch {
	case err != nil:
		return err
	case service == "":
		return v.Missing("service", "the upstream that has the key set, one of the plugin's calls")
	case store == "":
		return v.Missing("store", "where it is kept: one of the plugin's state")
	case target[0] != '/':
		return errors.New(v.Path() + ".path: " + target + " does not begin with /")
	case keep <= every:
		return v.Wrong("has keep not above refresh: the keys would be gone before there are others")
	}
	s.declared, s.service, s.store = true, c.Service(service), c.Store(store)
	s.path, s.query, _ = strings.Cut(target, "?")
	s.timeout, s.keep, s.cooldown = int(timeout/time.Millisecond), int64(keep/time.Millisecond), int64(cooldown/time.Millisecond)
	s.document = c.Name() + "/jwks/" + service + "/" + s.authority + target
	s.turn = s.document + "/turn"
	wasmgate.HandleTick(int(every/time.Millisecond), tick)
	return nil
}
