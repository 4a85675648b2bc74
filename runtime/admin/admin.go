// Package admin is the endpoint for operators: whether the gateway is well and ready, its metrics, and an API to see and
// change what it does while it runs, by a page (package page) or by a script. README.md shows how; openapi.json describes
// every operation.
//
// It serves people and scripts, never a client's request, so it is net/http, the standard library's server. On a loopback
// address it trusts who sits on the same machine, if the request names it as such (a page that has its name lead to loopback
// does not); with a token or client certificates, which any other address requires, only who has one. A browser's request
// must come from the endpoint's own origin (net/http's CrossOriginProtection). Every change is a line of the log.
package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/runtime/admin/page"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/upstream"
)

// Options are what the endpoint tells of. Its functions are called from any goroutine.
type Options struct {
	Address netip.AddrPort // that it listens on
	Access  Access
	Log     zerolog.Logger
	Health  Health
	Pools   Pools
	Gateway Gateway
	// Explain says what would come of a request; nil: nobody can. An explain.Mistake is the asker's.
	Explain func(context.Context, explain.Request) (*explain.Explanation, error)
}

// Health is how the gateway is.
type Health struct {
	Metrics http.Handler
	Ready   func() (missing []string) // what has to be there before requests are welcome; empty: ready
}

// Pools are the upstreams.
type Pools struct {
	Upstreams func() []*upstream.Upstream
	// Counts are of each upstream by its name.
	Counts func() map[string]telemetry.Connections
	// Target reads scheme://host:port, as the config has it.
	Target func(url string) (upstream.Target, error)
	// At says where in the config an upstream is: file:line:column, or "".
	At func(upstream string) string
}

// Gateway is everything else. Its methods may be called from any goroutine. What asks event loops says how many have not
// answered in time.
type Gateway interface {
	Process() Process

	Config() Config
	ConfigYAML() []byte
	// Reload reads the config file again. Mistakes are in what it returns; the error is one of the errors below.
	Reload(dryRun bool) (Reload, error)
	Differences() (since time.Time, list []Difference)
	Listeners() []Listener
	Routes() []Route

	Connections(ConnectionFilter) Connections
	CloseConnections(f ConnectionFilter, now bool) Closed
	Clients(limit int) Clients

	Plugins() []Plugin
	SwapPlugin(name string, s Swap) error
	RollBackPlugin(name string) error

	Errors(TrafficFilter) Errors
	Traces(TrafficFilter) Traces
	Trace(id string) (t *Trace, loopsMissing int)

	LogLevel() LogLevel
	SetLogLevel(level string) error
}

// Errors of Gateway's methods, to be wrapped by what there is to say.
var (
	ErrNotFound = errors.New("there is no such thing")
	ErrConflict = errors.New("it cannot be done as things are")
	ErrRefused  = errors.New("it cannot be used")
)

// Handler serves the endpoint.
func Handler(o Options) http.Handler { return newAPI(o).handler() }

func newAPI(o Options) *api {
	return &api{Options: o, files: page.Handler(), profiling: make(chan struct{}, 1)}
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	for _, op := range operations() {
		mux.Handle(op.method+" "+cmp.Or(op.pattern, op.path), a.guard(op))
	}
	return http.NewCrossOriginProtection().Handler(mux)
}

type api struct {
	Options
	files     http.Handler
	history   history
	profiling chan struct{} // full while a profile is taken
	refused   atomic.Int64  // when that was last told of
}

func (a *api) ready(w http.ResponseWriter, r *http.Request) {
	if missing := a.Health.Ready(); len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		text := "not ready"
		if asks(r) != "" { // it has names of upstreams in it
			text += ": " + strings.Join(missing, "; ")
		}
		fmt.Fprintln(w, text)
		return
	}
	fmt.Fprintln(w, "ready")
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", asJSON)
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v)
}

// fail answers with an error of Gateway's.
func fail(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrConflict):
		status = http.StatusConflict
	case errors.Is(err, ErrRefused):
		status = http.StatusUnprocessableEntity
	}
	http.Error(w, err.Error(), status)
}

// maxLimit bounds lists.
const maxLimit = 10000

func number(s string) (int, error) { return strconv.Atoi(s) }

// limit reads the parameter of that name, which was checked.
func limit(r *http.Request, otherwise int) int {
	if n, err := number(r.URL.Query().Get("limit")); err == nil && n > 0 {
		return n
	}
	return otherwise
}
