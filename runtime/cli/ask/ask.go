// Package ask asks a running gateway by its admin endpoint, for the commands that show what one does.
package ask

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode"
)

// Endpoint is the admin endpoint of a gateway. It may be used from any goroutine.
type Endpoint struct {
	Admin  string        // host:port, or a URL; https:// for one with TLS
	Token  string        // that the endpoint wants; "": none
	Limit  time.Duration // for one question; 0: 5 s
	Client *http.Client  // nil: one of its own
	Secure bool          // host:port is asked by TLS
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Refused is what the gateway has to say of a question that is not as it should be (status 400).
type Refused string

func (r Refused) Error() string { return string(r) }

// Get reads what the endpoint has at a path.
func (e *Endpoint) Get(ctx context.Context, path string, read func(io.Reader) error) error {
	return e.do(ctx, http.MethodGet, path, nil, read)
}

// Post sends JSON to a path, and reads the answer.
func (e *Endpoint) Post(ctx context.Context, path string, body []byte, read func(io.Reader) error) error {
	return e.do(ctx, http.MethodPost, path, body, read)
}

func (e *Endpoint) do(ctx context.Context, method, path string, content []byte, read func(io.Reader) error) error {
	base, client, limit := strings.TrimSuffix(e.Admin, "/"), e.Client, e.Limit
	switch {
	case strings.Contains(base, "://"):
	case e.Secure:
		base = "https://" + base
	default:
		base = "http://" + base
	}
	if client == nil {
		client = http.DefaultClient
	}
	if limit == 0 {
		limit = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, base+path, bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("--admin %s is no address: %w", e.Admin, err)
	}
	if content != nil {
		q.Header.Set("Content-Type", "application/json")
	}
	if e.Token != "" {
		q.Header.Set("Authorization", "Bearer "+e.Token)
	}
	a, err := client.Do(q)
	if err != nil {
		return fmt.Errorf("the admin endpoint at %s cannot be reached: %w; is the gateway running, and is this its admin.address?", e.Admin, errors.Unwrap(err))
	}
	defer a.Body.Close()
	body := io.LimitReader(a.Body, maxAnswer)
	if a.StatusCode == http.StatusOK {
		if err := read(body); err != nil {
			return fmt.Errorf("what %s answers to %s %s is not a gateway's: %w", e.Admin, method, path, err)
		}
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(body, 2<<10)) // what there is of it
	text := Printable(strings.TrimSpace(string(said)))
	switch {
	case a.StatusCode == http.StatusUnauthorized && e.Token == "":
		return fmt.Errorf("the gateway at %s wants a token: give the file that has one with --token-file", e.Admin)
	case a.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the gateway at %s does not accept the token", e.Admin)
	case a.StatusCode == http.StatusBadRequest:
		return Refused(text)
	}
	return fmt.Errorf("%s %s of the gateway at %s: %s: %s", method, path, e.Admin, a.Status, text)
}

// Printable is text without what a terminal would do something with: names come from configs and name servers.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// Token reads the first token of a file: a line is a token, or a name, a space and a token, as in admin.token_file.
func Token(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	for line := range bytes.Lines(b) {
		if words := bytes.Fields(line); len(words) > 0 {
			return string(words[len(words)-1]), nil
		}
	}
	return "", errors.New("--token-file " + file + ": there is no token in it")
}
