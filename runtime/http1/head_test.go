package http1

import (
	"bytes"
	"strings"
	"testing"
)

func TestHeadChanges(t *testing.T) {
	var h Head
	for _, f := range [...]string{"A:1", "Cookie:2", "a:3", "B:4", "cookie:5"} {
		n, v, _ := strings.Cut(f, ":")
		h.Add(n, v)
	}
	check := func(what, want string) {
		t.Helper()
		if got := fields(&h); got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
		var out []byte
		for i := range h.Len() {
			out = append(append(append(append(out, h.Name(i)...), ": "...), h.Value(i)...), "\r\n"...)
		}
		if got := h.appendFields(nil, 0); !bytes.Equal(got, out) {
			t.Errorf("%s: written as %q, not %q", what, got, out)
		}
	}
	check("added", "A=1|Cookie=2|a=3|B=4|cookie=5|")
	if v, ok := h.Get("b"); string(v) != "4" || !ok {
		t.Error("Get in another case")
	}
	if v, ok := h.GetBytes([]byte("COOKIE")); string(v) != "2" || !ok {
		t.Error("GetBytes in another case")
	}
	if i := h.Find(h.Find(0, "a")+1, "A"); i != 2 {
		t.Error("Find the second:", i)
	}
	h.Set("a", "6")
	check("Set", "a=6|Cookie=2|B=4|cookie=5|")
	h.SetBytes([]byte("COOKIE"), h.Value(0))
	check("SetBytes to a view", "a=6|COOKIE=6|B=4|")
	h.SetValue(2, []byte("7"))
	check("SetValue", "a=6|COOKIE=6|B=7|")
	h.SetID(FieldHost, []byte("h"))
	check("SetID", "a=6|COOKIE=6|B=7|Host=h|")
	h.DelAt(0)
	check("DelAt", "COOKIE=6|B=7|Host=h|")
	h.Del("b")
	check("Del", "COOKIE=6|Host=h|")
	h.DelID(FieldCookie)
	check("DelID", "Host=h|")
	if _, ok := h.GetID(FieldCookie); ok {
		t.Error("deleted, but found")
	}
	h.DelBytes([]byte("hOST"))
	check("DelBytes", "")
	h.Set("New", "")
	check("Set of a new one", "New=|")
}

// TestARequestHasOneSpelling: what is set or deleted in a request by its name leaves no other spelling that a client may have
// sent; an answer's fields are what they are.
func TestARequestHasOneSpelling(t *testing.T) {
	for _, c := range []struct {
		have  string
		edit  func(*Head)
		want  string // of a request
		other string // of another head
	}{
		{"X-Client-Cert x_client_cert X_Client-CERT X-Client-Certs XClientCert", func(h *Head) { h.Del("x-client_cert") },
			"X-Client-Certs=1|XClientCert=1|", "X-Client-Cert=1|x_client_cert=1|X_Client-CERT=1|X-Client-Certs=1|XClientCert=1|"},
		{"X_Forwarded_For A X-Forwarded-For", func(h *Head) { h.DelBytes([]byte("x-forwarded-for")) }, "A=1|", "X_Forwarded_For=1|A=1|"},
		{"X_Forwarded_For A X-Forwarded-For", func(h *Head) { h.Del("X-Forwarded-For") }, "A=1|", "X_Forwarded_For=1|A=1|"},
		{"X_User x-user X-User-Id X_USER X-User", func(h *Head) { h.SetBytes([]byte("X-User"), []byte("ours")) },
			"X-User=ours|X-User-Id=1|", "X_User=1|X-User=ours|X-User-Id=1|X_USER=1|"},
		{"X_User A", func(h *Head) { h.Set("X-User", "ours") }, "A=1|X-User=ours|", "X_User=1|A=1|X-User=ours|"},
		{"A", func(h *Head) { h.Set("X-User", "ours") }, "A=1|X-User=ours|", "A=1|X-User=ours|"},
	} {
		var r Request
		r.Reset()
		var h Head
		for n := range strings.FieldsSeq(c.have) {
			r.Add(n, "1")
			h.Add(n, "1")
		}
		c.edit(&r.Head)
		c.edit(&h)
		if got := fields(&r.Head); got != c.want {
			t.Errorf("%s: a request has %s, want %s", c.have, got, c.want)
		}
		if got := fields(&h); got != c.other {
			t.Errorf("%s: another head has %s, want %s", c.have, got, c.other)
		}
	}
}

