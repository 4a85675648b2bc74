package admin

import (
	"net/http"
	"strconv"
	"time"
)

var connectionOperations = []operation{
	{
		method: "GET", path: "/connections", id: "listConnections", group: groupConnections, serve: (*api).connections,
		summary: "Connections to upstreams, with all that is known of them.",
		text: "Each event loop is asked for its own. A loop that does not answer within a second is left out, and counted in `loops_missing`. " +
			"Oldest first. Those that were closed are told of if state says so: the last 128 of each event loop, the newest first.",
		query: []parameter{
			{name: "upstream", text: "Only those of the upstream with this name."},
			{name: "address", text: "Only those to this address: host:port as configured, or IP:port, or an IP alone."},
			{name: "state", text: "Only those in this state.", enum: []string{"idle", "busy", ConnectionClosed}},
			{name: "limit", text: "How many at most; 1 to 10000, default 1000.", of: 0},
		},
		answers: []reply{ok(Connections{}, "The connections."), said400, said503},
	},
	{
		method: "DELETE", path: "/connections/{id}", id: "closeConnection", group: groupConnections, changes: true, serve: (*api).closeConnection,
		summary: "Close a connection to an upstream.",
		text: "One that is idle is closed at once. One that carries a request is closed when that has ended; with `now=true` it is cut off, " +
			"and the request fails, or is sent again as `retries` says.",
		query:   []parameter{{name: "now", text: "Do not wait for the request that uses it.", of: false}},
		answers: []reply{ok(Closed{}, "What has become of it."), said400, said404, said503},
	},
	{
		method: "POST", path: "/connections/drain", id: "drainConnections", group: groupConnections, changes: true, serve: (*api).drainConnections,
		summary: "Close all connections to an address.",
		text: "Idle ones at once, those in use when their requests have ended. Further requests open new ones: to keep requests away from the " +
			"address, change the state of its target to `drain` or `disabled`.",
		query: []parameter{
			{name: "address", text: "host:port as configured, or IP:port, or an IP alone.", required: true},
			{name: "upstream", text: "Only those of the upstream with this name."},
		},
		answers: []reply{ok(Closed{}, "What has become of them."), said400, said404, said503},
	},
	{
		method: "GET", path: "/clients", id: "listClients", group: groupConnections, serve: (*api).clients,
		summary: "Connections of clients.",
		text:    "In no order. Each event loop is asked for its own.",
		query:   []parameter{{name: "limit", text: "How many at most; 1 to 10000, default 100.", of: 0}},
		answers: []reply{ok(Clients{}, "The clients."), said400, said503},
	},
}

// ConnectionClosed is the state of connections that are not there any more.
const ConnectionClosed = "closed"

// Connections are connections to upstreams.
type Connections struct {
	Total        int          `json:"total" doc:"How many fit the filter, also beyond the limit."`
	LoopsMissing int          `json:"loops_missing" doc:"Event loops that did not answer in time: what they have is not here."`
	Connections  []Connection `json:"connections"`
}

// Connection is a connection to an upstream.
type Connection struct {
	ID       uint64 `json:"id" doc:"Unique in the process."`
	Upstream string `json:"upstream"`
	Host     string `json:"host" doc:"host:port as configured or asked for."`
	Address  string `json:"address" doc:"IP:port."`
	Loop     int    `json:"loop" doc:"The event loop that owns it."`
	State    string `json:"state" enum:"idle,busy,closed"`
	Closing  bool   `json:"closing" doc:"It is closed when the request that uses it has ended."`

	Why    string    `json:"opened_why" doc:"Why it was opened: a word of wasmgate_upstream_connections_opened_total."`
	Opened time.Time `json:"opened"`
	Age    float64   `json:"age_ms"`
	DNS    float64   `json:"dns_ms" doc:"What looking up its name took; 0: the answer was at hand, or it is an address."`
	Dial   float64   `json:"connect_ms"`
	TLSFor float64   `json:"tls_ms" doc:"What the handshake took."`

	Requests  uint64  `json:"requests" doc:"Given to it so far."`
	BytesIn   uint64  `json:"bytes_in" doc:"From the upstream, inside of TLS."`
	BytesOut  uint64  `json:"bytes_out"`
	Idle      float64 `json:"idle_ms" doc:"How long it has been idle; 0 if it is busy."`
	IdleTotal float64 `json:"idle_total_ms" doc:"How long it was idle before, in all."`
	Moved     int     `json:"moved_between_loops"`

	DNSAge    float64 `json:"dns_age_ms" doc:"How old the DNS answer was when it was opened; 0 for an address."`
	DNSTTL    float64 `json:"dns_ttl_ms"`
	DNSServer string  `json:"dns_server,omitempty"`
	DNSStale  bool    `json:"dns_stale" doc:"The answer was past its time to live."`

	TLS        bool   `json:"tls"`
	TLSVersion string `json:"tls_version,omitempty"`
	TLSSuite   string `json:"tls_suite,omitempty" doc:"The cipher suite, by IANA's name."`
	TLSResumed bool   `json:"tls_resumed" doc:"A session of an earlier connection was resumed."`
	ServerName string `json:"tls_server_name,omitempty"`
	ALPN       string `json:"tls_alpn,omitempty"`

	HTTP2          *Streams `json:"http2,omitempty" doc:"Its streams, if it speaks HTTP/2 and is open."`
	GoAwayReceived string   `json:"goaway_received,omitempty" doc:"The code of the upstream's last GOAWAY, by RFC 9113's name."`
	GoAwaySent     string   `json:"goaway_sent,omitempty" doc:"The code of the gateway's GOAWAY."`

	Closed    *time.Time `json:"closed,omitempty" doc:"When it was closed."`
	WhyClosed string     `json:"closed_why,omitempty" doc:"Why: a word of wasmgate_upstream_connections_closed_total."`
	Error     string     `json:"error,omitempty" doc:"What it failed with, if it was closed for that."`

	TraceID string `json:"trace_id,omitempty" doc:"Of the connection's own trace, if it has one."`
	Use     *Use   `json:"use,omitempty" doc:"What uses it at the moment."`
}

