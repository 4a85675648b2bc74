package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/plugins/internal/trial"
	"wasmgate/runtime/plugintest"
)

// idp is a service that has a key set.
type idp struct {
	set   atomic.Pointer[string]
	asked atomic.Int64
}

func (s *idp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	if r.URL.Path != "/.well-known/jwks.json" || r.Host != "login.example.com" {
		http.Error(w, r.Host+r.URL.Path, http.StatusNotFound)
		return
	}
	fmt.Fprint(w, *s.set.Load())
}

func (s *idp) have(names ...string) {
	text := set(names...)
	s.set.Store(&text)
}

func TestGateway(t *testing.T) {
	service := &idp{}
	service.have("rs", "es")
	g := trial.Start(t, strings.Replace(trial.Example(t, 0), "refresh: 10m", "refresh: 1h, cooldown: 1s", 1), trial.Upstreams{"api.internal:8080": trial.Echo("api"), "login.internal:8080": service})
	valid := fmt.Sprintf(`{"iss":"https://login.example.com/","aud":["api"],"exp":%d,"sub":"ann","realm_access":{"roles":["user","admin"]}}`, time.Now().Unix()+300)
	ask := func(tok string) trial.Answer {
		for end := time.Now().Add(10 * time.Second); ; {
			a := g.Get("/x", "Authorization", "Bearer "+tok, "X-User", "root", "X_Roles", "root")
			if a.StatusCode != http.StatusServiceUnavailable || time.Now().After(end) {
				return a
			}
		}
	}
	for _, name := range []string{"rs", "es", "rs"} {
		a := ask(token(name, name, valid))
		if a.StatusCode != 200 || a.Field("x-user") != "ann" || a.Field("x-roles") != "user,admin" || a.Field("x_roles") != "" || a.Field("authorization") != "" {
			t.Fatalf("%s: %s %s", name, a.Status, a.Text)
		}
	}
	if n := service.asked.Load(); n != 1 {
		t.Errorf("the key set was fetched %d times", n)
	}
	for tok, want := range map[string]string{
		"":                        `Bearer error="invalid_token", error_description="the token has not three parts"`,
		token("hs", "rs", valid):  `Bearer error="invalid_token", error_description="the token's alg is not allowed"`,
		token("rs2", "rs", valid): `Bearer error="invalid_token", error_description="the token's signature does not verify"`,
		token("rs", "rs", `{"iss":"https://login.example.com/","aud":"api","exp":1}`): `Bearer error="invalid_token", error_description="the token has expired"`,
		token("rs", "rs", strings.Replace(valid, "login.", "evil.", 1)):               `Bearer error="invalid_token", error_description="the token is of another issuer"`,
		token("rs", "rs", strings.Replace(valid, `["api"]`, `["other"]`, 1)):          `Bearer error="invalid_token", error_description="the token is for another audience"`,
	} {
		if a := ask(tok); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != want {
			t.Errorf("%.40s: %s %q", tok, a.Status, a.Header.Get("WWW-Authenticate"))
		}
	}
	if a := g.Get("/x", "X-User", "root"); a.StatusCode != 401 || a.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("without a token: %s", a.Status)
	}

	// A new key: it is fetched when the first token with it comes, once for all of them.
	service.have("es", "ed")
	var wg sync.WaitGroup
	tok := token("ed", "ed", valid)
	before := service.asked.Load()
	end := time.Now().Add(10 * time.Second)
	for ask(tok).StatusCode != 200 { // after the pause that follows the last time
		if time.Now().After(end) {
			t.Fatal("the new key does not become known")
		}
	}
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if a := ask(tok); a.StatusCode != 200 {
					t.Errorf("%s %v", a.Status, a.Header)
				}
			}
		})
	}
	wg.Wait()
	if n := service.asked.Load() - before; n < 1 || n > 2 {
		t.Errorf("the new key set was fetched %d times", n)
	}
}

// enough is the fuel that README.md has for this plugin.
const enough = 100_000_000

