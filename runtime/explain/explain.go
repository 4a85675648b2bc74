// Package explain is the answer to the question why a request goes where it goes: what a gateway says of a request that it
// was only asked about, as JSON and as text for people. It knows nothing of how the answer is found: package gateway does
// that, with the code that serves requests.
//
// It needs no library: the text is columns and words.
package explain

import "time"

// Request is the request that is asked about.
type Request struct {
	Method string `json:"method,omitempty"` // default GET, with a body POST
	// URL is as in http://host:port/path?query, or a path alone; or tls://server.name for a listener in mode tcp. Its bytes are
	// taken as they are.
	URL    string  `json:"url"`
	Fields []Field `json:"fields,omitempty"` // a Host among them is sent in place of the URL's
	Body   string  `json:"body,omitempty"`   // Content-Length is added
	// Client is who asks, as address or address:port. Default: 127.0.0.1.
	Client   string `json:"client,omitempty"`
	Listener string `json:"listener,omitempty"` // its name or address; default: the one with the URL's port, or else the first
	Calls    bool   `json:"calls,omitempty"`    // the calls that plugins make are sent, and answered
	// ClientCertificate is what the client shows where the listener asks for it: PEM, with those between it and its authority. Its key
	// is not needed.
	ClientCertificate string `json:"client_certificate,omitempty"`
}

// Field is a field of a message.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Note  string `json:"note,omitempty"` // whose doing it is, in an explanation
}

// Explanation is what would come of the request.
type Explanation struct {
	Live     bool     `json:"live"` // it is of a running gateway: pools and health are what they are now
	Request  Message  `json:"request"`
	Client   string   `json:"client"`
	Listener Listener `json:"listener"`
	TLS      *TLS     `json:"tls,omitempty"` // as it would be agreed on; not there: the listener speaks none, or the URL says nothing of it
	Steps    []Step   `json:"steps"`         // in order
	// Outcome is forwarded, answered (here), closed (without an answer), or passed (bytes, in mode tcp).
	Outcome  string    `json:"outcome"`
	Route    string    `json:"route,omitempty"`    // the name of the last one that matched
	Error    string    `json:"error,omitempty"`    // why it is answered or closed, as the log has it
	Kind     string    `json:"kind,omitempty"`     // of the error, as logs and metrics call it
	Upstream *Upstream `json:"upstream,omitempty"` // that was chosen, also if the request cannot be given to it
	Sent     *Message  `json:"sent,omitempty"`     // what the upstream gets
	Answer   *Message  `json:"answer,omitempty"`   // what the client gets, if that is not the upstream's
	Notes    []string  `json:"notes,omitempty"`    // what else there is to know
}

// The outcomes.
const (
	Forwarded = "forwarded"
	Answered  = "answered"
	Closed    = "closed"
	Passed    = "passed"
)

// Place is where the configuration speaks of something.
type Place struct {
	Path string `json:"path,omitempty"` // as in routes[3]
	At   string `json:"at,omitempty"`   // file:line:column, if that is known
}

// Message is a request or an answer as it is on the wire.
type Message struct {
	Line   string  `json:"line"` // the request line or the status line
	Status int     `json:"status,omitempty"`
	Fields []Field `json:"fields"`
	Body   string  `json:"body,omitempty"` // as it is framed
}

// Listener is the one that takes the request.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Mode    string `json:"mode"`
	Why     string `json:"why"` // it is this one
	Place
}

// TLS is how a handshake would end with a client that speaks TLS 1.2 and 1.3, and offers HTTP/2 and HTTP/1.1.
type TLS struct {
	ServerName  string       `json:"server_name,omitempty"` // that the client asks for
	Version     string       `json:"version,omitempty"`
	Cipher      string       `json:"cipher,omitempty"`
	Protocol    string       `json:"protocol,omitempty"` // that is agreed on by ALPN
	Certificate *Certificate `json:"certificate,omitempty"`
	ClientAuth  string       `json:"client_auth"`      // the listener's rule: off, request or require
	Client      *Certificate `json:"client,omitempty"` // what the client shows, if the listener looks at it
	// Failed is why there would be no connection, as logs and metrics call it.
	Failed string `json:"failed,omitempty"`
}

// Certificate is one of either side.
type Certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Names    []string  `json:"names"`
	NotAfter time.Time `json:"not_after"`
	SHA256   string    `json:"sha256"`
}

// Step is one thing that happened. One of its parts is there.
type Step struct {
	Round  *Round  `json:"round,omitempty"`
	Plugin *Plugin `json:"plugin,omitempty"`
}

// Round is one search for a route. There is another when a plugin sends the request back to the routes.
type Round struct {
	Number    int    `json:"number"` // from 1
	Method    string `json:"method"`
	Authority string `json:"authority"`
	Path      string `json:"path"` // with the query
	Tried     []Try  `json:"tried"`
	Matched   string `json:"matched,omitempty"` // the route's name; empty: none did
}

