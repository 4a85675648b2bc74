package plugins_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strconv"
	"testing"
	"time"

	"wasmgate/plugins/internal/trial"
)

// privateKey is the one of RFC 8037, appendix A.1, whose public key README.md has.
const privateKey = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"

func bearer(t *testing.T, claims string) string {
	t.Helper()
	seed, err := base64.RawURLEncoding.DecodeString(privateKey)
	if err != nil {
		t.Fatal(err)
	}
	e := base64.RawURLEncoding.EncodeToString
	text := e([]byte(`{"alg":"EdDSA"}`)) + "." + e([]byte(claims))
	return "Bearer " + text + "." + e(ed25519.Sign(ed25519.NewKeyFromSeed(seed), []byte(text)))
}

// TestSeveralOnOneRoute runs the configuration of README.md: each plugin sees what those before it have made of the request, and
// an answer comes back through all that let the request pass, whoever gives it.
func TestSeveralOnOneRoute(t *testing.T) {
	g := trial.Start(t, trial.Example(t, 0), trial.Upstreams{"api.internal:8080": trial.Echo("api")})
	const page = "https://shop.example.com"
	token := func(user string) string {
		return bearer(t, fmt.Sprintf(`{"sub":%q,"aud":"api","exp":%d}`, user, time.Now().Unix()+300))
	}
	ask := func(token string) trial.Answer {
		return g.Get("/orders", "Origin", page, "Authorization", token, "X-User", "root", "X_User", "root", "X-Entry", "forged", "Cookie", "a=1", "X-Answer", "server: secret/1")
	}
	readable := func(what string, a trial.Answer, status int) {
		t.Helper()
		if a.StatusCode != status || a.Header.Get("Access-Control-Allow-Origin") != page || a.Header.Get("Vary") == "" {
			t.Errorf("%s: %s, want %d, %v", what, a.Status, status, a.Header)
		}
	}

	a := g.Do("OPTIONS", "/orders", "Origin", page, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization")
	readable("a preflight request, which has no token", a, 204)
	if got := a.Header.Get("Access-Control-Allow-Headers"); got != "authorization" || a.Header.Get("WWW-Authenticate") != "" {
		t.Errorf("a preflight request: %v", a.Header)
	}
	for _, none := range []string{"", "Bearer a.b.c", bearer(t, `{"sub":"ann","aud":"api","exp":1}`), bearer(t, `{"sub":"ann","aud":"other","exp":9999999999}`)} {
		a := ask(none)
		readable("without a valid token", a, 401)
		if a.Header.Get("WWW-Authenticate") == "" || a.Header.Get("RateLimit-Limit") != "" {
			t.Errorf("without a valid token: %v", a.Header)
		}
	}
	for i := range 3 {
		a := ask(token("ann"))
		readable("ann", a, 200)
		if a.Field("x-user") != "ann" || a.Field("x_user") != "" || a.Field("x-entry") != "ann by api" || a.Field("authorization") != "" || a.Field("cookie") != "" {
			t.Errorf("the upstream saw %s", a.Text)
		}
		if left := strconv.Itoa(2 - i); a.Header.Get("RateLimit-Remaining") != left || a.Header.Get("X-Content-Type-Options") != "nosniff" || a.Header.Get("Server") != "" {
			t.Errorf("request %d: %v", i, a.Header)
		}
	}
	a = ask(token("ann"))
	readable("one too many", a, 429)
	if a.Header.Get("Retry-After") == "" || a.Header.Get("RateLimit-Remaining") != "0" {
		t.Errorf("one too many: %v", a.Header)
	}
	readable("another user", ask(token("bob")), 200)
	if a := g.Get("/orders", "Origin", "https://evil.example", "Authorization", token("eve")); a.StatusCode != 200 || a.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another page: %s %v", a.Status, a.Header)
	}
}
