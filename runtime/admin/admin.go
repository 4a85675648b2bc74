// Package admin is the endpoint for operators: whether the gateway is well and ready, its metrics, and its upstreams with
// the state of every address, which can be changed while it runs.
//
// It serves people and scripts, never a client's request, so it is net/http, the standard library's server. What changes
// something is done only for who sits on the same machine: the endpoint must be on a loopback address, the request must
// name it as such (a page that has its name lead to loopback does not), and a browser's request must come from the
// endpoint's own origin (net/http's CrossOriginProtection). Who asks an endpoint on loopback for the upstreams must name it
// so too: their addresses are nobody else's business.
package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/balance"
)

// Options are what the endpoint tells of. Its functions are called from any goroutine.
type Options struct {
	Metrics   http.Handler
	Ready     func() (missing []string) // what has to be there before requests are welcome; empty: ready
	Upstreams func() []*upstream.Upstream
	Log       zerolog.Logger
	Address   netip.AddrPort // that it listens on
}

// Handler serves the endpoint.
func Handler(o Options) http.Handler {
	a := &api{Options: o}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", o.Metrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.ready)
	mux.HandleFunc("GET /upstreams", a.upstreams)
	mux.HandleFunc("GET /upstreams/{name}", a.upstream)
	mux.HandleFunc("PATCH /upstreams/{name}/targets/{target}", a.change)
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
	Name        string       `json:"name"`
	Open        int          `json:"connections_open"`
	Idle        int          `json:"connections_idle"`
	Waiting     int          `json:"requests_waiting"`
	BreakerOpen bool         `json:"breaker_open"`
	RetriesLeft int          `json:"retries_left"`
	Members     []memberView `json:"members"`
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

func view(u *upstream.Upstream) upstreamView {
	s := u.Stats()
	v := upstreamView{Name: u.Name(), Open: s.Open, Idle: s.Idle, Waiting: s.Waiting, BreakerOpen: s.BreakerOpen, RetriesLeft: s.RetriesLeft, Members: []memberView{}}
	for _, m := range u.Members() {
		mv := memberView{
			Target: m.Host, Address: m.Address, Session: m.Token, Weight: m.Weight, Tier: m.Tier, State: m.State, Live: m.Live,
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
	list := []upstreamView{}
	for _, u := range a.Upstreams() {
		list = append(list, view(u))
	}
	answer(w, list)
}

func (a *api) upstream(w http.ResponseWriter, r *http.Request) {
	if u := a.find(w, r); u != nil {
		answer(w, view(u))
	}
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

// change is what a PATCH of a target may say.
type change struct {
	Weight *int    `json:"weight"`
	Tier   *int    `json:"tier"`
	State  *string `json:"state"`
}

const maxChange = 4 << 10 // bytes of a request's body

// change changes weight, tier or state of a target.
func (a *api) change(w http.ResponseWriter, r *http.Request) {
	if !a.Address.Addr().IsLoopback() {
		http.Error(w, "changes are made on a loopback address only; see admin.address", http.StatusForbidden)
		return
	}
	u := a.find(w, r)
	if u == nil {
		return
	}
	c, err := readChange(http.MaxBytesReader(w, r.Body, maxChange))
	if err != nil {
		status := http.StatusBadRequest
		if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	if err := u.SetTarget(r.PathValue("target"), c); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	e := a.Log.Info().Str("by", r.RemoteAddr).Str("upstream", u.Name()).Str("target", r.PathValue("target"))
	if c.Weight != nil {
		e.Int("weight", *c.Weight)
	}
	if c.Tier != nil {
		e.Int("tier", *c.Tier)
	}
	if c.State != nil {
		e.Stringer("state", *c.State)
	}
	e.Msg("a target was changed; the config file still says otherwise")
	answer(w, view(u))
}

// states are balance's by their names.
var states = map[string]balance.State{
	"active": balance.Active, "standby": balance.Standby, "spare": balance.Spare, "drain": balance.Drain, "disabled": balance.Disabled,
}

func readChange(body io.Reader) (c upstream.Change, err error) {
	var said change
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&said); err != nil {
		return c, fmt.Errorf("the body is not as in {\"state\": \"drain\"}: %w", err)
	}
	switch _, err := d.Token(); {
	case err == nil:
		return c, errors.New("something follows the body's first value")
	case err != io.EOF:
		return c, fmt.Errorf("something follows the body's first value: %w", err)
	}
	switch {
	case said.Weight == nil && said.Tier == nil && said.State == nil:
		return c, errors.New("nothing to change: give weight, tier or state")
	case said.Weight != nil && (*said.Weight < 1 || *said.Weight > 1000):
		return c, errors.New("weight is from 1 to 1000; for none, state is disabled")
	case said.Tier != nil && (*said.Tier < 0 || *said.Tier > 100):
		return c, errors.New("tier is from 0 to 100")
	}
	c.Weight, c.Tier = said.Weight, said.Tier
	if said.State != nil {
		s, ok := states[*said.State]
		if !ok {
			return c, fmt.Errorf("state is active, standby, spare, drain or disabled, and not %q", *said.State)
		}
		c.State = &s
	}
	return c, nil
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

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}
