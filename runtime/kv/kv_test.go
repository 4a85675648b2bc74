package kv

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func (s *Store) mustSet(t *testing.T, now int64, key, value string, ttl time.Duration) uint32 {
	t.Helper()
	v, r := s.Set(now, []byte(key), []byte(value), 0, ttl)
	if r != OK || v == 0 || v == IfAbsent {
		t.Fatalf("%s: %v, version %d", key, r, v)
	}
	return v
}

func (s *Store) want(t *testing.T, now int64, key, value string, version uint32) {
	t.Helper()
	got, v, ok := s.Get(now, []byte(key), []byte("> "))
	if value == "" && (ok || string(got) != "> ") || value != "" && (!ok || string(got) != "> "+value || v != version) {
		t.Errorf("%s is %q with version %d, %v; want %q with %d", key, got, v, ok, value, version)
	}
}

func TestSetAndGet(t *testing.T) {
	s := New(Options{})
	s.want(t, 0, "a", "", 0)
	first := s.mustSet(t, 0, "a", "one", 0)
	s.want(t, 0, "a", "one", first)
	long := strings.Repeat("x", small+1)
	for _, value := range []string{"two", "t", strings.Repeat("y", 300), long, long[1:], long + "1", "short"} {
		v := s.mustSet(t, 0, "a", value, 0)
		if v == first {
			t.Error("a version twice in a row")
		}
		s.want(t, 0, "a", value, v)
		if want := int64(1 + len(value) + Overhead); s.Bytes() != want {
			t.Errorf("%d bytes, not %d", s.Bytes(), want)
		}
		first = v
	}
	if _, r := s.Delete(0, []byte("a"), 0); r != OK || s.Bytes() != 0 || s.Len() != 0 {
		t.Errorf("%v, %d bytes left", r, s.Bytes())
	}
	if _, r := s.Delete(0, []byte("a"), 0); r != Absent {
		t.Error(r)
	}
	if v := s.mustSet(t, 0, "a", "", 0); v == first {
		t.Error("set anew, with a version that it had")
	}
	if v, _, ok := s.Get(0, []byte("a"), nil); !ok || len(v) != 0 {
		t.Error("an empty value")
	}
}

func TestCompareAndSwap(t *testing.T) {
	s := New(Options{})
	key := []byte("k")
	step := func(name string, version uint32, want Result) uint32 {
		t.Helper()
		v, r := s.Set(0, key, []byte(name), version, 0)
		if r != want {
			t.Errorf("%s: %v, want %v", name, r, want)
		}
		return v
	}
	if v := step("not there", 7, Mismatch); v != 0 {
		t.Error("a version of nothing")
	}
	one := step("one", IfAbsent, OK)
	if v := step("again", IfAbsent, Mismatch); v != one {
		t.Errorf("it is %d, not %d", v, one)
	}
	two := step("two", one, OK)
	if v := step("late", one, Mismatch); v != two {
		t.Errorf("it is %d, not %d", v, two)
	}
	if v, r := s.Delete(0, key, one); r != Mismatch || v != two {
		t.Error(v, r)
	}
	s.want(t, 0, "k", "two", two)
	if _, r := s.Delete(0, key, two); r != OK {
		t.Error(r)
	}
	step("anew", IfAbsent, OK)
	if st := s.Stats(); st.Mismatched != 4 || st.Keys != 1 {
		t.Errorf("%+v", st)
	}
}

func TestExpiry(t *testing.T) {
	s := New(Options{})
	s.mustSet(t, 100, "a", "x", 50)
	s.mustSet(t, 100, "b", "y", 0)
	s.want(t, 149, "a", "x", mustVersion(t, s, 149, "a"))
	s.want(t, 150, "a", "", 0)
	if s.Len() != 1 {
		t.Error("what has expired was seen and not freed")
	}
	s.mustSet(t, 200, "a", "x", 50)
	if v, r := s.Set(260, []byte("a"), nil, IfAbsent, 0); r != OK {
		t.Error(v, r)
	}
	s.mustSet(t, 300, "c", "z", math.MaxInt64)
	s.want(t, math.MaxInt64, "c", "z", mustVersion(t, s, 0, "c"))
	s.mustSet(t, -100, "d", "z", 100)
	s.want(t, 5, "d", "", 0)
	s.mustSet(t, 300, "e", "z", 10)
	if keys := s.Keys(310, ""); len(keys) != 3 {
		t.Errorf("%q", keys)
	}
	if n := s.Expire(310); n != 1 || s.Len() != 3 {
		t.Errorf("%d freed, %d left", n, s.Len())
	}
}

