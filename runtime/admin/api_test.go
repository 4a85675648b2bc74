package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestConfigAndReload(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/config", ""), 200, `"gateway.yaml:1:1"`)
	w := f.ask("GET", "/config?format=yaml", "")
	f.want(w, 200, "loops: 1")
	if w.Header().Get("Content-Type") != asYAML {
		t.Error(w.Header())
	}
	f.want(f.ask("GET", "/config?format=toml", ""), 400, "json, yaml")
	f.want(f.ask("POST", "/config/reload?dry_run=true", ""), 200, `"dry_run": true`, `"applied": false`)
	f.want(f.ask("POST", "/config/reload?dryrun=true", ""), 400, "dry_run")
	f.want(f.ask("POST", "/config/reload?dry_run=yes", ""), 400, "true or false")
	f.want(f.ask("POST", "/config/reload?dry_run=true&dry_run=false", ""), 400, "twice")
	f.want(f.ask("POST", "/config/reload?%zz", ""), 400, "malformed")
	f.want(f.ask("POST", "/config/reload", ""), 200, `"applied": true`)
	if !slices.Equal(f.gateway.reloaded, []bool{true, false}) {
		t.Errorf("reloads: %v", f.gateway.reloaded)
	}
	f.gateway.reload.Problems = []Problem{{At: "gateway.yaml:2:1", Message: "no"}}
	f.want(f.ask("POST", "/config/reload", ""), 422, "gateway.yaml:2:1")
	f.gateway.refuse = fmt.Errorf("no file: %w", ErrConflict)
	f.want(f.ask("POST", "/config/reload", ""), 409, "no file")
	f.want(f.ask("GET", "/listeners", ""), 200, `"public"`)
	f.want(f.ask("GET", "/routes", ""), 200, `"users"`)
}

func TestChangesAreRemembered(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("PATCH", one, `{"state": "drain"}`), 200)
	f.want(f.ask("PATCH", one, `{"state": "gone"}`), 400)
	f.want(f.ask("POST", "/upstreams/users/targets", `{"url": "http://192.0.2.3"}`), 201)
	f.want(f.ask("POST", "/config/reload?dry_run=true", ""), 200)
	var c Changes
	if err := json.Unmarshal(f.ask("GET", "/changes", "").Body.Bytes(), &c); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range c.Differences {
		names = append(names, d.Kind+" "+d.Name+" "+d.Text)
	}
	if want := []string{"target users/192.0.2.1:81 weight 2, tier 0, state drain", "target users/192.0.2.3:80 added: weight 1, tier 0, state active", "plugin tenant swap: b.wasm"}; !slices.Equal(names, want) {
		t.Errorf("differences: %q", names)
	}
	var made []string
	for _, h := range c.History {
		made = append(made, fmt.Sprint(h.By, h.What, h.Object, h.Said, h.Status))
	}
	if len(made) != 3 || made[2] != "local"+"changeTarget"+one+`{"state": "drain"}`+"200" || c.History[1].Status != 400 || c.History[0].What != "addTarget" {
		t.Errorf("history: %q", made)
	}
	for range 2 * maxHistory {
		f.ask("PATCH", one, `{"weight": 3}`)
	}
	if n := len(f.history()); n != maxHistory {
		t.Errorf("%d changes are remembered", n)
	}
	if !strings.Contains(f.log.String(), `"by":"local","from":"192.0.2.1:1234","operation":"changeTarget"`) {
		t.Errorf("the log: %s", f.log.String())
	}
}

func TestConnectionsAreListedAndClosed(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/connections?upstream=users&address=192.0.2.1:81&state=idle&limit=5", ""), 200)
	if f.gateway.filter != "{0 users 192.0.2.1:81 idle 5}" {
		t.Error(f.gateway.filter)
	}
	f.want(f.ask("GET", "/connections?state=odd", ""), 400, "idle, busy")
	f.want(f.ask("GET", "/connections?limit=-1", ""), 400)
	f.want(f.ask("GET", "/connections?limit=10001", ""), 400)
	f.want(f.ask("GET", "/clients?limit=5", ""), 200)
	f.want(f.ask("DELETE", "/connections/7?now=true", ""), 200, `"closed": 1`)
	f.want(f.ask("DELETE", "/connections/8", ""), 503)
	f.want(f.ask("DELETE", "/connections/9", ""), 404)
	for _, id := range []string{"x", "0", "-1", "99999999999999999999999"} {
		f.want(f.ask("DELETE", "/connections/"+id, ""), 400)
	}
	f.want(f.ask("POST", "/connections/drain", ""), 400, "address is missing")
	f.want(f.ask("POST", "/connections/drain?address=192.0.2.1", ""), 200)
	f.want(f.ask("POST", "/connections/drain?address=192.0.2.2&upstream=u", ""), 404)
	if got := strings.Join(f.gateway.closed, " "); got != "{7    0} true {8    0} false {9    0} false {0  192.0.2.1  0} false {0 u 192.0.2.2  0} false" {
		t.Error(got)
	}
}

