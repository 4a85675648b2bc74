package compress

import (
	"fmt"
	"strings"
	"testing"

	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

func rules(p *Pools) *Rules {
	return &Rules{Encodings: []Coding{Zstd, Brotli, Gzip}, MinLength: 1000, Types: []string{"text/*", "application/json", "*/*+json"}, Pools: p}
}

// message makes an answer of lines, the first of which is the status.
func message(tb testing.TB, text, method string) (req http1.Request, resp http1.Response) {
	tb.Helper()
	text = "HTTP/1.1 " + strings.ReplaceAll(text, "\n", "\r\n") + "\r\n\r\n"
	if _, err := resp.Parse([]byte(text), &http1.DefaultLimits, []byte(method)); err != nil {
		tb.Fatalf("%q: %v", text, err)
	}
	ask := method + " / HTTP/1.1\r\nHost: h\r\n\r\n"
	if _, err := req.Parse([]byte(ask), &http1.DefaultLimits); err != nil {
		tb.Fatal(err)
	}
	return req, resp
}

func fieldsOf(h *http1.Head) string {
	var list []string
	for i := range h.Len() {
		list = append(list, fmt.Sprintf("%s: %s", h.Name(i), h.Value(i)))
	}
	return strings.Join(list, "\n")
}

func TestAnswersThatAreCompressed(t *testing.T) {
	const page = "200 OK\nContent-Type: text/html; charset=utf-8\nContent-Length: 5000"
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range []struct {
			name, answer, method, request, accept string
			want                                  Coding
			varies                                bool
		}{
			{"a page", page, "GET", "", "gzip", Gzip, true},
			{"of an error", strings.Replace(page, "200 OK", "404 Not Found", 1), "GET", "", "br", Brotli, true},
			{"to POST", page, "POST", "", "gzip", Gzip, true},
			{"to HEAD", page, "HEAD", "", "gzip", Gzip, true},
			{"to HEAD, without a length", "200 OK\nContent-Type: text/html", "HEAD", "", "gzip", Gzip, true},
			{"in chunks", "200 OK\nContent-Type: text/css\nTransfer-Encoding: chunked", "GET", "", "zstd", Zstd, true},
			{"until the end", "200 OK\nContent-Type: application/JSON", "GET", "", "zstd", Zstd, true},
			{"by suffix", "200 OK\nContent-Type: application/problem+json;v=1", "GET", "", "zstd", Zstd, true},
			{"to nobody", page, "GET", "", "", Identity, true},
			{"to one who refuses", page, "GET", "", "gzip;q=0, identity", Identity, true},
			{"encoded already", page + "\nContent-Encoding: br", "GET", "", "gzip", Identity, false},
			{"with the empty coding", page + "\nContent-Encoding: identity", "GET", "", "gzip", Identity, false},
			{"a part", strings.Replace(page, "200 OK", "206 Partial Content", 1) + "\nContent-Range: bytes 0-4999/9000", "GET", "", "gzip", Identity, false},
			{"a part in all but the status", page + "\nContent-Range: bytes 0-4999/9000", "GET", "", "gzip", Identity, false},
			{"not to be changed", page + "\nCache-Control: public, No-Transform", "GET", "", "gzip", Identity, false},
			{"not to be changed for the client", page, "GET", "no-transform", "gzip", Identity, false},
			{"short", strings.Replace(page, "5000", "999", 1), "GET", "", "gzip", Identity, false},
			{"just long enough", strings.Replace(page, "5000", "1000", 1), "GET", "", "gzip", Gzip, true},
			{"short, to HEAD", strings.Replace(page, "5000", "999", 1), "HEAD", "", "gzip", Identity, false},
			{"an image", strings.Replace(page, "text/html", "image/png", 1), "GET", "", "gzip", Identity, false},
			{"of no type", "200 OK\nContent-Length: 5000", "GET", "", "gzip", Identity, false},
			{"of a type like a listed one", strings.Replace(page, "text/html", "application/jsonp", 1), "GET", "", "gzip", Identity, false},
			{"of gRPC", strings.Replace(page, "text/html", "application/grpc+json", 1), "GET", "", "gzip", Identity, false},
			{"without content", "204 No Content\nContent-Type: text/html", "GET", "", "gzip", Identity, false},
			{"reset", "205 Reset Content\nContent-Type: text/html", "GET", "", "gzip", Identity, false},
			{"not modified", "304 Not Modified\nContent-Type: text/html", "GET", "", "gzip", Identity, false},
		} {
			req, resp := message(t, c.answer, c.method)
			if c.request != "" {
				req.Add("Cache-Control", c.request)
			}
			a := Accepted{}
			if c.accept != "" {
				a = accepts(c.accept)
			}
			got := rules(p).Answer(task.Loop(), &a, &req, &resp)
			if got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
			v, varies := resp.GetID(http1.FieldVary)
			if varies != c.varies || varies && string(v) != "Accept-Encoding" {
				t.Errorf("%s: Vary %q", c.name, v)
			}
			if e, _ := resp.GetID(http1.FieldContentEncoding); got != Identity && string(e) != got.String() {
				t.Errorf("%s: Content-Encoding %q", c.name, e)
			}
		}
	})
}

