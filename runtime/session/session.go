// Package session finds out which target of an upstream a client's session belongs to, and makes the cookie that tells
// the next request. It is pure, and needs no library: package http1 has the request in parts, and net/http's cookies
// allocate.
//
// A target is named by its token: the route of the configuration, or Token of its address. There are two styles, which
// can be used together:
//
//   - The application has sessions of its own and ends their ids with a separator and its token, as Tomcat does with
//     jvmRoute: a cookie JSESSIONID=8F2C.node1, a path parameter ;jsessionid=8F2C.node1 (or a query parameter of that name,
//     which is what Apache looks for as well), or a header field. The token is what is behind the FIRST separator, as for
//     Apache and mod_jk, so that a token may have the separator in it and the id may not. Without a separator the whole value
//     is the token.
//   - The gateway sets a cookie of its own (Options.Insert), whose whole value is the token. The application need not know.
//
// A path parameter is looked for first, since a link that names a session means that one and not an older cookie's; then
// the header field; then the cookie. What is there without a token in it (a session from before the separator was
// configured) counts as not there, and the search goes on.
//
// Requests come from outside: a token has at most MaxToken bytes that a cookie's value can have, everything else is no
// token, and a token that was found is only a wish, which the caller looks up among those that it knows. It grants nothing:
// whoever invents one is served by a target that they could also have got by chance.
//
// A Sessions is immutable; its methods may be called from any goroutine. They do not allocate, other than by growing the
// slice that they append to.
package session

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"wasmgate/runtime/http1"
)

// MaxToken is the longest token, in bytes.
const MaxToken = 128

// SameSite says with which requests from other sites browsers send an inserted cookie.
type SameSite string

// The values of SameSite. The zero value leaves it to the browser.
const (
	Lax    SameSite = "Lax"
	Strict SameSite = "Strict"
	None   SameSite = "None" // browsers want Secure with it
)

// Options say where sessions are found. At least one of Cookie, PathParameter and Header is needed.
type Options struct {
	Cookie        string // a cookie's name; case matters
	PathParameter string // a parameter's name, in the path or the query; case matters
	Header        string // a header field's name, in any case
	Separator     byte   // what comes before the token: any character of a token, such as '.', '!', '~'; 0: the value is the token

	Insert   bool          // Cookie is the gateway's own: its value is the token, whatever Separator says
	TTL      time.Duration // of an inserted cookie, in whole seconds; 0: until the browser ends its session
	Path     string        // of an inserted cookie; "" is "/"
	Secure   bool          // an inserted cookie is sent over https only
	HTTPOnly bool          // an inserted cookie is hidden from scripts
	SameSite SameSite
}

// Sessions finds sessions, and makes cookies.
type Sessions struct {
	cookie, parameter, header string
	cookieSeparator           byte
	separator                 byte
	insert, renew             bool
	attributes                string
}

// New checks the options. The error says which option is wrong, and why.
func New(o Options) (*Sessions, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &Sessions{cookie: o.Cookie, parameter: o.PathParameter, header: o.Header, separator: o.Separator, cookieSeparator: o.Separator}
	if !o.Insert {
		return s, nil
	}
	s.insert, s.renew, s.cookieSeparator = true, o.TTL > 0, 0
	var b strings.Builder
	b.WriteString("; Path=")
	if b.WriteString(o.Path); o.Path == "" {
		b.WriteByte('/')
	}
	if o.TTL > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(o.TTL/time.Second), 10))
	}
	if o.Secure {
		b.WriteString("; Secure")
	}
	if o.HTTPOnly {
		b.WriteString("; HttpOnly")
	}
	if o.SameSite != "" {
		b.WriteString("; SameSite=" + string(o.SameSite))
	}
	s.attributes = b.String()
	return s, nil
}

func (o *Options) check() error {
	switch {
	case o.Cookie == "" && o.PathParameter == "" && o.Header == "":
		return errors.New("a session is found by a cookie, a path parameter or a header field, and none is named")
	case o.Cookie != "" && !http1.ValidFieldName(o.Cookie):
		return fmt.Errorf("%q is not a cookie's name", o.Cookie)
	case o.PathParameter != "" && !http1.ValidFieldName(o.PathParameter), strings.ContainsAny(o.PathParameter, "&%#"):
		return fmt.Errorf("%q is not a path parameter's name", o.PathParameter)
	case o.Header != "" && !http1.ValidFieldName(o.Header):
		return fmt.Errorf("%q is not a header field's name", o.Header)
	case o.Separator != 0 && !tokenByte[o.Separator]:
		return fmt.Errorf("%q cannot separate: it is no character of a cookie's value", o.Separator)
	}
	if !o.Insert {
		return nil
	}
	switch {
	case o.Cookie == "":
		return errors.New("a cookie that is inserted needs a name")
	case o.TTL < 0 || o.TTL > 0 && o.TTL < time.Second:
		return errors.New("an inserted cookie lives for at least a second")
	case o.Path != "" && (o.Path[0] != '/' || !http1.ValidFieldValue(o.Path) || strings.ContainsAny(o.Path, ";,\" \t")):
		return fmt.Errorf("%q is not a cookie's path", o.Path)
	case o.SameSite != "" && o.SameSite != Lax && o.SameSite != Strict && o.SameSite != None:
		return fmt.Errorf("%q is not Lax, Strict or None", o.SameSite)
	case o.SameSite == None && !o.Secure:
		return errors.New("browsers take a cookie with SameSite=None only if it is Secure")
	}
	return nil
}

