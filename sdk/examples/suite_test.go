package examples

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/netloop"
	"wasmgate/sdk/toolchain"
)

// step is a message and what shall come of it, see host.outcome.
type step struct {
	message
	want string
}

// suite is an example with a configuration, and the messages that it is sent, in this order.
type suite struct {
	name    string
	example string
	config  string
	steps   []step
}

func TestExamples(t *testing.T) {
	for _, name := range examples {
		t.Run(name, func(t *testing.T) {
			inEveryLanguage(t, name, func(t *testing.T, module []byte) {
				compile := compiled(t, module)
				for _, s := range suites {
					if s.example == name {
						t.Run(s.name, func(t *testing.T) { s.run(t, compile) })
					}
				}
				t.Run("refused", func(t *testing.T) {
					for config, want := range refusals[name] {
						if _, err := start(t, compile, config); err == nil || !strings.HasSuffix(err.Error(), want) {
							t.Errorf("%s: %v\nwant %s", config, err, want)
						}
					}
				})
			})
		})
	}
}

func (s *suite) run(t *testing.T, compile compileFunc) {
	h, err := start(t, compile, s.config)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.steps {
		want := strings.ReplaceAll(strings.TrimLeft(s.steps[i].want, "\n"), "\t", "")
		if got := h.ask(&s.steps[i].message); got != want {
			t.Errorf("step %d: %s", i, shorten(fmt.Sprintf("%+v:\n%s\nwant\n%s", s.steps[i].message, got, want)))
		}
	}
}

// shorten cuts runs of one letter that tests make.
func shorten(s string) string {
	return regexp.MustCompile(`a{50,}|l{50,}`).ReplaceAllStringFunc(s, func(run string) string { return fmt.Sprintf("<%d × %c>", len(run), run[0]) })
}

// TestTenantRoutersAgree composes requests of pieces, and lets all languages decide about the same ones.
func TestTenantRoutersAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	compose := func(most int, pieces ...string) (s string) {
		for range random.IntN(most + 1) {
			s += pieces[random.IntN(len(pieces))]
		}
		return s
	}
	list := make([]message, 2000)
	for i := range list {
		host := compose(3, "acme", "ACME", ".", "x", "globex", "example") + compose(1, ".example.com", ".Example.COM", "example.com", ".com")
		if strings.Trim(host, ".") == "" {
			host = "h"
		}
		list[i] = message{host: host + compose(1, ":80", ":65535"), line: "GET /" + compose(3, "admin", "/", "x", "Admin", "%2f"),
			fields: []string{"X-Tenant: " + strings.TrimSpace(compose(2, "acme", "Globex", "x", "-", "A", "\xc3\xa9", "\xff", " "))}}
	}
	decide := func(t *testing.T, module []byte) []string {
		h, err := start(t, compiled(t, module), tenants)
		if err != nil {
			t.Fatal(err)
		}
		out := make([]string, len(list))
		for i := range list {
			out[i] = h.ask(&list[i])
		}
		return out
	}
	var want []string
	inEveryLanguage(t, "tenant-router", func(t *testing.T, module []byte) {
		got := decide(t, module)
		if want == nil {
			want = got
		}
		kinds := map[string]int{}
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%+v:\n%s\nand in %s\n%s", list[i], got[i], toolchain.Languages[0], want[i])
			}
			kinds[got[i][:strings.IndexByte(got[i], '\n')]]++
		}
		if len(kinds) < 4 {
			t.Errorf("the requests are not worth much: %v", kinds)
		}
	})
}

// TestManyTenants has tables grow, views outgrow their arena, and memory be collected where a language does that.
func TestManyTenants(t *testing.T) {
	const n = 3000
	var config strings.Builder
	config.WriteString(`{"default": "users", "tenants": {"first": "users"`)
	for i := range n {
		fmt.Fprintf(&config, `, "tenant-number-%d": "acme-upstream"`, i)
	}
	config.WriteString("}}")
	inEveryLanguage(t, "tenant-router", func(t *testing.T, module []byte) {
		h, err := start(t, compiled(t, module), config.String())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5000 {
			want := "continue with upstream 2\n"
			if i >= n {
				want = "continue with upstream 1\n"
			}
			m := &message{fields: []string{fmt.Sprintf("X-Tenant: Tenant-Number-%d", i)}}
			if got := h.ask(m); !strings.HasPrefix(got, want) {
				t.Fatalf("request %d: %s", i, got)
			}
		}
	})
}

