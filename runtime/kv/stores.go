package kv

import "sync"

// Stores are a process's stores by name. The zero value has none. It may be used by any goroutine.
type Stores struct {
	mu     sync.Mutex
	stores map[string]*Store
}

// Open returns the store of that name, which is made if there is none, with these bounds from now on.
func (l *Stores) Open(name string, o Options) *Store {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stores[name]
	if s == nil {
		s = New(o)
		if l.stores == nil {
			l.stores = map[string]*Store{}
		}
		l.stores[name] = s
		return s
	}
	s.Limit(o)
	return s
}

// Retain forgets the stores whose names are not wanted. Who has one of them may use it on.
func (l *Stores) Retain(wanted func(name string) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range l.stores {
		if !wanted(name) {
			delete(l.stores, name)
		}
	}
}

// Each calls fn for each store, in no order.
func (l *Stores) Each(fn func(name string, s *Store)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.stores {
		fn(name, s)
	}
}
