package balance

import (
	"cmp"
	"slices"
)

// plan is who can be chosen now. It is immutable.
type plan struct {
	groups    []group // the first one serves; the next ones are for requests that all before have been given to
	available int
	recovered bool
}

// group is members among which one choice is made.
type group struct {
	seats []seat
	total int64 // of all weights
	equal bool  // all weights are the same
}

// seat is a member's place in a group.
type seat struct {
	member *Member
	weight int64 // in force: the member's, times its share in thousandths
	end    int64 // sum of the weights up to here
	hash   uint64
	place  int // in the set's list
}

// usable says whether a member takes requests, by choice or by its token.
func usable(m *Member, recovering bool) bool {
	return m.State != Disabled && (m.Load.Share() > 0 || recovering && m.Load.ejected.Load())
}

func newPlan(members []*Member, o *Options) *plan {
	p := &plan{}
	p.fill(members, o.Algorithm)
	if p.available == 0 && o.RecoverAll && slices.ContainsFunc(members, func(m *Member) bool { return m.Load.ejected.Load() }) {
		p.recovered = true
		p.fill(members, o.Algorithm)
	}
	return p
}

// fill makes the groups: for each tier those who serve, its standbys, and the spares that are not needed.
func (p *plan) fill(members []*Member, a Algorithm) {
	var tiers []int
	for _, m := range members {
		tiers = append(tiers, m.Tier)
	}
	slices.Sort(tiers)
	for _, tier := range slices.Compact(tiers) {
		var serving, spares, standbys []seat
		missing := 0
		for place, m := range members {
			if m.Tier != tier {
				continue
			}
			can := usable(m, p.recovered) && m.Weight > 0 && m.State != Drain
			switch {
			case m.State == Spare && can:
				spares = append(spares, p.seat(m, place))
			case m.State == Standby && can:
				standbys = append(standbys, p.seat(m, place))
			case m.State == Spare || m.State == Standby:
			case can:
				serving = append(serving, p.seat(m, place))
			default:
				missing++
			}
		}
		needed := min(missing, len(spares))
		p.add(append(serving, spares[:needed]...), a)
		p.add(standbys, a)
		p.add(spares[needed:], a)
	}
}

func (p *plan) seat(m *Member, place int) seat {
	share := m.Load.Share()
	if share == 0 { // recovered
		share = 1000
	}
	return seat{member: m, weight: int64(min(m.Weight, maxWeight)) * int64(share), hash: Key(m.Name), place: place}
}

// maxWeight bounds weights, so that sums and products of them fit: 1000 members of it, a million requests each.
const maxWeight = 1 << 24

func (p *plan) add(seats []seat, a Algorithm) {
	if len(seats) == 0 {
		return
	}
	byWeight := func(x, y seat) int { return cmp.Compare(x.weight, y.weight) }
	switch a {
	case Hash: // equal weights side by side: see choice.home
		slices.SortStableFunc(seats, byWeight)
	case First:
		slices.SortFunc(seats, func(x, y seat) int { return cmp.Compare(x.place, y.place) })
	}
	g := group{seats: slices.Clip(seats)}
	for i := range g.seats {
		g.total += g.seats[i].weight
		g.seats[i].end = g.total
	}
	g.equal = slices.MinFunc(seats, byWeight).weight == slices.MaxFunc(seats, byWeight).weight
	p.available += len(seats)
	p.groups = append(p.groups, g)
}

// Units of Load.progress: a byte of a member of average weight adds unit. Rates and single additions are bounded so that
// differences stay far below what 63 bits hold.
const (
	unit     = 1 << 16
	maxRate  = unit << 10
	maxBytes = 1 << 34
)

// tell has the members' Loads know what the plan makes of them. Who begins to serve starts from where the others are, or
// it would be given everything until it had as many bytes as they.
func (p *plan) tell(members []*Member) {
	for _, m := range members {
		m.Load.usable.Store(usable(m, p.recovered))
	}
	serving := make([]bool, len(members))
	if len(p.groups) > 0 {
		p.groups[0].level()
		for _, s := range p.groups[0].seats {
			serving[s.place] = true
		}
	}
	for i, m := range members {
		m.Load.serving.Store(serving[i])
	}
}

// level sets rates by weights, and lifts newcomers to the least of those who served before.
func (g *group) level() {
	average := float64(g.total) / float64(len(g.seats))
	var least uint64
	found := false
	for i := range g.seats {
		l := g.seats[i].member.Load
		l.rate.Store(uint64(min(max(unit*average/float64(g.seats[i].weight), 1), maxRate)))
		if at := l.progress.Load(); l.serving.Load() && (!found || int64(at-least) < 0) {
			least, found = at, true
		}
	}
	for i := range g.seats {
		if l := g.seats[i].member.Load; !l.serving.Load() {
			l.progress.Store(least)
		}
	}
}

// exhausted says that everybody has been tried.
func (g *group) exhausted(tried []*Member) bool {
	for i := range g.seats {
		if !among(g.seats[i].member, tried) {
			return false
		}
	}
	return true
}

// among says whether m is in the list, perhaps as a member of another set.
func among(m *Member, list []*Member) bool {
	for _, other := range list {
		if other.Load == m.Load {
			return true
		}
	}
	return false
}
