package admin

import (
	"fmt"
	"net/http"
	"time"

	"wasmgate/runtime/upstream"
)

var configOperations = []operation{
	{
		method: "GET", path: "/config", id: "getConfig", group: groupConfig, serve: (*api).config,
		summary: "The config in force.",
		text: "With defaults filled in. Values that may be secret are `***`: tokens, keys, credentials, what was taken from an environment variable, and what plugins are configured with. " +
			"As YAML each key that was set has a comment with its place.",
		query: []parameter{{name: "format", text: "How it is written.", enum: []string{"json", "yaml"}}},
		answers: []reply{
			ok(Config{}, "The config."), {200, asYAML, nil, "The config, with the place of each key that was set."}, said400,
		},
	},
	{
		method: "POST", path: "/config/reload", id: "reloadConfig", group: groupConfig, changes: true, serve: (*api).reload,
		summary: "Read the config file again, and put it in force.",
		text: "With `dry_run=true` the file is read and checked, and the answer says what would change; modules of plugins are not looked into. " +
			"A config with a mistake changes nothing. What was changed live and the file says nothing new of stays.",
		query: []parameter{{name: "dry_run", text: "Only say what would change.", of: false}},
		answers: []reply{
			ok(Reload{}, "What has changed, or would."), said400, {409, asText, nil, "The gateway was not started from a config file."},
			{422, "", Reload{}, "The config has mistakes, which are in `problems`; nothing has changed."},
		},
	},
	{
		method: "GET", path: "/changes", id: "getChanges", group: groupConfig, serve: (*api).changesMade,
		summary: "What was changed live.",
		text:    "`differences` are what differs from the config file at the moment; `history` is who changed what since the process started, the newest first, 100 at most.",
		answers: []reply{ok(Changes{}, "The changes.")},
	},
	{
		method: "GET", path: "/listeners", id: "listListeners", group: groupConfig, serve: (*api).listeners,
		summary: "Where clients connect.",
		answers: []reply{ok([]Listener{}, "In the order of the config.")},
	},
	{
		method: "GET", path: "/routes", id: "listRoutes", group: groupConfig, serve: (*api).routes,
		summary: "The routes, in the order in which they are tried, with how often each was taken.",
		answers: []reply{ok([]Route{}, "In the order of matching.")},
	},
}

// Config is the config in force.
type Config struct {
	File   string         `json:"file" doc:"The config file; empty if there is none."`
	Since  time.Time      `json:"since" doc:"When it was put in force."`
	Config map[string]any `json:"config" doc:"As in the file, with defaults filled in."`
	Keys   []ConfigKey    `json:"keys" doc:"Every key that was set, in the order of their paths."`
}

// ConfigKey is where a key was set.
type ConfigKey struct {
	Path string `json:"path" doc:"As in upstreams.users.pool.max_connections."`
	At   string `json:"at" doc:"file:line:column; or $NAME of an environment variable, or --set."`
}

// Reload is what became of a reload.
type Reload struct {
	DryRun   bool           `json:"dry_run"`
	Applied  bool           `json:"applied" doc:"It is in force now."`
	Changes  []ConfigChange `json:"changes" doc:"What differs from what was in force."`
	Restart  []string       `json:"needs_restart" doc:"Keys that differ, but that only a restart can put in force."`
	Warnings []Problem      `json:"warnings"`
	Problems []Problem      `json:"problems" doc:"Mistakes, with their places. With any of them nothing changes."`
}

// ConfigChange is something that differs between two configs.
type ConfigChange struct {
	Kind   string   `json:"kind" enum:"listener,upstream,plugin,route,setting"`
	Name   string   `json:"name" doc:"The listener's, upstream's, plugin's or route's; of a setting the key at the top of the file."`
	Change string   `json:"change" enum:"added,removed,changed"`
	Keys   []string `json:"keys,omitempty" doc:"Of something that has changed: which of its keys, 100 at most."`
	At     string   `json:"at,omitempty" doc:"Where it is in the new config."`
}

// Problem is a mistake or a warning about the config.
type Problem struct {
	At      string `json:"at,omitempty" doc:"file:line:column"`
	Path    string `json:"path,omitempty" doc:"The key."`
	Message string `json:"message"`
	Help    string `json:"help,omitempty" doc:"What to write instead."`
}

// Changes are what was changed live.
type Changes struct {
	Since       time.Time    `json:"since" doc:"When the config in force was loaded."`
	Differences []Difference `json:"differences" doc:"What differs from the config file now."`
	History     []Change     `json:"history"`
}

// Difference is something that differs from the config file.
type Difference struct {
	Kind string `json:"kind" enum:"target,plugin,log_level"`
	Name string `json:"name" doc:"The target as upstream/host:port; the plugin."`
	Text string `json:"text" doc:"What it is now, in words."`
}

// Change is a change that somebody made by this API, or tried to.
type Change struct {
	Time   time.Time `json:"time"`
	By     string    `json:"by" doc:"Who: the name of the token, the subject of the certificate, or local."`
	From   string    `json:"from" doc:"The address that it came from."`
	What   string    `json:"what" doc:"The operation, as in changeTarget."`
	Object string    `json:"object" doc:"What was changed, as the path of the request has it."`
	Said   string    `json:"said,omitempty" doc:"The request's body and query, 1000 bytes at most."`
	Status int       `json:"status" doc:"Of the answer: from 400 on nothing was changed."`
}

