package modules

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote/auth"

	"wasmgate/config"
)

// source is one thing to be asked for.
type source struct {
	url     string
	what    string // for messages: the module, the manifest, the layer
	accept  string
	login   *auth.Client // of a registry; nil: a plain server
	offline bool         // it is not asked for
}

// get asks for what has that digest, of which no more than most bytes are read.
func (f *Fetcher) get(ctx context.Context, s source, digest string, most int64) ([]byte, *Error) {
	if s.offline {
		return nil, &Error{Kind: kindMiss}
	}
	ctx, dog, stop := watch(ctx, 2*f.o.Timeout) // not before the head: up to there the transport has limits of its own
	defer stop()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url, nil)
	if err != nil {
		return nil, &Error{Kind: KindFormat, Message: "not an URL: " + clean(err.Error()), Err: err}
	}
	r.Header.Set("Accept", s.accept)
	r.Header.Set("Accept-Encoding", "identity")
	if e := f.authorize(r, s.login != nil); e != nil {
		return nil, e
	}
	host := r.URL.Host
	var answer *http.Response
	if s.login != nil {
		answer, err = s.login.Do(r)
	} else {
		r.Header.Set("User-Agent", f.agent)
		answer, err = f.client.Do(r)
	}
	if err != nil {
		return nil, f.explain(ctx, host, err)
	}
	defer answer.Body.Close()
	host = answer.Request.URL.Host // where redirects have led
	if answer.StatusCode != http.StatusOK {
		return nil, refusal(s, host, answer)
	}
	if answer.ContentLength > most {
		return nil, tooLarge(s, answer.ContentLength, most)
	}
	dog.limit = f.o.Stall
	dog.alive()
	return f.read(ctx, s, host, answer, dog, digest, most)
}

// read takes the content of an answer and holds it against its digest.
func (f *Fetcher) read(ctx context.Context, s source, host string, answer *http.Response, dog *watchdog, digest string, most int64) ([]byte, *Error) {
	var b bytes.Buffer
	chunk := make([]byte, 64<<10)
	for {
		n, err := answer.Body.Read(chunk)
		if n > 0 {
			dog.alive()
			b.Write(chunk[:n])
		}
		if int64(b.Len()) > most {
			return nil, tooLarge(s, int64(b.Len()), most)
		}
		if err == io.EOF && ctx.Err() == nil {
			break
		}
		if err != nil { // an end, too, if it came because we hang up
			e := f.explain(ctx, host, &url.Error{Op: http.MethodGet, URL: s.url, Err: err})
			e.Message += fmt.Sprintf(" (after %d bytes of %s)", b.Len(), s.what)
			return nil, e
		}
	}
	if got := digestOf(b.Bytes()); got != digest {
		e := &Error{Kind: KindDigest, Message: fmt.Sprintf("%s from %s has the digest sha256:%s, and %d bytes", s.what, host, got, b.Len()),
			Help: "either it was changed since the digest was taken, and wants a look before that digest is put in, or the digest is not its own"}
		if c := answer.Header.Get("Content-Encoding"); c != "" {
			e.Help = "the server says Content-Encoding: " + clean(c) + ", which was not asked for, and a digest is of what it is without: have it sent as it is"
		} else if t := answer.Header.Get("Content-Type"); strings.HasPrefix(t, "text/html") {
			e.Help = "it is a page for people: the URL may want a login, or lead to a page about the file"
		}
		return nil, e
	}
	return b.Bytes(), nil
}

func tooLarge(s source, size, most int64) *Error {
	return &Error{Kind: KindTooLarge, Message: fmt.Sprintf("%s has %d bytes or more, and %d are allowed", s.what, size, most), Help: "plugin_sources.max_size says how much may be"}
}

