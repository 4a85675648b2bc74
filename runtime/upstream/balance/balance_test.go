package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// members makes active members of tier 0 with these weights, called a, b, c and so on.
func members(weights ...int) []*Member {
	list := make([]*Member, len(weights))
	for i, w := range weights {
		list[i] = &Member{Name: fmt.Sprintf("%c:80", 'a'+i), Token: string(rune('a' + i)), Weight: w, Load: &Load{}}
	}
	return list
}

// spread makes picks on all loops at once and counts who is chosen, by the place in the list.
func spread(s *Set, loops, picks int, hasKey bool) []float64 {
	place := map[*Member]int{}
	for i, m := range s.Members() {
		place[m] = i
	}
	counts := make([]atomic.Int64, len(place))
	var wg sync.WaitGroup
	for loop := range loops {
		wg.Go(func() {
			own := make([]int64, len(counts))
			for range picks / loops {
				own[place[s.Pick(loop, rand.Uint64(), hasKey, nil)]]++
			}
			for i, n := range own {
				counts[i].Add(n)
			}
		})
	}
	wg.Wait()
	all := make([]float64, len(counts))
	for i := range counts {
		all[i] = float64(counts[i].Load()) / float64(picks/loops*loops)
	}
	return all
}

// refreshing refreshes the set again and again while f runs.
func refreshing(s *Set, f func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.Refresh()
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
}

// TestSpreadByWeight: within 2 % of the weights, on any number of loops, while the set is refreshed. What goes by chance
// is counted three times as long, so that chance itself is well below 2 %.
func TestSpreadByWeight(t *testing.T) {
	for _, c := range []struct {
		algorithm Algorithm
		key       bool
		picks     int
	}{{RoundRobin, false, 100_000}, {LeastRequests, false, 300_000}, {RandomTwo, false, 300_000}, {Hash, true, 300_000}, {Hash, false, 300_000}} {
		for _, weights := range [][]int{{1}, {1, 1, 1}, {2, 3, 5}} {
			for _, loops := range []int{1, 2, 16} {
				s := NewSet(loops, Options{Algorithm: c.algorithm, BoundedLoad: 1.25}, members(weights...))
				sum := 0
				for _, w := range weights {
					sum += w
				}
				refreshing(s, func() {
					for i, got := range spread(s, loops, c.picks, c.key) {
						want := float64(weights[i]) / float64(sum)
						if math.Abs(got-want) > 0.02*want {
							t.Errorf("%v, weights %v, %d loops: %.4f of the requests went to %d, not %.4f", c.algorithm, weights, loops, got, i, want)
						}
					}
				})
			}
		}
	}
}

// TestRoundRobinIsSmooth: nobody is ever far ahead of its part, on each loop for itself.
func TestRoundRobinIsSmooth(t *testing.T) {
	list := members(5, 1, 1, 3)
	s := NewSet(2, Options{}, list)
	for loop := range 2 {
		counts := map[*Member]float64{}
		for n := 1; n <= 1000; n++ {
			counts[s.Pick(loop, 0, false, nil)]++
			for i, m := range list {
				if ahead := counts[m] - float64(n*m.Weight)/10; math.Abs(ahead) > 2 {
					t.Fatalf("after %d requests, %d is %.1f ahead", n, i, ahead)
				}
			}
		}
	}
}

// TestLoopsDoNotMarchInStep: the first requests of many loops do not all go to the same member.
func TestLoopsDoNotMarchInStep(t *testing.T) {
	s := NewSet(256, Options{}, members(1, 1, 1, 1))
	first := map[*Member]int{}
	for loop := range 256 {
		first[s.Pick(loop, 0, false, nil)]++
	}
	for m, n := range first {
		if n > 128 {
			t.Errorf("%s has the first request of %d of 256 loops", m.Name, n)
		}
	}
	if len(first) != 4 {
		t.Errorf("%d of 4 have one", len(first))
	}
}

// TestSpreadFollowsShares: in a slow start a member has the part of its weight that it is given.
func TestSpreadFollowsShares(t *testing.T) {
	for _, a := range []Algorithm{RoundRobin, LeastRequests, RandomTwo, Hash} {
		list := members(1, 1, 1)
		s := NewSet(2, Options{Algorithm: a}, list)
		spread(s, 2, 1000, a == Hash)
		list[0].Load.SetShare(500)
		s.Refresh()
		for i, got := range spread(s, 2, 300_000, a == Hash) {
			if want := []float64{0.2, 0.4, 0.4}[i]; math.Abs(got-want) > 0.02*want {
				t.Errorf("%v: %.4f to %d, not %.4f", a, got, i, want)
			}
		}
	}
}

