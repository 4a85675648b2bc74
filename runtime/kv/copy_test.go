package kv

import (
	"fmt"
	"testing"
	"time"
)

func TestAStoreBecomesAnother(t *testing.T) {
	live, copied := New(Options{}), New(Options{})
	copied.Set(1, []byte("old"), []byte("gone"), 0, 0)
	for i := range 1000 {
		live.Set(1, fmt.Append(nil, "key ", i), fmt.Append(nil, "value ", i), 0, 0)
	}
	live.Set(1, []byte("brief"), []byte("x"), 0, 10*time.Nanosecond)
	live.Add(1, []byte("counter"), 5, 0)
	_, version, _ := live.Get(1, []byte("key 7"), nil)

	copied.Become(live)
	if copied.Len() != live.Len() || copied.Bytes() != live.Bytes() {
		t.Errorf("%d keys of %d bytes; the other has %d of %d", copied.Len(), copied.Bytes(), live.Len(), live.Bytes())
	}
	if v, have, ok := copied.Get(1, []byte("key 7"), nil); !ok || string(v) != "value 7" || have != version {
		t.Errorf("%q, version %d, %v", v, have, ok)
	}
	if _, _, ok := copied.Get(11, []byte("brief"), nil); ok {
		t.Error("it does not end when the other does")
	}
	if _, _, ok := copied.Get(1, []byte("old"), nil); ok {
		t.Error("what it had is there still")
	}
	if _, r := copied.Set(1, []byte("key 7"), []byte("mine"), version, 0); r != OK {
		t.Errorf("with the version of the other: %v", r)
	}
	if n, _ := copied.Add(1, []byte("counter"), 1, 0); n != 6 {
		t.Errorf("the counter is %d", n)
	}
	if v, _, _ := live.Get(1, []byte("key 7"), nil); string(v) != "value 7" {
		t.Errorf("the other has changed: %q", v)
	}
	if n, _ := live.Add(1, []byte("counter"), 0, 0); n != 5 {
		t.Errorf("the other's counter is %d", n)
	}
	copied.Become(New(Options{}))
	if copied.Len() != 0 || copied.Bytes() != 0 {
		t.Errorf("%d keys, %d bytes", copied.Len(), copied.Bytes())
	}
}
