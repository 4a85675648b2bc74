package netloop

import "math/bits"

// The wheel is coarse: a timer fires up to one tick after its time, never before. Deadlines of connections are stored
// as plain numbers and looked at when the connection's one timer fires, so moving a deadline back, which every request
// does several times, costs a store.
const (
	tickShift  = 22 // 2^22 ns: 4.2 ms
	wheelSlots = 1024
	wheelMask  = wheelSlots - 1
)

// Timer is a function that runs on the loop at a later time. The zero Timer is stopped.
type Timer struct {
	loop       *Loop
	when       int64
	next, prev *Timer
	slot       int32 // 1 + index of the slot it is linked in; 0: not linked
	fn         func()
	conn       *Conn // instead of fn: a connection's deadlines
}

// Stop prevents the timer from firing; it may be called for one that has fired or was stopped.
func (t *Timer) Stop() {
	if t.loop != nil {
		t.loop.wheel.remove(t)
	}
}

// wheel is a hashed timing wheel; timers further away than one turn stay in their slot for several turns.
type wheel struct {
	slots [wheelSlots]*Timer
	used  [wheelSlots / 64]uint64 // bit set: the slot is not empty
	tick  int64                   // the last tick whose slot was looked at
	count int
}

func (w *wheel) add(t *Timer, when int64) {
	if t.slot != 0 {
		w.remove(t)
	}
	tick := max(when>>tickShift+1, w.tick+1) // round up: never early
	slot := int(tick & wheelMask)
	t.when, t.slot = when, int32(slot+1)
	t.prev, t.next = nil, w.slots[slot]
	if t.next != nil {
		t.next.prev = t
	}
	w.slots[slot] = t
	w.used[slot/64] |= 1 << (slot % 64)
	w.count++
}

func (w *wheel) remove(t *Timer) {
	if t.slot == 0 {
		return
	}
	slot := int(t.slot - 1)
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[slot] = t.next
		if t.next == nil {
			w.used[slot/64] &^= 1 << (slot % 64)
		}
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.slot = nil, nil, 0
	w.count--
}

// advance fires every timer whose time has come. fire may add and remove timers.
func (w *wheel) advance(now int64, fire func(*Timer)) {
	target := now >> tickShift
	if target <= w.tick {
		return
	}
	if target-w.tick > wheelSlots { // a long sleep: one turn visits every slot
		w.tick = target - wheelSlots
	}
	for w.tick < target {
		w.tick++
		if w.used[(w.tick&wheelMask)/64] == 0 { // skip 64 empty slots at once
			w.tick = min(target, w.tick|63)
			continue
		}
		w.expire(int(w.tick&wheelMask), now, fire)
	}
}

// expire fires the due timers of a slot. It starts over after each, since firing may change the list in any way.
func (w *wheel) expire(slot int, now int64, fire func(*Timer)) {
	for t := w.slots[slot]; t != nil; {
		if t.when > now {
			t = t.next
			continue
		}
		w.remove(t)
		fire(t)
		t = w.slots[slot]
	}
}

// wait returns how long to sleep until the next slot in use: nanoseconds, or -1 if there is no timer.
func (w *wheel) wait(now int64) int64 {
	if w.count == 0 {
		return -1
	}
	for ahead := int64(1); ahead <= wheelSlots; {
		slot := (w.tick + ahead) & wheelMask
		if rest := w.used[slot/64] >> (slot % 64); rest != 0 {
			ahead += int64(bits.TrailingZeros64(rest))
			return max(0, (w.tick+ahead)<<tickShift-now)
		}
		ahead += 64 - slot%64
	}
	return wheelSlots << tickShift
}