func mustVersion(t *testing.T, s *Store, now int64, key string) uint32 {
	t.Helper()
	_, v, ok := s.Get(now, []byte(key), nil)
	if !ok {
		t.Fatalf("%s is not there", key)
	}
	return v
}

func TestAdd(t *testing.T) {
	s := New(Options{})
	key := []byte("n")
	for i, c := range []struct {
		now, delta, want int64
	}{{0, 5, 5}, {10, -7, -2}, {99, 2, 0}, {100, 1, 1}, {150, math.MaxInt64, math.MinInt64}} {
		if sum, r := s.Add(c.now, key, c.delta, 100); r != OK || sum != c.want {
			t.Errorf("%d: %d, %v; want %d", i, sum, r, c.want)
		}
	}
	v, _, _ := s.Get(150, key, nil)
	if int64(binary.LittleEndian.Uint64(v)) != math.MinInt64 {
		t.Errorf("% x", v)
	}
	s.mustSet(t, 150, "n", "text", 0)
	if _, r := s.Add(150, key, 1, 0); r != Mismatch {
		t.Error(r)
	}
	s.mustSet(t, 150, "n", "\x02\x00\x00\x00\x00\x00\x00\x00", 0)
	if sum, r := s.Add(150, key, 1, 0); r != OK || sum != 3 {
		t.Error(sum, r)
	}
}

func TestBounds(t *testing.T) {
	s := New(Options{MaxBytes: 10 * (Overhead + 10), MaxKey: 4, MaxValue: 20})
	if _, r := s.Set(0, []byte("12345"), nil, 0, 0); r != TooLarge {
		t.Error(r)
	}
	if _, r := s.Set(0, nil, nil, 0, 0); r != TooLarge {
		t.Error(r)
	}
	if _, r := s.Set(0, []byte("1"), make([]byte, 21), 0, 0); r != TooLarge {
		t.Error(r)
	}
	if _, r := s.Add(0, nil, 1, 0); r != TooLarge {
		t.Error(r)
	}
	if v, _, ok := s.Get(0, nil, nil); ok || v != nil {
		t.Error("an empty key is there")
	}
	set := func(i int, now int64, ttl time.Duration) Result {
		_, r := s.Set(now, fmt.Appendf(nil, "%04d", i), []byte("123456"), 0, ttl)
		return r
	}
	for i := range 10 {
		if r := set(i, 0, 100); r != OK {
			t.Fatal(i, r)
		}
	}
	if r := set(10, 0, 0); r != Full {
		t.Errorf("the eleventh of ten: %v", r)
	}
	if _, r := s.Add(0, []byte("x"), 1, 0); r != Full {
		t.Error(r)
	}
	if r := set(3, 0, 100); r != OK {
		t.Errorf("one that is there, anew: %v", r)
	}
	if _, r := s.Set(0, []byte("0003"), []byte("1234567"), 0, 0); r != Full {
		t.Errorf("one that grows: %v", r)
	}
	s.want(t, 0, "0003", "123456", mustVersion(t, s, 0, "0003"))
	// When the others have expired there is room again, sooner or later: a try looks at some shards only.
	ok := 0
	for range 100 {
		if set(11, 100, 0) == OK {
			ok++
		}
	}
	if ok == 0 || s.Bytes() > 10*(Overhead+10) {
		t.Errorf("%d of 100 found room in %d bytes", ok, s.Bytes())
	}
	s.Limit(Options{MaxBytes: 1 << 20})
	if r := set(12, 100, 0); r != OK {
		t.Error(r)
	}
}

func TestKeys(t *testing.T) {
	s := New(Options{})
	for i := range 100 {
		s.mustSet(t, 0, fmt.Sprintf("a/%d", i), "v", 0)
		s.mustSet(t, 0, fmt.Sprintf("b/%d", i), "v", 0)
	}
	keys := s.Keys(0, "a/")
	slices.Sort(keys)
	if len(keys) != 100 || keys[0] != "a/0" || keys[99] != "a/99" {
		t.Errorf("%d: %q", len(keys), keys[:2])
	}
}

