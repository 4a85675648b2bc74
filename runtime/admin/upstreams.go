package admin

import (
	"net/http"
	"time"

	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
)

var changed = []reply{
	ok(Upstream{}, "The upstream as it is now."), said400, said404,
	{413, asText, nil, "The body is longer than 4 KiB."},
}

var upstreamOperations = []operation{
	{
		method: "GET", path: "/upstreams", id: "listUpstreams", group: groupUpstreams, serve: (*api).upstreams,
		summary: "The upstreams, with the state of every address.",
		answers: []reply{ok([]Upstream{}, "By name.")},
	},
	{
		method: "GET", path: "/upstreams/{name}", id: "getUpstream", group: groupUpstreams, serve: (*api).upstream,
		summary: "One upstream.",
		answers: []reply{ok(Upstream{}, "The upstream."), said404},
	},
	{
		method: "POST", path: "/upstreams/{name}/targets", id: "addTarget", group: groupUpstreams, changes: true, serve: (*api).add,
		summary: "Add a target that the config does not have.",
		text:    "It stays until it is removed, or the gateway is restarted.",
		body:    NewTarget{},
		answers: []reply{
			{201, "", Upstream{}, "The upstream as it is now."}, said400, said404, {409, asText, nil, "The upstream has this target already."},
			{413, asText, nil, "The body is longer than 4 KiB."},
		},
	},
	{
		method: "PATCH", path: "/upstreams/{name}/targets/{target}", id: "changeTarget", group: groupUpstreams, changes: true, serve: (*api).change,
		summary: "Change weight, tier or state of a target.",
		text: "A target is host:port, with all its addresses. `drain`: no new requests but those of sessions that name it; `disabled`: none at all. " +
			"It holds until the gateway is restarted, or its config says something new of the target.",
		body: TargetChange{}, answers: changed,
	},
	{
		method: "DELETE", path: "/upstreams/{name}/targets/{target}", id: "removeTarget", group: groupUpstreams, changes: true, serve: (*api).remove,
		summary: "Remove a target that was added live.",
		answers: []reply{ok(Upstream{}, "The upstream as it is now."), said404, {409, asText, nil, "The target is the config's: disable it instead."}},
	},
}

// Upstream is an upstream as the endpoint shows it.
type Upstream struct {
	Name        string            `json:"name"`
	Open        int               `json:"connections_open"`
	Idle        int               `json:"connections_idle"`
	Waiting     int               `json:"requests_waiting" doc:"In the queue for a connection, or for an address that can be used."`
	BreakerOpen bool              `json:"breaker_open" doc:"Too many requests failed: it is not given any."`
	RetriesLeft int               `json:"retries_left" doc:"That the budget has."`
	Reused      uint64            `json:"requests_on_pooled_connections" doc:"Since the process started, like those that follow."`
	New         map[string]uint64 `json:"requests_on_new_connections_by_reason"`
	Opened      map[string]uint64 `json:"connections_opened_by_reason"`
	Closed      map[string]uint64 `json:"connections_closed_by_reason"`
	Members     []Member          `json:"members" doc:"Every address of every target."`
	At          string            `json:"at,omitempty" doc:"file:line:column"`
}

// Member is one address of one target.
type Member struct {
	Target      string  `json:"target" doc:"host:port"`
	Address     string  `json:"address" doc:"IP:port; empty while its name has had no answer."`
	Session     string  `json:"session" doc:"What sticky sessions call it."`
	Weight      int     `json:"weight" doc:"Of its target."`
	Tier        int     `json:"tier"`
	State       string  `json:"state" enum:"active,standby,spare,drain,disabled"`
	Live        bool    `json:"differs_from_config" doc:"Weight, tier or state of the target were changed live."`
	Added       bool    `json:"added" doc:"The target was added live."`
	Health      string  `json:"health" enum:"healthy,recovering,ejected,unhealthy,left,unknown" doc:"left: DNS no longer gives the address. unknown: there is none yet."`
	Why         string  `json:"why,omitempty"`
	Share       float64 `json:"share" doc:"Of its weight that it is given; less than 1 while it recovers."`
	Requests    int     `json:"requests_active"`
	Open        int     `json:"connections_open"`
	Idle        int     `json:"connections_idle"`
	LearnedIdle string  `json:"learned_idle_timeout,omitempty" doc:"After which it closes idle connections, as in 5s."`
	LearnedFrom string  `json:"learned_from,omitempty"`
	DNSAge      string  `json:"dns_age,omitempty" doc:"Of the answer that has its address, as in 1.5s."`
	DNSDoubt    string  `json:"dns_doubt,omitempty"`
}

func (a *api) view(u *upstream.Upstream, by telemetry.Connections) Upstream {
	s := u.Stats()
	v := Upstream{
		Name: u.Name(), At: a.Pools.At(u.Name()), Open: s.Open, Idle: s.Idle, Waiting: s.Waiting, BreakerOpen: s.BreakerOpen, RetriesLeft: s.RetriesLeft,
		Reused: by.Reused, New: counts(by.New), Opened: counts(by.Opened), Closed: counts(by.Closed), Members: []Member{},
	}
	for _, m := range u.Members() {
		mv := Member{
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

func (a *api) upstreams(w http.ResponseWriter, _ *http.Request) {
	list, by := []Upstream{}, a.Pools.Counts()
	for _, u := range a.Pools.Upstreams() {
		list = append(list, a.view(u, by[u.Name()]))
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
	answer(w, status, a.view(u, a.Pools.Counts()[u.Name()]))
}

// find finds the upstream that the request names, or says that there is none.
func (a *api) find(w http.ResponseWriter, r *http.Request) *upstream.Upstream {
	for _, u := range a.Pools.Upstreams() {
		if u.Name() == r.PathValue("name") {
			return u
		}
	}
	http.Error(w, "no upstream is called "+r.PathValue("name")+"; GET /upstreams lists them", http.StatusNotFound)
	return nil
}

// counts is m, and no null where there is nothing yet.
func counts(m map[string]uint64) map[string]uint64 {
	if m == nil {
		return map[string]uint64{}
	}
	return m
}
