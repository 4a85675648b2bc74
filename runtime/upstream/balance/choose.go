package balance

import "math/rand/v2"

// choice is one choice among the members of a group.
type choice struct {
	set   *Set
	group *group
	tried []*Member
	busy  []*Member
	full  func(*Member) bool // nil: it does not matter now
	key   uint64
}

// out says that a member is not to be chosen.
func (c *choice) out(m *Member) bool {
	return among(m, c.tried) || among(m, c.busy) || c.full != nil && c.full(m)
}

// free says that nobody is out.
func (c *choice) free() bool { return len(c.tried) == 0 && len(c.busy) == 0 && c.full == nil }

// choose returns nil if everybody is out.
func (c *choice) choose(loop int, hasKey bool) *Member {
	if g := c.group; len(g.seats) == 1 && c.free() {
		return g.seats[0].member
	}
	var s *seat
	switch a := c.set.options.Algorithm; {
	case a == RoundRobin:
		s = c.inTurn(c.set.turns[loop])
	case a == LeastRequests:
		s = c.leastRequests()
	case a == LeastBytes:
		s = c.leastBytes()
	case a == Hash && hasKey:
		s = c.byKey()
	case a == First:
		s = c.first()
	default:
		s = c.ofTwo()
	}
	if s == nil {
		return nil
	}
	return s.member
}

// newTurns makes the states of RoundRobin: one for each loop, on cache lines of its own. They begin at points of the
// cycle that differ, so that loops do not all give their first request to the same member.
func newTurns(loops int, members []*Member) [][]int64 {
	const line = 8 // words
	turns := make([][]int64, loops)
	for i := range turns {
		turns[i] = make([]int64, len(members)+2*line)[line : line+len(members)]
		for place, m := range members {
			turns[i][place] = rand.Int64N(int64(min(max(m.Weight, 1), maxWeight)) * 1000)
		}
	}
	return turns
}

// inTurn is smooth weighted round robin, as nginx has it: at each choice everybody gains its weight, and who has most
// serves and pays the sum of all weights. Nobody is ever ahead of its part, or behind it, by more than one cycle's gain,
// whatever was in between: so the state outlives changes of who can be chosen, and of weights.
func (c *choice) inTurn(turns []int64) *seat {
	var best *seat
	var most, total int64
	free := c.free()
	for i := range c.group.seats {
		s := &c.group.seats[i]
		if !free && c.out(s.member) {
			continue
		}
		turn := &turns[s.place]
		*turn += s.weight
		total += s.weight
		if best == nil || *turn > most {
			best, most = s, *turn
		}
	}
	if best != nil {
		turns[best.place] -= total
	}
	return best
}

// lighter says whether a has fewer requests for its weight than b: less than 0, 0 or more than 0, as cmp.Compare.
func lighter(requestsA int64, a *seat, requestsB int64, b *seat) int64 {
	return requestsA*b.weight - requestsB*a.weight
}

// leastRequests draws lots by weight among equals: an upstream that has nothing to do is used by weight.
func (c *choice) leastRequests() *seat {
	var best *seat
	var least, lots int64
	free := c.free()
	for i := range c.group.seats {
		s := &c.group.seats[i]
		if !free && c.out(s.member) {
			continue
		}
		requests := int64(s.member.Load.Requests())
		if best != nil {
			switch d := lighter(requests, s, least, best); {
			case d > 0:
				continue
			case d == 0:
				if lots += s.weight; rand.Int64N(lots) < s.weight {
					best, least = s, requests
				}
				continue
			}
		}
		best, least, lots = s, requests, s.weight
	}
	return best
}

// assumedBytes is what a request is taken to cost as long as none is over.
const assumedBytes = 1024

// leastBytes counts a request that is under way as one of average size: what it will cost is not known yet, and without
// that all requests of a moment would go to the same member.
func (c *choice) leastBytes() *seat {
	var bytes, finished uint64
	for i := range c.group.seats {
		l := c.group.seats[i].member.Load
		bytes += l.Bytes()
		finished += l.Finished()
	}
	average := uint64(assumedBytes)
	if finished > 0 {
		average = min(bytes/finished, maxBytes>>16) + 1
	}
	var best *seat
	var least uint64
	var lots int64
	free := c.free()
	for i := range c.group.seats {
		s := &c.group.seats[i]
		if !free && c.out(s.member) {
			continue
		}
		l := s.member.Load
		at := l.progress.Load() + min(uint64(l.Requests()), 1<<16)*average*l.rate.Load()
		if best != nil {
			switch d := int64(at - least); {
			case d > 0:
				continue
			case d == 0:
				if lots += s.weight; rand.Int64N(lots) < s.weight {
					best = s
				}
				continue
			}
		}
		best, least, lots = s, at, s.weight
	}
	return best
}

// draws is how often it is drawn again when somebody comes up that is out. After that the others are counted through:
// that gives the same distribution, and costs a look at each.
const draws = 4

// drawn draws one by weight among those that are not out, and not other.
func (c *choice) drawn(other *seat) *seat {
	free := c.free()
	for range draws {
		s := c.group.at(rand.Int64N(c.group.total))
		if s != other && (free || !c.out(s.member)) {
			return s
		}
	}
	var best *seat
	var lots int64
	for i := range c.group.seats {
		s := &c.group.seats[i]
		if s == other || !free && c.out(s.member) {
			continue
		}
		if lots += s.weight; rand.Int64N(lots) < s.weight {
			best = s
		}
	}
	return best
}

// at finds whose weight a point of the sum of all lies in.
func (g *group) at(point int64) *seat {
	low, high := 0, len(g.seats)-1
	for low < high {
		middle := (low + high) / 2
		if point < g.seats[middle].end {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return &g.seats[low]
}

// ofTwo takes the first of two if both have as much to do.
func (c *choice) ofTwo() *seat {
	a := c.drawn(nil)
	if a == nil {
		return nil
	}
	b := c.drawn(a)
	if b != nil && lighter(int64(b.member.Load.Requests()), b, int64(a.member.Load.Requests()), a) < 0 {
		return b
	}
	return a
}

func (c *choice) first() *seat {
	for i := range c.group.seats {
		if s := &c.group.seats[i]; !c.out(s.member) {
			return s
		}
	}
	return nil
}
