package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

const (
	secret = "a secret of 32 bytes or of more.."
	now    = 1_789_000_000 // seconds
)

// signer is a key pair.
type signer struct {
	alg  string
	priv any
}

var signers = func() map[string]signer {
	r, _ := rsa.GenerateKey(rand.Reader, 2048)
	other, _ := rsa.GenerateKey(rand.Reader, 2048)
	e, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, d, _ := ed25519.GenerateKey(rand.Reader)
	return map[string]signer{"hs": {"HS256", []byte(secret)}, "rs": {"RS256", r}, "rs2": {"RS256", other}, "es": {"ES256", e}, "ed": {"EdDSA", d}}
}()

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func public(s signer) crypto.PublicKey {
	if k, ok := s.priv.(crypto.Signer); ok {
		return k.Public()
	}
	return nil
}

func pemOf(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// jwk is a public key as JSON; more are further members.
func jwk(pub any, more string) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":"%s","e":"%s"%s}`, b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes()), more)
	case *ecdsa.PublicKey:
		point, _ := k.Bytes()
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":"%s","y":"%s"%s}`, b64(point[1:33]), b64(point[33:]), more)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"%s"%s}`, b64(k), more)
	case []byte:
		return fmt.Sprintf(`{"kty":"oct","k":"%s"%s}`, b64(k), more)
	}
	return ""
}

func sign(s signer, signed string) []byte {
	sum := sha256.Sum256([]byte(signed))
	switch k := s.priv.(type) {
	case []byte:
		m := hmac.New(sha256.New, k)
		m.Write([]byte(signed))
		return m.Sum(nil)
	case *rsa.PrivateKey:
		sig, _ := rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
		return sig
	case *ecdsa.PrivateKey:
		r, s, _ := ecdsa.Sign(rand.Reader, k, sum[:])
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	case ed25519.PrivateKey:
		return ed25519.Sign(k, []byte(signed))
	}
	return nil
}

// raw signs any header and any claims.
func rawToken(s signer, header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	return signed + "." + b64(sign(s, signed))
}

func token(name, kid, claims string) string {
	s := signers[name]
	header := `{"typ":"JWT","alg":"` + s.alg + `"`
	if kid != "" {
		header += `,"kid":"` + kid + `"`
	}
	return rawToken(s, header+"}", claims)
}

// good are claims that are good at the time of the tests.
func good(more string) string { return fmt.Sprintf(`{"exp":%d%s}`, now+60, more) }

func tester(t testing.TB, config string) *wasmgate.Tester {
	t.Helper()
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	p.Now = now * 1000
	return p
}

func request2(token string, more ...string) wasmgate.TestMessage {
	m := wasmgate.TestMessage{Path: "/", Time: now * 1000, Headers: more}
	if token != "" {
		m.Headers = append(m.Headers, "Authorization", "Bearer "+token)
	}
	return m
}

// outcome is the status, and why, or "ok".
func outcome(a wasmgate.TestAnswer) string {
	if a.Decision == "continue" {
		return "ok"
	}
	for _, e := range a.Edits {
		if s, ok := strings.CutPrefix(e, "respond_header www-authenticate: "); ok {
			_, why, _ := strings.Cut(s, `error_description="`)
			return strings.TrimSuffix(fmt.Sprint(a.Status, " ", strings.TrimSuffix(why, `"`)), " ")
		}
	}
	return fmt.Sprint(a.Decision, " ", a.Status, " ", a.Text)
}

// keysConfig has all keys, as PEM and secrets, or as JWKs.
func keysConfig(t testing.TB, pems bool, more string) string {
	list := []string{}
	for _, name := range []string{"hs", "rs", "es", "ed"} {
		s := signers[name]
		switch {
		case !pems && name == "hs":
			list = append(list, jwk(s.priv, `,"kid":"hs"`))
		case !pems:
			list = append(list, jwk(public(s), `,"kid":"`+name+`"`))
		case name == "hs":
			list = append(list, `{"kid":"hs","secret":"`+secret+`"}`)
		default:
			b, _ := json.Marshal(pemOf(t, public(s)))
			list = append(list, `{"pem":`+string(b)+`,"kid":"`+name+`"}`)
		}
	}
	return `{"keys":[` + strings.Join(list, ",") + `]` + more + `}`
}

