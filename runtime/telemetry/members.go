package telemetry

import (
	"slices"
	"sync"
)

// memberHealth are the values of the label health, and memberStates those of state: what an address of an upstream can
// be, and become.
var (
	memberHealth = []string{"healthy", "recovering", "ejected", "unhealthy", "left"}
	memberStates = append([]string{"joined"}, memberHealth...)
)

// memberChanges counts changes of state. They come from any goroutine, and not often: each is a line of the log too.
type memberChanges struct {
	mu     sync.Mutex
	counts map[string]*memberCounts // by upstream
}

// memberCounts are those of one upstream.
type memberCounts struct {
	states []uint64 // as memberStates, and one for words that are not among them
	rest   rest
}

// MemberChanged counts that an address of the upstream has come, gone, or changed its health. It may be called from any
// goroutine, and keeps none of the strings but upstream.
func (t *Telemetry) MemberChanged(upstream, state string) {
	i := slices.Index(memberStates, state)
	if i < 0 {
		i = len(memberStates)
	}
	c := &t.members
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts[upstream] == nil {
		if len(c.counts) >= maxSeries {
			upstream = otherName
		}
		if c.counts == nil {
			c.counts = map[string]*memberCounts{}
		}
		if c.counts[upstream] == nil {
			c.counts[upstream] = &memberCounts{states: make([]uint64, len(memberStates)+1)}
		}
	}
	c.counts[upstream].states[i]++
}

func (t *Telemetry) memberMetrics(p *page) {
	c := &t.members
	c.mu.Lock()
	defer c.mu.Unlock()
	p.head(mMemberChanges)
	for _, name := range sortedKeys(c.counts) {
		for i, n := range c.counts[name].states {
			if i < len(memberStates) || n > 0 {
				p.count(n, "upstream", name, "state", reasonAt(memberStates, i))
			}
		}
	}
}

// members are the gauges of who can be chosen.
func (l *Live) members(p *page) {
	p.head(mMembers)
	for _, name := range sortedKeys(l.Upstreams) {
		other := 0
		for _, n := range l.Upstreams[name].Members {
			other += n
		}
		for _, health := range memberHealth {
			n := l.Upstreams[name].Members[health]
			other -= n
			p.value(float64(n), "upstream", name, "health", health)
		}
		if other > 0 {
			p.value(float64(other), "upstream", name, "health", otherName)
		}
	}
	each(p, mBudget, l.Upstreams, "upstream", func(s UpstreamStats) float64 { return float64(s.RetriesLeft) })
	each(p, mBreaker, l.Upstreams, "upstream", func(s UpstreamStats) float64 { return oneIf(s.BreakerOpen) })
	p.head(mAnswerAge)
	for _, name := range sortedKeys(l.Upstreams) {
		if d := l.Upstreams[name].DNSAge; d > 0 {
			p.value(d.Seconds(), "upstream", name)
		}
	}
	each(p, mAnswerStale, l.Upstreams, "upstream", func(s UpstreamStats) float64 { return float64(s.DNSStale) })
	p.head(mLearnedIdle)
	for _, name := range sortedKeys(l.Upstreams) {
		if d := l.Upstreams[name].LearnedIdle; d > 0 {
			p.value(d.Seconds(), "upstream", name)
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
