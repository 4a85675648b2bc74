package acme

import (
	"sync"
	"time"
)

// ours marks an attempt that the manager makes, in contrast to those that certmagic makes by itself.
type ours struct{}

// renewals follows how long certmagic waits after renewals that failed, which it tells nobody. It keeps that for the whole
// process, by the name; so does this.
var renewals = schedule{fails: map[string]int{}}

type schedule struct {
	mu    sync.Mutex
	fails map[string]int
}

// renewalWaits are certmagic's retryIntervals, in minutes: the last one stays.
var renewalWaits = [...]time.Duration{1, 2, 2, 5, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 30, 30, 60, 60, 60, 120, 120, 180, 180, 360}

// failed counts a failure, and returns how long certmagic waits after it. When it has waited, it looks at its next check.
func (s *schedule) failed(name string) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails[name]++
	return renewalWaits[min(s.fails[name], len(renewalWaits))-1] * time.Minute
}

func (s *schedule) succeeded(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.fails, name)
}
