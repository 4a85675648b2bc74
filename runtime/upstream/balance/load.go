package balance

import "sync/atomic"

// Load is what a member has to do, and how much of its weight it is given. It is used by all loops at once, without
// locks. The zero value is a member without requests that is given all of its weight. It must not be copied.
type Load struct {
	_        [64]byte // what other loops write must not slow down reading its neighbours
	requests atomic.Int64
	bytes    atomic.Uint64
	finished atomic.Uint64
	progress atomic.Uint64 // bytes for its weight, in units of plan.tell; only differences mean something
	rate     atomic.Uint64 // what a byte adds to progress
	less     atomic.Int32  // thousandths of the weight that it is not given
	ejected  atomic.Bool
	usable   atomic.Bool
	serving  atomic.Bool // by the newest plan that has it, it is among those that are chosen first
	_        [64]byte
}

// Start notes that a request was given to the member. End must follow.
func (l *Load) Start() { l.requests.Add(1) }

// End notes that a request is over.
func (l *Load) End() {
	l.requests.Add(-1)
	l.finished.Add(1)
}

// AddBytes notes bytes that went to the member or came from it.
func (l *Load) AddBytes(n uint64) {
	if n == 0 {
		return
	}
	l.bytes.Add(n)
	l.progress.Add(min(n, maxBytes) * l.rate.Load())
}

// Requests is how many requests are under way.
func (l *Load) Requests() int { return int(max(l.requests.Load(), 0)) }

// Bytes is how many bytes there were, both ways.
func (l *Load) Bytes() uint64 { return l.bytes.Load() }

// Finished is how many requests are over.
func (l *Load) Finished() uint64 { return l.finished.Load() }

// SetShare says how many thousandths of its weight the member is given: 1000 is all, 0 that it is not available, what is
// between is a slow start. Sets follow when they are refreshed.
func (l *Load) SetShare(thousandths int) {
	l.less.Store(1000 - int32(min(max(thousandths, 0), 1000)))
}

// Share is what SetShare said last.
func (l *Load) Share() int { return 1000 - int(l.less.Load()) }

// SetEjected says that the member is not available only because requests failed, so that it may be recovered when nobody
// else is left (Options.RecoverAll). Its share should be 0. Sets follow when they are refreshed.
func (l *Load) SetEjected(ejected bool) { l.ejected.Store(ejected) }

// Usable says whether, by the set that was refreshed last, requests can be given to the member: by choice or, if it is
// draining, by its token.
func (l *Load) Usable() bool { return l.usable.Load() }