func TestAlgorithms(t *testing.T) {
	for _, pems := range []bool{true, false} {
		p := tester(t, keysConfig(t, pems, ""))
		for _, name := range []string{"hs", "rs", "es", "ed"} {
			for _, kid := range []string{name, ""} {
				tok := token(name, kid, good(""))
				for i := range 2 { // the second time it is known
					if got := outcome(p.Request(request2(tok))); got != "ok" {
						t.Errorf("%s, kid %q, %d: %s", name, kid, i, got)
					}
				}
				// Each byte of the signature counts, and each of what is signed.
				for _, at := range []int{0, len(tok) / 3, strings.LastIndexByte(tok, '.') - 2, strings.LastIndexByte(tok, '.') + 5, len(tok) - 9} {
					b := []byte(tok)
					if b[at]++; b[at] == '.'+1 || b[at] == '9'+1 || b[at] == 'Z'+1 || b[at] == 'z'+1 || b[at] == '-'+1 || b[at] == '_'+1 {
						b[at] = 'A'
					}
					if string(b) == tok {
						continue
					}
					if got := outcome(p.Request(request2(string(b)))); !strings.HasPrefix(got, "401 the token") {
						t.Errorf("%s, byte %d: %s", name, at, got)
					}
				}
			}
		}
		if got := outcome(p.Request(request2(token("rs2", "rs", good(""))))); got != "401 the token's signature does not verify" {
			t.Errorf("another's key: %s", got)
		}
		if got := outcome(p.Request(request2(token("rs", "other", good(""))))); got != "401 the token's key is not known" {
			t.Errorf("another key's name: %s", got)
		}
	}
}

// TestConfusion has what attackers try with algorithms and keys (RFC 8725).
func TestConfusion(t *testing.T) {
	rs, es := signers["rs"], signers["es"]
	claims := good(`,"sub":"root"`)
	p := tester(t, keysConfig(t, true, ""))
	signed := b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(claims))
	good := token("rs", "rs", claims)
	rsaPEM, rsaN := pemOf(t, public(rs)), public(rs).(*rsa.PublicKey).N.Bytes()
	esToken := token("es", "es", claims)
	first, _, _ := strings.Cut(esToken, ".")
	body := strings.Split(esToken, ".")[1]
	sum := sha256.Sum256([]byte(first + "." + body))
	der, _ := ecdsa.SignASN1(rand.Reader, es.priv.(*ecdsa.PrivateKey), sum[:])
	own := jwk(public(signers["rs2"]), "")
	for name, tok := range map[string]string{
		"none":                         signed + ".",
		"none, with a signature":       signed + "." + b64([]byte("x")),
		"None":                         rawToken(rs, `{"alg":"None"}`, claims),
		"no algorithm":                 rawToken(rs, `{}`, claims),
		"an empty one":                 rawToken(rs, `{"alg":""}`, claims),
		"one that is no text":          rawToken(rs, `{"alg":["RS256"]}`, claims),
		"two":                          rawToken(rs, `{"alg":"RS256","alg":"none"}`, claims),
		"two, escaped":                 rawToken(rs, `{"alg":"RS256","\u0061lg":"none"}`, claims),
		"lower case":                   rawToken(rs, `{"alg":"rs256"}`, claims),
		"RS512":                        rawToken(rs, `{"alg":"RS512"}`, claims),
		"HMAC with the key's PEM":      rawToken(signer{"HS256", []byte(rsaPEM)}, `{"alg":"HS256","kid":"rs"}`, claims),
		"HMAC with the trimmed PEM":    rawToken(signer{"HS256", []byte(strings.TrimSpace(rsaPEM))}, `{"alg":"HS256"}`, claims),
		"HMAC with the modulus":        rawToken(signer{"HS256", rsaN}, `{"alg":"HS256","kid":"rs"}`, claims),
		"HMAC with nothing":            rawToken(signer{"HS256", []byte{}}, `{"alg":"HS256"}`, claims),
		"RSA by the name of the EC":    rawToken(rs, `{"alg":"ES256","kid":"es"}`, claims),
		"EC by the name of the RSA":    rawToken(es, `{"alg":"RS256","kid":"rs"}`, claims),
		"a key of its own":             rawToken(signers["rs2"], `{"alg":"RS256","jwk":`+own+`}`, claims),
		"an URL of its own":            rawToken(signers["rs2"], `{"alg":"RS256","jku":"https://evil.example","x5u":"https://evil.example"}`, claims),
		"extensions":                   rawToken(rs, `{"alg":"RS256","crit":["b64"],"b64":false}`, claims),
		"a kid that is no text":        rawToken(rs, `{"alg":"RS256","kid":{"a":1}}`, claims),
		"two kids":                     rawToken(rs, `{"alg":"RS256","kid":"rs","kid":"es"}`, claims),
		"a path for a kid":             rawToken(rs, `{"alg":"RS256","kid":"../../rs"}`, claims),
		"an ECDSA signature in DER":    first + "." + body + "." + b64(der),
		"an ECDSA signature of zeros":  first + "." + body + "." + b64(make([]byte, 64)),
		"an ECDSA signature of nought": first + "." + body + ".",
		"a shorter one":                good[:len(good)-4],
		"a longer one":                 good + "AAAA",
		"five parts":                   good + "..",
		"two parts":                    signed,
		"one part":                     "x",
		"padding":                      good + "=",
		"a line end":                   good[:20] + "\n" + good[20:],
		"the other base64":             strings.Replace(good, ".", "+.", 1),
		"a list":                       `{"payload":"x"}`,
		"deep JSON":                    rawToken(rs, strings.Repeat(`{"a":`, 500)+"1"+strings.Repeat("}", 500), claims),
		"a header that is no object":   rawToken(rs, `["RS256"]`, claims),
		"nothing but dots":             "..",
	} {
		if got := outcome(p.Request(request2(tok))); !strings.HasPrefix(got, "401 the token") {
			t.Errorf("%s: %s", name, got)
		}
	}
	// A configuration of secrets only takes nothing else, and the other way round.
	p = tester(t, `{"keys":{"secret":"`+secret+`"},"algorithms":"RS256"}`)
	if got := outcome(p.Request(request2(token("hs", "", claims)))); got != "401 the token's alg is not allowed" {
		t.Error(got)
	}
}

