package admin

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Access says who may ask. With neither tokens nor certificates it is everybody on the machine, as long as the endpoint is
// on loopback.
type Access struct {
	Tokens       []Token
	Certificates bool // who shows a certificate that TLS has verified may too
	OpenHealth   bool // everybody may ask for /healthz and /readyz
}

// Token lets in who has it. Of the token itself only a hash is kept.
type Token struct {
	name string
	sum  [sha256.Size]byte
}

// NewToken returns the token; name is what the log calls who has it.
func NewToken(name, token string) Token { return Token{name, sha256.Sum256([]byte(token))} }

func (a *Access) guarded() bool { return len(a.Tokens) > 0 || a.Certificates }

// local is who asks where nothing says who it is: somebody on the machine.
const local = "local"

// who says who asks; "": nobody who may.
func (a *api) who(r *http.Request) string {
	if a.Access.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return r.TLS.VerifiedChains[0][0].Subject.String()
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		sum, found := sha256.Sum256([]byte(strings.TrimSpace(token))), ""
		for _, t := range a.Access.Tokens { // all of them: how long it takes says nothing
			if subtle.ConstantTimeCompare(sum[:], t.sum[:]) == 1 {
				found = t.name
			}
		}
		if found != "" {
			return found
		}
	}
	if !a.Access.guarded() && a.Address.Addr().Unmap().IsLoopback() {
		return local
	}
	return ""
}

// guard lets those do what the operation does who may.
func (a *api) guard(op operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		if op.access != open {
			h.Set("Cache-Control", "no-store")
		}
		who := a.who(r)
		switch {
		case op.access == open || op.access == health && a.Access.OpenHealth && who == "":
		case who == "":
			a.refuse(w, r)
			return
		case !a.trusted(op, w, r, who):
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(op.largest, maxBody))
		if err := op.checkQuery(r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if op.changes {
			a.record(&op, who, w, r)
			return
		}
		op.serve(a, w, withWho(r, who))
	})
}

const maxBody = 64 << 10 // bytes of a request's body

// refuse answers who may not ask.
func (a *api) refuse(w http.ResponseWriter, r *http.Request) {
	if now := time.Now().UnixNano(); now-a.refused.Load() > int64(time.Second) {
		a.refused.Store(now) // of many at once one is told
		a.Log.Warn().Str("from", r.RemoteAddr).Str("method", r.Method).Str("path", shorten(r.URL.Path, 200)).Msg("admin: refused, without a token or a certificate that is known")
	}
	if !a.Access.guarded() {
		http.Error(w, "this endpoint is not on a loopback address, and has neither a token nor client certificates: see admin.token", http.StatusForbidden)
		return
	}
	w.Header().Set("WWW-Authenticate", `Bearer realm="wasmgate admin"`)
	http.Error(w, "a token or a certificate is needed: Authorization: Bearer TOKEN; see admin.token", http.StatusUnauthorized)
}

// trusted refuses what a page of another origin has a browser ask, though the browser may be somebody's who may.
func (a *api) trusted(op operation, w http.ResponseWriter, r *http.Request, who string) bool {
	switch site := r.Header.Get("Sec-Fetch-Site"); {
	case site != "" && site != "same-origin" && site != "none" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
		http.Error(w, "the request comes from a page of another origin", http.StatusForbidden)
		return false
	case who == local && op.group != groupHealth && !isLoopback(r.Host):
		http.Error(w, fmt.Sprintf("the request is for %q, which is not this machine's loopback", r.Host), http.StatusForbidden)
		return false
	}
	return true
}

// isLoopback says whether a Host field names the machine itself.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

// checkQuery refuses parameters that the operation does not have: dryrun=true must not reload in earnest.
func (op *operation) checkQuery(r *http.Request) error {
	if op.access == open {
		return nil
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return fmt.Errorf("the query is malformed: %w", err)
	}
	for name, values := range q {
		i := slices.IndexFunc(op.query, func(p parameter) bool { return p.name == name })
		switch {
		case i < 0:
			return fmt.Errorf("there is no parameter %q here%s", shorten(name, 50), known(op.query))
		case len(values) > 1:
			return fmt.Errorf("%s is there twice", name)
		}
		if err := op.query[i].check(values[0]); err != nil {
			return err
		}
	}
	for _, p := range op.query {
		if p.required && q.Get(p.name) == "" {
			return fmt.Errorf("%s is missing: %s", p.name, p.text)
		}
	}
	return nil
}

func known(list []parameter) string {
	var names []string
	for _, p := range list {
		names = append(names, p.name)
	}
	if names == nil {
		return ""
	}
	return "; there are " + strings.Join(names, ", ")
}

// check holds a value to its type.
func (p *parameter) check(value string) error {
	switch p.of.(type) {
	case bool:
		if value != "true" && value != "false" {
			return fmt.Errorf("%s is true or false", p.name)
		}
	case int:
		if n, err := number(value); err != nil || n < 0 || n > maxLimit {
			return fmt.Errorf("%s is a number from 0 to %d", p.name, maxLimit)
		}
	}
	if p.enum != nil && !slices.Contains(p.enum, value) {
		return fmt.Errorf("%s is one of %s", p.name, strings.Join(p.enum, ", "))
	}
	return nil
}

// shorten cuts a text that came from outside.
func shorten(s string, most int) string {
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
