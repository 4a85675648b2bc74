package config

import (
	"encoding"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"60s": time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond,
		"0": 0, "0s": 0, "1_000ms": time.Second, "1.5s": 1500 * time.Millisecond} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d.Std() != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for d, want := range map[Duration]string{60 * sec: "1m", 90 * sec: "1m30s", 3600 * sec: "1h", 250 * ms: "250ms", 0: "0s", 3605 * sec: "1h0m5s", 600 * sec: "10m", 36000 * sec: "10h"} {
		if d.String() != want {
			t.Errorf("%s, want %s", d, want)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"16MiB": 16 * MiB, "64 KiB": 64 * KiB, "10MB": 10_000_000, "1.5KiB": 1536, "65536": 64 * KiB,
		"1_000": 1000, "0": 0, "12B": 12, "1kB": 1000, "8TiB": 8 << 40} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "MiB", "1e3", "0x10", "inf", "nan", "-1", "1 MB MB", "9999999TiB", "1.5"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is %d", text, s)
		}
	}
	for s, want := range map[Size]string{0: "0", 16 * MiB: "16MiB", 1000: "1000B", 1536: "1536B", 64: "64B", GiB: "1GiB"} {
		if s.String() != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
}

func TestHostPattern(t *testing.T) {
	for _, tt := range []struct {
		pattern string
		scheme  Scheme
		address string
		want    bool
	}{
		{"*.internal:8080", HTTP, "a.internal:8080", true},
		{"*.internal:8080", HTTP, "A.Internal:8080", true},
		{"*.internal:8080", HTTP, "a.b.internal:8080", true},
		{"*.internal:8080", HTTP, "a.internal.:8080", true},
		{"*.internal:8080", HTTP, "internal:8080", false},
		{"*.internal:8080", HTTP, ".internal:8080", false},
		{"*.internal:8080", HTTP, "xinternal:8080", false},
		{"*.internal:8080", HTTP, "a.internal:80", false},
		{"*.internal:8080", HTTP, "a.internal", false},
		{"*.internal:8080", HTTP, "a.internal.evil.com:8080", false},
		{"*.internal:8080", HTTP, "evil.com/.internal:8080", false},
		{"*.internal:8080", HTTP, "evil.com:8080@a.internal:8080", false},
		{"*.internal:8080", HTTP, "a..internal:8080", false},
		{"*.internal:8080", HTTP, "a b.internal:8080", false},
		{"users.internal", HTTP, "users.internal", true},
		{"users.internal", HTTP, "users.internal:80", true},
		{"users.internal", HTTP, "users.internal:443", false},
		{"users.internal", HTTPS, "users.internal", true},
		{"users.internal:80,8080", HTTP, "users.internal:8080", true},
		{"users.internal:80,8080", HTTP, "users.internal:8081", false},
		{"users.internal:*", HTTP, "users.internal:1", true},
		{"users.internal:*", HTTP, "users.internal:0", false},
		{"10.0.0.7:*", HTTP, "10.0.0.7:80", true},
		{"10.0.0.7:*", HTTP, "10.0.0.70:80", false},
		{"[::1]:80", HTTP, "[::1]:80", true},
		{"[::1]:80", HTTP, "[0:0::1]:80", true},
		{"[::1]:80", HTTP, "::1:80", false},
	} {
		var p HostPattern
		if err := p.UnmarshalText([]byte(tt.pattern)); err != nil {
			t.Fatalf("%s: %v", tt.pattern, err)
		}
		d := Dynamic{Allow: []HostPattern{p}, Scheme: tt.scheme}
		if _, _, got := d.Allows(tt.address); got != tt.want {
			t.Errorf("%s allows %s: %v", tt.pattern, tt.address, got)
		}
		if p.String() != tt.pattern {
			t.Errorf("%s is written %s", tt.pattern, p)
		}
	}
	p := HostPattern{Host: "internal", Suffix: true, Ports: []uint16{8080}}
	if n := testing.AllocsPerRun(100, func() { p.Match(HTTP, "a.internal", 8080) }); n != 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func TestRouteTimeouts(t *testing.T) {
	base := DefaultUpstream().Timeouts
	five := 5 * sec
	got := RouteTimeouts{Request: &five}.Over(base)
	want := base
	want.Request = five
	if got != want || (RouteTimeouts{}).Over(base) != base {
		t.Errorf("%+v", got)
	}
}

func TestRouteRetries(t *testing.T) {
	base, one, five := DefaultUpstream().Retries, 1, 5*sec
	got := RouteRetries{Attempts: &one, PerTryTimeout: &five}.Over(base)
	want := base
	want.Attempts, want.PerTryTimeout = one, five
	if !reflect.DeepEqual(got, want) || !reflect.DeepEqual(RouteRetries{}.Over(base), base) {
		t.Errorf("%+v", got)
	}
}

// TestTexts reads values with a notation of their own, and writes them again.
func TestTexts(t *testing.T) {
	type text interface {
		encoding.TextUnmarshaler
		encoding.TextMarshaler
	}
	read := func(to text, s, written string, want any) {
		t.Helper()
		if err := to.UnmarshalText([]byte(s)); err != nil {
			t.Errorf("%s: %v", s, err)
			return
		}
		if got := reflect.ValueOf(to).Elem().Interface(); got != want {
			t.Errorf("%s: %+v, want %+v", s, got, want)
		}
		if b, err := to.MarshalText(); err != nil || string(b) != written {
			t.Errorf("%s is written %s, %v", s, b, err)
		}
	}
	read(new(Balance), "least_bytes", "least_bytes", Balance{Algorithm: LeastBytes})
	read(new(Balance), " hash( ip ) ", "hash(ip)", Balance{Hash, HashIP, ""})
	read(new(Balance), "hash (header  X-Tenant)", "hash(header x-tenant)", Balance{Hash, HashHeader, "x-tenant"})
	read(new(Balance), "hash(cookie Session)", "hash(cookie Session)", Balance{Hash, HashCookie, "Session"})
	read(new(Balance), "hash(query user[id])", "hash(query user[id])", Balance{Hash, HashQuery, "user[id]"})
	read(new(StatusRange), "503", "503", StatusRange{503, 503})
	read(new(StatusRange), "500 - 599", "500-599", StatusRange{500, 599})
	read(new(RetryCondition), "timeout", "timeout", RetryCondition{On: RetryTimeout})
	read(new(RetryCondition), "502-504", "502-504", RetryCondition{RetryStatus, StatusRange{502, 504}})
	read(new(Factor), "1.5", "1.5", Factor(1.5))
	read(new(Origin), "HTTPS://Users.Internal", "https://users.internal:443", Origin{HTTPS, "users.internal", 443})
	read(new(Origin), "http://_http._tcp.users", "http://_http._tcp.users", Origin{HTTP, "_http._tcp.users", 0})
	read(new(Origin), "unix:/run/app.sock", "unix:/run/app.sock", Origin{HTTP, "/run/app.sock", 0})
	read(new(Origin), "http://unix:/run/app.sock", "unix:/run/app.sock", Origin{HTTP, "/run/app.sock", 0})
	read(new(Origin), "unix:///run/app.sock", "unix:/run/app.sock", Origin{HTTP, "/run/app.sock", 0})
	read(new(Origin), "https://unix:/run/a b.sock", "https://unix:/run/a b.sock", Origin{HTTPS, "/run/a b.sock", 0})
	if o := (Origin{HTTPS, "/run/a.sock", 0}); !o.Unix() || o.SRV() || o.Authority() != "localhost" || (Origin{HTTP, "a", 80}).Unix() {
		t.Error(o)
	}
	read(new(Origin), "http://[::1]", "http://[::1]:80", Origin{HTTP, "::1", 80})
	if r := (StatusRange{500, 502}); !r.Contains(500) || !r.Contains(502) || r.Contains(503) || r.Contains(499) {
		t.Errorf("%v contains something else", r)
	}
	if (Origin{HTTP, "users._tcp", 80}).SRV() || !(Origin{HTTP, "_http._tcp", 0}).SRV() {
		t.Error("which names are SRV")
	}
}

// TestTargets reads the two forms of a target; they are the same where they say the same.
func TestTargets(t *testing.T) {
	const file = "upstreams:\n  a:\n    targets: [\"http://a:80\", { url: \"http://a\" }, { url: \"http://b\", weight: 3, state: drain }]\nroutes: [{ upstream: a }]\n"
	plain := DefaultTarget()
	plain.Origin = Origin{HTTP, "a", 80}
	other := Target{Origin: Origin{HTTP, "b", 80}, Weight: 3, State: TargetDrain}
	list := load(t, file, nil).Upstreams["a"].Targets
	if want := []Target{plain, plain, other}; !reflect.DeepEqual(list, want) || list[0] != list[1] || list[0].Host != "a" || list[2].String() != "http://b:80" {
		t.Errorf("%+v, want %+v", list, want)
	}
	for override, want := range map[string]Target{
		"upstreams.a.targets[0].weight=5":                 {plain.Origin, 5, 0, TargetActive, "", "", false},
		"upstreams.a.targets[1].tier=1":                   {plain.Origin, 1, 1, TargetActive, "", "", false},
		"upstreams.a.targets[2].url=http://c:81":          {Origin{HTTP, "c", 81}, 3, 0, TargetDrain, "", "", false},
		"upstreams.a.targets[2]=http://b":                 {other.Origin, 1, 0, TargetActive, "", "", false},
		"upstreams.a.targets[3]={url: http://d, tier: 2}": {Origin{HTTP, "d", 80}, 1, 2, TargetActive, "", "", false},
		"upstreams.a.targets=http://d:80,http://e":        {Origin{HTTP, "e", 80}, 1, 0, TargetActive, "", "", false},
	} {
		list := load(t, file, nil, override).Upstreams["a"].Targets
		found := false
		for _, target := range list {
			found = found || target == want
		}
		if !found {
			t.Errorf("%s: %+v", override, list)
		}
	}
}

// TestFullSaysEverything keeps full.good.yaml complete: it sets every key of the schema.
func TestFullSaysEverything(t *testing.T) {
	_, report, err := Load(testSource("testdata/full.good.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]bool{}
	number := regexp.MustCompile(`\[[0-9]+\]`)
	for path := range report.marks {
		set[number.ReplaceAllString(path, "[]")] = true
	}
	eachField(reflect.ValueOf(Default()), "", func(path string, _ field, _ reflect.Value) {
		named := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(path), "\\.NAME", "\\.[^.]+") + "$")
		for s := range set {
			if named.MatchString(s) {
				return
			}
		}
		t.Errorf("%s is not in the file", path)
	})
}

// TestSchemaIsReadable checks the tags: every bound can be read, and every default is within its bounds.
func TestSchemaIsReadable(t *testing.T) {
	eachField(reflect.ValueOf(Default()), "", func(path string, f field, v reflect.Value) {
		for v.Kind() == reflect.Pointer {
			v = reflect.New(v.Type().Elem()).Elem() // of a route: no default
			f.min = ""
		}
		for _, b := range []string{f.min, f.max} {
			if b == "" {
				continue
			}
			if u, ok := reflect.New(v.Type()).Interface().(encoding.TextUnmarshaler); ok {
				if err := u.UnmarshalText([]byte(b)); err != nil {
					t.Errorf("%s: bound %q: %v", path, b, err)
				}
				if n, _ := boundOf(v.Type(), b); !f.required && ((b == f.min && v.Int() < n) || (b == f.max && v.Int() > n)) {
					t.Errorf("%s: the default %v is out of bounds", path, v)
				}
			} else if n := bound(b, -1); n < 0 || !f.required && ((b == f.min && v.Int() < n) || (b == f.max && v.Int() > n)) {
				t.Errorf("%s: bound %q, default %v", path, b, v)
			}
		}
		if len(f.enum) > 0 && v.Kind() == reflect.String && !strings.Contains(","+strings.Join(f.enum, ",")+",", ","+v.String()+",") {
			t.Errorf("%s: the default %q is not one of %v", path, v, f.enum)
		}
	})
}

// eachField visits every key of the schema with its default.
func eachField(v reflect.Value, path string, visit func(string, field, reflect.Value)) {
	for _, f := range fieldsOf(v.Type()) {
		c, p := v.Field(f.index), strings.TrimPrefix(path+"."+f.name, ".")
		visit(p, f, c)
		for shapeOf(c.Type()) == listShape || shapeOf(c.Type()) == mapShape {
			p += map[shape]string{listShape: "[]", mapShape: ".NAME"}[shapeOf(c.Type())]
			c = fresh(elem(c.Type().Elem()))
		}
		if shapeOf(c.Type()) == structShape {
			if c.Kind() == reflect.Pointer {
				c = fresh(c.Type().Elem())
			}
			eachField(c, p, visit)
		}
	}
}

// TestForeignWordsLeadSomewhere checks that every key which a help text names is there.
func TestForeignWordsLeadSomewhere(t *testing.T) {
	var paths []string
	eachField(reflect.ValueOf(Default()), "", func(path string, _ field, _ reflect.Value) {
		paths = append(paths, "."+strings.ReplaceAll(path, ".NAME", ""))
	})
	known := func(key string) bool {
		for _, p := range paths {
			if strings.HasSuffix(p, "."+strings.TrimPrefix(key, ".")) {
				return true
			}
		}
		return false
	}
	quoted := regexp.MustCompile("`([a-z_.\\[\\]]+)")
	check := func(word, help string) {
		if fold(word) != word {
			t.Errorf("%q is never found: write %q", word, fold(word))
		}
		for _, m := range quoted.FindAllStringSubmatch(help, -1) {
			key := strings.TrimSuffix(m[1], ".")
			if !known(key) && !strings.Contains(" always never http https ", " "+key+" ") {
				t.Errorf("%s: %q: there is no key %s", word, help, key)
			}
		}
	}
	for word, help := range foreign {
		check(word, help)
	}
	for key, words := range foreignValues {
		if name := strings.TrimSuffix(key, "[]"); key != "hash" && !known(name) {
			t.Errorf("there is no key %s", name)
		}
		for word := range words {
			if fold(word) != word {
				t.Errorf("%s: %q is never found: write %q", key, word, fold(word))
			}
		}
	}
	for section, words := range foreignIn {
		if _, ok := fieldNamed(reflect.TypeFor[Config](), section); section != "" && !ok {
			t.Errorf("there is no section %s", section)
		}
		for word, help := range words {
			check(word, help)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "abc", 3}, {"abc", "abc", 0}, {"feilds", "fields", 1}, {"limts", "limits", 1}, {"idle", "ilde", 1}, {"a", "b", 1}, {"kitten", "sitting", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%s to %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}