// Try is one route that was looked at.
type Try struct {
	Route string `json:"route"`
	// Part is the part of the route's match that did not hold; empty: the route's conditions hold, and its plugin, if match has
	// one, was asked.
	Part string `json:"part,omitempty"`
	Name string `json:"name,omitempty"` // of the field or parameter
	Want string `json:"want,omitempty"`
	Have string `json:"have,omitempty"`
	Place
}

// Plugin is a plugin that was asked, and what it did.
type Plugin struct {
	Name     string `json:"name"`
	Role     string `json:"role"`  // listener, match or route
	Phase    string `json:"phase"` // request, or response for an answer of the gateway's own
	Decision string `json:"decision"`
	Failure  string `json:"failure,omitempty"` // its trap or its refusal

	Method    string        `json:"method,omitempty"` // those that it set
	Authority string        `json:"authority,omitempty"`
	Path      string        `json:"path,omitempty"` // with the query
	Upstream  string        `json:"upstream,omitempty"`
	Address   string        `json:"address,omitempty"` // of a dynamic upstream
	Timeout   string        `json:"timeout,omitempty"`
	Status    int           `json:"status,omitempty"` // of its answer
	Body      string        `json:"body,omitempty"`
	Set       []Field       `json:"set,omitempty"` // fields that it set or added, with the value that they have now
	Removed   []string      `json:"removed,omitempty"`
	Says      []string      `json:"says,omitempty"` // what it wrote to the log
	Calls     []Call        `json:"calls,omitempty"`
	Fuel      int64         `json:"fuel"`
	Took      time.Duration `json:"took_ns"`
	Place
}

// Call is a request that a plugin wanted to send.
type Call struct {
	Upstream string `json:"upstream"`
	Method   string `json:"method"`
	Path     string `json:"path"`
	Sent     bool   `json:"sent"`
	Status   int    `json:"status,omitempty"` // of the answer
	Error    string `json:"error,omitempty"`
}

// Upstream is where the request goes, and by which rules.
type Upstream struct {
	Name      string `json:"name"`
	Why       string `json:"why"`                 // it is this one
	Authority string `json:"authority,omitempty"` // of a dynamic upstream
	Host      string `json:"host"`                // whose Host field it gets
	Algorithm string `json:"algorithm"`
	HashKey   string `json:"hash_key,omitempty"`
	Session   string `json:"session,omitempty"` // the token of the sticky session that the request names
	Pool      *Pool  `json:"pool,omitempty"`    // of a running gateway
	Rules     []Rule `json:"rules"`
	// Members are whom it can be given to.
	Members []Member `json:"members"`
	Place
}

// Pool is the upstream's figures now.
type Pool struct {
	Open        int  `json:"connections_open"`
	Idle        int  `json:"connections_idle"`
	Waiting     int  `json:"requests_waiting"`
	BreakerOpen bool `json:"breaker_open"`
	RetriesLeft int  `json:"retries_left"`
}

// Rule is a rule in force for the request.
type Rule struct {
	Key   string `json:"key"` // as the configuration calls it
	Value string `json:"value"`
}

// Member is an address of a target.
type Member struct {
	Target   string `json:"target"`
	Address  string `json:"address,omitempty"`
	State    string `json:"state"`
	Health   string `json:"health,omitempty"` // in a running gateway
	Why      string `json:"why,omitempty"`
	Weight   int    `json:"weight"`
	Tier     int    `json:"tier"`
	Choice   string `json:"choice"` // chosen, eligible, full or passed over
	Requests int    `json:"requests_active"`
	Open     int    `json:"connections_open"`
	Idle     int    `json:"connections_idle"`
	DNSAge   string `json:"dns_age,omitempty"`
	DNSDoubt string `json:"dns_doubt,omitempty"`
}

// The choices.
const (
	Chosen     = "chosen"      // the next request like this one goes there
	Eligible   = "eligible"    // it is one of those among whom the algorithm chooses
	Full       = "full"        // it would be, but has no connection left
	PassedOver = "passed over" // others serve
)

// Locate fills in where the configuration speaks of things; at returns "" for what it does not know.
func (e *Explanation) Locate(at func(path string) string) {
	place := func(p *Place) {
		if p.Path != "" {
			p.At = at(p.Path)
		}
	}
	place(&e.Listener.Place)
	for _, s := range e.Steps {
		if s.Plugin != nil {
			place(&s.Plugin.Place)
		}
		if s.Round != nil {
			for i := range s.Round.Tried {
				place(&s.Round.Tried[i].Place)
			}
		}
	}
	if e.Upstream != nil {
		place(&e.Upstream.Place)
	}
}
