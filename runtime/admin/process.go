package admin

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"time"
)

var processOperations = []operation{
	{
		method: "GET", path: "/version", id: "getVersion", group: groupProcess, serve: (*api).version,
		summary: "What runs, and since when.",
		answers: []reply{ok(Process{}, "The process.")},
	},
	{
		method: "GET", path: "/log/level", id: "getLogLevel", group: groupProcess, serve: (*api).logLevel,
		summary: "The least level of lines in the gateway's own log.",
		answers: []reply{ok(LogLevel{}, "The level.")},
	},
	{
		method: "PUT", path: "/log/level", id: "setLogLevel", group: groupProcess, changes: true, serve: (*api).setLogLevel,
		summary: "Change it, until the gateway is restarted.",
		body:    SetLogLevel{},
		answers: []reply{ok(LogLevel{}, "The level as it is now."), said400},
	},
	{
		method: "GET", path: "/debug/pprof/", pattern: "/debug/pprof/{$}", id: "listProfiles", group: groupProcess, serve: (*api).profiles,
		summary: "The profiles that there are, as a page.",
		answers: []reply{{200, "text/html; charset=utf-8", nil, "The page."}, said503},
	},
	{
		method: "GET", path: "/debug/pprof/{profile}", id: "getProfile", group: groupProcess, serve: (*api).profile,
		summary: "A profile, as `go tool pprof` reads it.",
		text:    "`goroutine?debug=2` is a dump of all goroutines as text. One profile is taken at a time; others are answered 503.",
		query: []parameter{
			{name: "seconds", text: "Of profile and trace: how long to watch; 1 to 60. Of the others: the difference over that time.", of: 0},
			{name: "debug", text: "1 or 2: as text.", of: 0},
			{name: "gc", text: "Of heap: 1 collects garbage first.", of: 0},
		},
		answers: []reply{
			{200, "application/octet-stream", nil, "The profile."}, {200, asText, nil, "With `debug`."}, said400, said404, said503,
		},
	},
}

// Process is what runs.
type Process struct {
	Version  string        `json:"version"`
	Revision string        `json:"revision,omitempty" doc:"Of the source."`
	Go       string        `json:"go"`
	Started  time.Time     `json:"started"`
	Uptime   float64       `json:"uptime_seconds"`
	Config   ProcessConfig `json:"config"`
	Clients  int           `json:"client_connections"`
	Loops    []Loop        `json:"loops"`
	You      string        `json:"you" doc:"Who asks: the name of the token, the subject of the certificate, or local."`
}

// ProcessConfig is what is in force.
type ProcessConfig struct {
	File          string    `json:"file" doc:"Empty if there is none."`
	Since         time.Time `json:"since" doc:"When the config in force was loaded."`
	Reloads       uint64    `json:"reloads"`
	ReloadsFailed uint64    `json:"reloads_refused"`
}

// Loop is an event loop.
type Loop struct {
	Loop        int     `json:"loop"`
	Connections int     `json:"connections" doc:"Of clients and to upstreams."`
	Tasks       int     `json:"tasks" doc:"Handlers under way."`
	Busy        float64 `json:"busy_seconds" doc:"Time not spent waiting, since the start."`
	Elapsed     float64 `json:"elapsed_seconds" doc:"Since the start: busy by elapsed is its utilisation."`
}

// LogLevel is the least level of lines in the log.
type LogLevel struct {
	Level string `json:"level" enum:"trace,debug,info,warn,error,off"`
	Live  bool   `json:"differs_from_config" doc:"It is not what the config said at the start."`
}

// SetLogLevel is what it is to be.
type SetLogLevel struct {
	Level string `json:"level" enum:"trace,debug,info,warn,error,off"`
}

func (a *api) version(w http.ResponseWriter, r *http.Request) {
	p := a.Gateway.Process()
	p.You = asks(r)
	answer(w, http.StatusOK, p)
}

func (a *api) logLevel(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, a.Gateway.LogLevel())
}

func (a *api) setLogLevel(w http.ResponseWriter, r *http.Request) {
	var said SetLogLevel
	err := read(r.Body, &said, `{"level": "debug"}`)
	if err == nil {
		err = a.Gateway.SetLogLevel(said.Level)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.logLevel(w, r)
}

// alone has fn take a profile, one at a time: two at once would measure each other, and each costs the gateway time.
func (a *api) alone(w http.ResponseWriter, r *http.Request, fn http.HandlerFunc) {
	select {
	case a.profiling <- struct{}{}:
		defer func() { <-a.profiling }()
		fn(w, r)
	default:
		http.Error(w, "another profile is being taken; try again later", http.StatusServiceUnavailable)
	}
}

func (a *api) profiles(w http.ResponseWriter, r *http.Request) { a.alone(w, r, pprof.Index) }

// maxProfile is for how many seconds a profile may watch. The server's timeout for writing is beyond it.
const maxProfile = 60

func (a *api) profile(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if n, err := number(q.Get("seconds")); q.Get("seconds") != "" && (err != nil || n < 1 || n > maxProfile) {
		http.Error(w, fmt.Sprintf("seconds is from 1 to %d", maxProfile), http.StatusBadRequest)
		return
	}
	switch name := r.PathValue("profile"); {
	case name == "profile":
		a.alone(w, r, pprof.Profile)
	case name == "trace":
		a.alone(w, r, pprof.Trace)
	case runtimepprof.Lookup(name) != nil:
		a.alone(w, r, pprof.Handler(name).ServeHTTP)
	default:
		http.Error(w, "there is no profile of this name; GET /debug/pprof/ lists them", http.StatusNotFound)
	}
}
