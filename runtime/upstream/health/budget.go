package health

import (
	"math"
	"sync/atomic"
)

// Budget bounds how many requests are sent again: at most ratio times the number of requests, and least more. When much
// fails, sending everything again would double the load of those that are left; when little is asked, a part of nearly
// nothing would be nothing, hence least.
//
// What is not used is saved, up to least and saved requests: a server may go with many requests under way, but a long
// quiet time must not pay for a storm. It is used by all loops at once, without locks; a Deposit into a budget that is
// full, which is the usual one, only reads.
type Budget struct {
	_    [64]byte // what is written must not slow down reading its neighbours
	left atomic.Int64
	_    [64]byte
	each int64
	most int64
}

const (
	saved = 1000
	whole = 1_000_000 // one request; ratios are in millionths
)

// NewBudget returns a budget with least left. A ratio of 0 leaves it at that for ever.
func NewBudget(ratio float64, least int) *Budget {
	b := &Budget{each: int64(math.Round(min(max(ratio, 0), saved) * whole))}
	start := int64(min(max(least, 0), math.MaxInt32)) * whole
	b.most = start + saved*whole
	b.left.Store(start)
	return b
}

// Deposit notes a request, once, however often it is sent.
func (b *Budget) Deposit() {
	for {
		left := b.left.Load()
		if b.each == 0 || left >= b.most {
			return
		}
		if b.left.CompareAndSwap(left, min(left+b.each, b.most)) {
			return
		}
	}
}

// Withdraw says whether a request may be sent again, and takes it from what is left.
func (b *Budget) Withdraw() bool {
	for {
		left := b.left.Load()
		if left < whole {
			return false
		}
		if b.left.CompareAndSwap(left, left-whole) {
			return true
		}
	}
}

// Left is how many requests may be sent again now.
func (b *Budget) Left() float64 { return float64(b.left.Load()) / whole }