func TestClaims(t *testing.T) {
	p := tester(t, keysConfig(t, true, `,"issuer":["https://a","https://b"],"audience":"api","leeway":"10s"`))
	base := func(exp, iss, aud string) string {
		return `{"exp":` + exp + `,"iss":` + iss + `,"aud":` + aud + `,"sub":"ann"`
	}
	const ok, iss, aud = "1789000060", `"https://a"`, `"api"`
	for claims, want := range map[string]string{
		base(ok, iss, aud) + "}":                     "ok",
		base(ok, `"https://b"`, `["x","api"]`) + "}": "ok",
		base("1789000060.75", iss, aud) + "}":        "ok",
		base("1788999991", iss, aud) + "}":           "ok", // the leeway
		base("1788999990", iss, aud) + "}":           "401 the token has expired",
		base("0", iss, aud) + "}":                    "401 the token has expired",
		base("-5", iss, aud) + "}":                   "401 the token has no exp",
		base(`"1789000060"`, iss, aud) + "}":         "401 the token has no exp",
		base("1e300", iss, aud) + "}":                "401 the token has no exp",
		base("99999999999999999999", iss, aud) + "}": "401 the token has no exp",
		base("null", iss, aud) + "}":                 "401 the token has no exp",
		`{"iss":"https://a","aud":"api"}`:            "401 the token has no exp",
		base(ok, iss, aud) + `,"nbf":1789000010}`:    "ok",
		base(ok, iss, aud) + `,"nbf":1789000011}`:    "401 the token is not valid yet",
		base(ok, iss, aud) + `,"nbf":"x"}`:           "401 the token's nbf is not a time",
		base(ok, `"https://c"`, aud) + "}":           "401 the token is of another issuer",
		base(ok, `["https://a"]`, aud) + "}":         "401 the token is of another issuer",
		base(ok, `"https://A"`, aud) + "}":           "401 the token is of another issuer",
		`{"exp":1789000060,"aud":"api"}`:             "401 the token is of another issuer",
		base(ok, iss, `"apis"`) + "}":                "401 the token is for another audience",
		base(ok, iss, `[]`) + "}":                    "401 the token is for another audience",
		base(ok, iss, `{"api":"api"}`) + "}":         "401 the token is for another audience",
		base(ok, iss, aud) + `,"exp":1999999999}`:    "401 the token has a claim twice",
		base(ok, iss, aud) + `,"\u0061ud":"other"}`:  "401 the token has a claim twice",
		`[]`:                      "401 the token's claims are not a JSON object",
		`{`:                       "401 the token's claims are not a JSON object",
		strings.Repeat("[", 1000): "401 the token's claims are not a JSON object",
		"\x00":                    "401 the token's claims are not a JSON object",
	} {
		if got := outcome(p.Request(request2(token("hs", "", claims)))); got != want {
			t.Errorf("%.80s: %s, want %s", claims, got, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	p := tester(t, keysConfig(t, true, `,"headers":{"X-User":"sub","x-roles":"realm.roles","x-plan":["https://example.com/plan.v2"],"x-admin":"admin","x-n":"n"}`))
	for _, c := range []struct {
		claims string
		sent   []string
		want   string
	}{
		{`,"sub":"ann","realm":{"roles":["a","b",3]},"https://example.com/plan.v2":"gold","admin":true,"n":4.50`, nil, "set x-admin=true, set x-n=4.50, set x-plan=gold, set x-roles=a,b,3, set x-user=ann"},
		{`,"sub":"zo\u00eb"`, []string{"x-user", "root", "x-roles", "admin"}, "remove x-admin, remove x-n, remove x-plan, remove x-roles, set x-user=zoë"},
		{`,"sub":"ann\r\nx-admin: true","realm":{"roles":["a,b"]}`, []string{"X_User", "root", "x_roles", "admin"}, "remove x-admin, remove x-n, remove x-plan, remove x-roles, remove x-user"},
		{`,"sub":{"a":1},"realm":{"roles":["a",["b"]]},"n":null,"admin":" x"`, nil, "remove x-admin, remove x-n, remove x-plan, remove x-roles, remove x-user"},
		{`,"sub":"","realm":{"roles":"r","roles":"s"}`, nil, "remove x-admin, remove x-n, remove x-plan, remove x-roles, remove x-user"},
		{`,"realm":["roles"],"n":[]`, nil, "remove x-admin, remove x-n, remove x-plan, remove x-roles, remove x-user"},
	} {
		a := p.Request(request2(token("hs", "", good(c.claims)), c.sent...))
		for i, e := range a.Edits {
			a.Edits[i] = strings.NewReplacer("set_header ", "set ", "remove_header ", "remove ", ": ", "=").Replace(e)
		}
		slices.Sort(a.Edits)
		if got := strings.Join(a.Edits, ", "); a.Decision != "continue" || got != c.want {
			t.Errorf("%s: %s\n%s", c.claims, got, c.want)
		}
	}
}

func TestWhere(t *testing.T) {
	tok := token("hs", "", good(""))
	for _, c := range []struct {
		more, want string
		m          wasmgate.TestMessage
	}{
		{"", "ok", wasmgate.TestMessage{Headers: []string{"authorization", "bearer  " + tok}}},
		{"", "ok", wasmgate.TestMessage{Headers: []string{"authorization", tok}}},
		{"", "401", wasmgate.TestMessage{Headers: []string{"authorization", "Basic " + tok}}},
		{"", "401", wasmgate.TestMessage{}},
		{"", "401 the token has not three parts", wasmgate.TestMessage{Headers: []string{"authorization", "Bearer " + tok, "authorization", "Bearer " + tok}}},
		{"", "401 the token is too long", wasmgate.TestMessage{Headers: []string{"authorization", "Bearer " + strings.Repeat("x", 30_000)}}},
		{`,"optional":true`, "ok", wasmgate.TestMessage{}},
		{`,"optional":true`, "ok", wasmgate.TestMessage{Headers: []string{"authorization", "Basic x"}}},
		{`,"optional":true`, "401 the token has not three parts", wasmgate.TestMessage{Headers: []string{"authorization", "Bearer x"}}},
		{`,"token":["{cookie.access}","{query.access_token}"]`, "ok", wasmgate.TestMessage{Headers: []string{"cookie", "a=b; access=" + tok}}},
		{`,"token":["{cookie.access}","{query.access_token}"]`, "ok", wasmgate.TestMessage{Query: "access_token=" + tok}},
		{`,"token":["{cookie.access}","{query.access_token}"]`, "401", wasmgate.TestMessage{Headers: []string{"authorization", "Bearer " + tok}}},
	} {
		c.m.Time = now * 1000
		if got := outcome(tester(t, keysConfig(t, true, c.more)).Request(c.m)); got != c.want {
			t.Errorf("%s %.100v: %s, want %s", c.more, c.m, got, c.want)
		}
	}
	a := tester(t, keysConfig(t, true, `,"forward":false,"optional":true,"headers":{"x-user":"sub"}`)).Request(wasmgate.TestMessage{Headers: []string{"x-user", "root", "authorization", "Basic x"}})
	if fmt.Sprint(a.Edits) != "[remove_header x-user remove_header authorization]" {
		t.Errorf("%+v", a)
	}
}

func TestRequire(t *testing.T) {
	p := tester(t, keysConfig(t, true, `,"require":{"scope":["read","admin"],"realm.roles":"user","level":"3"}`))
	for claims, want := range map[string]string{
		`,"scope":"write read","realm":{"roles":["x","user"]},"level":3`: "ok",
		`,"scope":["admin"],"realm":{"roles":"user"},"level":"3"`:        "ok",
		`,"scope":"reader","realm":{"roles":["user"]},"level":3`:         "403",
		`,"scope":"read","realm":{"roles":["users"]},"level":3`:          "403",
		`,"scope":"read","realm":{"roles":["user"]},"level":33`:          "403",
		`,"scope":"read","level":3`:                                      "403",
		``:                                                               "403",
	} {
		if got := outcome(p.Request(request2(token("hs", "", good(claims))))); got != want {
			t.Errorf("%s: %s", claims, got)
		}
	}
}

// service is what answers the plugin's calls.
type service struct {
	set    string
	status int
	err    error
	asked  int
}

func (s *service) answer(r wasmgate.OutboundRequest) (wasmgate.TestResponse, error) {
	s.asked++
	if r.Path != "/keys" || r.Authority != "idp.example.com" || r.Query != "v=1" {
		return wasmgate.TestResponse{Status: 404}, nil
	}
	return wasmgate.TestResponse{Status: s.status, Body: s.set}, s.err
}

const jwks = `{"jwks":{"service":"idp","store":"keys","path":"/keys?v=1","host":"idp.example.com","refresh":"10m","keep":"1h","cooldown":"30s"}}`

func set(names ...string) string {
	list := []string{}
	for _, name := range names {
		list = append(list, jwk(public(signers[name]), `,"kid":"`+name+`","use":"sig"`))
	}
	return `{"keys":[` + strings.Join(list, ",") + `]}`
}

func TestKeySet(t *testing.T) {
	p, s := tester(t, jwks), &service{set: set("rs", "ed")}
	p.Services = map[string]func(wasmgate.OutboundRequest) (wasmgate.TestResponse, error){"idp": s.answer}
	at := int64(now) * 1000
	step := func(what, tok, want string, asked int) {
		t.Helper()
		p.Now = at
		m := request2(tok)
		m.Time = at
		if got := outcome(p.Request(m)); got != want || s.asked != asked {
			t.Errorf("%s: %s, want %s; %d calls, want %d", what, got, want, s.asked, asked)
		}
	}
	claims := `{"exp":1799999999}`
	step("the first request", token("rs", "rs", claims), "ok", 1)
	step("another key of the set", token("ed", "ed", claims), "ok", 1)
	step("the same again", token("rs", "rs", claims), "ok", 1)
	step("a key that is not known, soon", token("es", "es", claims), "401 the token's key is not known", 1)
	at += 31_000
	step("a key that is not known, later", token("es", "es", claims), "401 the token's key is not known", 2)
	s.set = set("rs", "es")
	step("it is known by now, but it was asked a moment ago", token("es", "es", claims), "401 the token's key is not known", 2)
	at += 31_000
	step("it is known", token("es", "es", claims), "ok", 3)
	step("the old one is gone", token("ed", "ed", claims), "401 the token's key is not known", 3)

	s.err, s.set = wasmgate.ErrConnect, ""
	at += 31_000
	step("nobody answers", token("ed", "ed", claims), "401 the token's key is not known", 4)
	step("the others are good all the same", token("rs", "rs", claims), "ok", 4)
	at += 1001
	step("soon again", token("ed", "ed", claims), "401 the token's key is not known", 5)
	at += 3_600_000
	step("keys that are too old", token("rs", "rs", claims), "respond 503 ", 6)
	step("at once again", token("rs", "rs", claims), "respond 503 ", 6)
	s.err = nil
	for _, wrong := range []string{"", "<html>", `{}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":[{"kty":"RSA"}]}`, `{"keys":[` + jwk([]byte(secret), "") + `]}`, strings.Repeat(" ", 70_000) + set("rs")} {
		at, s.set = at+1001, wrong
		step("an answer that is no set", token("rs", "rs", claims), "respond 503 ", s.asked+1)
		step("the secret of the set", token("hs", "", claims), "401 the token's alg is not allowed", s.asked)
	}
	at, s.set, s.status = at+1001, set("rs"), 500
	step("a failure", token("rs", "rs", claims), "respond 503 ", s.asked+1)
	at, s.status = at+1001, 0
	step("it is back", token("rs", "rs", claims), "ok", s.asked+1)
	step("forged", token("rs2", "rs", claims), "401 the token's signature does not verify", s.asked)
}

func TestTick(t *testing.T) {
	p, s := tester(t, jwks), &service{set: set("rs")}
	p.Services = map[string]func(wasmgate.OutboundRequest) (wasmgate.TestResponse, error){"idp": s.answer}
	if a := p.Tick(now * 1000); a.Decision != "continue" || fmt.Sprint(a.Called) != "[idp GET /keys]" {
		t.Fatalf("%+v", a)
	}
	if got := outcome(p.Request(request2(token("rs", "rs", good(""))))); got != "ok" || s.asked != 1 {
		t.Errorf("%s, %d calls", got, s.asked)
	}
	// Another set comes with the next tick, and is seen by instances that did not fetch it.
	s.set = set("ed")
	seen.version = 0
	p.Tick(now*1000 + 600_000)
	if got := outcome(p.Request(request2(token("ed", "ed", good(""))))); got != "ok" || s.asked != 2 {
		t.Errorf("%s, %d calls", got, s.asked)
	}
	if got := outcome(p.Request(request2(token("rs", "rs", good(""))))); got != "401 the token's key is not known" {
		t.Errorf("a key that was taken back: %s", got)
	}
	// Who needs a key while somebody fetches the set comes again.
	p.Set("keys", conf.set.turn, "\x01")
	if got := outcome(p.Request(request2(token("es", "es", good(""))))); got != "respond 503 " || s.asked != 2 {
		t.Errorf("%s, %d calls", got, s.asked)
	}
	s.err = wasmgate.ErrTimeout
	if a := p.Tick(now*1000 + 1_200_000); a.Decision != "error" || a.Text != "the key set cannot be had: no answer in time" {
		t.Errorf("%+v", a)
	}
	if got := outcome(p.Request(request2(token("ed", "ed", good(""))))); got != "ok" {
		t.Errorf("after a failure: %s", got)
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	rs := public(signers["rs"]).(*rsa.PublicKey)
	even := &rsa.PublicKey{N: new(big.Int).Add(rs.N, big.NewInt(1)), E: 65537}
	for config, want := range map[string]string{
		"":                              "config: keys or jwks is needed",
		`{"keys":[]}`:                   "config: keys or jwks is needed",
		`{"key":{}}`:                    "config.key: there is no such key; the keys are algorithms, audience, forward, headers, issuer, jwks, keys, leeway, optional, require, token",
		`{"keys":{"kid":"a"}}`:          "config.keys: this is no key: it has not one of pem, secret and kty",
		`{"keys":[{"secret":"short"}]}`: "config.keys[0]: this is no key: a secret for HS256 has at least 32 bytes",
		`{"keys":[` + jwk([]byte("short"), "") + `]}`: "a secret for HS256 has at least 32 bytes",
		`{"keys":[{"pem":"x"}]}`:                      "it is not one -----BEGIN PUBLIC KEY-----",
		`{"keys":[{"pem":` + quote(pemOf(t, public(signers["rs"]))+pemOf(t, public(signers["es"]))) + `}]}`: "it is not base64",
		`{"keys":[{"pem":"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"}]}`:                   "it is no public key",
		`{"keys":[{"pem":` + quote(pemOf(t, small.Public())) + `}]}`:                                        "a key of RSA has 2048 to 4096 bits here",
		`{"keys":[{"pem":` + quote(pemOf(t, p384.Public())) + `}]}`:                                         "its curve is not P-256",
		`{"keys":[` + jwk(small.Public(), "") + `]}`:                                                        "a key of RSA has 2048 to 4096 bits here",
		`{"keys":[` + jwk(even, "") + `]}`:                                                                  "it is no key of RSA",
		`{"keys":[` + jwk(rs, `,"use":"enc"`) + `]}`:                                                        "it is not for HS256, RS256, ES256 or EdDSA",
		`{"keys":[` + jwk(rs, `,"alg":"PS256"`) + `]}`:                                                      "it is not for HS256",
		`{"keys":[` + jwk(rs, `,"alg":"HS256"`) + `]}`:                                                      "it is not for HS256",
		`{"keys":[` + jwk(rs, `,"n":"AQAB"`) + `]}`:                                                         "n is there twice",
		`{"keys":[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ"}]}`:                                           "it is no point of P-256",
		`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AQ"}]}`:                                                 "a key of Ed25519 has 32 bytes",
		`{"keys":[{"kty":"OKP","crv":"X25519","x":"AQ"}]}`:                                                  "it is not for HS256",
		`{"keys":[{"kty":"RSA","n":"!","e":"AQAB"}]}`:                                                       "n is not base64url",
		keysConfig(t, true, `,"algorithms":["RS256","none"]`):                                               `config.algorithms[1]: "none" is not one of HS256, RS256, ES256 and EdDSA`,
		keysConfig(t, true, `,"leeway":"2h"`):                                                               `config.leeway: "2h" is not from 0s to 1h0m0s`,
		keysConfig(t, true, `,"headers":{"host":"sub"}`):                                                    "config.headers.host: host is the gateway's own",
		keysConfig(t, true, `,"headers":{"x":"a..b"}`):                                                      `config.headers.x: "a..b" is not the name of a claim`,
		keysConfig(t, true, `,"headers":{"x":{}}`):                                                          "config.headers.x: {} is not a text",
		keysConfig(t, true, `,"require":{"a":[]}`):                                                          "config.require.a: [] can never be",
		keysConfig(t, true, `,"token":"{nothing}"`):                                                         "config.token: ",
		`{"jwks":{"store":"a"}}`:                                                                            "config.jwks.service is missing",
		`{"jwks":{"service":"a"}}`:                                                                          "config.jwks.store is missing",
		`{"jwks":{"service":"a","store":"b","path":"x"}}`:                                                   "config.jwks.path: x does not begin with /",
		`{"jwks":{"service":"a","store":"b","keep":"5m"}}`:                                                  "keep not above refresh",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(fmt.Sprint(err), "short") {
			t.Errorf("%.100s: %v, want %s", config, err, want)
		}
	}
}

func FuzzToken(f *testing.F) {
	p := tester(f, keysConfig(f, true, `,"headers":{"x-user":"sub"},"optional":true`))
	f.Add(token("hs", "hs", good(`,"sub":"x"`)))
	f.Add(token("rs", "rs", good("")))
	f.Fuzz(func(t *testing.T, s string) {
		first, rest, _ := strings.Cut(s, ".")
		body, sig, _ := strings.Cut(rest, ".")
		_, _ = readSet([]byte(s))
		_, _ = readPEM("-----BEGIN PUBLIC KEY-----" + s + "-----END PUBLIC KEY-----")
		a := p.Request(request2(s))
		if a.Decision == "error" {
			t.Fatalf("%q: %+v", s, a)
		}
		// Who has no key gets in with what was signed only.
		if outcome(a) == "ok" && s != "" && !slices.Contains([]string{token("hs", "hs", good(`,"sub":"x"`)), token("rs", "rs", good(""))}, strings.TrimSpace(first+"."+body+"."+sig)) {
			t.Fatalf("%q gets in", s)
		}
		// And whoever has one, whatever it says, does no harm.
		if claims, err := base64.RawURLEncoding.DecodeString(body); err == nil {
			if a := p.Request(request2(token("hs", "", string(claims)))); a.Decision == "error" {
				t.Fatalf("%q: %+v", claims, a)
			}
		}
	})
}
