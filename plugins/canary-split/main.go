// canary-split divides requests among variants, by weight: see README.md.
package main

import (
	"errors"
	"math"
	"strconv"
	"time"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// variant is one of the ways that a request can go.
type variant struct {
	name     string
	weight   float64
	routes   bool // to its own upstream; otherwise the route's
	upstream wasmgate.Upstream
	hash     uint64
}

const maxVariants = 16

var (
	variants []variant
	force    []kit.Template // the first that is not empty names the variant
	keys     []kit.Template // the first that is not empty decides
	salt     uint64
	header   string // that tells the upstream
	cookie   struct {
		name    string
		seconds int64
		field   wasmgate.Header
	}
	scratch = make([]byte, 0, 2*kit.MaxText)
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func configure(c *wasmgate.Config) error {
	variants, force, keys, salt, header = nil, nil, nil, hash(offset, c.Name()), ""
	cookie.name = ""
	err := kit.Read(c, kit.Keys{
		"variants": func(v kit.Value) error {
			return v.Map(func(name string, v kit.Value) error { return readVariant(c, name, v) })
		},
		"force":  templates(&force),
		"key":    templates(&keys),
		"header": kit.EditedField(&header),
		"salt": func(v kit.Value) error {
			s, err := v.Text()
			salt = hash(offset, s)
			return err
		},
		"remember": readCookie,
	})
	total := 0.0
	for i := range variants {
		total += variants[i].weight
	}
	switch {
	case err != nil:
	case len(variants) < 2 || len(variants) > maxVariants:
		err = errors.New("config.variants: there are " + strconv.Itoa(len(variants)) + ", and it takes 2 to " + strconv.Itoa(maxVariants))
	case total == 0:
		err = errors.New("config.variants: no variant has a weight")
	}
	wasmgate.HandleMarkedResponse(nil)
	if cookie.name != "" {
		wasmgate.HandleMarkedResponse(response)
	}
	return err
}

func readVariant(c *wasmgate.Config, name string, v kit.Value) error {
	n := variant{name: name, weight: -1, hash: hash(offset, name)}
	if !kit.Token(name) || len(name) > 64 {
		return errors.New(v.Path() + ": a variant's name has up to 64 letters, digits and signs such as - and _")
	}
	err := v.Object(kit.Keys{
		"weight": func(v kit.Value) error {
			w, err := v.Int(0, 1_000_000)
			n.weight = float64(w)
			return err
		},
		"upstream": func(v kit.Value) error {
			s, err := v.Text()
			if err == nil {
				n.upstream, n.routes = c.Upstream(s), true
			}
			return err
		},
	})
	if err == nil && n.weight < 0 {
		err = v.Missing("weight", "its share of the requests, beside those of the others; 0: only who is forced to it")
	}
	variants = append(variants, n)
	return err
}

func templates(to *[]kit.Template) func(kit.Value) error {
	return func(v kit.Value) error {
		return v.List(func(v kit.Value) error {
			t, err := v.Template(false)
			*to = append(*to, t)
			return err
		})
	}
}

func readCookie(v kit.Value) error {
	age := 30 * 24 * time.Hour
	err := v.Object(kit.Keys{
		"cookie":  kit.Text(&cookie.name),
		"max_age": kit.Duration(&age, time.Second, 400*24*time.Hour),
	})
	switch {
	case err != nil:
	case cookie.name == "":
		err = v.Missing("cookie", "the name of the cookie that remembers the variant")
	case !kit.Token(cookie.name):
		err = errors.New(v.Path() + ".cookie: " + strconv.Quote(cookie.name) + " is not the name of a cookie")
	}
	cookie.field, cookie.seconds = wasmgate.RequestHeader("cookie"), int64(age/time.Second)
	return err
}

func request(r *wasmgate.Request) wasmgate.Decision {
	i, chance := choose(r)
	v := &variants[i]
	if header != "" {
		r.SetHeader(header, v.name)
	}
	if r.Sampled() {
		r.Attribute("canary.variant", v.name)
	}
	if chance && cookie.name != "" {
		r.SetContext(uint64(i) + 1) //nolint:gosec // an index
	}
	if v.routes {
		return wasmgate.RouteTo(v.upstream)
	}
	return wasmgate.Continue
}

// choose returns the variant's index, and whether chance chose it.
func choose(r *wasmgate.Request) (i int, chance bool) {
	for k := range force {
		if scratch, _ = force[k].Append(scratch[:0], r); len(scratch) > 0 {
			if i := named(kit.View(scratch)); i >= 0 {
				return i, false
			}
		}
	}
	for k := range keys {
		if scratch, _ = keys[k].Append(scratch[:0], r); len(scratch) > 0 {
			return draw(hash(salt, kit.View(scratch))), false
		}
	}
	if i := remembered(r); i >= 0 && variants[i].weight > 0 {
		return i, false
	}
	return draw(r.Seed()), true
}

// remembered is the variant that the client's cookie names, or -1.
func remembered(r *wasmgate.Request) int {
	if cookie.name == "" {
		return -1
	}
	for k := range r.HeaderCount(cookie.field) {
		if name, ok := kit.Cookie(r.HeaderAt(cookie.field, k), cookie.name); ok {
			return named(name)
		}
	}
	return -1
}

func named(s string) int {
	for i := range variants {
		if variants[i].name == s {
			return i
		}
	}
	return -1
}

// draw is a weighted rendezvous: each variant draws a number for the key, by its weight, and the least wins. So a variant whose
// weight grows takes keys from the others, and no key moves between two others; their order does not matter.
func draw(key uint64) int {
	best, least := 0, math.Inf(1)
	for i := range variants {
		v := &variants[i]
		if v.weight == 0 {
			continue
		}
		u := (float64(mix(key^v.hash)>>11) + 0.5) / (1 << 53) // above 0, below 1
		if n := -math.Log(u) / v.weight; n < least {
			best, least = i, n
		}
	}
	return best
}

// FNV-1a of 64 bits.
const (
	offset = 14695981039346656037
	prime  = 1099511628211
)

func hash(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * prime
	}
	return h
}

// mix spreads what FNV leaves close together: the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// response has the client remember what chance gave it.
func response(r *wasmgate.Response) wasmgate.Decision {
	if i := r.Context() - 1; i < uint64(len(variants)) {
		b := append(scratch[:0], cookie.name...)
		b = append(append(b, '='), variants[i].name...)
		b = strconv.AppendInt(append(b, "; Path=/; Max-Age="...), cookie.seconds, 10)
		b = append(b, "; SameSite=Lax; HttpOnly"...)
		if r.Scheme() == "https" {
			b = append(b, "; Secure"...)
		}
		r.AppendHeader("set-cookie", kit.View(b))
	}
	return wasmgate.Continue
}

func main() {} // never called: everything is registered in init
