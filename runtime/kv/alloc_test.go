//go:build !race

package kv

import "testing"

func TestReadingAllocatesNothing(t *testing.T) {
	s := New(Options{})
	key, dst := []byte("key"), make([]byte, 0, 2*small)
	s.mustSet(t, 0, "key", "value", 0)
	s.mustSet(t, 0, "long", string(make([]byte, 2*small)), 0)
	for name, fn := range map[string]func(){
		"get":           func() { _, _, _ = s.Get(0, key, dst) },
		"get a long":    func() { _, _, _ = s.Get(0, []byte("long"), dst) },
		"get none":      func() { _, _, _ = s.Get(0, []byte("none"), dst) },
		"add":           func() { _, _ = s.Add(0, []byte("n"), 1, 0) },
		"set as before": func() { _, _ = s.Set(0, key, []byte("VALUE"), 0, 0) },
	} {
		if n := testing.AllocsPerRun(100, fn); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := New(Options{})
	key, value := []byte("session/0123456789"), make([]byte, 200)
	s.Set(0, key, value, 0, 0)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		dst := make([]byte, 0, 256)
		for pb.Next() {
			if _, _, ok := s.Get(0, key, dst); !ok {
				b.Error("not there")
			}
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	s := New(Options{})
	key := []byte("limit/0123456789")
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Add(0, key, 1, 0)
	}
}
