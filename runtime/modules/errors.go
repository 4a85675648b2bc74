package modules

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"wasmgate/config"
)

// Kind is what went wrong, in a word for logs and metrics.
type Kind string

// The kinds of an Error.
const (
	KindName         Kind = "dns"          // the host's name was not resolved
	KindUnreachable  Kind = "unreachable"  // no connection, or one that was cut off
	KindTLS          Kind = "tls"          // the certificate, or no TLS at all
	KindTimeout      Kind = "timeout"      // the server is too slow
	KindBusy         Kind = "busy"         // it answers 408, 429 or 5xx
	KindUnauthorized Kind = "unauthorized" // 401 or 403
	KindNotFound     Kind = "not_found"    // 404 or 410, or no such file
	KindRefused      Kind = "refused"      // an answer that is none: another status, a redirect that is not followed
	KindDigest       Kind = "digest"       // something else than what the digest says
	KindFormat       Kind = "format"       // no image with a module in it, or no module
	KindTooLarge     Kind = "too_large"    // over Options.MaxSize
	KindCredentials  Kind = "credentials"  // those of config could not be had
	KindCanceled     Kind = "canceled"     // the caller's context, or Close
	KindFile         Kind = "file"         // a file that could not be read
)

// Error is why a module could not be had.
type Error struct {
	Ref     config.Module
	Kind    Kind
	Message string // what is wrong, and where
	Help    string // what to do; may be empty
	Err     error  // below it; may be nil

	temporary  bool          // worth another try at once
	retryAfter time.Duration // that the server asked for
}

// Error writes where the module should be, what is wrong and what to do.
func (e *Error) Error() string {
	s := e.Message
	if where := Short(e.Ref); where != "" {
		s = where + ": " + s
	}
	if e.Help != "" {
		s += "; " + e.Help
	}
	return s
}

// Unwrap is the error below.
func (e *Error) Unwrap() error { return e.Err }

// Temporary says whether the same may succeed soon: the server could not be reached, or is busy.
func (e *Error) Temporary() bool { return e.temporary }

// Short writes a reference for people: with a digest of twelve digits.
func Short(m config.Module) string {
	if m.Fetched() && len(m.Digest) > 12 {
		return m.URL + "@sha256:" + m.Digest[:12] + "…"
	}
	return m.String()
}

// Causes of contexts that end.
var (
	errStalled  = errors.New("stalled")
	errTimedOut = errors.New("timed out")
	errClosed   = errors.New("closed")
)