// tokenByte are the bytes of a token: cookie-octet of RFC 6265 section 4.1.1, without '/', '?' and '&', which end a
// parameter.
var tokenByte = func() (t [256]bool) {
	for c := byte(0x21); c < 0x7f; c++ {
		t[c] = c != '"' && c != ',' && c != ';' && c != '\\' && c != '/' && c != '?' && c != '&'
	}
	return t
}()

// ValidToken says whether t can be a token: 1 to MaxToken bytes of visible ASCII without any of ",;\/?&.
func ValidToken[T ~string | ~[]byte](t T) bool {
	if len(t) == 0 || len(t) > MaxToken {
		return false
	}
	for i := 0; i < len(t); i++ {
		if !tokenByte[t[i]] {
			return false
		}
	}
	return true
}

// Token makes a token of a target's name, such as its address: 16 hexadecimal digits, always the same for the same name, so
// that sessions outlive a restart and hold across several gateways. It keeps the address out of sight, not secret.
func Token(name string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	return fmt.Sprintf("%016x", h.Sum64())
}

// Find returns the token of the request's session, or nil. It is a view of the request, valid as long as one (see package
// http1). It may be called before the request's path was rewritten or after.
func (s *Sessions) Find(req *http1.Request) []byte {
	if s.parameter != "" {
		if t := s.inTarget(req); t != nil {
			return t
		}
	}
	if s.header != "" {
		for i := req.Find(0, s.header); i >= 0; i = req.Find(i+1, s.header) {
			if t := token(req.Value(i), s.separator); t != nil {
				return t
			}
		}
	}
	if s.cookie == "" {
		return nil
	}
	for i := req.FindID(0, http1.FieldCookie); i >= 0; i = req.FindID(i+1, http1.FieldCookie) {
		if t := inCookies(req.Value(i), s.cookie, s.cookieSeparator); t != nil {
			return t
		}
	}
	return nil
}

// inTarget looks for the parameter in path and query as they are now, and then as the client sent them.
func (s *Sessions) inTarget(req *http1.Request) []byte {
	if t := s.inParameters(req.Path, false); t != nil {
		return t
	}
	if t := s.inParameters(req.Query(), true); t != nil {
		return t
	}
	return s.inParameters(req.Target, false)
}

// inParameters looks for the parameter behind ';', '?' and '&', and at the beginning of a query.
func (s *Sessions) inParameters(text []byte, query bool) []byte {
	for {
		if !query {
			at := bytes.IndexAny(text, ";?&")
			if at < 0 {
				return nil
			}
			text = text[at+1:]
		}
		query = false
		if n := len(s.parameter); len(text) > n && text[n] == '=' && string(text[:n]) == s.parameter {
			value := text[n+1:]
			if end := bytes.IndexAny(value, ";?&/"); end >= 0 {
				value = value[:end]
			}
			if t := token(value, s.separator); t != nil {
				return t
			}
		}
	}
}

// inCookies looks for a cookie in the value of a Cookie field.
func inCookies(list []byte, name string, separator byte) []byte {
	for len(list) > 0 {
		pair := list
		if end := bytes.IndexByte(list, ';'); end >= 0 {
			pair, list = list[:end], list[end+1:]
		} else {
			list = nil
		}
		pair = trim(pair)
		if n := len(name); len(pair) > n && pair[n] == '=' && string(pair[:n]) == name {
			if t := token(unquote(pair[n+1:]), separator); t != nil {
				return t
			}
		}
	}
	return nil
}

// token takes the token out of a session's id; nil if it has none.
func token(id []byte, separator byte) []byte {
	if separator != 0 {
		at := bytes.IndexByte(id, separator)
		if at < 0 {
			return nil
		}
		id = id[at+1:]
	}
	if !ValidToken(id) {
		return nil
	}
	return id[:len(id):len(id)]
}

func unquote(v []byte) []byte {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		return v[1 : len(v)-1]
	}
	return v
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// Due says whether the answer to a request gets a cookie: cookies are inserted, and the request named another target than
// the one that has served it (token), or none; or the cookie has a TTL, which begins anew with each answer, so that a
// session in use never ends. found is what Find returned.
func (s *Sessions) Due(found []byte, token string) bool {
	return s.insert && token != "" && (s.renew || string(found) != token)
}

// AppendSetCookie appends the value of the Set-Cookie field that makes the session the target's with this token, which must
// be valid (ValidToken).
func (s *Sessions) AppendSetCookie(dst []byte, token string) []byte {
	dst = append(append(dst, s.cookie...), '=')
	return append(append(dst, token...), s.attributes...)
}
