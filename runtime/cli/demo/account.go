package demo

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/upstream/facts"
)

// event is something that happened in the gateway, copied.
type event struct {
	kind    eventKind
	request request
	conn    connection
}

type eventKind uint8

const (
	requestEnded eventKind = iota
	connOpened
	connClosed
)

// request is what is told of an exchange.
type request struct {
	method, target string
	asked          string // the tenant that the client named
	decided        string // the tenant that the plugin decided for; empty: it did not get that far
	client         uint64 // connection
	status         int
	local          bool // answered without an upstream
	failure        string
	upstream       string
	conn, ordinal  uint64
	reused         bool
	whyNew         string
	plugin         time.Duration // in the guest; 0: not known
	took           time.Duration
}

// connection is what is told of an upstream connection.
type connection struct {
	id        uint64
	upstream  string
	address   netip.AddrPort
	whyOpened string
	whyClosed string
	requests  uint64
}

// watcher copies what happens and hands it over. It runs on event loops, so it never waits: what does not fit into the
// queue is counted as lost.
type watcher struct {
	events chan event
	lost   atomic.Uint64
}

func newWatcher() *watcher { return &watcher{events: make(chan event, 16*Requests)} }

func (w *watcher) give(e event) {
	select {
	case w.events <- e:
	default:
		w.lost.Add(1)
	}
}

// Exchange is called at the end of each request.
func (w *watcher) Exchange(x *exchange.Exchange) {
	r := request{
		method: string(x.Request.Method), target: string(x.Request.Path), client: x.Client.Conn,
		status: x.StatusSent, local: x.Local.Set, took: time.Duration(x.Ended - x.Started),
	}
	if x.Request.HasQuery() {
		r.target += "?" + string(x.Request.Query())
	}
	if v, ok := x.Request.Get("x-tenant"); ok {
		r.asked = string(v)
	}
	if v, ok := x.Request.Get("x-tenant-id"); ok {
		r.decided = string(v)
	}
	if x.Err != nil {
		r.failure = x.Err.Error()
	}
	for i := range x.Calls {
		r.plugin += x.Calls[i].Took
	}
	if a := x.Attempt(); a != nil {
		r.upstream, r.conn, r.ordinal, r.reused, r.whyNew = a.Upstream, a.ConnID, a.Ordinal, a.Reused, a.WhyNew
	}
	w.give(event{kind: requestEnded, request: r})
}

// ConnOpened is called when an upstream connection can be used.
func (w *watcher) ConnOpened(c *facts.Connection) { w.give(event{kind: connOpened, conn: copyOf(c)}) }

// ConnClosed is called when an upstream connection has ended, or could not be opened.
func (w *watcher) ConnClosed(c *facts.Connection) { w.give(event{kind: connClosed, conn: copyOf(c)}) }

func copyOf(c *facts.Connection) connection {
	return connection{
		id: c.ID, upstream: c.Upstream, address: c.Address, whyOpened: c.WhyOpened, whyClosed: c.WhyClosed, requests: c.Requests,
	}
}

// account is what the events add up to.
type account struct {
	conns     map[uint64]*used
	order     []*used // as they were opened
	clients   map[uint64]int
	decisions map[decision]int
	requests  int
	forwarded int
	reused    int
	plugin    time.Duration
	timed     int // requests whose time in the plugin is known
}

// used is an upstream connection and who used it.
type used struct {
	connection
	carried int
	clients map[int]bool
	tenants map[string]bool
}

// decision is what was asked for and what came of it.
type decision struct {
	tenant, outcome string
}

func newAccount() *account {
	return &account{conns: map[uint64]*used{}, clients: map[uint64]int{}, decisions: map[decision]int{}}
}

// follow takes events until so many requests have ended: the last answer reaches its client a little before the
// gateway is through with it.
func (a *account) follow(w *watcher, requests int) error {
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for a.requests < requests {
		select {
		case e := <-w.events:
			a.take(e)
		case <-late.C:
			return fmt.Errorf("only %d of %d requests are told of", a.requests, requests)
		}
	}
	return nil
}

// take adds an event, and returns it.
func (a *account) take(e event) event {
	switch e.kind {
	case connOpened:
		u := &used{connection: e.conn, clients: map[int]bool{}, tenants: map[string]bool{}}
		a.conns[e.conn.id] = u
		a.order = append(a.order, u)
	case connClosed:
		if u := a.conns[e.conn.id]; u != nil {
			u.connection = e.conn
		}
	case requestEnded:
		a.request(&e.request)
	}
	return e
}

func (a *account) request(r *request) {
	a.requests++
	client, known := a.clients[r.client]
	if !known {
		client = len(a.clients) + 1
		a.clients[r.client] = client
	}
	if r.plugin > 0 {
		a.plugin += r.plugin
		a.timed++
	}
	a.decisions[decision{r.tenant(), r.outcome()}]++
	u := a.conns[r.conn]
	if r.conn == 0 || u == nil {
		return
	}
	a.forwarded++
	if r.reused {
		a.reused++
	}
	u.carried++
	u.clients[client] = true
	u.tenants[r.tenant()] = true
}

// tenant is whom the request was for, in words: whom the client named by a field, or whom the plugin found by host.
func (r *request) tenant() string {
	switch {
	case r.asked != "":
		return r.asked
	case r.decided != "" && r.decided != "default":
		return r.decided
	}
	return "(none)"
}

// outcome is what became of the request, in words.
func (r *request) outcome() string {
	switch {
	case r.conn == 0 && r.failure == "":
		return fmt.Sprintf("denied: %d for %s", r.status, r.target)
	case r.conn == 0:
		return "failed: " + r.failure
	case r.decided == "default":
		return "upstream " + r.upstream + " (the default)"
	}
	return "upstream " + r.upstream
}