// explain says what an error of the network means. server is who was asked.
func (f *Fetcher) explain(ctx context.Context, server string, err error) *Error {
	var mine *Error
	if errors.As(err, &mine) {
		return mine
	}
	switch cause := context.Cause(ctx); {
	case cause == errStalled:
		return &Error{Kind: KindTimeout, Message: fmt.Sprintf("%s brought nothing for %v", server, f.o.Stall), Err: err, temporary: true}
	case cause == errTimedOut:
		return &Error{Kind: KindTimeout, Message: fmt.Sprintf("%s had not brought all of it after %v", server, f.o.Timeout),
			Help: "plugin_sources.timeout says how long a try may take", Err: err, temporary: true}
	case cause != nil:
		return &Error{Kind: KindCanceled, Message: "given up while " + server + " was asked", Err: cause}
	}
	for _, e := range []func(string, error) *Error{explainName, explainTLS, explainAuth} {
		if out := e(server, err); out != nil {
			return out
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return &Error{Kind: KindUnreachable, Message: server + " closed the connection before all of it was there", Err: err, temporary: true}
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return &Error{Kind: KindTimeout, Message: server + " does not answer: " + inner(err), Err: err, temporary: true}
	}
	if asked := (*url.Error)(nil); !errors.As(err, &asked) { // it was reached, and what it said makes no sense to oras
		e := &Error{Kind: KindRefused, Message: "the answer of " + server + " is not understood: " + clean(err.Error()), Err: err}
		if strings.Contains(err.Error(), "bearer realm") {
			e.Help = loginWith(server) + " with a token alone does without asking for one"
		}
		return e
	}
	return &Error{Kind: KindUnreachable, Message: server + " cannot be reached: " + inner(err), Err: err, temporary: true}
}

func explainName(server string, err error) *Error {
	var dns *net.DNSError
	if !errors.As(err, &dns) {
		return nil
	}
	if dns.IsNotFound {
		return &Error{Kind: KindName, Message: fmt.Sprintf("there is no host called %s", clean(dns.Name)), Help: "check its spelling, and the machine's name servers", Err: err}
	}
	return &Error{Kind: KindName, Message: fmt.Sprintf("the name of %s could not be looked up: %s", server, clean(dns.Err)), Help: "check the machine's name servers", Err: err, temporary: true}
}

func explainTLS(server string, err error) *Error {
	const help = "plugin_sources.hosts.HOST.ca_file names the authority to trust"
	var (
		unknown  x509.UnknownAuthorityError
		name     x509.HostnameError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		alert    tls.AlertError
		hostHelp = strings.Replace(help, "HOST", server, 1)
	)
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return &Error{Kind: KindTLS, Message: server + " speaks HTTP where HTTPS was expected", Help: "plain HTTP is for loopback addresses only: give the server a certificate", Err: err}
	case errors.As(err, &unknown):
		return &Error{Kind: KindTLS, Message: "the certificate of " + server + " is of an authority that is not trusted", Help: hostHelp, Err: err}
	case errors.As(err, &name):
		return &Error{Kind: KindTLS, Message: "the certificate of " + server + " is for another name: " + clean(name.Error()), Err: err}
	case errors.As(err, &verify):
		return &Error{Kind: KindTLS, Message: "the certificate of " + server + " is not accepted: " + inner(verify.Err), Help: hostHelp, Err: err}
	case errors.As(err, &record), errors.As(err, &alert):
		return &Error{Kind: KindTLS, Message: "no TLS with " + server + ": " + inner(err), Err: err}
	}
	return nil
}

// explainAuth says what oras could not get: a token, or anything to ask for one with.
func explainAuth(server string, err error) *Error {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return &Error{Kind: KindUnauthorized, Message: server + " answers 401, and wants a password", Help: loginHelp(server), Err: err}
	}
	var answer *errcode.ErrorResponse
	if !errors.As(err, &answer) {
		return nil
	}
	host := server
	if answer.URL != nil {
		host = answer.URL.Host
	}
	e := explainStatus(host, answer.StatusCode, "")
	e.Message = "a token for " + server + " was asked for: " + e.Message
	if len(answer.Errors) > 0 {
		e.Message += ", " + clean(answer.Errors.Error())
	}
	if e.Kind == KindUnauthorized {
		e.Help = loginHelp(server)
	}
	e.Err = err
	return e
}

// explainStatus says what a status other than 200 means.
func explainStatus(server string, status int, retryAfter string) *Error {
	e := &Error{Kind: KindRefused, Message: fmt.Sprintf("%s answers %d %s", server, status, http.StatusText(status))}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Kind, e.Help = KindUnauthorized, loginHelp(server)
	case status == http.StatusNotFound || status == http.StatusGone:
		e.Kind = KindNotFound
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500:
		e.Kind, e.temporary = KindBusy, true
		if seconds, err := strconv.Atoi(retryAfter); err == nil && seconds > 0 {
			e.retryAfter = time.Duration(min(seconds, 3600)) * time.Second
		}
	}
	return e
}

func loginHelp(server string) string {
	server = hostKey(server)
	return fmt.Sprintf("`docker login %s` as the gateway's user, or name a variable in %s; some answer so for what is not there, too", server, loginWith(server))
}

// loginWith is the key of config with the credentials for a host.
func loginWith(server string) string {
	return "plugin_sources.hosts." + hostKey(server) + ".credentials"
}

// inner is the message of the innermost error that says anything of its own, without the URL that net/http puts before it.
func inner(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return clean(err.Error())
}

// clean makes a server's words fit for a line of a log.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > 200 {
		s = string(runes[:200]) + "…"
	}
	return s
}
