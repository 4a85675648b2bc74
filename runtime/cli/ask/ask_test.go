package ask

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gateway is an endpoint that wants a token, and says what it was asked.
func gateway(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer correct-horse-battery" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		switch r.URL.Path {
		case "/wrong":
			http.Error(w, "the method has \x1b[31m in it", http.StatusBadRequest)
		case "/broken":
			http.Error(w, "an event loop did not answer in time", http.StatusServiceUnavailable)
		case "/never":
			<-r.Context().Done()
		default:
			body, _ := io.ReadAll(r.Body)
			_ = json.NewEncoder(w).Encode([]string{r.Method, r.URL.String(), r.Header.Get("Content-Type"), string(body)})
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func TestQuestionsAndAnswers(t *testing.T) {
	e := Endpoint{Admin: gateway(t).URL + "/", Token: "correct-horse-battery"}
	var said []string
	read := func(r io.Reader) error { return json.NewDecoder(r).Decode(&said) }
	if err := e.Get(context.Background(), "/upstreams?x=1", read); err != nil || strings.Join(said, " ") != "GET /upstreams?x=1  " {
		t.Errorf("%q, %v", said, err)
	}
	if err := e.Post(context.Background(), "/explain", []byte("{}"), read); err != nil || strings.Join(said, " ") != "POST /explain application/json {}" {
		t.Errorf("%q, %v", said, err)
	}
	var refused Refused
	if err := e.Get(context.Background(), "/wrong", read); !errors.As(err, &refused) || refused != "the method has ?[31m in it" {
		t.Errorf("%v", err)
	}
}

func TestWhatGoesWrongIsSaid(t *testing.T) {
	url := gateway(t).URL
	closed := httptest.NewServer(nil)
	closed.Close()
	fine := func(io.Reader) error { return nil }
	for _, c := range []struct {
		want, path string
		e          Endpoint
		read       func(io.Reader) error
	}{
		{"wants a token: give the file that has one with --token-file", "/", Endpoint{Admin: url}, fine},
		{"does not accept the token", "/", Endpoint{Admin: url, Token: "x"}, fine},
		{"503 Service Unavailable: an event loop did not answer in time", "/broken", Endpoint{Admin: url, Token: "correct-horse-battery"}, fine},
		{"is not a gateway's", "/", Endpoint{Admin: url, Token: "correct-horse-battery"}, func(io.Reader) error { return io.ErrUnexpectedEOF }},
		{"cannot be reached: context deadline exceeded", "/never", Endpoint{Admin: url, Token: "correct-horse-battery", Limit: 50 * time.Millisecond}, fine},
		{"is this its admin.address?", "/", Endpoint{Admin: strings.TrimPrefix(closed.URL, "http://")}, fine},
		{"is no address", "/", Endpoint{Admin: "http://a b"}, fine},
	} {
		if err := c.e.Get(context.Background(), c.path, c.read); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want %q", err, c.want)
		}
	}
}

func TestTokenOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for content, want := range map[string]string{"abc\n": "abc", "\n\n  somebody abc \nother def\n": "abc", "abc": "abc"} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Token(file); err != nil || got != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	if err := os.WriteFile(file, []byte(" \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Token(file); err == nil || !strings.Contains(err.Error(), "there is no token in it") {
		t.Error(err)
	}
	if _, err := Token(file + "x"); err == nil {
		t.Error("a file that is not there has a token")
	}
}