func TestAppendList(t *testing.T) {
	var h Head
	if got := h.AppendList(nil, FieldXForwardedFor); got != nil {
		t.Errorf("%q", got)
	}
	h.Add("X-Forwarded-For", "a, b")
	h.Add("Other", "x")
	h.Add("x-forwarded-for", "c")
	if got := h.AppendList([]byte("> "), FieldXForwardedFor); string(got) != "> a, b, c" {
		t.Errorf("%q", got)
	}
}

func TestLookupField(t *testing.T) {
	for id := FieldUnknown + 1; id < fieldIDs; id++ {
		for _, n := range [...]string{id.String(), strings.ToUpper(id.String()), strings.ToLower(id.String())} {
			if LookupField(n) != id || lookup([]byte(n)) != id || idOf(n) != id {
				t.Errorf("%s is not found", n)
			}
			for i := range n {
				other := []byte(n)
				for _, c := range "!#$%&'*+-.^_`|~0aZ" {
					if other[i] = byte(c); !strings.EqualFold(string(other), n) && lookup(other) == id {
						t.Errorf("%s is taken for %s", other, n)
					}
				}
			}
		}
	}
	if fieldIDs > 63 {
		t.Error("too many known fields for a set")
	}
}

func TestCopyFrom(t *testing.T) {
	r, _ := parseRequest(t, "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n")
	var h Head
	h.CopyFrom(&r.Head)
	r.Reset()
	if got := fields(&h); got != "Host=h|A=b|" {
		t.Error(got)
	}
}

// Eight bytes at a time must see what one at a time sees.
func TestControlAt(t *testing.T) {
	for c := range 256 {
		for n := range 20 {
			for at := range n {
				b := bytes.Repeat([]byte{0x80}, n)
				b[at] = byte(c)
				want := n
				if c < 0x20 || c == 0x7f {
					want = at
				}
				if got := controlAt(b, 0); got != want {
					t.Fatalf("byte %#x at %d of %d: %d", c, at, n, got)
				}
			}
		}
	}
}

func TestValid(t *testing.T) {
	for _, c := range []struct {
		name string
		is   func(string) bool
		yes  []string
		no   []string
	}{
		{"authority", ValidAuthority[string], []string{"a", "a.b-c_d~e", "1.2.3.4:80", "[::]", "[1::2]:0", "[1:2:3:4:5:6:7:8]", "[::ffff:1.2.3.4]", "[1::]", "a:65535", "[1:2:3:4:5:6:1.2.3.4]"},
			[]string{"", ":80", "a:", "a:65536", "a:000080", "a b", "a@b", "a/b", "a%41", "a,b", "[]", "[:]", "[::1", "[::1]a", "[1:2]", "[1:::2]", "[1::2::3]", "[12345::]", "[::1.2.3]",
				"[::1.2.3.256]", "[::01.2.3.4]", "[1:2:3:4:5:6:7:8:9]", "[1:2:3:4:5:6:7::8]", "[fe80::1%25eth0]", "[::1:]", "a:b", "\xc3\xbc", "[:1::]"}},
		{"method", ValidMethod[string], []string{"GET", "M-SEARCH"}, []string{"", "G T", "GET\r", strings.Repeat("A", 33)}},
		{"name", ValidFieldName[string], []string{"a", "X_y-1"}, []string{"", "a b", "a:", "\xff"}},
		{"value", ValidFieldValue[string], []string{"", "a", "a b\tc", "\xff"}, []string{" a", "a\t", "a\r\nb", "\x00", "\x7f"}},
		{"query", ValidQuery[string], []string{"", "a=b&c?d/", "%zz"}, []string{"a b", "a#b", "a\n", "\x80"}},
	} {
		for _, s := range c.yes {
			if !c.is(s) {
				t.Errorf("%s: %q is refused", c.name, s)
			}
		}
		for _, s := range c.no {
			if c.is(s) {
				t.Errorf("%s: %q is accepted", c.name, s)
			}
		}
	}
}

// TestLookupIsExact: a name is found in any case, and with any other byte in any place it is not.
func TestLookupIsExact(t *testing.T) {
	for id := FieldUnknown + 1; id < fieldIDs; id++ {
		name := []byte(names[id])
		for _, spelling := range [][]byte{name, bytes.ToUpper(name), bytes.ToLower(name)} {
			if got := lookup(spelling); got != id {
				t.Errorf("lookup(%q) = %d, want %d", spelling, got, id)
			}
		}
		for i := range name {
			for c := range 256 {
				other := bytes.Clone(name)
				other[i] = byte(c)
				if got := lookup(other); (got == id) != EqualFold(other, name) {
					t.Errorf("lookup(%q) = %d", other, got)
				}
			}
		}
	}
}
