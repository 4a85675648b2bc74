package server

import (
	"bytes"
	"strings"

	"wasmgate/runtime/netloop"
)

// Challenges knows the texts by which a gateway shows an issuer of certificates that a host's name is its own (RFC 8555,
// 8.3). Hosts come without a port, as the client wrote them.
type Challenges interface {
	Answer(host, token string) (text string, ok bool) // runs on the loop
	Shares(host string) bool                          // whether Shared may know it; runs on the loop
	Shared(host, token string) (text string, ok bool) // may block
}

const (
	challengePath = "/.well-known/acme-challenge/"
	longestToken  = 256
)

// challenge answers an issuer's question, before anything else looks at the request: what is not asked by an issuer goes on
// as ever.
func (s *Session) challenge(t *netloop.Task, w *work, snap *Snapshot) bool {
	r := &w.x.Request
	if snap.Challenges == nil || !bytes.HasPrefix(r.Path, []byte(challengePath)) || w.why != nil {
		return false
	}
	token := string(r.Path[len(challengePath):])
	if string(r.Method) != "GET" || token == "" || len(token) > longestToken || strings.Contains(token, "/") {
		return false
	}
	host := withoutPort(string(w.asked))
	text, ok := snap.Challenges.Answer(host, token)
	if !ok && snap.Challenges.Shares(host) {
		t.Await(func() { text, ok = snap.Challenges.Shared(host, token) })
	}
	if ok {
		setLocal(&w.x, &Response{Status: 200, Fields: []Field{{[]byte("Content-Type"), []byte("application/octet-stream")}}, Body: []byte(text)})
	}
	return ok
}

// withoutPort is the host of an authority that has been found valid.
func withoutPort(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		return authority[:i]
	}
	return authority
}
