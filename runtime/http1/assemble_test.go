package http1

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

// frames is a request as HTTP/2 has it.
type frames struct {
	method, scheme, authority, target string
	fields                            []string // name: value
	body                              FramingKind
}

func (f frames) assemble(r *Request, lim *Limits) error {
	r.Reset()
	for _, line := range f.fields {
		name, value, _ := strings.Cut(line, ": ")
		r.Add(name, value)
	}
	return r.Assemble([]byte(f.method), []byte(f.scheme), []byte(f.authority), []byte(f.target), Framing{Kind: f.body}, lim)
}

// text is the same in HTTP/1.1, in which a body without a length is chunked.
func (f frames) text() string {
	target := f.target
	if target == "" {
		target = f.authority
	}
	out := f.method + " " + target + " HTTP/1.1\r\n"
	cookies, host, length := []string(nil), f.authority == "", false
	for _, line := range f.fields {
		name, value, _ := strings.Cut(line, ": ")
		if name == "cookie" {
			if cookies = append(cookies, value); len(cookies) == 1 {
				out += "cookie: <crumbs>\r\n"
			}
			continue
		}
		host, length = host || name == "host", length || name == "content-length"
		out += line + "\r\n"
	}
	if !host {
		out += "Host: " + f.authority + "\r\n"
	}
	if f.body == Chunked && !length {
		out += "Transfer-Encoding: chunked\r\n"
	}
	return strings.Replace(out, "<crumbs>", strings.Join(cookies, "; "), 1) + "\r\n"
}

// said is all that a request says.
func said(r *Request) string {
	r.DelID(FieldTransferEncoding)
	return fmt.Sprintf("%s target=%s %+v %s", summary(r), r.Target, r.Framing, strings.ToLower(fields(&r.Head)))
}

