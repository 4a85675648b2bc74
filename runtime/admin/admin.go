// Package admin is the endpoint for operators: whether the gateway is well and ready, its metrics, and its upstreams with
// the state of every address, which can be changed while it runs, by a page (package page) or by a script.
//
// It serves people and scripts, never a client's request, so it is net/http, the standard library's server. What changes
// something is done only for who sits on the same machine: the endpoint must be on a loopback address, the request must
// name it as such (a page that has its name lead to loopback does not), and a browser's request must come from the
// endpoint's own origin (net/http's CrossOriginProtection). Who asks an endpoint on loopback for the upstreams must name it
// so too: their addresses are nobody else's business.
package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/admin/page"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
)

// Options are what the endpoint tells of. Its functions are called from any goroutine.
type Options struct {
	Metrics   http.Handler
	Ready     func() (missing []string) // what has to be there before requests are welcome; empty: ready
	Upstreams func() []*upstream.Upstream
	// Connections are the counts of each upstream by its name.
	Connections func() map[string]telemetry.Connections
	// Target reads scheme://host:port, as the config has it.
	Target func(url string) (upstream.Target, error)
	// Explain says what would come of a request; nil: nobody can. An explain.Mistake is the asker's.
	Explain func(context.Context, explain.Request) (*explain.Explanation, error)
	Log     zerolog.Logger
	Address netip.AddrPort // that it listens on
}

// Handler serves the endpoint.
func Handler(o Options) http.Handler {
	a := &api{Options: o}
	mux := http.NewServeMux()
	operators := page.Handler()
	mux.Handle("GET /{$}", operators)
	mux.Handle("GET /page/", operators)
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("POST /explain", a.explain)
	mux.HandleFunc("GET /upstreams", a.upstreams)
	mux.HandleFunc("GET /upstreams/{name}", a.upstream)
	mux.HandleFunc("POST /upstreams/{name}/targets", a.changing(a.add))
	mux.HandleFunc("PATCH /upstreams/{name}/targets/{target}", a.changing(a.change))
	mux.HandleFunc("DELETE /upstreams/{name}/targets/{target}", a.changing(a.remove))
	return http.NewCrossOriginProtection().Handler(mux)
}

type api struct{ Options }

func (a *api) ready(w http.ResponseWriter, _ *http.Request) {
	if missing := a.Ready(); len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprintln(w, "not ready: "+strings.Join(missing, "; "))
		return
	}
	fmt.Fprintln(w, "ready")
}

// upstreamView is an upstream as the endpoint shows it.
type upstreamView struct {
	Name        string `json:"name"`
	Open        int    `json:"connections_open"`
	Idle        int    `json:"connections_idle"`
	Waiting     int    `json:"requests_waiting"`
	BreakerOpen bool   `json:"breaker_open"`
	RetriesLeft int    `json:"retries_left"`
	Reused      uint64 `json:"requests_on_pooled_connections"`
	// By the words of runtime/upstream/facts.
	New     map[string]uint64 `json:"requests_on_new_connections_by_reason"`
	Opened  map[string]uint64 `json:"connections_opened_by_reason"`
	Closed  map[string]uint64 `json:"connections_closed_by_reason"`
	Members []memberView      `json:"members"`
}

// memberView is one address of one target.
type memberView struct {
	Target      string  `json:"target"`
	Address     string  `json:"address"`
	Session     string  `json:"session"`
	Weight      int     `json:"weight"`
	Tier        int     `json:"tier"`
	State       string  `json:"state"`
	Live        bool    `json:"differs_from_config"`
	Added       bool    `json:"added"`
	Health      string  `json:"health"`
	Why         string  `json:"why,omitempty"`
	Share       float64 `json:"share"`
	Requests    int     `json:"requests_active"`
	Open        int     `json:"connections_open"`
	Idle        int     `json:"connections_idle"`
	LearnedIdle string  `json:"learned_idle_timeout,omitempty"`
	LearnedFrom string  `json:"learned_from,omitempty"`
	DNSAge      string  `json:"dns_age,omitempty"`
	DNSDoubt    string  `json:"dns_doubt,omitempty"`
}

func view(u *upstream.Upstream, by telemetry.Connections) upstreamView {
	s := u.Stats()
	v := upstreamView{
		Name: u.Name(), Open: s.Open, Idle: s.Idle, Waiting: s.Waiting, BreakerOpen: s.BreakerOpen, RetriesLeft: s.RetriesLeft,
		Reused: by.Reused, New: by.New, Opened: by.Opened, Closed: by.Closed, Members: []memberView{},
	}
	for _, m := range u.Members() {
		mv := memberView{
			Target: m.Host, Address: m.Address, Session: m.Token, Weight: m.Weight, Tier: m.Tier, State: m.State, Live: m.Live, Added: m.Added,
			Health: m.Health, Why: m.Why, Share: float64(m.Share) / 1000, Requests: m.Requests, Open: m.Open, Idle: m.Idle,
			LearnedFrom: m.LearnedFrom, DNSDoubt: m.DNSDoubt,
		}
		if m.LearnedIdle > 0 {
			mv.LearnedIdle = m.LearnedIdle.Round(time.Millisecond).String()
		}
		if m.DNSAge > 0 {
			mv.DNSAge = m.DNSAge.Round(time.Millisecond).String()
		}
		v.Members = append(v.Members, mv)
	}
	return v
}

func (a *api) upstreams(w http.ResponseWriter, r *http.Request) {
	if !a.may(w, r) {
		return
	}
	list, counts := []upstreamView{}, a.Connections()
	for _, u := range a.Upstreams() {
		list = append(list, view(u, counts[u.Name()]))
	}
	answer(w, http.StatusOK, list)
}

func (a *api) upstream(w http.ResponseWriter, r *http.Request) {
	if u := a.find(w, r); u != nil {
		a.show(w, http.StatusOK, u)
	}
}

// show answers with what is known of the upstream.
func (a *api) show(w http.ResponseWriter, status int, u *upstream.Upstream) {
	answer(w, status, view(u, a.Connections()[u.Name()]))
}

// find refuses who must not know, and finds the upstream that the request names.
func (a *api) find(w http.ResponseWriter, r *http.Request) *upstream.Upstream {
	if !a.may(w, r) {
		return nil
	}
	for _, u := range a.Upstreams() {
		if u.Name() == r.PathValue("name") {
			return u
		}
	}
	http.Error(w, "no upstream is called "+r.PathValue("name")+"; GET /upstreams lists them", http.StatusNotFound)
	return nil
}

// may refuses a request that reached an endpoint on loopback under a name that is not loopback's.
func (a *api) may(w http.ResponseWriter, r *http.Request) bool {
	if !a.Address.Addr().IsLoopback() || isLoopback(r.Host) {
		return true
	}
	http.Error(w, fmt.Sprintf("the request is for %q, which is not this machine's loopback", r.Host), http.StatusForbidden)
	return false
}

// isLoopback says whether a Host field names the machine itself.
func isLoopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}
