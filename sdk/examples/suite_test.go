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
