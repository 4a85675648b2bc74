package http1

import (
	"errors"
	"testing"

	"wasmgate/runtime/fault"
)

func TestCleanPath(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"root", "/", "/"},
		{"plain", "/a/b.c/", "/a/b.c/"},
		{"dot", "/a/./b", "/a/b"},
		{"dot at the end", "/a/.", "/a/"},
		{"dots", "/a/../b", "/b"},
		{"dots at the end", "/a/b/..", "/a/"},
		{"dots to the root", "/a/..", "/"},
		{"dots above the root", "/../../a", "/a"},
		{"only dots", "/..", "/"},
		{"encoded dots", "/a/%2e%2E/b", "/b"},
		{"half encoded dots", "/a/.%2e/b/%2e./c/%2e", "/c/"},
		{"RFC 3986 section 5.2.4", "/a/b/c/./../../g", "/a/g"},
		{"dots over an empty segment", "/a//../b", "/a/b"},
		{"names of dots", "/.../.a/a./..b/.%2e.", "/.../.a/a./..b/.%2e."},
		{"two slashes are kept", "//a//b", "//a//b"},
		{"encoded slash is kept", "/a%2Fb%2fc", "/a%2Fb%2fc"},
		{"semicolon is kept", "/a;b=c/d", "/a;b=c/d"},
		{"other encodings are kept", "/%61%20%ff", "/%61%20%ff"},
		{"twice encoded is kept", "/a/%252e%252e/b", "/a/%252e%252e/b"},
		{"backslash is kept", `/a\b`, `/a\b`},

		{"NUL", "/a%00", ""},
		{"percent at the end", "/a%", ""},
		{"one digit", "/a%2", ""},
		{"not hex", "/a%2g", ""},
		{"dots before a semicolon", "/a/..;/b", ""},
		{"dot before a semicolon", "/a/.;x/b", ""},
		{"encoded dots before an encoded semicolon", "/a/%2e.%3b/b", ""},
		{"dots before an encoded slash", "/a/..%2fb", ""},
		{"dots behind an encoded slash", "/a%2F../b", ""},
		{"dots between encoded slashes", "/a%2F..%2Fb", ""},
		{"dots at the end behind an encoded slash", "/a%2f..", ""},
		{"dots behind a backslash", `/a\..\b`, ""},
		{"dots before an encoded backslash", "/a/..%5cb", ""},
		{"no slash", "a", ""},
		{"empty", "", ""},
		{"query", "/a?b", ""},
		{"space", "/a b", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := CleanPath(nil, []byte(c.in))
			var fe *fault.Error
			switch {
			case c.want == "" && (!errors.As(err, &fe) || fe.Status != 400):
				t.Errorf("accepted: %q, %v", got, err)
			case c.want != "" && (err != nil || string(got) != c.want):
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
			if want := c.in == c.want && c.want != ""; ValidPath(c.in) != want {
				t.Errorf("ValidPath is %t", !want)
			}
		})
	}
}

func TestCleanPathKeepsWhatItCan(t *testing.T) {
	path, dst := []byte("/app/users/1234"), make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		if got, err := CleanPath(dst, path); err != nil || &got[0] != &path[0] {
			t.Fatal("copied", err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	got, err := CleanPath(append(dst, "kept"...), []byte("/a/../b"))
	if string(got) != "/b" || err != nil {
		t.Error(string(got), err)
	}
}