// Streams are those of a connection of HTTP/2.
type Streams struct {
	Open int `json:"open" doc:"Requests under way on it."`
	Max  int `json:"max" doc:"As many may be at a time: to an upstream what its SETTINGS allow, 100 at most."`
}

// Use is what uses a connection.
type Use struct {
	Kind     string  `json:"kind" enum:"request,tunnel,session,call" doc:"A client's request, what it became when the protocol was switched (a WebSocket), a session of TCP mode, or a request of a plugin's own."`
	Listener string  `json:"listener,omitempty"`
	Route    string  `json:"route,omitempty"`
	Plugin   string  `json:"plugin,omitempty" doc:"Whose request it is."`
	Method   string  `json:"method,omitempty"`
	Path     string  `json:"path,omitempty" doc:"As it was sent, without the query; 200 bytes at most."`
	Client   string  `json:"client,omitempty" doc:"The client's address."`
	TraceID  string  `json:"trace_id,omitempty"`
	For      float64 `json:"for_ms" doc:"How long the request has been under way."`
}

// Closed says what has become of connections that were to be closed.
type Closed struct {
	Closed       int `json:"closed" doc:"Closed at once."`
	Closing      int `json:"closing" doc:"Closed when their requests have ended."`
	LoopsMissing int `json:"loops_missing" doc:"Event loops that have not answered yet; they will still do it."`
}

// Clients are connections of clients.
type Clients struct {
	Open         int      `json:"open" doc:"Connections from clients, over all listeners."`
	Total        int      `json:"total" doc:"How many there are in the loops that have answered, also beyond the limit."`
	LoopsMissing int      `json:"loops_missing" doc:"Event loops that did not answer in time."`
	Clients      []Client `json:"clients"`
}

// Client is a connection of a client.
type Client struct {
	ID      uint64 `json:"id" doc:"Unique in the process."`
	Address string `json:"address" doc:"The other end of the socket."`
	Local   string `json:"local" doc:"Our end: the listener's address and port."`
	Loop    int    `json:"loop" doc:"The event loop that owns it."`

	Requests uint64 `json:"requests" doc:"That have begun on it so far; 0 in TCP mode."`

	TLS        bool   `json:"tls" doc:"Its handshake is over."`
	TLSVersion string `json:"tls_version,omitempty"`
	TLSSuite   string `json:"tls_suite,omitempty" doc:"The cipher suite, by IANA's name."`
	TLSResumed bool   `json:"tls_resumed" doc:"A session of an earlier connection was resumed."`
	ServerName string `json:"tls_server_name,omitempty" doc:"The name that the client has asked for."`
	ALPN       string `json:"tls_alpn,omitempty"`

	HTTP2 *Streams `json:"http2,omitempty" doc:"Its streams, if it speaks HTTP/2."`
	HTTP3 *Streams `json:"http3,omitempty" doc:"Its requests, if it speaks HTTP/3."`
}

// ConnectionFilter says which connections to upstreams are meant: those that fit all that is there.
type ConnectionFilter struct {
	ID       uint64
	Upstream string
	Address  string // host:port as configured, IP:port, or an IP
	State    string
	Limit    int
}

func (a *api) connections(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	answer(w, http.StatusOK, a.Gateway.Connections(ConnectionFilter{
		Upstream: q.Get("upstream"), Address: q.Get("address"), State: q.Get("state"), Limit: limit(r, 1000),
	}))
}

func (a *api) closeConnection(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || id == 0 {
		http.Error(w, "the id of a connection is a number; GET /connections lists them", http.StatusBadRequest)
		return
	}
	a.close(w, ConnectionFilter{ID: id}, r.URL.Query().Get("now") == "true", "there is no connection to an upstream with this id; GET /connections lists them")
}

func (a *api) drainConnections(w http.ResponseWriter, r *http.Request) {
	f := ConnectionFilter{Address: r.URL.Query().Get("address"), Upstream: r.URL.Query().Get("upstream")}
	a.close(w, f, false, "there is no connection to this address; GET /connections lists them")
}

func (a *api) close(w http.ResponseWriter, f ConnectionFilter, now bool, none string) {
	switch c := a.Gateway.CloseConnections(f, now); {
	case c.Closed+c.Closing > 0:
		answer(w, http.StatusOK, c)
	case c.LoopsMissing > 0:
		http.Error(w, "an event loop has not answered in time; it will still close what it has", http.StatusServiceUnavailable)
	default:
		http.Error(w, none, http.StatusNotFound)
	}
}

func (a *api) clients(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, a.Gateway.Clients(limit(r, 100)))
}
