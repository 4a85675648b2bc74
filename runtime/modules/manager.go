package modules

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"wasmgate/config"
)

// The defaults of ManagerOptions.
const (
	DefaultFirst = 5 * time.Second
	DefaultMost  = 5 * time.Minute
)

// ManagerOptions say what is done about modules that could not be had. The functions are called from goroutines of the
// Manager, one call at a time. They may call the Manager's methods, but for Close.
type ManagerOptions struct {
	First time.Duration // wait before the first try in the background, about; 0: DefaultFirst
	Most  time.Duration // it doubles up to this; 0: DefaultMost

	// Available is told of a module that Retry was asked for and that is there now; it is not tried any more. A Fetch that
	// follows has it even where there is no cache.
	Available func(ref config.Module, module []byte, info Info)
	// Failed is told of each try in the background that failed, and when the next one is.
	Failed func(ref config.Module, err error, tries int, next time.Duration)
}

// Result is what became of one reference.
type Result struct {
	Module []byte // must not be changed
	Info   Info
	Err    error // an *Error; nil if the module is there
}

// Pending is a module that is tried in the background.
type Pending struct {
	Ref   config.Module
	Err   error     // why the last try failed
	Since time.Time // when Retry was first asked for it
	Tries int       // in the background
	Next  time.Time // when the next try begins; zero while one is under way
}

// Manager has several modules at once. One that cannot be had does not keep the others, and is tried again in the
// background. Its methods may be called from any goroutine.
type Manager struct {
	fetcher *Fetcher
	o       ManagerOptions
	ctx     context.Context
	cancel  context.CancelFunc
	work    sync.WaitGroup
	calls   sync.Mutex // held while a function of the options is called

	mu      sync.Mutex
	pending map[config.Module]*pending
	ready   map[config.Module]Result // those that became available, until they are not wanted any more
	closed  bool
}

type pending struct {
	Pending
	cancel context.CancelFunc
	now    chan struct{} // has something if the next try is not to wait
}

// NewManager makes a manager of modules that a fetcher has. Closing the one does not close the other.
func NewManager(f *Fetcher, o ManagerOptions) *Manager {
	o.First, o.Most = cmp.Or(o.First, DefaultFirst), cmp.Or(o.Most, DefaultMost)
	m := &Manager{fetcher: f, o: o, pending: map[config.Module]*pending{}, ready: map[config.Module]Result{}}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Fetch has each of the modules once and tells of each as soon as it knows, what is on this machine first, by calling each
// on the goroutine of the caller: who drops a module there holds one at a time. It returns those that failed, when it knows
// of all, or ctx has ended: those that are not there by then have an error of KindCanceled. Nobody waits for one that is
// tried in the background already: it failed as it did the last time, and the next try begins now.
func (m *Manager) Fetch(ctx context.Context, refs []config.Module, each func(config.Module, Result)) (failed map[config.Module]error) {
	failed = map[config.Module]error{}
	tell := func(ref config.Module, r Result) {
		if r.Err != nil {
			failed[ref] = r.Err
		}
		each(ref, r)
	}
	type answer struct {
		ref config.Module
		Result
	}
	answers, waiting := make(chan answer), 0
	begin := func(ref config.Module) {
		waiting++
		go func() {
			a := answer{ref: ref}
			a.Module, a.Info, a.Err = m.fetcher.Fetch(ctx, ref)
			answers <- a
		}()
	}
	var here []config.Module
	for _, ref := range unique(refs) {
		if r, ok := m.known(ref); ok {
			tell(ref, r)
		} else if m.fetcher.has(ref) {
			here = append(here, ref)
		} else {
			begin(ref)
		}
	}
	for _, ref := range here {
		if r, ok := m.fetcher.local(ctx, ref); ok {
			tell(ref, r)
		} else {
			begin(ref) // what the cache had of it was broken
		}
	}
	for range waiting {
		a := <-answers
		tell(a.ref, a.Result)
	}
	return failed
}

// known is what the manager knows without asking: a module that arrived, or why one does not.
func (m *Manager) known(ref config.Module) (r Result, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r, ok = m.ready[ref]; ok {
		return r, true
	}
	p := m.pending[ref]
	if p == nil {
		return Result{}, false
	}
	select {
	case p.now <- struct{}{}:
	default:
	}
	return Result{Err: p.Err}, true
}

// Retry tries these modules in the background from now on, and no others: what was tried and is not among them is given
// up, what is goes on as it was. The error is why it failed: one that was merely not there in time is tried at once.
func (m *Manager) Retry(failed map[config.Module]error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.ready)
	for ref, p := range m.pending {
		if _, still := failed[ref]; !still {
			p.cancel()
			delete(m.pending, ref)
		}
	}
	if m.closed {
		return
	}
	for ref, err := range failed {
		if m.pending[ref] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(m.ctx)
		p := &pending{Pending{Ref: ref, Err: err, Since: time.Now()}, cancel, make(chan struct{}, 1)}
		wait := backoff(m.o.First, m.o.Most, 1)
		if e := (*Error)(nil); errors.As(err, &e) && e.Kind == KindCanceled {
			wait = 0
		}
		p.Next = time.Now().Add(wait)
		m.pending[ref] = p
		m.work.Go(func() { m.try(ctx, p, wait) })
	}
}

// try goes on until the module is there or is not wanted any more.
func (m *Manager) try(ctx context.Context, p *pending, wait time.Duration) {
	defer p.cancel()
	ref := p.Ref
	for {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.now:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		m.locked(func() { p.Next = time.Time{} })
		r := Result{}
		r.Module, r.Info, r.Err = m.fetcher.Fetch(ctx, ref)
		if ctx.Err() != nil {
			return
		}
		if r.Err == nil {
			if m.arrived(p, r) && m.o.Available != nil {
				m.calls.Lock()
				m.o.Available(ref, r.Module, r.Info)
				m.calls.Unlock()
			}
			return
		}
		select {
		case <-p.now: // it was said while this try was under way
		default:
		}
		tries := 0
		m.locked(func() {
			p.Tries++
			wait = backoff(m.o.First, m.o.Most, p.Tries+1)
			p.Err, p.Next, tries = r.Err, time.Now().Add(wait), p.Tries
		})
		if m.o.Failed != nil {
			m.calls.Lock()
			m.o.Failed(ref, r.Err, tries, wait)
			m.calls.Unlock()
		}
	}
}

func (m *Manager) locked(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// arrived notes a module that is there; false if it is not wanted any more.
func (m *Manager) arrived(p *pending, r Result) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending[p.Ref] != p {
		return false
	}
	delete(m.pending, p.Ref)
	m.ready[p.Ref] = r
	return true
}

// Pending lists the modules that are tried in the background, by their references.
func (m *Manager) Pending() []Pending {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Pending, 0, len(m.pending))
	for _, p := range m.pending {
		list = append(list, p.Pending)
	}
	slices.SortFunc(list, func(a, b Pending) int { return cmp.Compare(a.Ref.String(), b.Ref.String()) })
	return list
}

// Close gives up all tries in the background, and waits until the last function has returned.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	clear(m.pending)
	clear(m.ready)
	m.mu.Unlock()
	m.cancel()
	m.work.Wait()
}

// unique is refs without repetitions, in their order.
func unique(refs []config.Module) []config.Module {
	set, list := map[config.Module]bool{}, make([]config.Module, 0, len(refs))
	for _, ref := range refs {
		if !set[ref] {
			set[ref] = true
			list = append(list, ref)
		}
	}
	return list
}
