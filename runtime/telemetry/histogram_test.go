package telemetry

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// durations are those at which something could go wrong: about each bound of both kinds, and any in between.
func durations() (list []int64) {
	for _, b := range bounds {
		list = append(list, b-1, b, b+1)
	}
	for i := least - 2; i <= most+2; i++ {
		edge := int64(math.Exp2(float64(i)/perOctave) * 1e9)
		list = append(list, edge-1, edge, edge+1)
	}
	source := rand.New(rand.NewPCG(1, 2))
	for range 100_000 {
		list = append(list, source.Int64N(1<<source.IntN(60)+1))
	}
	return append(list, 0, 1, math.MaxInt64)
}

// Each duration is in one classic bucket and in one native one, and these are the ones whose bounds are about it.
func TestADurationIsInTheRightBucketOfBothKinds(t *testing.T) {
	for _, ns := range durations() {
		ns = max(ns, 0)
		var h histogram
		h.observe(ns)
		var sum totals
		sum.add(&h)
		classic, native := -1, -1
		for i, n := range sum.classic {
			if n == 1 {
				classic = i
			}
		}
		for i, n := range sum.native {
			if n == 1 {
				native = i + least
			}
		}
		if sum.count() != 1 || classic < 0 || native < least {
			t.Fatalf("%d ns is counted %d times, in buckets %d and %d", ns, sum.count(), classic, native)
		}
		if classic > 0 && ns <= bounds[classic-1] || classic < len(bounds) && ns > bounds[classic] {
			t.Fatalf("%d ns is in classic bucket %d", ns, classic)
		}
		s := float64(ns) / 1e9
		const about = 1e-12 // of a bound, which no whole number of nanoseconds meets as a rule
		below, above := math.Exp2(float64(native-1)/perOctave)*(1-about), math.Exp2(float64(native)/perOctave)*(1+about)
		if native > least && s < below || native <= most && s > above {
			t.Fatalf("%d ns is in native bucket %d, from %v to %v", ns, native, below, above)
		}
	}
}

// What readers see is whole: a trace's two halves, its span and its duration belong together, whoever writes meanwhile.
func TestAnExemplarIsReadWhole(t *testing.T) {
	var h histogram
	var writing sync.WaitGroup
	stop := make(chan struct{})
	write := func(n uint64) {
		var trace [16]byte
		var span [8]byte
		binary.BigEndian.PutUint64(trace[:], n)
		binary.BigEndian.PutUint64(trace[8:], n)
		binary.BigEndian.PutUint64(span[:], n)
		h.example(int64(n%200e3), trace, span, int64(n))
	}
	write(1)
	writing.Go(func() {
		for n := uint64(2); ; n++ {
			select {
			case <-stop:
				return
			default:
				write(n)
			}
		}
	})
	defer writing.Wait()
	defer close(stop)
	seen := int64(0)
	for end := time.Now().Add(patience); seen < 20_000 && time.Now().Before(end); {
		var sum totals
		sum.add(&h)
		e := sum.traced[0]
		if e.wall == 0 {
			continue // it was being written each time
		}
		n := uint64(e.wall)
		if binary.BigEndian.Uint64(e.trace[:]) != n || binary.BigEndian.Uint64(e.trace[8:]) != n || binary.BigEndian.Uint64(e.span[:]) != n || e.took != int64(n%200e3) {
			t.Fatalf("pieces of several exemplars: %+v", e)
		}
		seen = e.wall
	}
}

// BenchmarkObserve is what it costs to count a duration, and to note its trace down.
func BenchmarkObserve(b *testing.B) {
	took := [...]int64{180e3, 420e3, 1300e3, 9e6, 70e6, 31e6, 2e9, 650e3}
	b.Run("count", func(b *testing.B) {
		var h histogram
		for i := 0; b.Loop(); i++ {
			h.observe(took[i%len(took)])
		}
	})
	b.Run("trace", func(b *testing.B) {
		var h histogram
		for i := 0; b.Loop(); i++ {
			h.example(took[i%len(took)], [16]byte{1}, [8]byte{1}, int64(i))
		}
	})
}