// TestLoadDecides holds requests open: the next one goes to who has the fewest for its weight.
func TestLoadDecides(t *testing.T) {
	list := members(1, 2, 4)
	s := NewSet(1, Options{Algorithm: LeastRequests}, list)
	for range 7000 {
		s.Pick(0, 0, false, nil).Load.Start()
	}
	for i, m := range list {
		if got, want := m.Load.Requests(), m.Weight*1000; max(got-want, want-got) > 1 {
			t.Errorf("%d has %d, not %d", i, got, want)
		}
	}
	list = members(1, 1)
	list[0].Load.Start()
	two := NewSet(1, Options{Algorithm: RandomTwo}, list)
	for range 1000 {
		if two.Pick(0, 0, false, nil) != list[1] {
			t.Fatal("the one of two with more to do was chosen")
		}
	}
}

func TestLeastBytesSpreadsBytes(t *testing.T) {
	list := members(1, 2, 5)
	s := NewSet(4, Options{Algorithm: LeastBytes}, list)
	r := rand.New(rand.NewPCG(1, 2))
	var under [16]*Member // requests that overlap
	total := 0.0
	for i := range 100_000 {
		size := uint64(r.ExpFloat64() * 2000)
		total += float64(size)
		if m := under[i%16]; m != nil {
			m.Load.AddBytes(size)
			m.Load.End()
		}
		m := s.Pick(i%4, 0, false, nil)
		m.Load.Start()
		under[i%16] = m
	}
	for i, m := range list {
		want := float64(m.Weight) / 8
		if got := float64(m.Load.Bytes()) / total; math.Abs(got-want) > 0.02*want {
			t.Errorf("%d has %.4f of all bytes, not %.4f", i, got, want)
		}
	}
}

// TestNewcomerIsNotFlooded: who has no bytes because it is new, or was away, is not given everything.
func TestNewcomerIsNotFlooded(t *testing.T) {
	serve := func(s *Set, n int) map[*Member]int {
		counts := map[*Member]int{}
		for range n {
			m := s.Pick(0, 0, false, nil)
			m.Load.Start()
			m.Load.AddBytes(10_000)
			m.Load.End()
			counts[m]++
		}
		return counts
	}
	list := members(1, 1, 1)
	serve(NewSet(1, Options{Algorithm: LeastBytes}, list[:2]), 10_000)
	s := NewSet(1, Options{Algorithm: LeastBytes}, list)
	if n := serve(s, 300)[list[2]]; n < 95 || n > 105 {
		t.Errorf("a newcomer was given %d of 300", n)
	}
	list[0].Load.SetShare(0)
	s.Refresh()
	serve(s, 10_000)
	list[0].Load.SetShare(1000)
	s.Refresh()
	if n := serve(s, 300)[list[0]]; n < 95 || n > 105 {
		t.Errorf("one that was away was given %d of 300", n)
	}
	held := map[*Member]int{} // none of these is over, and their sizes not known
	for range 300 {
		m := s.Pick(0, 0, false, nil)
		m.Load.Start()
		held[m]++
	}
	for _, m := range list {
		if held[m] < 95 || held[m] > 105 {
			t.Errorf("%s was given %d of 300 at once", m.Name, held[m])
		}
	}
}

func TestFirstTakesWhoIsNotFull(t *testing.T) {
	list := members(1, 9, 1)
	full := map[*Member]bool{}
	s := NewSet(1, Options{Algorithm: First, Full: func(m *Member) bool { return full[m] }}, list)
	for i := range 3 {
		for range 10 {
			if s.Pick(0, 0, false, nil) != list[i] {
				t.Fatalf("not the %d. was chosen", i+1)
			}
		}
		full[list[i]] = true
	}
	if s.Pick(0, 0, false, nil) != list[0] {
		t.Error("all are full, and the first was not chosen")
	}
}

// TestFullIsPassedOver by every algorithm while somebody has room; then there is still a choice, for a queue.
func TestFullIsPassedOver(t *testing.T) {
	for a := RoundRobin; a <= First; a++ {
		list := members(3, 1, 1)
		full := map[*Member]bool{list[0]: true, list[1]: true}
		s := NewSet(1, Options{Algorithm: a, Full: func(m *Member) bool { return full[m] }}, list)
		for range 200 {
			if m := s.Pick(0, rand.Uint64(), true, nil); m != list[2] {
				t.Fatalf("%v: %v was chosen", a, m)
			}
			if m := s.Pick(0, rand.Uint64(), true, list[2:]); m == nil || m == list[2] {
				t.Fatalf("%v: nobody of the full ones was chosen", a)
			}
		}
		full[list[2]] = true
		if s.Pick(0, 1, true, nil) == nil {
			t.Errorf("%v: nobody was chosen", a)
		}
	}
}

