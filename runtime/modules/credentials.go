package modules

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
)

// named is what the variable that Options.Hosts names for a host holds.
func (f *Fetcher) named(host string) (value string, e *Error) {
	for name, h := range f.o.Hosts {
		if h.Credentials == "" || hostKey(name) != hostKey(host) {
			continue
		}
		if value = f.o.Env(h.Credentials); value == "" {
			return "", &Error{Kind: KindCredentials, Message: fmt.Sprintf("the environment variable %s, which is to hold the credentials for %s, is not set", h.Credentials, host),
				Help: "set it to user:password, or to a token, and start the gateway anew"}
		}
		return value, nil
	}
	return "", nil
}

// authorize gives a request the credentials of its host, if the variable for it is a token, or it is not for a registry,
// where there is no challenge to wait for.
func (f *Fetcher) authorize(r *http.Request, registry bool) *Error {
	value, e := f.named(r.URL.Host)
	if e != nil || value == "" {
		return e
	}
	switch _, _, password := strings.Cut(value, ":"); {
	case !password:
		r.Header.Set("Authorization", "Bearer "+value)
	case !registry:
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(value)))
	}
	return nil
}

// login is who talks to a registry: with what the variable for it holds, or else with what Docker's config has. Both are
// read anew each time, so that credentials can change while the gateway runs.
func (f *Fetcher) login() *auth.Client {
	c := &auth.Client{Client: f.client, Header: http.Header{"User-Agent": {f.agent}}, Cache: auth.NewCache(), ClientID: "wasmgate"}
	c.Credential = func(ctx context.Context, host string) (auth.Credential, error) {
		value, e := f.named(host)
		if e != nil {
			return auth.EmptyCredential, e
		}
		if user, password, ok := strings.Cut(value, ":"); ok {
			return auth.Credential{Username: user, Password: password}, nil
		}
		file := f.dockerConfig()
		if file == "" {
			return auth.EmptyCredential, nil
		}
		store, err := credentials.NewStore(file, credentials.StoreOptions{})
		if err == nil {
			var found auth.Credential
			if found, err = credentials.Credential(store)(ctx, host); err == nil {
				return found, nil
			}
		}
		return auth.EmptyCredential, &Error{Kind: KindCredentials, Message: fmt.Sprintf("the credentials for %s cannot be read from %s: %s", host, file, clean(err.Error())),
			Help: "plugin_sources.docker_config names another file, off none", Err: err}
	}
	return c
}

// dockerConfig is the path of Docker's config; "" if there is none.
func (f *Fetcher) dockerConfig() string {
	switch {
	case f.o.DockerConfig == "off":
		return ""
	case f.o.DockerConfig != "":
		return f.o.DockerConfig
	}
	const file = "config.json"
	if dir := f.o.Env("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, file)
	}
	for _, home := range []string{"HOME", "USERPROFILE"} {
		if dir := f.o.Env(home); dir != "" {
			return filepath.Join(dir, ".docker", file)
		}
	}
	return ""
}