// Listener is where clients connect.
type Listener struct {
	Name     string   `json:"name"`
	Address  string   `json:"address" doc:"As the config has it."`
	Bound    string   `json:"bound" doc:"The address that it has."`
	Mode     string   `json:"mode" enum:"http,tcp"`
	Plugins  []string `json:"plugins"`
	Upstream string   `json:"upstream,omitempty" doc:"Of TCP mode: where connections go that no entry of sni is for."`
	SNI      []SNI    `json:"sni,omitempty"`
	Requests uint64   `json:"requests" doc:"Since the process started."`
	At       string   `json:"at,omitempty" doc:"file:line:column"`

	Certificates []Certificate `json:"certificates,omitempty" doc:"That clients are shown: those in files first, in the order of the config, then those of ACME."`
}

// Certificate is one that a listener shows.
type Certificate struct {
	Names     []string   `json:"names" doc:"Server names and addresses that it is shown for."`
	File      string     `json:"file,omitempty" doc:"It was read from; none: it is obtained by ACME."`
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty" doc:"Of ACME: none while there is no certificate."`
	Stapled   bool       `json:"stapled" doc:"Whether an answer of its authority (OCSP) is handed on."`
	Problems  []string   `json:"problems,omitempty" doc:"Why clients refuse it, now or soon."`
	Error     string     `json:"error,omitempty" doc:"Of ACME: why the last attempt to obtain or renew it failed."`
	Next      *time.Time `json:"next_attempt,omitempty" doc:"Of ACME, after an attempt that failed: when the next one is; of a renewal, at the latest."`
}

// SNI is where a listener in TCP mode sends connections by the name that the client asks for.
type SNI struct {
	Hosts    []string `json:"hosts"`
	Upstream string   `json:"upstream"`
}

// Route is which requests go where.
type Route struct {
	Index    int        `json:"index" doc:"Its place in the order of matching, from 0."`
	Name     string     `json:"name"`
	Match    RouteMatch `json:"match"`
	Hits     uint64     `json:"hits" doc:"Requests that took it, since the process started, under this name. Beyond 1024 combinations of listener, route and upstream they are not told apart."`
	Plugins  []string   `json:"plugins"`
	Upstream string     `json:"upstream,omitempty" doc:"Which a plugin may override."`
	Respond  int        `json:"respond,omitempty" doc:"The status of the route's own answer."`
	Exclude  bool       `json:"exclude" doc:"What it matches is answered 404."`
	At       string     `json:"at,omitempty" doc:"file:line:column"`
}

// RouteMatch is what a route wants of a request: all that is there.
type RouteMatch struct {
	Hosts      []string          `json:"hosts,omitempty"`
	Path       string            `json:"path,omitempty"`
	PathPrefix string            `json:"path_prefix,omitempty"`
	PathRegex  string            `json:"path_regex,omitempty"`
	Methods    []string          `json:"methods,omitempty"`
	Headers    map[string]string `json:"headers,omitempty" doc:"By name: the condition in words."`
	Query      map[string]string `json:"query,omitempty" doc:"By name: the condition in words."`
	Plugin     string            `json:"plugin,omitempty" doc:"Which has the last word."`
}

func (a *api) config(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") != "yaml" {
		answer(w, http.StatusOK, a.Gateway.Config())
		return
	}
	w.Header().Set("Content-Type", asYAML)
	_, _ = w.Write(a.Gateway.ConfigYAML())
}

func (a *api) reload(w http.ResponseWriter, r *http.Request) {
	out, err := a.Gateway.Reload(r.URL.Query().Get("dry_run") == "true")
	switch {
	case err != nil:
		fail(w, err)
	case len(out.Problems) > 0:
		answer(w, http.StatusUnprocessableEntity, out)
	default:
		answer(w, http.StatusOK, out)
	}
}

func (a *api) changesMade(w http.ResponseWriter, _ *http.Request) {
	c := Changes{History: a.history.newest(), Differences: []Difference{}}
	for _, u := range a.Pools.Upstreams() {
		c.Differences = append(c.Differences, targetsChanged(u)...)
	}
	since, list := a.Gateway.Differences()
	c.Since, c.Differences = since, append(c.Differences, list...)
	answer(w, http.StatusOK, c)
}

// targetsChanged are the upstream's targets that are not as the config has them.
func targetsChanged(u *upstream.Upstream) (list []Difference) {
	seen := map[string]bool{}
	for _, m := range u.Members() {
		if seen[m.Host] || !m.Live && !m.Added {
			continue
		}
		seen[m.Host] = true
		text := fmt.Sprintf("weight %d, tier %d, state %s", m.Weight, m.Tier, m.State)
		if m.Added {
			text = "added: " + text
		}
		list = append(list, Difference{Kind: "target", Name: u.Name() + "/" + m.Host, Text: text})
	}
	return list
}

func (a *api) listeners(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Listeners())
}

func (a *api) routes(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Routes())
}
