package server

import (
	"strings"
	"testing"

	"wasmgate/runtime/upstream"
)

// challenges knows one token by heart, and looks another one up.
type challenges struct{ asked chan string }

func (c challenges) Answer(host, token string) (string, bool) {
	return "text of " + token, host == "a.example" && token == "known"
}

func (c challenges) Shares(host string) bool { return host == "a.example" }

func (c challenges) Shared(host, token string) (string, bool) {
	c.asked <- token
	return "shared " + token, token == "other"
}

func TestIssuersAreAnsweredBeforeRoutes(t *testing.T) {
	asked := make(chan string, 100)
	g := newGate(t, newBackend(t, hello), func(s *Snapshot, _ *upstream.Config) { s.Challenges = challenges{asked} })
	for request, want := range map[string]string{
		"GET /.well-known/acme-challenge/known a.example":                            "text of known",
		"GET /.well-known/acme-challenge/known?x=1 a.example:80":                     "text of known",
		"GET /.well-known/acme-challenge/other a.example:8080":                       "shared other",
		"GET /.well-known/acme-challenge/unknown a.example":                          "GET /.well-known/acme-challenge/unknown",
		"GET /.well-known/acme-challenge/known b.example":                            "GET /.well-known/acme-challenge/known",
		"GET /.well-known/acme-challenge/known [::1]":                                "GET /.well-known/acme-challenge/known",
		"POST /.well-known/acme-challenge/known a.example":                           "POST /.well-known/acme-challenge/known",
		"GET /.well-known/acme-challenge/ a.example":                                 "GET /.well-known/acme-challenge/ ",
		"GET /.well-known/acme-challenge/x/known a.example":                          "GET /.well-known/acme-challenge/x/known",
		"GET /x/.well-known/acme-challenge/known a.example":                          "GET /x/.well-known/acme-challenge/known",
		"GET /.well-known/acme-challenge/x/../known a.example":                       "text of known",
		"GET /.well-known/acme-challenge/" + strings.Repeat("k", 300) + " a.example": "GET /.well-known/acme-challenge/kkk",
	} {
		line, host, _ := cutLast(request)
		c := g.client()
		c.say("%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", line, host)
		head, body := c.answer()
		if !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %q %q", request, head, body)
		}
		c.say("GET /next HTTP/1.1\r\nHost: a.example\r\n\r\n") // the connection goes on
		if _, body := c.answer(); !strings.HasPrefix(body, "GET /next") {
			t.Errorf("after %s: %q", request, body)
		}
	}
	for len(asked) > 0 { // all are there: they were answered
		if token := <-asked; token != "other" && token != "unknown" {
			t.Errorf("%q was looked up", token)
		}
	}
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, ' ')
	return s[:i], s[i+1:], i >= 0
}