// TestAgainstAMap does the same to a store and to a plain map, and compares.
func TestAgainstAMap(t *testing.T) {
	type value struct {
		v       string
		version uint32
		expires int64
	}
	s, m := New(Options{}), map[string]value{}
	state := uint64(1)
	random := func(n int) int { // of a fixed sequence
		state = state*6364136223846793005 + 1442695040888963407
		return int(state>>33) % n
	}
	for now := int64(1); now < 200_000; now++ {
		key := fmt.Sprint("key", random(300))
		there, ok := m[key]
		if ok && there.expires != 0 && now >= there.expires {
			delete(m, key)
			there, ok = value{}, false
		}
		switch random(4) {
		case 0:
			v, ttl := strings.Repeat("v", random(50)), int64(random(2)*random(2000))
			version, r := s.Set(now, []byte(key), []byte(v), 0, time.Duration(ttl))
			if r != OK || version == there.version {
				t.Fatal(r, version)
			}
			n := value{v, version, 0}
			if ttl > 0 {
				n.expires = now + ttl
			}
			m[key] = n
		case 1:
			if _, r := s.Delete(now, []byte(key), there.version); (r == OK) != ok {
				t.Fatal(key, r)
			}
			delete(m, key)
		default:
			v, version, found := s.Get(now, []byte(key), nil)
			if found != ok || string(v) != there.v || version != there.version {
				t.Fatalf("%s: %q %d %v, want %+v", key, v, version, found, there)
			}
		}
	}
	var sum int64
	s.Expire(200_000)
	for k, v := range m {
		if v.expires == 0 || v.expires > 200_000 {
			sum += int64(len(k) + len(v.v) + Overhead)
		}
	}
	if s.Bytes() != sum {
		t.Errorf("%d bytes, %d were put in", s.Bytes(), sum)
	}
}

// TestConcurrentUse counts with all three ways to count, and checks that no reader sees half of a value.
func TestConcurrentUse(t *testing.T) {
	s := New(Options{MaxBytes: 1 << 20})
	const workers, rounds = 8, 2000
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range rounds {
				if _, r := s.Add(0, []byte("sum"), 1, 0); r != OK {
					t.Error(r)
				}
				for done := false; !done; {
					v, version, ok := s.Get(0, []byte("cas"), nil)
					if !ok {
						v, version = make([]byte, 8), IfAbsent
					}
					binary.LittleEndian.PutUint64(v, binary.LittleEndian.Uint64(v)+1)
					_, r := s.Set(0, []byte("cas"), v, version, 0)
					done = r == OK
				}
				size := []int{10, 2 * small, small, 100}[(w+i)%4]
				s.Set(0, []byte("text"), bytes.Repeat([]byte{byte('a' + w)}, size), 0, 0)
				if v, _, _ := s.Get(0, []byte("text"), nil); len(v) == 0 || len(bytes.Trim(v, string(v[:1]))) > 0 {
					t.Error("half of a value")
				}
				key := fmt.Appendf(nil, "%d/%d", w, i)
				s.Set(int64(i), key, key, 0, 1)
				s.Get(int64(i), key, nil)
				s.Delete(int64(i), key, 0)
			}
		}()
	}
	wg.Wait()
	if sum, _ := s.Add(0, []byte("sum"), 0, 0); sum != workers*rounds {
		t.Errorf("added: %d", sum)
	}
	if v, _, _ := s.Get(0, []byte("cas"), nil); binary.LittleEndian.Uint64(v) != workers*rounds {
		t.Errorf("swapped: % x", v)
	}
}

func TestAFloodFindsRoomOnlyWhereSomethingExpired(t *testing.T) {
	s := New(Options{MaxBytes: 1 << 20})
	s.mustSet(t, 0, "counter", "12345678", 0)
	full := 0
	for i := range 100_000 {
		if _, r := s.Set(int64(i), fmt.Appendf(nil, "token-%d", i), []byte("v"), 0, 20_000); r == Full {
			full++
		}
	}
	if full == 0 || full > 90_000 || s.Bytes() > 1<<20 {
		t.Errorf("%d of 100,000 found no room, %d bytes", full, s.Bytes())
	}
	s.want(t, 100_000, "counter", "12345678", mustVersion(t, s, 0, "counter"))
}

func TestStores(t *testing.T) {
	var l Stores
	a := l.Open("a", Options{MaxBytes: 1000})
	if l.Open("a", Options{MaxBytes: 2000}) != a || a.Stats().MaxBytes != 2000 {
		t.Error("the same name gives another store, or it keeps its bounds")
	}
	b := l.Open("b", Options{})
	l.Retain(func(name string) bool { return name == "a" })
	names := ""
	l.Each(func(name string, _ *Store) { names += name })
	if names != "a" || l.Open("b", Options{}) == b {
		t.Errorf("left: %s", names)
	}
}
