package admin

import (
	_ "embed"
	"fmt"
	"net/http"
)

// description is the endpoint in the words of OpenAPI 3.1. It is made from operations and from the types that they name, so
// that it cannot say anything else than they do: go generate writes it, and a test fails if it is not up to date.
//
//go:generate go test -run TestDescription . -update
//go:embed openapi.json
var description []byte

// access is who may ask for something.
type access int

const (
	guarded access = iota // who has the token or a certificate; without either being configured, who is on the machine
	open                  // anybody: it has nothing of the gateway in it
	health                // anybody, unless admin.open_health is false
)

// operation is one thing that can be asked of the endpoint.
type operation struct {
	method, path string
	pattern      string // of http.ServeMux, if it is not the path
	id           string // operationId
	group        string
	summary      string
	text         string // what else there is to say, in Markdown
	query        []parameter
	body         any // a value of the type that the request's body has; nil: there is none
	answers      []reply
	access       access
	largest      int64 // body, in bytes; 0: maxBody
	changes      bool  // it changes something: a line of the log says who, what, and what became of it
	serve        func(*api, http.ResponseWriter, *http.Request)
}

// parameter is one of the query.
type parameter struct {
	name, text string
	of         any // a value of its type; nil: a string
	enum       []string
	required   bool
}

// reply is an answer that there may be.
type reply struct {
	status int
	media  string // "": application/json
	of     any    // a value of its type; nil: text
	text   string
}

// Media types of answers.
const (
	asJSON = "application/json"
	asText = "text/plain; charset=utf-8"
	asYAML = "application/yaml"
)

// Answers that many operations share.
var (
	said401 = reply{401, asText, nil, "A token or a certificate is needed."}
	said403 = reply{403, asText, nil, "It comes from a page of another origin, or, on loopback, is for a name that is not loopback's."}
	said400 = reply{400, asText, nil, "The request is not as described; the text says what is wrong with it."}
	said413 = reply{413, asText, nil, "The body is longer than 64 KiB."}
	said404 = reply{404, asText, nil, "There is nothing of that name; the text says where the names are listed."}
	said501 = reply{501, asText, nil, "This gateway cannot do it."}
	said503 = reply{503, asText, nil, "Not now: as many are under way as there may be at a time, or an event loop did not answer in time."}
)

func ok(of any, text string) reply { return reply{200, "", of, text} }

// Groups of operations.
const (
	groupHealth      = "health"
	groupConfig      = "config"
	groupUpstreams   = "upstreams"
	groupConnections = "connections"
	groupPlugins     = "plugins"
	groupTraffic     = "traffic"
	groupProcess     = "process"
	groupPage        = "page"
)

// operations are all that there are: the routes of the server are made from this list.
func operations() (list []operation) {
	for _, part := range [][]operation{
		pageOperations, healthOperations, configOperations, upstreamOperations, connectionOperations, pluginOperations,
		trafficOperations, explainOperations, processOperations,
	} {
		list = append(list, part...)
	}
	return list
}

var pageOperations = []operation{
	{
		method: "GET", path: "/", pattern: "/{$}", id: "getPage", group: groupPage, access: open, serve: (*api).page,
		summary: "The page for operators.",
		answers: []reply{{200, "text/html; charset=utf-8", nil, "The page."}},
	},
	{
		method: "GET", path: "/page/{file}", id: "getPageFile", group: groupPage, access: open, serve: (*api).page,
		summary: "What the page is made of.",
		answers: []reply{{200, "*/*", nil, "The file."}, said404},
	},
	{
		method: "GET", path: "/openapi.json", id: "getDescription", group: groupPage, serve: (*api).description,
		summary: "This description.",
		answers: []reply{ok(map[string]any{}, "OpenAPI 3.1.")},
	},
}

var healthOperations = []operation{
	{
		method: "GET", path: "/healthz", id: "getHealth", group: groupHealth, access: health, serve: (*api).healthz,
		summary: "Whether the process is alive.",
		answers: []reply{{200, asText, nil, "ok"}},
	},
	{
		method: "GET", path: "/readyz", id: "getReadiness", group: groupHealth, access: health, serve: (*api).ready,
		summary: "Whether requests are welcome: the listeners are open, and what `pool.ready` waits for is there.",
		answers: []reply{{200, asText, nil, "ready"}, {503, asText, nil, "not ready; with what is missing, for who may know."}},
	},
	{
		method: "GET", path: "/metrics", id: "getMetrics", group: groupHealth, serve: (*api).metrics,
		summary: "Metrics for Prometheus.",
		answers: []reply{{200, "*/*", nil, "Prometheus's text format."}},
	},
}

func (a *api) page(w http.ResponseWriter, r *http.Request)    { a.files.ServeHTTP(w, r) }
func (a *api) metrics(w http.ResponseWriter, r *http.Request) { a.Health.Metrics.ServeHTTP(w, r) }
func (a *api) healthz(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func (a *api) description(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", asJSON)
	_, _ = w.Write(description)
}