// refusal says what an answer other than 200 means for what was asked for.
func refusal(s source, host string, answer *http.Response) *Error {
	e := explainStatus(host, answer.StatusCode, answer.Header.Get("Retry-After"))
	e.Message += " for " + s.what
	const manifestHelp = "the digest is that of the manifest, as `oras resolve` prints it, and not that of the module"
	switch {
	case e.Kind == KindNotFound && s.login == nil:
		e.Help = "check the URL"
	case e.Kind == KindNotFound:
		e.Help = "check the repository, and that " + manifestHelp
	case s.what == "the manifest" && answer.StatusCode == http.StatusInternalServerError: // of Docker's registry, for a layer's digest
		e.Help = "if it stays so, check that " + manifestHelp
	}
	return e
}

// image has a module from a registry, or from what the cache has of it.
func (f *Fetcher) image(ctx context.Context, ref config.Module, offline bool) ([]byte, Info, *Error) {
	name, repository, _, _ := ref.Image()
	from := &puller{Fetcher: f, offline: offline, info: Info{Cached: true}, ref: registry.Reference{Registry: name, Repository: repository}}
	p, err := from.manifest(ctx, ref.Digest)
	if err == nil && p.child != "" {
		if p, err = from.manifest(ctx, p.child); err == nil && p.child != "" {
			err = wrong("an index that leads to another index", "pin the digest of one image")
		}
	}
	if err != nil {
		return nil, from.info, err
	}
	var total int64
	for _, layer := range p.layers {
		if total += layer.size; total > f.o.MaxSize {
			return nil, from.info, tooLarge(source{what: "the image"}, total, f.o.MaxSize)
		}
		module, err := from.layer(ctx, layer, p.whole)
		if err != nil {
			return nil, from.info, err
		}
		if module != nil {
			from.info.MediaType = layer.mediaType
			return module, from.info, isModule(module)
		}
	}
	return nil, from.info, wrong("no "+moduleName+" is in the image", "copy the module into it under that name, or "+pushHelp)
}

// puller has the parts of one image, one after the other.
type puller struct {
	*Fetcher
	ref     registry.Reference
	client  *auth.Client // made when it is needed
	offline bool         // the cache alone is asked
	plain   bool         // a registry on loopback was found not to speak TLS
	info    Info
}

func (p *puller) manifest(ctx context.Context, digest string) (plan, *Error) {
	b, err := p.blob(ctx, source{what: "the manifest", accept: acceptManifests}, "manifests", digest, maxManifest)
	if err != nil {
		return plan{}, err
	}
	return readManifest(b)
}

// layer is the module in a layer; nil if it has none.
func (p *puller) layer(ctx context.Context, d part, whole bool) ([]byte, *Error) {
	b, err := p.blob(ctx, source{what: "the layer", accept: "*/*"}, "blobs", d.digest, p.o.MaxSize)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != d.size {
		return nil, wrong(fmt.Sprintf("the layer has %d bytes, and the manifest says %d", len(b), d.size), "push the image anew")
	}
	p.info.Layout = LayoutArtifact
	if whole {
		return b, nil
	}
	module, err := unpack(b, p.o.MaxSize)
	if !bytes.HasPrefix(b, magic) {
		p.info.Layout = LayoutImage
	}
	return module, err
}

// blob has one part by its digest.
func (p *puller) blob(ctx context.Context, s source, kind, digest string, most int64) ([]byte, *Error) {
	if b, ok := p.cache.get(digest, most); ok {
		return b, nil
	}
	p.info.Cached = false
	if p.client == nil {
		p.client = p.login()
	}
	s.login, s.offline = p.client, p.offline
	ctx = auth.AppendRepositoryScope(ctx, p.ref, auth.ActionPull)
	u := url.URL{Scheme: "https", Host: p.ref.Host(), Path: "/v2/" + p.ref.Repository + "/" + kind + "/sha256:" + digest}
	if p.plain {
		u.Scheme = "http"
	}
	s.url = u.String()
	b, err := p.get(ctx, s, digest, most)
	if err != nil && !p.plain && isLoopback(u.Hostname()) && errors.Is(err, http.ErrSchemeMismatch) {
		p.plain = true
		return p.blob(ctx, s, kind, digest, most)
	}
	if err != nil {
		return nil, err
	}
	if kept := p.cache.put(digest, b); kept != nil {
		p.info.NotKept = kept
	}
	return b, nil
}