func TestAssembledIsAsParsed(t *testing.T) {
	for name, f := range map[string]frames{
		"plain":                   {method: "GET", scheme: "http", authority: "h", target: "/"},
		"path and query":          {method: "GET", scheme: "https", authority: "a.example:8080", target: "/a/b?c=d?e"},
		"empty query":             {method: "GET", authority: "h", target: "/a?"},
		"dot segments":            {method: "GET", authority: "h", target: "/a/./b/%2e%2E/c?/../x"},
		"kept as it is":           {method: "GET", authority: "h", target: "//a//b;c/%2F?%00"},
		"Host alone":              {method: "GET", target: "/", fields: []string{"host: h"}},
		"Host as the authority":   {method: "GET", authority: "h", target: "/", fields: []string{"a: b", "host: h"}},
		"IPv6":                    {method: "GET", authority: "[::1]:80", target: "/"},
		"asterisk":                {method: "OPTIONS", authority: "h", target: "*"},
		"CONNECT":                 {method: "CONNECT", authority: "a:443"},
		"a length":                {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 5"}, body: Chunked},
		"a length of 0, and none": {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 0"}},
		"lengths that agree":      {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 5", "content-length: 5"}, body: Chunked},
		"no length":               {method: "POST", authority: "h", target: "/", body: Chunked},
		"expect":                  {method: "PUT", authority: "h", target: "/", fields: []string{"expect: 100-Continue"}, body: Chunked},
		"expect without a body":   {method: "PUT", authority: "h", target: "/", fields: []string{"expect: 100-continue"}},
		"trailers are taken":      {method: "GET", authority: "h", target: "/", fields: []string{"te: trailers"}},
		"fields":                  {method: "M-SEARCH", authority: "h", target: "/", fields: []string{"a: ", "b: x\ty", "c: \xfc", "b: z", "accept: */*", "x_user: v"}},
		"cookies":                 {method: "GET", authority: "h", target: "/", fields: []string{"cookie: a=b", "x: y", "cookie: c=d; e=f", "cookie: g=h", "z: 1"}},
		"one cookie":              {method: "GET", authority: "h", target: "/", fields: []string{"cookie: a=b", "x: y"}},
		"method":                  {method: "GE(T", authority: "h", target: "/"},
		"long method":             {method: strings.Repeat("M", 33), authority: "h", target: "/"},
		"long target":             {method: "GET", authority: "h", target: "/" + strings.Repeat("a", 8<<10)},
		"target at its limit":     {method: "GET", authority: "h", target: "/" + strings.Repeat("a", 8<<10-1)},
		"a space in the target":   {method: "GET", authority: "h", target: "/a\x7fb"},
		"fragment":                {method: "GET", authority: "h", target: "/a#b"},
		"%00":                     {method: "GET", authority: "h", target: "/%00"},
		"bad encoding":            {method: "GET", authority: "h", target: "/%4"},
		"ambiguous dots":          {method: "GET", authority: "h", target: "/a/..%2Fb"},
		"two hosts":               {method: "GET", target: "/", fields: []string{"host: h", "host: h"}},
		"bad host":                {method: "GET", target: "/", fields: []string{"host: h/x"}},
		"bad authority":           {method: "GET", authority: "u@h", target: "/"},
		"empty host":              {method: "GET", target: "/", fields: []string{"host: "}},
		"lengths that differ":     {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 5", "content-length: 6"}, body: Chunked},
		"a length with a sign":    {method: "POST", authority: "h", target: "/", fields: []string{"content-length: +5"}, body: Chunked},
		"a list of lengths":       {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 5, 5"}, body: Chunked},
		"a length over 63 bits":   {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 9223372036854775808"}, body: Chunked},
		"other expectation":       {method: "PUT", authority: "h", target: "/", fields: []string{"expect: cake"}, body: Chunked},
		"CONNECT without a port":  {method: "CONNECT", authority: "h"},
		"many fields":             {method: "GET", authority: "h", target: "/", fields: slices.Repeat([]string{"a: b"}, 101)},
		"a long head":             {method: "GET", authority: "h", target: "/", fields: slices.Repeat([]string{"a: " + strings.Repeat("b", 4<<10)}, 9)},
		"a control character":     {method: "GET", authority: "h", target: "/", fields: []string{"a: b\x01c"}},
		"CR":                      {method: "GET", authority: "h", target: "/", fields: []string{"a: b\rc"}},
		"LF":                      {method: "GET", authority: "h", target: "/", fields: []string{"a: b\nc"}},
		"NUL":                     {method: "GET", authority: "h", target: "/", fields: []string{"a: b\x00c"}},
		"no name":                 {method: "GET", authority: "h", target: "/", fields: []string{": c"}},
		"a name with a space":     {method: "GET", authority: "h", target: "/", fields: []string{"a b: c"}},
	} {
		t.Run(name, func(t *testing.T) {
			var parsed, made Request
			in := f.text()
			_, want := parsed.Parse([]byte(in), nil)
			got := f.assemble(&made, nil)
			if fe, ge := fault.From(want), fault.From(got); (want == nil) != (got == nil) || want != nil && (fe.Status != ge.Status && ge.Status != 0 || fe.Kind != ge.Kind) {
				t.Fatalf("%v, parsed %v", got, want)
			}
			if want != nil {
				return
			}
			if has := func(r *Request) bool { return r.HasQuery() }; has(&made) != has(&parsed) {
				t.Errorf("query %t", made.HasQuery())
			}
			if a, b := said(&made), said(&parsed); sorted(a) != sorted(b) {
				t.Errorf("\n%s, parsed\n%s", a, b)
			}
			made.StripHopByHop()
			made.Set("X_User", "me")
			if v, _ := made.Get("x_user"); string(v) != "me" || made.Find(0, "X-User") >= 0 {
				t.Errorf("a field that was set: %q of %s", v, fields(&made.Head))
			}
		})
	}
}

// sorted makes Host, which comes last or first, no difference.
func sorted(s string) string {
	words := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' || r == '\r' || r == '|' })
	slices.Sort(words)
	return strings.Join(words, " ")
}

func TestWhatOnlyFramesCanSayIsRefused(t *testing.T) {
	misframed := map[string]bool{}
	for _, name := range []string{
		"upper case", "space before a value", "a tab behind a value", "connection", "keep-alive", "proxy-connection", "transfer-encoding",
		"upgrade", "te", "no path", "a length and no body",
	} {
		misframed[name] = true
	}
	for name, f := range map[string]frames{
		"upper case":                 {method: "GET", authority: "h", target: "/", fields: []string{"aB: c"}},
		"space before a value":       {method: "GET", authority: "h", target: "/", fields: []string{"a:  b"}},
		"a tab behind a value":       {method: "GET", authority: "h", target: "/", fields: []string{"a: b\t"}},
		"connection":                 {method: "GET", authority: "h", target: "/", fields: []string{"connection: close"}},
		"keep-alive":                 {method: "GET", authority: "h", target: "/", fields: []string{"keep-alive: timeout=1"}},
		"proxy-connection":           {method: "GET", authority: "h", target: "/", fields: []string{"proxy-connection: close"}},
		"transfer-encoding":          {method: "POST", authority: "h", target: "/", fields: []string{"transfer-encoding: chunked"}, body: Chunked},
		"upgrade":                    {method: "GET", authority: "h", target: "/", fields: []string{"upgrade: websocket"}},
		"te":                         {method: "GET", authority: "h", target: "/", fields: []string{"te: gzip"}},
		"a Host that differs":        {method: "GET", authority: "h", target: "/", fields: []string{"host: other"}},
		"a path without /":           {method: "GET", authority: "h", target: "a"},
		"the absolute form":          {method: "GET", authority: "h", target: "http://h/"},
		"no path":                    {method: "GET", authority: "h"},
		"* of another method":        {method: "GET", authority: "h", target: "*"},
		"neither authority nor Host": {method: "GET", target: "/"},
		"another scheme":             {method: "GET", scheme: "ftp", authority: "h", target: "/"},
		"a length and no body":       {method: "POST", authority: "h", target: "/", fields: []string{"content-length: 5"}},
		"an authority for a path":    {method: "CONNECT", authority: "h:1", target: "h:1"},
		"no method":                  {authority: "h", target: "/"},
		"a gRPC path without /":      {method: "POST", authority: "h", target: "Service/Method", body: Chunked},
	} {
		var r Request
		var fe *fault.Error
		status := 400
		if misframed[name] {
			status = 0
		}
		if err := f.assemble(&r, nil); !errors.As(err, &fe) || fe.Status != status || fe.Kind != fault.Malformed || fe.Source != fault.Client {
			t.Errorf("%s: %v", name, err)
		}
		for i := range r.Len() {
			if !ValidFieldName(r.Name(i)) || !ValidFieldValue(r.Value(i)) {
				t.Errorf("%s: the field %q: %q is left", name, r.Name(i), r.Value(i))
			}
		}
	}
}

func TestExtendedConnectIsARequest(t *testing.T) {
	var r Request
	f := frames{method: "CONNECT", scheme: "https", authority: "h", target: "/chat?x"}
	if err := f.assemble(&r, nil); err != nil || r.Form != Origin || string(r.Path) != "/chat" || string(r.Query()) != "x" || string(r.Scheme) != "https" {
		t.Errorf("%v %s", err, summary(&r))
	}
}

func TestAssembleDoesNotAllocate(t *testing.T) {
	var r Request
	method, scheme, authority, target := []byte("GET"), []byte("https"), []byte("a.example"), []byte("/a/../b?c")
	names, values := []byte("user-agent"), []byte("test")
	crumb := []byte("cookie")
	fill := func() {
		r.Reset()
		r.AddBytes(names, values)
		r.AddBytes(crumb, values)
		r.AddBytes(crumb, values)
		if err := r.Assemble(method, scheme, authority, target, Framing{}, nil); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	if n := testing.AllocsPerRun(100, fill); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
