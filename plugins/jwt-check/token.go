package main

import (
	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// wanted are the claims that are looked at, by their names at the top of the token; its first ones are those below.
const (
	claimIss = iota
	claimAud
	claimExp
	claimNbf
	firstClaim
	maxClaims = 64
)

// claims are the values of the wanted claims of the token under way; nil for one that it does not have.
type claims [maxClaims]kit.JSON

// What is under way.
var (
	theClaims claims
	header    = make([]byte, 0, kit.MaxText)
	payload   = make([]byte, 0, kit.MaxText)
	signature = make([]byte, 0, kit.MaxText)
)

// check checks a token of the compact form (RFC 7515, 3.1): its signature first, and then what it says. There are no other forms, no
// token without a signature, and nothing in a token's header says which key it is to be checked with, but for the key's name.
func check(r *wasmgate.Request, token string) (*claims, problem) {
	first := dot(token, 0)
	second := dot(token, first+1)
	if second >= len(token) || dot(token, second+1) < len(token) {
		return nil, "the token has not three parts"
	}
	var ok [3]bool
	header, ok[0] = decode(header, token[:first])
	payload, ok[1] = decode(payload, token[first+1:second])
	signature, ok[2] = decode(signature, token[second+1:])
	if !ok[0] || !ok[1] || !ok[2] {
		return nil, "the token is not base64url"
	}
	alg, kid, p := readHeader()
	if p != "" {
		return nil, p
	}
	if p := verify(r, alg, kid, token, second); p != "" {
		return nil, p
	}
	return readClaims(r.Time() / 1000)
}

func dot(s string, from int) int {
	for from < len(s) && s[from] != '.' {
		from++
	}
	return from
}

// readHeader reads what the token says about its signature. The strings are good until the next token.
func readHeader() (alg algorithm, kid kit.JSON, p problem) {
	h, err := kit.ParseJSON(header)
	if err != nil || h.Kind() != '{' {
		return 0, nil, "the token's header is not a JSON object"
	}
	var name kit.JSON
	algs, kids, crit := 0, 0, false
	for m := h.Members(); ; {
		k, v, ok := m.Next()
		if !ok {
			break
		}
		switch {
		case k.Is("alg"):
			name = v
			algs++
		case k.Is("kid"):
			kid = v
			kids++
		case k.Is("crit"):
			crit = true
		}
	}
	switch {
	case algs != 1 || kids > 1:
		return 0, nil, "the token's header has not one alg, and one kid at most"
	case kids == 1 && kid.Kind() != '"':
		return 0, nil, "the token's kid is not a text"
	case crit:
		return 0, nil, "the token has extensions that must be understood"
	}
	for a := range algorithms {
		if name.Is(algorithms[a].name) && conf.algorithms[a] {
			return algorithm(a), kid, ""
		}
	}
	return 0, nil, "the token's alg is not allowed"
}

// verify looks for the key, and checks the signature, unless this token's was checked with these keys before.
func verify(r *wasmgate.Request, alg algorithm, kid kit.JSON, token string, second int) problem {
	refresh(r)
	if known(token) {
		return ""
	}
	const maxTries = 4 // of keys: a signature costs a millisecond
	for again := true; ; again = false {
		tries, named := 0, false // tried: a key of the token's kid
		for i := 0; i < len(keys.all) && tries < maxTries; i++ {
			k := &keys.all[i]
			if k.alg != alg || kid != nil && k.id != "" && !kid.Is(k.id) {
				continue
			}
			tries++
			named = named || kid != nil && k.id != ""
			if k.verify(token[:second], signature) {
				remember(token)
				return ""
			}
		}
		if !named && again && conf.set.declared {
			changed, busy := fetchNow(r)
			switch {
			case changed:
				continue // the key may be a new one
			case busy || len(keys.all) == 0:
				return unavailable
			}
		}
		if tries > 0 {
			return "the token's signature does not verify"
		}
		return "the token's key is not known"
	}
}

// readClaims reads what the token says, at a time in seconds.
func readClaims(now int64) (*claims, problem) {
	body, err := kit.ParseJSON(payload)
	if err != nil || body.Kind() != '{' {
		return nil, "the token's claims are not a JSON object"
	}
	c := &theClaims
	clear(c[:])
	for m := body.Members(); ; {
		name, value, ok := m.Next()
		if !ok {
			break
		}
		for i, w := range conf.wanted {
			if name.Is(w) {
				if c[i] != nil {
					return nil, "the token has a claim twice"
				}
				c[i] = value
			}
		}
	}
	leeway := conf.leeway
	exp, ok := date(c[claimExp])
	switch {
	case !ok:
		return nil, "the token has no exp"
	case now >= exp+leeway:
		return nil, "the token has expired"
	}
	if c[claimNbf] != nil {
		nbf, ok := date(c[claimNbf])
		switch {
		case !ok:
			return nil, "the token's nbf is not a time"
		case now < nbf-leeway:
			return nil, "the token is not valid yet"
		}
	}
	if len(conf.issuers) > 0 && !oneOf(c[claimIss], conf.issuers) {
		return nil, "the token is of another issuer"
	}
	if len(conf.audiences) > 0 && !anyOf(c[claimAud], conf.audiences) {
		return nil, "the token is for another audience"
	}
	return c, ""
}

// date reads a time in seconds, whose fraction does not matter (RFC 7519, 2: NumericDate).
func date(j kit.JSON) (seconds int64, ok bool) {
	whole := 0
	for whole < len(j) && j[whole] != '.' {
		whole++
	}
	seconds, ok = j[:whole].Int()
	return seconds, ok && seconds >= 0 && seconds < 1<<40
}

// oneOf says whether a value is one of the texts.
func oneOf(j kit.JSON, list []string) bool {
	for _, s := range list {
		if j.Is(s) {
			return true
		}
	}
	return false
}

// anyOf says whether a value is one of the texts, or an array that has one.
func anyOf(j kit.JSON, list []string) bool {
	if j.Kind() != '[' {
		return oneOf(j, list)
	}
	m := j.Elements()
	for n := 0; n < maxElements; n++ {
		_, v, ok := m.Next()
		if !ok {
			break
		}
		if oneOf(v, list) {
			return true
		}
	}
	return false
}

// maxElements is how much of an array is looked at.
const maxElements = 256

// at finds a claim by its path: the number of its first name among the wanted ones, and the names below it.
func (c *claims) at(p *path) kit.JSON {
	j := c[p.first]
	for _, name := range p.rest {
		v, n := j.Get(name)
		if n != 1 {
			return nil
		}
		j = v
	}
	return j
}

// appendText appends a claim as a text: a string, a number or a boolean as it is, an array of them with commas.
func (c *claims) appendText(dst []byte, p *path) []byte {
	j := c.at(p)
	if j == nil {
		return dst
	}
	switch j.Kind() {
	case '{', 'n':
		return dst
	case '[':
		start, m := len(dst), j.Elements()
		for n := 0; n < maxElements; n++ {
			_, v, ok := m.Next()
			if !ok {
				return dst
			}
			if k := v.Kind(); k == '{' || k == '[' || k == 'n' {
				return dst[:start]
			}
			if n > 0 {
				dst = append(dst, ',')
			}
			before := len(dst)
			dst = v.Text(dst)
			for _, b := range dst[before:] {
				if b == ',' { // what reads the header would take it for two
					return dst[:start]
				}
			}
		}
		return dst[:start]
	}
	return j.Text(dst)
}

// require says whether the token has what it must.
func (c *claims) require() problem {
	for i := range conf.required {
		q := &conf.required[i]
		if !q.satisfied(c.at(q.path)) {
			return insufficient
		}
	}
	return ""
}

// satisfied: the value is one of those, or an array with one, or has one among its words, as scope does.
func (q *requirement) satisfied(j kit.JSON) bool {
	if anyOf(j, q.values) {
		return true
	}
	if j.Kind() != '"' {
		return j != nil && j.Kind() != '[' && oneOfWords(kit.View(j), q.values)
	}
	text = j.Text(text[:0])
	return oneOfWords(kit.View(text), q.values)
}

func oneOfWords(s string, list []string) bool {
	for s != "" {
		at := space(s)
		for _, v := range list {
			if s[:at] == v {
				return true
			}
		}
		s = s[min(at+1, len(s)):]
	}
	return false
}

// decode decodes base64url without padding (RFC 7515, 2), strictly: each value is written in one way only.
func decode(dst []byte, s string) ([]byte, bool) {
	n := decodeTo(dst[:cap(dst)], s)
	return dst[:max(n, 0)], n >= 0
}

var base64url = func() (t [256]byte) {
	for c := range t {
		t[c] = 64
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		t[c] = byte(i) //nolint:gosec // up to 63
	}
	return t
}()

// decodeTo is decode's loop, which calls nothing: Go's calls are dear in a module. -1 is a mistake.
func decodeTo(dst []byte, s string) int {
	n, bits, have := 0, uint(0), 0
	for i := range len(s) {
		v := base64url[s[i]]
		if v == 64 {
			return -1
		}
		bits, have = bits<<6|uint(v), have+6
		if have >= 8 {
			if n == len(dst) {
				return -1
			}
			have -= 8
			dst[n] = byte(bits >> have) //nolint:gosec // the lowest eight
			n++
		}
	}
	if have == 6 || bits&(1<<have-1) != 0 {
		return -1
	}
	return n
}

// The tokens whose signature was checked, so that a client's next request costs less. A token stands where its last bytes say,
// which are of its signature.
const (
	maxKnown = 128
	maxToken = 2048
)

var (
	knownTokens [maxKnown][maxToken]byte
	knownSizes  [maxKnown]int
)

func place(token string) int {
	h := uint32(2166136261)
	for i := max(0, len(token)-16); i < len(token); i++ {
		h = (h ^ uint32(token[i])) * 16777619
	}
	return int(h % maxKnown)
}

func known(token string) bool {
	i := place(token)
	return knownSizes[i] == len(token) && len(token) > 0 && kit.View(knownTokens[i][:len(token)]) == token
}

func remember(token string) {
	if len(token) <= maxToken {
		i := place(token)
		knownSizes[i] = copy(knownTokens[i][:], token)
	}
}

// forget is called when there are other keys.
func forget() { clear(knownSizes[:]) }