func TestPluginsAreSwapped(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/plugins", ""), 200, `"tenant"`)
	f.want(f.ask("GET", "/plugins/tenant", ""), 200, `"tenant"`)
	f.want(f.ask("GET", "/plugins/nobody", ""), 404, "GET /plugins lists them")
	f.want(f.ask("POST", "/plugins/tenant/swap", `{"module": "b.wasm"}`), 200, `"tenant"`)
	f.want(f.ask("POST", "/plugins/tenant/swap", `{"reload": true}`), 200)
	for _, body := range []string{"", "{}", `{"module": "b.wasm", "reload": true}`, `{"path": "b.wasm"}`} {
		f.want(f.ask("POST", "/plugins/tenant/swap", body), 400)
	}
	f.want(f.ask("POST", "/plugins/tenant/rollback", ""), 200)
	if got := strings.Join(f.gateway.swapped, " "); got != "tenant{b.wasm false} tenant{ true} tenant" {
		t.Error(got)
	}
	for err, status := range map[error]int{ErrNotFound: 404, ErrConflict: 409, ErrRefused: 422, errors.New("else"): 500} {
		f.gateway.refuse = fmt.Errorf("because: %w", err)
		f.want(f.ask("POST", "/plugins/tenant/swap", `{"module": "b.wasm"}`), status, "because")
	}
}

func TestTraffic(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/errors?upstream=users&route=r&limit=3", ""), 200)
	if f.gateway.filter != "{users r  3}" {
		t.Error(f.gateway.filter)
	}
	f.want(f.ask("GET", "/traces?kept=slow", ""), 200)
	if f.gateway.filter != "{  slow 100}" {
		t.Error(f.gateway.filter)
	}
	f.want(f.ask("GET", "/traces?kept=never", ""), 400)
	f.want(f.ask("GET", "/traces/1", ""), 200)
	f.want(f.ask("GET", "/traces/2", ""), 503)
	f.want(f.ask("GET", "/traces/3", ""), 404)
}

func TestProcess(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/version", ""), 200, `"you": "local"`)
	f.want(f.ask("PUT", "/log/level", `{"level": "debug"}`), 200, `"level": "debug"`)
	f.want(f.ask("GET", "/log/level", ""), 200, `"level": "debug"`)
	f.want(f.ask("PUT", "/log/level", `{"level": "loud"}`), 400, "not known")
	f.want(f.ask("PUT", "/log/level", `debug`), 400)
	f.want(f.ask("PUT", "/log/level", strings.Repeat(" ", maxBody+1)), 413)
	f.want(f.ask("GET", "/openapi.json", ""), 200, `"openapi": "3.1.0"`)
}

func TestProfiles(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	f.want(f.ask("GET", "/debug/pprof/", ""), 200, "goroutine")
	f.want(f.ask("GET", "/debug/pprof/goroutine?debug=2", ""), 200, "TestProfiles")
	f.want(f.ask("GET", "/debug/pprof/heap", ""), 200)
	f.want(f.ask("GET", "/debug/pprof/cmdline", ""), 404)
	f.want(f.ask("GET", "/debug/pprof/profile?seconds=61", ""), 400)
	f.want(f.ask("GET", "/debug/pprof/profile?seconds=0", ""), 400)
	f.profiling <- struct{}{}
	f.want(f.ask("GET", "/debug/pprof/heap", ""), 503, "another profile")
	<-f.profiling
	f.want(f.ask("GET", "/debug/pprof/profile?seconds=1", ""), 200)
}
