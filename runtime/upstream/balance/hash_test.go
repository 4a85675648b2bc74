package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func homes(s *Set, keys []uint64) []*Member {
	list := make([]*Member, len(keys))
	for i, k := range keys {
		list[i] = s.Pick(0, k, true, nil)
	}
	return list
}

// TestLeavingMovesOwnKeysOnly: of 100,000 keys, exactly those of the member that left move, at most 1/n of all (by
// weight) and 3 % of that for chance, and they go to the others by weight. When it comes back, it has its own again.
func TestLeavingMovesOwnKeysOnly(t *testing.T) {
	keys := make([]uint64, 100_000)
	for i := range keys {
		keys[i] = Key(fmt.Sprintf("/products/%d", i))
	}
	for _, weights := range [][]int{{1, 1}, {1, 1, 1, 1, 1}, {1, 2, 3, 4}, {10, 10, 1}} {
		list := members(weights...)
		s := NewSet(1, Options{Algorithm: Hash, BoundedLoad: 1.25}, list)
		before := homes(s, keys)
		sum := 0
		for _, w := range weights {
			sum += w
		}
		for i, leaving := range list {
			leaving.Load.SetShare(0)
			s.Refresh()
			moved, to := 0, map[*Member]int{}
			for k, now := range homes(s, keys) {
				if (now != before[k]) != (before[k] == leaving) {
					t.Fatalf("weights %v: key %d was at %s and is at %s, when %s left", weights, k, before[k].Name, now.Name, leaving.Name)
				}
				if now != before[k] {
					moved++
					to[now]++
				}
			}
			part := float64(weights[i]) / float64(sum)
			if limit := part * 1.03 * float64(len(keys)); float64(moved) > limit {
				t.Errorf("weights %v: %d keys moved, which is more than %.0f", weights, moved, limit)
			}
			for j, m := range list {
				if want := float64(moved) * float64(weights[j]) / float64(sum-weights[i]); j != i && math.Abs(float64(to[m])-want) > 0.1*want+3*math.Sqrt(want) {
					t.Errorf("weights %v: %d of the keys that moved went to %s, not %.0f", weights, to[m], m.Name, want)
				}
			}
			leaving.Load.SetShare(1000)
			s.Refresh()
		}
		for k, now := range homes(s, keys) {
			if now != before[k] {
				t.Fatalf("key %d is not at home again", k)
			}
		}
	}
}

// TestMoreWeightOnlyAttracts: with more weight a member gets keys of others, and loses none.
func TestMoreWeightOnlyAttracts(t *testing.T) {
	list := members(2, 3, 4)
	s := NewSet(1, Options{Algorithm: Hash}, list)
	var keys []uint64
	for range 20_000 {
		keys = append(keys, rand.Uint64())
	}
	list[1].Load.SetShare(100)
	s.Refresh()
	before := homes(s, keys)
	for _, share := range []int{101, 300, 667, 1000} {
		list[1].Load.SetShare(share)
		s.Refresh()
		now := homes(s, keys)
		for k := range keys {
			if now[k] != before[k] && now[k] != list[1] {
				t.Fatal("a key moved between two members whose weight had not changed")
			}
		}
		before = now
	}
}

// TestOrderAndOwnersDoNotMatter: who is chosen depends on names, weights and the key.
func TestOrderAndOwnersDoNotMatter(t *testing.T) {
	a, b := members(1, 2, 3, 3), members(1, 2, 3, 3)
	rand.Shuffle(len(b), func(i, j int) { b[i], b[j] = b[j], b[i] })
	one, two := NewSet(1, Options{Algorithm: Hash}, a), NewSet(4, Options{Algorithm: Hash, BoundedLoad: 2}, b)
	for range 10_000 {
		k := rand.Uint64()
		if x, y := one.Pick(0, k, true, nil).Name, two.Pick(3, k, true, nil).Name; x != y {
			t.Fatalf("%s and %s", x, y)
		}
	}
}

