// Package testkit is what tests of several packages need: to wait for a fact, to read an output while it is written, and a process of their own.
package testkit

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"time"
)

// patience is how long a fact may take on a machine that does other work as well.
const patience = 40 * time.Second

// eager is how long a fact is looked for without a pause.
const eager = 100 * time.Millisecond

// Eventually waits for a fact that others bring about, and fails the test, with what every goroutine does, if it does not
// come to pass.
func Eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	begun := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !fact() {
		if runtime.Gosched(); time.Since(begun) > eager {
			<-tick.C // what takes long needs the processor itself
		}
		if time.Since(begun) > patience {
			stacks := make([]byte, 64<<10)
			t.Fatalf("waited %s in vain: %s\n%s", patience, what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// Buffer is an output that can be read while it is written. The zero Buffer is empty.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