// TestHostile asks with the most that the gateway's limits let through.
func TestHostile(t *testing.T) {
	p := trial.Plugin(t, plugintest.Settings{Config: []byte(keysConfig(t, true, `,"headers":{"x-user":"sub","x-roles":"a.b.c"},"token":["{header.authorization}","{cookie.t}","{query.t}"]`))}, enough)
	long := strings.Repeat("A", 8000)
	for name, m := range map[string]plugintest.Message{
		"long":              {Fields: trial.Fields("authorization", "Bearer "+long)},
		"too long":          {Fields: trial.Fields("authorization", "Bearer "+strings.Repeat("A", 30_000))},
		"dots":              {Fields: trial.Fields("authorization", strings.Repeat(".", 8000))},
		"spaces":            {Fields: trial.Fields("authorization", "Bearer"+strings.Repeat(" ", 8000)+"x")},
		"deep header":       {Fields: trial.Fields("authorization", rawToken(signers["hs"], strings.Repeat("[", 4000), "{}"))},
		"header of members": {Fields: trial.Fields("authorization", rawToken(signers["hs"], `{"alg":"HS256"`+strings.Repeat(`,"a":1`, 900)+"}", "{}"))},
		"deep claims":       {Fields: trial.Fields("authorization", token("hs", "", strings.Repeat(`{"a":`, 1000)))},
		"members":           {Fields: trial.Fields("authorization", token("hs", "", `{"exp":9999999999`+strings.Repeat(`,"a":1`, 900)+"}"))},
		"array":             {Fields: trial.Fields("authorization", token("hs", "", `{"exp":9999999999,"aud":[`+strings.Repeat(`"a",`, 1000)+`"b"],"sub":[`+strings.Repeat(`1,`, 300)+`1]}`))},
		"long signature":    {Fields: trial.Fields("authorization", strings.TrimSuffix(token("rs", "rs", "{}"), "=")+long[:4000])},
		"long query":        {Target: "/?" + strings.Repeat("&=%", 2600)},
	} {
		o := trial.Decide(t, p, plugintest.Case{Request: m})
		t.Logf("%s: %s %d, %d fuel", name, o.Request.Decision, o.Request.Status, o.Request.Fuel)
	}
	// New tokens each time: Go's garbage collector must find its share in the fuel.
	most := int64(0)
	for i := range 600 {
		name := []string{"es", "rs", "ed"}[i%3]
		o := trial.Decide(t, p, plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("authorization", token(name, name, fmt.Sprintf(`{"exp":9999999999,"jti":%d}`, i)))}})
		if o.Request.Decision != plugintest.Continue {
			t.Fatalf("%s: %s", name, o.Request.Decision)
		}
		most = max(most, o.Request.Fuel)
	}
	t.Logf("most fuel of 600 signatures: %d", most)
}

func BenchmarkKnown(b *testing.B) { verify1(b, "rs", false) }
func BenchmarkHS256(b *testing.B) { verify1(b, "hs", true) }
func BenchmarkRS256(b *testing.B) { verify1(b, "rs", true) }
func BenchmarkES256(b *testing.B) { verify1(b, "es", true) }
func BenchmarkEdDSA(b *testing.B) { verify1(b, "ed", true) }

// verify1 measures a token of some 500 bytes; with fresh, another one each time.
func verify1(b *testing.B, name string, fresh bool) {
	claims := `{"iss":"https://login.example.com/","aud":"api","exp":9999999999,"sub":"248289761001","name":"Ann Example","scope":"openid profile email","jti":%d}`
	p := trial.Plugin(b, plugintest.Settings{Config: []byte(keysConfig(b, true, `,"issuer":"https://login.example.com/","audience":"api","headers":{"x-user":"sub"}`))}, 1_000_000_000)
	var tokens []string
	for i := range 300 {
		tokens = append(tokens, token(name, name, fmt.Sprintf(claims, i)))
	}
	var fuel, most, took int64
	for i := 0; b.Loop(); i++ {
		if !fresh {
			i = 0
		}
		o, err := p.Do(plugintest.Case{Request: plugintest.Message{Fields: trial.Fields("authorization", "Bearer "+tokens[i%len(tokens)])}})
		if err != nil || o.Request.Decision != plugintest.Continue {
			b.Fatal(err, o.Request.Failure)
		}
		fuel, took, most = fuel+o.Request.Fuel, took+o.Request.Took.Nanoseconds(), max(most, o.Request.Fuel)
	}
	b.ReportMetric(float64(fuel)/float64(b.N), "fuel/op")
	b.ReportMetric(float64(most), "most-fuel")
	b.ReportMetric(float64(took)/float64(b.N), "guest-ns/op")
}