// TestBoundedLoad: no member is given a request that brings it over its bound, whatever the keys are.
func TestBoundedLoad(t *testing.T) {
	for _, bound := range []float64{1, 1.25, 2} {
		for _, weights := range [][]int{{1, 1, 1, 1}, {1, 2, 5}, {1, 100}} {
			list := members(weights...)
			s := NewSet(1, Options{Algorithm: Hash, BoundedLoad: bound}, list)
			sum, total := 0, 0
			for _, w := range weights {
				sum += w
			}
			var held []*Member
			for i := range 20_000 {
				key := rand.Uint64()
				if i%2 == 0 {
					key = 42 // half of all requests want the same one
				}
				m := s.Pick(0, key, true, nil)
				m.Load.Start()
				held = append(held, m)
				total++
				if limit := math.Ceil(bound * float64(total) * float64(m.Weight) / float64(sum)); float64(m.Load.Requests()) > limit {
					t.Fatalf("bound %v, weights %v: %s has %d of %d", bound, weights, m.Name, m.Load.Requests(), total)
				}
				for rand.IntN(1000) < total { // some end, in any order
					j := rand.IntN(len(held))
					held[j].Load.End()
					held[j] = held[len(held)-1]
					held = held[:len(held)-1]
					total--
				}
			}
		}
	}
	list := members(1, 1)
	s := NewSet(1, Options{Algorithm: Hash}, list)
	home := s.Pick(0, 42, true, nil)
	for range 1000 {
		if home.Load.Start(); s.Pick(0, 42, true, nil) != home {
			t.Fatal("there is a bound that was not asked for")
		}
	}
}

// TestOverflowGoesToOnePlace: as long as a key's own member is over its bound, the key is at one other.
func TestOverflowGoesToOnePlace(t *testing.T) {
	list := members(1, 1, 1, 1, 1)
	s := NewSet(1, Options{Algorithm: Hash, BoundedLoad: 1.5}, list)
	home := s.Pick(0, 42, true, nil)
	for _, m := range list {
		for range 10 {
			m.Load.Start()
		}
	}
	for range 20 {
		home.Load.Start()
	}
	next := s.Pick(0, 42, true, nil)
	if next == home {
		t.Fatal("it is not passed on")
	}
	for range 5 {
		if s.Pick(0, 42, true, nil) != next || s.Pick(0, 42, true, []*Member{home}) != next {
			t.Fatal("it is passed on to several")
		}
	}
}

// TestKeysStayWhatTheyAre: gateways of different versions must agree, so these numbers must never change.
func TestKeysStayWhatTheyAre(t *testing.T) {
	for text, want := range map[string]uint64{"": 0, "a": 0x40096d44c9b32d08, "10.0.0.7:80": 0x64f3a0f76005d180, "0123456789abcdef": 0xeefbc7c85ad38f82} {
		if got := Key(text); got != want || got != Key([]byte(text)) {
			t.Errorf("Key(%q) is %#x, not %#x", text, got, want)
		}
	}
	s := NewSet(1, Options{Algorithm: Hash}, members(1, 1, 1, 3, 3, 2))
	got := ""
	for i := range 24 {
		got += s.Pick(0, Key(fmt.Sprint(i)), true, nil).Token
	}
	if got != "bfedffbeaeadeedddaeecded" {
		t.Errorf("homes are %s", got)
	}
}

// TestKeysDiffer: texts that are alike have keys that are not; neither does a short one equal one that goes on with zeros.
func TestKeysDiffer(t *testing.T) {
	seen := map[uint64]string{}
	buckets := make([]int, 64)
	n := 0
	add := func(text string) {
		k := Key(text)
		if other, ok := seen[k]; ok {
			t.Fatalf("%q and %q have the same key", text, other)
		}
		seen[k] = text
		buckets[k&63]++
		n++
	}
	for i := range 32 {
		add(string(make([]byte, i)))
	}
	for i := range 200_000 {
		add(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	for i, got := range buckets {
		if want := float64(n) / 64; math.Abs(float64(got)-want) > 6*math.Sqrt(want) {
			t.Errorf("%d keys end with %d, not %.0f", got, i, want)
		}
	}
}
