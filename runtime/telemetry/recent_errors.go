package telemetry

import (
	"net/netip"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// maxRecentErrors is how many errors a loop remembers.
const maxRecentErrors = 256

// What an error of RecentErrors happened to.
const (
	ErrorOfRequest    = "request"
	ErrorOfAttempt    = "attempt" // another one may have followed that went well
	ErrorOfCall       = "call"    // a request of a plugin's own
	ErrorOfSession    = "session" // of TCP mode
	ErrorOfConnection = "connection"
)

// RecentError is something that went wrong. Nothing in it changes any more.
type RecentError struct {
	At       int64 // Unix nanoseconds
	Of       string
	Err      *fault.Error
	Status   int // that the client was sent; 0: nothing, or it was not about that
	Listener string
	Route    string
	Upstream string
	Host     string // host:port as configured
	Address  netip.AddrPort
	Plugin   string
	ConnID   uint64
	TraceID  [16]byte // zero: there is no trace
}

// errorRing is the errors of a loop. It has room for all of them from the first on: then nothing is allocated.
type errorRing struct {
	list []RecentError
	next int // place of the next one, once the list is full
}

// add returns the place for another one, which takes the oldest one's place.
func (e *errorRing) add() *RecentError {
	if e.list == nil {
		e.list = make([]RecentError, 0, maxRecentErrors)
	}
	if len(e.list) < maxRecentErrors {
		e.list = append(e.list, RecentError{})
		return &e.list[len(e.list)-1]
	}
	p := &e.list[e.next]
	e.next = (e.next + 1) % maxRecentErrors
	return p
}

// RecentErrors are the loop's last errors that fit, the newest first, so many at most. It runs on the loop.
func (r *Recorder) RecentErrors(most int, fits func(*RecentError) bool) (list []RecentError) {
	e := &r.errors
	for i := range e.list {
		p := &e.list[(e.next+len(e.list)-1-i)%len(e.list)]
		if fits == nil || fits(p) {
			if len(list) == most {
				break
			}
			list = append(list, *p)
		}
	}
	return list
}

// noteErrors remembers what went wrong with a request. An attempt's error that became the request's is told once.
func (r *Recorder) noteErrors(x *exchange.Exchange) {
	of := ErrorOfAttempt
	if x.Plugin != "" {
		of = ErrorOfCall
	}
	for i := range x.Attempts {
		if a := &x.Attempts[i]; a.Err != nil && (a.Err != x.Err || of == ErrorOfCall) {
			e := r.errors.add()
			*e = RecentError{At: r.wallOf(x, a.Ended), Of: of, Err: a.Err, Listener: x.Client.Server, Route: x.Route, Plugin: x.Plugin, TraceID: x.Trace.TraceID}
			e.attempt(a)
		}
	}
	if x.Err == nil || x.Plugin != "" {
		return
	}
	e := r.errors.add()
	*e = RecentError{
		At: r.wallOf(x, x.Ended), Of: ErrorOfRequest, Err: x.Err, Status: x.StatusSent, Listener: x.Client.Server, Route: x.Route,
		Plugin: x.Err.Plugin, TraceID: x.Trace.TraceID,
	}
	if a := x.Attempt(); a != nil {
		e.attempt(a)
	}
}

// attempt notes where the attempt went.
func (e *RecentError) attempt(a *exchange.Attempt) {
	e.Upstream, e.Host, e.Address, e.ConnID = a.Upstream, a.Host, a.Address, a.ConnID
	if e.Host == "" && a.Err != nil {
		e.Host = a.Err.Host
	}
}

// wallOf is when something of the exchange was, as Unix nanoseconds.
func (r *Recorder) wallOf(x *exchange.Exchange, at int64) int64 {
	if at == 0 {
		at = x.Ended
	}
	return x.WallStarted + at - x.Started
}

func (r *Recorder) noteSession(s *exchange.Session) {
	if s.Err == nil {
		return
	}
	*r.errors.add() = RecentError{
		At: s.WallStarted + s.Ended - s.Started, Of: ErrorOfSession, Err: s.Err, Listener: s.Client.Server, Upstream: s.Upstream,
		Host: s.Host, Address: s.Address, Plugin: s.Err.Plugin, ConnID: s.ConnID,
	}
}

// noteConnection remembers a connection that nobody asked for and that could not be opened; others are told of by the
// requests that asked.
func (r *Recorder) noteConnection(c *facts.Connection) {
	if c.Err == nil || c.WhyOpened != facts.OpenHealthCheck && (c.WhyOpened != facts.OpenPrewarm || c.Established != 0) {
		return
	}
	*r.errors.add() = RecentError{At: c.Closed, Of: ErrorOfConnection, Err: c.Err, Upstream: c.Upstream, Host: c.Host, Address: c.Address, ConnID: c.ID, TraceID: c.TraceID}
}

// Time is when it was.
func (e *RecentError) Time() time.Time { return time.Unix(0, e.At) }
