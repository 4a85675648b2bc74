package config

import (
	"slices"
	"strings"
)

// compression checks what a route says about content codings.
func (v *validator) compression(p keyPath, r *Route) {
	if c, p := r.Compression, p.key("compression"); c != nil {
		q := p.key("encodings")
		if len(c.Encodings) == 0 && v.ok(q) {
			v.fail(q, "name some of zstd, br and gzip, or remove `compression`", "is empty")
		}
		for i, one := range c.Encodings {
			if one != "" && slices.Contains(c.Encodings[:i], one) {
				v.warn(q.index(i), "", "%s is in the list already", quote(string(one)))
			}
		}
		if q := p.key("types"); len(c.Types) == 0 && v.ok(q) {
			v.fail(q, "name some, such as `text/*`, or remove `compression`", "is empty")
		}
		for i := range c.Types {
			c.Types[i] = strings.ToLower(c.Types[i])
			v.mediaType(p.key("types").index(i), c.Types[i])
		}
	}
	d, p := &r.Decompress, p.key("decompress")
	listeners := slices.ContainsFunc(v.config.Listeners, func(l Listener) bool { return len(l.Plugins) > 0 })
	if d.Requests && len(r.Plugins) == 0 {
		v.idle(p, "", "the route has no plugins", "requests")
	}
	if d.Responses && len(r.Plugins) == 0 && !listeners {
		v.idle(p, "", "no plugin sees the route's answers", "responses")
	}
	if !d.Requests && !d.Responses {
		v.idle(p, "say `requests: true` or `responses: true`", "nothing is decompressed", "max_size", "max_ratio")
	}
}

// mediaType checks a pattern of media types.
func (v *validator) mediaType(p keyPath, pattern string) {
	kind, sub, ok := strings.Cut(pattern, "/")
	suffix, all := strings.CutPrefix(sub, "*")
	switch {
	case !v.ok(p):
	case strings.Contains(pattern, ";"):
		v.fail(p, "write `"+strings.TrimSpace(pattern[:strings.Index(pattern, ";")])+"`", "%s has parameters, which do not matter here", quote(pattern))
	case !ok || kind == "" || sub == "":
		v.fail(p, "write `text/html`, `text/*` or `*/*+json`", "%s is not a media type", quote(pattern))
	case kind == "*" && (!all || suffix != "" && (suffix[0] != '+' || !isToken(suffix))), kind != "*" && (all && suffix != "" || !isToken(kind)), !all && !isToken(sub):
		v.fail(p, "write `text/html`, `text/*` or `*/*+json`", "%s is not a media type", quote(pattern))
	}
}