// TestCallsAtOnce has many requests wait for the service at the same time, each in an instance of its own.
func TestCallsAtOnce(t *testing.T) {
	const n = 16
	inEveryLanguage(t, "authorisation", func(t *testing.T, module []byte) {
		h, err := start(t, compiled(t, module), `{"service": "auth", "store": "cache"}`)
		if err != nil {
			t.Fatal(err)
		}
		var users [n]string
		var done sync.WaitGroup
		done.Add(n)
		h.loop.Post(func() {
			for i := range n {
				h.loop.Go(func(task *netloop.Task) {
					defer done.Done()
					x := &exchange.Exchange{Task: task}
					h.exchange(x, &message{fields: []string{fmt.Sprintf("Authorization: Bearer user-%d", i)}})
					user, _ := x.Request.Get("x-user")
					users[i] = string(user)
				})
			}
		})
		done.Wait()
		for i, user := range users {
			if user != fmt.Sprintf("user-%d", i) {
				t.Errorf("request %d is of %q", i, user)
			}
		}
		if s := h.plugin.Stats(); s.Outbound != n {
			t.Errorf("%d calls", s.Outbound)
		}
	})
}

// TestConfigurationsAgree puts configurations that are almost right to all languages, which read JSON by themselves.
func TestConfigurationsAgree(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	// C's reader gives elements of an array no name: there are none that would be tenants.
	pieces := []string{`{`, `}`, `]`, `"`, `,`, `:`, `\`, `\u00e9`, `\ud83d\ude00`, `\ud83d`, `\udc00\ud800`, `\u12`, `\n`, " ", "\n", "\t", "1", "-1.5e+3", "true",
		"null", "é", `"default":`, `"users"`, `"tenants":`, `{"a":"users"}`, `"domain":"x"`, "\x01", "[[[[[[[[[[[[[[[[", "]]]]]]]]]]]]]]]]"}
	configs := make([]string, 1000)
	for i := range configs {
		s := []rune(tenants)
		for range 1 + random.IntN(2) {
			from := random.IntN(len(s))
			to := min(len(s), from+random.IntN(3))
			s = append(s[:from:from], append([]rune(pieces[random.IntN(len(pieces))]), s[to:]...)...)
		}
		configs[i] = string(s)
	}
	var want []string
	inEveryLanguage(t, "tenant-router", func(t *testing.T, module []byte) {
		compile := compiled(t, module)
		got := make([]string, len(configs))
		for i, c := range configs {
			h, err := start(t, compile, c)
			if err != nil {
				got[i] = err.Error()
				continue
			}
			for _, name := range []string{"acme", "globex", "x\xc3\xa9", "a", ""} {
				got[i] += h.ask(&message{host: "acme.example.com", fields: []string{"X-Tenant: " + name}})
			}
		}
		if want == nil {
			want = got
		}
		fine := 0
		for i := range got {
			if got[i] != want[i] {
				t.Errorf("%s\n%s\nand in %s\n%s", configs[i], got[i], toolchain.Languages[0], want[i])
			}
			if strings.HasPrefix(got[i], "continue") {
				fine++
			}
		}
		if fine < len(got)/20 || fine > len(got)/2 {
			t.Errorf("%d of %d configurations are taken: that tells little", fine, len(got))
		}
	})
}

// TestBytesComeThrough renames headers of any bytes: strings of no language may change them.
func TestBytesComeThrough(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	pieces := []string{"a", "\x80", "\xbf", "\xc0", "\xc1\xbf", "\xc3", "\xc3\xa9", "\xe0\x80\x80", "\xe0\xa0\x80", "\xe2\x82", "\xe2\x82\xac", "\xed\x9f\xbf", "\xed\xa0\x80",
		"\xed\xb2\x80", "\xee\x80\x80", "\xef\xbf\xbd", "\xf0\x80\x80\x80", "\xf0\x90\x80\x80", "\xf0\x9f\x98\x80", "\xf0\x9f\x98", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5", "\xff"}
	values := make([]string, 2000)
	for i := range values {
		for range 1 + random.IntN(12) {
			if random.IntN(3) == 0 {
				values[i] += string([]byte{byte(0x21 + random.IntN(0x5e)), byte(0x80 + random.IntN(0x80))})
			}
			values[i] += pieces[random.IntN(len(pieces))]
		}
	}
	inEveryLanguage(t, "header-policy", func(t *testing.T, module []byte) {
		h, err := start(t, compiled(t, module), `{"request": {"rename": {"x-a": "x-b"}}}`)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			if got, want := h.ask(&message{fields: []string{"X-A: " + v}}), "continue\n> GET example.com /\n> x-b: "+v+"\n"; got != want {
				t.Fatalf("%q: %q", v, got)
			}
		}
	})
}
