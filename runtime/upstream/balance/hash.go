package balance

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Key makes a key for Pick of bytes: an address, a path, a cookie. It is the same in every process and version, so that
// gateways agree. It is not made to withstand who wants many keys to meet in one member: that is what
// Options.BoundedLoad is for.
func Key[T ~string | ~[]byte](b T) uint64 {
	const prime1, prime2 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	h := uint64(len(b)) * prime1
	var word [8]byte
	for i := 0; i < len(b); i += len(word) {
		if n := copy(word[:], b[i:]); n < len(word) {
			clear(word[n:])
		}
		high, low := bits.Mul64(h^binary.LittleEndian.Uint64(word[:])^prime2, prime1)
		h = mixed(high ^ low)
	}
	return mixed(h)
}

// mixed is the finalizer of splitmix64: each bit of x changes each bit of the result with a chance of one half, and no
// two x have the same result.
func mixed(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// byKey is who the key belongs to. If that one is out, or has more than its part of the load, it is the next one that is
// not: the key goes to the same one as long as that is so.
func (c *choice) byKey() *seat {
	if c.free() {
		s := c.home(func(*seat) bool { return true })
		if !c.over(s, c.bound(s)) {
			return s
		}
	}
	under := c.requests()
	if s := c.home(func(s *seat) bool { return !c.out(s.member) && !c.over(s, under) }); s != nil {
		return s
	}
	return c.home(func(s *seat) bool { return !c.out(s.member) })
}

// bound is the number of requests by which it is judged whether s is over its part. It is not counted for a member
// without requests, which never is.
func (c *choice) bound(s *seat) int64 {
	if s.member.Load.Requests() == 0 {
		return 0
	}
	return c.requests()
}

// requests are those under way at all members of the group.
func (c *choice) requests() int64 {
	if c.set.options.BoundedLoad < 1 {
		return 0
	}
	var sum int64
	for i := range c.group.seats {
		sum += int64(c.group.seats[i].member.Load.Requests())
	}
	return sum
}

// over says that with one request more the member would have more than BoundedLoad times its part of all. The bound is
// rounded up, so that there is always one who is not over.
func (c *choice) over(s *seat, requests int64) bool {
	own := s.member.Load.Requests()
	if c.set.options.BoundedLoad < 1 || own == 0 {
		return false
	}
	part := float64(requests+1) * float64(s.weight) / float64(c.group.total)
	return float64(own+1) > math.Ceil(c.set.options.BoundedLoad*part)
}

// home is the one with the highest number for the key among those that may serve. A number u between 0 and 1, the same
// for a key and a name, counts as -ln(u)/weight, the lowest of which is exponentially distributed by weight. Among equal
// weights the highest u is that one, so the logarithm is taken once for each weight that there is.
func (c *choice) home(may func(*seat) bool) *seat {
	var best, inClass *seat
	var highest uint64
	lowest := math.Inf(1)
	seats := c.group.seats
	for i := range seats {
		s := &seats[i]
		if !c.group.equal && i > 0 && s.weight != seats[i-1].weight && inClass != nil {
			if v := cost(highest, inClass.weight); v < lowest {
				best, lowest = inClass, v
			}
			inClass = nil
		}
		u := mixed(c.key ^ s.hash)
		if inClass != nil && u <= highest || !may(s) {
			continue
		}
		inClass, highest = s, u
	}
	if best == nil || inClass == nil {
		if inClass == nil {
			return best
		}
		return inClass
	}
	if cost(highest, inClass.weight) < lowest {
		return inClass
	}
	return best
}

func cost(u uint64, weight int64) float64 {
	return -math.Log((float64(u>>11)+0.5)/(1<<53)) / float64(weight)
}