// TestFullIsNoReasonForAStandby: a request that finds all full waits for them; one that failed at all goes on.
func TestFullIsNoReasonForAStandby(t *testing.T) {
	for a := RoundRobin; a <= First; a++ {
		list := members(1, 1, 1)
		list[2].State = Standby
		s := NewSet(1, Options{Algorithm: a, BoundedLoad: 1.25}, list)
		for range 20 {
			if m := s.PickBeside(0, 7, true, nil, list[:1]); m != list[1] {
				t.Fatalf("%v: %v, when one is full", a, m)
			}
			if m := s.PickBeside(0, 7, true, list[:1], list[1:2]); m != nil {
				t.Fatalf("%v: %v, when one failed and the other is full", a, m)
			}
			if m := s.PickBeside(0, 7, true, list[:2], list[1:2]); m != list[2] {
				t.Fatalf("%v: %v, when all have been tried", a, m)
			}
			if m := s.PickBeside(0, 7, true, list[:2], list[2:]); m != nil {
				t.Fatalf("%v: %v, when the standby is full too", a, m)
			}
		}
	}
}

func TestPassesOverWhoWasTried(t *testing.T) {
	for a := RoundRobin; a <= First; a++ {
		list := members(1000, 1, 1, 1000)
		list[3].State = Standby
		s := NewSet(1, Options{Algorithm: a, BoundedLoad: 1.25}, list)
		for range 100 {
			var tried []*Member
			for n := range 4 {
				m := s.Pick(0, 7, true, tried)
				if m == nil || slices.Contains(tried, m) || (m == list[3]) != (n == 3) {
					t.Fatalf("%v: %v after %d", a, m, n)
				}
				tried = append(tried, m)
			}
			if m := s.Pick(0, 7, true, tried); m != nil {
				t.Fatalf("%v: %v was chosen, and all had been tried", a, m)
			}
		}
		other := *list[0] // the same member in another set
		if m := NewSet(1, Options{Algorithm: a}, list[:1]).Pick(0, 7, true, []*Member{&other}); m != nil {
			t.Errorf("%v: a member of an older set was not known again", a)
		}
	}
}

// TestEverythingAtOnce changes everything that may change while all loops choose. It is for the race detector, and
// nobody who is disabled may be chosen, nor may nobody.
func TestEverythingAtOnce(t *testing.T) {
	for a := RoundRobin; a <= First; a++ {
		list := members(1, 2, 3, 4)
		list[3].State = Disabled
		s := NewSet(4, Options{Algorithm: a, BoundedLoad: 1.25, RecoverAll: true, Full: func(m *Member) bool { return m.Load.Requests() > 3 }}, list)
		stop := make(chan struct{})
		var changing, choosing sync.WaitGroup
		changing.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				l := list[i%4].Load
				l.SetEjected(i%3 == 0)
				l.SetShare(1000 * (1 - i%3/2))
				s.Refresh()
				s.Available()
			}
		})
		for loop := range 4 {
			choosing.Go(func() {
				for range 5000 {
					m := s.Pick(loop, rand.Uint64(), true, list[loop:loop+1])
					if m == list[3] || loop == 3 && m == nil && s.Available() == 3 {
						t.Errorf("%v: %v was chosen", a, m)
						return
					}
					if m != nil {
						m.Load.Start()
						m.Load.AddBytes(100)
						m.Load.End()
					}
					s.ByToken([]byte("a"))
				}
			})
		}
		choosing.Wait()
		close(stop)
		changing.Wait()
	}
}

func TestChoiceCostsNoAllocation(t *testing.T) {
	for a := RoundRobin; a <= First; a++ {
		list := members(1, 2, 3, 4)
		for i, m := range list {
			for range i {
				m.Load.Start()
			}
		}
		s := NewSet(1, Options{Algorithm: a, BoundedLoad: 1.25, Full: func(m *Member) bool { return m == list[3] }}, list)
		token := []byte("b")
		if n := testing.AllocsPerRun(1000, func() {
			s.Pick(0, rand.Uint64(), true, nil)
			s.Pick(0, rand.Uint64(), false, list[:2]).Load.Start()
			s.Pick(0, rand.Uint64(), true, list[:3]).Load.End()
			s.ByToken(token)
			Key(token)
		}); n != 0 {
			t.Errorf("%v: %v allocations", a, n)
		}
	}
}

func TestNames(t *testing.T) {
	for a, want := range map[fmt.Stringer]string{RoundRobin: "round_robin", First: "first", Algorithm(99): "unknown", Active: "active", Disabled: "disabled", State(99): "unknown"} {
		if a.String() != want {
			t.Errorf("%v, not %s", a, want)
		}
	}
}
