package netloop

import "time"

// Sleep parks the task for d, up to a tick (4.2 ms) longer. It returns early when the task is woken or the group closes.
func (t *Task) Sleep(d time.Duration) {
	timer := t.loop.AfterFunc(d, t.Wake)
	t.Park()
	timer.Stop()
}

// Await runs fn on an ordinary goroutine, where it may block, and parks the task until fn has returned. A panic of fn
// is the task's. fn must not touch anything of the loop.
func (t *Task) Await(fn func()) {
	var done bool
	var panicked any
	go func() {
		defer func() {
			panicked = recover()
			t.loop.Post(func() {
				done = true
				t.Wake()
			})
		}()
		fn()
	}()
	for !done {
		t.Park()
	}
	if panicked != nil {
		panic(panicked)
	}
}
