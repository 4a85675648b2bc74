package compress

import (
	"bytes"
	"strings"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Answer decides about an answer, and makes its head what that of the encoded answer is; Identity leaves it as it is, but
// for Vary where another client would have had it encoded. Its framing is the caller's business: of an encoded body the
// length is not known. That of an answer to HEAD is what GET would have.
func (r *Rules) Answer(l *netloop.Loop, a *Accepted, req *http1.Request, resp *http1.Response) Coding {
	scratch := &r.Pools.of(l).scratch
	if resp.Status == 304 {
		r.revalidated(a, req, resp, scratch)
		return Identity
	}
	if !r.fit(req, resp) {
		return Identity
	}
	varies(&resp.Head)
	c := a.Choose(r.Encodings)
	if c == Identity || !r.Pools.hasRoom(l, c, r.Level) {
		return Identity
	}
	recoded(&resp.Head, scratch)
	resp.SetID(http1.FieldContentEncoding, tokens[c])
	return c
}

// fit says whether an answer is one of those that are compressed, whoever asks.
func (r *Rules) fit(req *http1.Request, resp *http1.Response) bool {
	switch {
	case resp.Status < 200, resp.Status == 204, resp.Status == 205, resp.Status == 206:
		return false
	case resp.FindID(0, http1.FieldContentEncoding) >= 0, resp.FindID(0, http1.FieldContentRange) >= 0:
		return false
	case !r.long(&resp.Framing), !r.listed(&resp.Head):
		return false
	}
	return !forbids(&resp.Head) && !forbids(&req.Head)
}

// long says whether a body has its least length, or a length that is not known.
func (r *Rules) long(f *http1.Framing) bool {
	switch f.Kind {
	case http1.Length:
		return f.Length >= r.MinLength
	case http1.NoBody: // to HEAD
		return f.Length < 0 || f.Length >= r.MinLength
	}
	return true
}

// listed says whether an answer's type is among the types. Those of gRPC never are: its messages have a coding of their own.
func (r *Rules) listed(h *http1.Head) bool {
	t := mediaType(h)
	if len(t) == 0 || len(t) >= len("application/grpc") && http1.EqualFold(t[:len("application/grpc")], "application/grpc") {
		return false
	}
	for _, pattern := range r.Types {
		if matches(pattern, t) {
			return true
		}
	}
	return false
}

func mediaType(h *http1.Head) []byte {
	t, _ := h.GetID(http1.FieldContentType)
	if i := bytes.IndexByte(t, ';'); i >= 0 {
		t = t[:i]
	}
	return trim(t)
}

func matches(pattern string, t []byte) bool {
	if suffix, ok := strings.CutPrefix(pattern, "*/*"); ok {
		return len(t) > len(suffix) && http1.EqualFold(t[len(t)-len(suffix):], suffix)
	}
	if kind, ok := strings.CutSuffix(pattern, "*"); ok {
		return len(t) > len(kind) && http1.EqualFold(t[:len(kind)], kind)
	}
	return http1.EqualFold(t, pattern)
}

// Streams says whether a body is one of which each piece is wanted at once: one without a length, or a stream of events.
func Streams(resp *http1.Response) bool {
	return resp.Framing.Kind != http1.Length || http1.EqualFold(mediaType(&resp.Head), "text/event-stream")
}

// forbids says whether Cache-Control has no-transform (RFC 9110 section 7.7).
func forbids(h *http1.Head) bool {
	for i := h.FindID(0, http1.FieldCacheControl); i >= 0; i = h.FindID(i+1, http1.FieldCacheControl) {
		if http1.HasToken(h.Value(i), "no-transform") {
			return true
		}
	}
	return false
}

// varies adds Vary: Accept-Encoding, unless it says so already.
func varies(h *http1.Head) {
	for i := h.FindID(0, http1.FieldVary); i >= 0; i = h.FindID(i+1, http1.FieldVary) {
		if v := h.Value(i); http1.HasToken(v, "Accept-Encoding") || http1.HasToken(v, "*") {
			return
		}
	}
	h.AddID(http1.FieldVary, acceptEncoding)
}

var (
	acceptEncoding = []byte("Accept-Encoding")
	tokens         = func() (t [codings][]byte) { // the names, as fields want them
		for c, n := range names {
			t[c] = []byte(n)
		}
		return t
	}()
)

// digests are fields about the bytes of a body, coding and all: Content-Digest and Repr-Digest (RFC 9530), and what there
// was before them.
var digests = [...]string{"Content-Digest", "Repr-Digest", "Digest", "Content-MD5"}

// Recoded makes a head that of a message whose body has got another coding: digests do not hold any more, and are removed;
// parts of the body cannot be asked for; and a validator speaks of what means the same, not of the same bytes.
func (p *Pools) Recoded(l *netloop.Loop, h *http1.Head) { recoded(h, &p.of(l).scratch) }

func recoded(h *http1.Head, scratch *[]byte) {
	WithoutDigests(h)
	h.Del("Accept-Ranges")
	if tag, ok := h.GetID(http1.FieldETag); ok && !isWeak(tag) {
		*scratch = append(append((*scratch)[:0], "W/"...), tag...)
		h.SetID(http1.FieldETag, *scratch)
	}
}

// WithoutDigests removes what does not hold of a body any more that has got another coding.
func WithoutDigests(h *http1.Head) {
	for _, name := range digests {
		h.Del(name)
	}
}

func isWeak(tag []byte) bool { return bytes.HasPrefix(tag, []byte("W/")) }

// revalidated is for a 304: whose stored answer was compressed knows it by a weak validator, and finds it by the same (RFC
// 9111 section 4.3.4).
func (r *Rules) revalidated(a *Accepted, req *http1.Request, resp *http1.Response, scratch *[]byte) {
	tag, ok := resp.GetID(http1.FieldETag)
	if !ok || isWeak(tag) || a.Choose(r.Encodings) == Identity {
		return
	}
	for i := req.FindID(0, http1.FieldIfNoneMatch); i >= 0; i = req.FindID(i+1, http1.FieldIfNoneMatch) {
		if v := req.Value(i); len(tag) > 0 && hasWeak(v, tag) {
			recoded(&resp.Head, scratch)
			varies(&resp.Head)
			return
		}
	}
}

// hasWeak says whether a list of tags has this one as a weak one.
func hasWeak(list, tag []byte) bool {
	for {
		i := bytes.Index(list, tag)
		if i < 0 {
			return false
		}
		if i >= 2 && list[i-2] == 'W' && list[i-1] == '/' {
			return true
		}
		list = list[i+len(tag):]
	}
}
