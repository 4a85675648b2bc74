package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is far more than any input of the fuzzer needs, and far less than one that runs away.
const patience = 30 * time.Second

// FuzzLoad feeds files, environments and overrides to Load. It must not panic, must end soon, must not read anything,
// and says either what is wrong, with places, or gives a config that a second reading agrees with.
func FuzzLoad(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		content, _ := splitGolden(string(data))
		f.Add([]byte(content), "WASMGATE_LIMITS__HEAD=64KiB", "limits.fields=3")
	}
	f.Add([]byte("a: &a [*a]"), "WASMGATE_LISTENERS__0={address: ':1'}", "listeners[0]={}")
	f.Fuzz(func(t *testing.T, data []byte, env, override string) {
		began := time.Now()
		c, report, err := Load(Source{Data: data, Env: []string{env}, Overrides: []string{override}, Stat: func(string) error { return nil }})
		if took := time.Since(began); took > patience {
			t.Errorf("took %v", took)
		}
		if report == nil || (c == nil) == (err == nil) {
			t.Fatalf("config %v, report %v, error %v", c, report, err)
		}
		var list Errors
		if err != nil && (!errors.As(err, &list) || len(list) == 0 || list.Error() == "") {
			t.Fatalf("not Errors: %v", err)
		}
		_ = report.String()
		report.At("routes[0].match")
	})
}

// TestHostileFiles are files that are meant to take long or to take much.
func TestHostileFiles(t *testing.T) {
	bomb := "a: &a0 [x,x,x,x,x,x,x,x,x,x]\n"
	for i := range 9 {
		next := string(rune('1' + i))
		bomb += "b" + next + ": &a" + next + " [" + strings.TrimSuffix(strings.Repeat("*a"+string(rune('0'+i))+",", 10), ",") + "]\n"
	}
	merge := "m0: &m0 { a: 1, b: 2 }\n"
	for i := range 9 {
		n := string(rune('0' + i))
		merge += "m" + string(rune('1'+i)) + ": &m" + string(rune('1'+i)) + " { <<: *m" + n + ", x: *m" + n + ", y: *m" + n + ", z: *m" + n + " }\n"
	}
	big := maxFile - 100
	for name, text := range map[string]string{
		"aliases":           bomb,
		"merges":            merge,
		"flow brackets":     strings.Repeat("[", big),
		"flow braces":       strings.Repeat("{a: ", big/4),
		"block lists":       strings.Repeat("- ", big/2),
		"block maps":        nested(1400),
		"question marks":    strings.Repeat("? ", big/2),
		"one long key":      strings.Repeat("a", big) + ": 1",
		"one long text":     "telemetry: { service_name: " + strings.Repeat("a", big-100) + " }",
		"quotes":            "a: \"" + strings.Repeat("\\\"", big/2-10) + "\"",
		"comments":          strings.Repeat("# a\n", big/4),
		"keys":              keys(big),
		"fewer keys":        keys(4 * maxTokens / 3),
		"empty lines":       strings.Repeat("\n", big),
		"spaces":            "a:" + strings.Repeat(" ", big),
		"commas":            "a: [" + strings.Repeat("a,", big/2) + "]",
		"routes":            "routes:\n" + strings.Repeat("- {}\n", big/6),
		"regexes and paths": "routes:\n" + strings.Repeat("- match: { path_regex: \""+strings.Repeat("(a*)*", 400)+"\" }\n- match: { path: /"+strings.Repeat("a", 2000)+" }\n", big/4500),
		"targets":           "upstreams: { a: { sticky: { cookie: a }, targets: [" + strings.Repeat("{ url: 'http://a', route: abcdefgh, redirect: hgfedcba },", 4000) + "] } }",
		"names of servers":  "upstreams: {" + names("a%d: {targets: ['http://a']},", 5000) + "}\nlisteners:\n- address: ':1'\n  mode: tcp\n  sni: [" + names("{host: a%d, upstream: a1},", 5000) + "]",
		"plugins":           "upstreams: {" + names("a%d: {},", 5000) + "}\nplugins: {" + names("a%d: {module: a, upstreams: ['*']},", 5000) + "}",
		"variables":         "a: \"" + strings.Repeat("${A}", big/4-10) + "\"",
		"unset variables":   "a: \"" + strings.Repeat("${Z}", big/4-10) + "\"",
		"open variables":    "a:\n" + strings.Repeat("- \"${\"\n", big/8),
		"expanded aliases":  "a: &a \"" + strings.Repeat("${A}", 100_000) + "\"\nb: [" + strings.Repeat("*a,", 40_000) + "]",
		"colons":            strings.Repeat("a:", big/2),
		"dashes":            strings.Repeat("-", big),
		"anchors":           strings.Repeat("&a ", big/3),
		"exclamation marks": strings.Repeat("!", big),
		"documents":         strings.Repeat("---\n", big/4),
		"block scalar":      "a: |\n" + strings.Repeat(" a\n", big/3),
		"folded scalar":     "a: >\n" + strings.Repeat(" a\n\n", big/4),
		"too large":         strings.Repeat("# a\n", maxFile/4+1),
		"not text":          "\xff\xfe",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			_, _, err := Load(Source{Data: []byte(text), Lookup: func(n string) (string, bool) { return "x", n == "A" }})
			if took := time.Since(began); took > patience {
				t.Errorf("took %v", took)
			} else if took > time.Second/4 {
				t.Logf("took %v", took)
			}
			_ = err
		})
	}
}

// TestLargeFile is a file as large as a real one may be: 2,000 routes, 200 upstreams, some of it from the environment.
func TestLargeFile(t *testing.T) {
	var b strings.Builder
	b.WriteString("upstreams:\n")
	for i := range 200 {
		fmt.Fprintf(&b, "  app-%d:\n    targets: [\"http://app-%d.internal:8080\"]\n    pool: { max_connections: 50, keep_idle: 5 }\n", i, i)
	}
	b.WriteString("routes:\n")
	for i := range 2000 {
		fmt.Fprintf(&b, "  - match: { host: tenant-%d.example.com, path_regex: \"^/app/%d/([0-9]+)$\" }\n    rewrite: { path: \"/users/$1\" }\n    upstream: app-%d\n", i, i, i%200)
	}
	began := time.Now()
	_, report, err := Load(Source{Data: []byte(b.String()), Env: []string{"WASMGATE_LIMITS__HEAD=64KiB", "WASMGATE_LISTENERS=[{}]", "WASMGATE_UPSTREAMS__APP_3__POOL__REUSE=never"}})
	if err != nil || len(report.Warnings) > 0 {
		t.Fatal(err, report)
	}
	if took := time.Since(began); took > patience {
		t.Errorf("%d bytes took %v", b.Len(), took)
	} else {
		t.Logf("%d bytes took %v", b.Len(), took)
	}
}

// nested is maps inside of each other, as deep as their indentation lets them be.
func nested(depth int) string {
	var b strings.Builder
	for i := range depth {
		if b.Len() > maxFile-2*depth {
			break
		}
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

// names writes a text with each number up to n in it.
func names(form string, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, form, i)
	}
	return b.String()
}

func keys(size int) string {
	var b strings.Builder
	for b.Len() < size {
		n := b.Len()
		for range 4 {
			b.WriteByte(byte('a' + n%26))
			n /= 26
		}
		b.WriteString(": 1\n")
	}
	return b.String()
}