func TestHeadOfACompressedAnswer(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range []struct{ had, want string }{
			{"ETag: \"abc\"", "ETag: W/\"abc\""},
			{"ETag: W/\"abc\"", "ETag: W/\"abc\""},
			{"Accept-Ranges: bytes", ""},
			{"Content-Digest: sha-256=:AA==:\nRepr-Digest: sha-256=:AA==:\nDigest: sha-256=AA==\nContent-MD5: AA==", ""},
			{"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"},
		} {
			req, resp := message(t, "200 OK\nContent-Type: text/html\nTransfer-Encoding: chunked\n"+c.had, "GET")
			resp.DelID(http1.FieldTransferEncoding)
			a := accepts("gzip")
			rules(p).Answer(task.Loop(), &a, &req, &resp)
			want := "Content-Type: text/html\n" + c.want + "\nVary: Accept-Encoding\nContent-Encoding: gzip"
			if got := fieldsOf(&resp.Head); got != strings.ReplaceAll(want, "\n\n", "\n") {
				t.Errorf("%s:\n%s\nwant\n%s", c.had, got, want)
			}
		}
	})
}

func TestVaryIsSaidOnce(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for had, want := range map[string]string{
			"Origin": "Origin|Accept-Encoding", "accept-encoding": "accept-encoding", "Origin, Accept-Encoding": "Origin, Accept-Encoding", "*": "*",
		} {
			req, resp := message(t, "200 OK\nContent-Type: text/html\nVary: "+had, "GET")
			a := Accepted{}
			rules(p).Answer(task.Loop(), &a, &req, &resp)
			var got []string
			for i := resp.FindID(0, http1.FieldVary); i >= 0; i = resp.FindID(i+1, http1.FieldVary) {
				got = append(got, string(resp.Value(i)))
			}
			if strings.Join(got, "|") != want {
				t.Errorf("%s: %q, want %s", had, got, want)
			}
		}
	})
}

// TestNotModified: a cache that keeps the compressed answer asks by the weak validator that it was given, and must find it in
// the 304.
func TestNotModified(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		for _, c := range []struct{ tag, asked, accept, want string }{
			{`"abc"`, `W/"abc"`, "gzip", `W/"abc"`},
			{`"abc"`, `"x", W/"abc"`, "gzip", `W/"abc"`},
			{`"abc"`, `"abc", W/"abc"`, "gzip", `W/"abc"`},
			{`"abc"`, `"abc"`, "gzip", `"abc"`},
			{`"abc"`, `W/"abc"`, "", `"abc"`},
			{`"abc"`, `W/"abcd"`, "gzip", `"abc"`},
			{`W/"abc"`, `W/"abc"`, "gzip", `W/"abc"`},
		} {
			req, resp := message(t, "304 Not Modified\nETag: "+c.tag, "GET")
			req.Add("If-None-Match", c.asked)
			a := accepts(c.accept)
			if got := rules(p).Answer(task.Loop(), &a, &req, &resp); got != Identity {
				t.Errorf("%v: %s", c, got)
			}
			if tag, _ := resp.GetID(http1.FieldETag); string(tag) != c.want {
				t.Errorf("%v: %s", c, tag)
			}
		}
	})
}

func TestTypes(t *testing.T) {
	for _, c := range []struct {
		pattern, kind string
		want          bool
	}{
		{"text/html", "TEXT/HTML", true}, {"text/html", "text/htm", false}, {"text/*", "text/x", true}, {"text/*", "text/", false},
		{"text/*", "textual/x", false}, {"*/*+json", "application/ld+json", true}, {"*/*+json", "+json", false},
		{"*/*+json", "application/json", false}, {"*/*", "image/png", true}, {"*/*", "", false},
	} {
		if got := matches(c.pattern, []byte(c.kind)); got != c.want {
			t.Errorf("%s, %s: %v", c.pattern, c.kind, got)
		}
	}
}

func TestDecidingAllocatesNothing(t *testing.T) {
	onLoop(t, func(task *netloop.Task, p *Pools) {
		req, resp := message(t, "200 OK\nContent-Type: text/html\nETag: \"abc\"\nDigest: x\nContent-Length: 5000", "GET")
		r, a, kept := rules(p), accepts("gzip"), http1.Head{}
		kept.CopyFrom(&resp.Head)
		if n := testing.AllocsPerRun(1000, func() {
			resp.Head.CopyFrom(&kept)
			if r.Answer(task.Loop(), &a, &req, &resp) != Gzip {
				t.Fatal("it was not compressed")
			}
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}
