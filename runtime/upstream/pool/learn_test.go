package pool

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream/facts"
)

const ms = int64(time.Millisecond)

func (n *learner) timeout() time.Duration {
	if k := n.lesson.Load(); k != nil {
		return time.Duration(k.timeout)
	}
	return 0
}

func (n *learner) doubt() time.Duration {
	if k := n.lesson.Load(); k != nil {
		return time.Duration(k.doubt)
	}
	return 0
}

func TestThreeClosesThatAgreeAreATimeout(t *testing.T) {
	var n learner
	n.saw(1010*ms, 0)
	if n.timeout() != 0 || n.doubt() != 909*time.Millisecond {
		t.Errorf("after one close: timeout %v, doubt %v; want caution only", n.timeout(), n.doubt())
	}
	n.saw(1050*ms, 1000*ms)
	n.saw(1000*ms, 2000*ms)
	k := n.lesson.Load()
	if k.timeout != 1000*ms || k.retire != 900*ms || k.until != 2000*ms+belief {
		t.Errorf("after three: %+v", *k)
	}
	n.saw(980*ms, 3000*ms)
	if n.timeout() != 980*time.Millisecond || n.lesson.Load().until != 3000*ms+belief {
		t.Error("one that agrees with what is known lowers it and renews the belief")
	}
}

func TestARestartIsNoTimeout(t *testing.T) {
	var n learner
	for i := range int64(50) { // everything that is idle is closed at once
		n.saw(2000*ms+i*100*ms, 10_000*ms+i*ms)
	}
	if n.timeout() != 0 || n.doubt() < 5000*time.Millisecond {
		t.Errorf("timeout %v, doubt %v; those that lived longest contradict the others", n.timeout(), n.doubt())
	}
	n.outlived(8000*ms, 11_000*ms)
	if n.lesson.Load() != nil {
		t.Error("a connection that lives on disproves it")
	}
}

func TestClosesAtOddTimesAreNoTimeout(t *testing.T) {
	var n learner
	for i, idle := range []int64{300, 700, 1500, 3000, 6000, 12000, 24000, 48000} {
		n.saw(idle*ms, int64(i)*60_000*ms)
		if n.timeout() != 0 {
			t.Fatalf("taken for a timeout after %d: %v", i, n.timeout())
		}
	}
}

func TestClosesRightAfterAnAnswerTeachNothing(t *testing.T) {
	var n learner
	for i := range int64(20) {
		n.saw(i*10*ms, i*1000*ms)
	}
	if n.lesson.Load() != nil {
		t.Errorf("%+v", *n.lesson.Load())
	}
}

func TestSightingsOfLongAgoDoNotAgree(t *testing.T) {
	var n learner
	for i := range int64(6) {
		n.saw(1000*ms, i*(belief/2+ms))
	}
	if n.timeout() != 0 {
		t.Error("three closes in a quarter of an hour made a timeout")
	}
}

func TestASurvivorOrTwoDoNotUnmakeATimeoutButThreeDo(t *testing.T) {
	var n learner
	for i := range int64(3) {
		n.saw(1000*ms, i*1000*ms)
	}
	n.outlived(5000*ms, 10_000*ms)
	n.outlived(5000*ms, 11_000*ms)
	if n.timeout() != time.Second || n.doubt() != 900*time.Millisecond {
		t.Errorf("timeout %v, doubt %v", n.timeout(), n.doubt())
	}
	n.saw(1000*ms, 12_000*ms)
	n.outlived(5000*ms, 13_000*ms)
	if n.timeout() != time.Second {
		t.Error("it was confirmed since")
	}
	n.outlived(5000*ms, 14_000*ms)
	n.outlived(5000*ms, 15_000*ms)
	if n.lesson.Load() != nil {
		t.Errorf("%+v", *n.lesson.Load())
	}
}

func TestMargins(t *testing.T) {
	for _, c := range [...][2]time.Duration{{0, 0}, {50 * time.Millisecond, 25 * time.Millisecond}, {250 * time.Millisecond, 100 * time.Millisecond},
		{time.Second, 100 * time.Millisecond}, {5 * time.Second, 500 * time.Millisecond}, {75 * time.Second, 7500 * time.Millisecond}} {
		if got := margin(int64(c[0])); got != int64(c[1]) {
			t.Errorf("of %v: %v, want %v", c[0], time.Duration(got), c[1])
		}
	}
}

// impatient answers each byte with one and closes connections that were idle for a while.
type impatient struct {
	*backend
	timedOut atomic.Int64
}

func newImpatient(t *testing.T, idle time.Duration) *impatient {
	b := &impatient{}
	b.backend = newBackendWith(t, func(c net.Conn) {
		defer c.Close()
		buf := make([]byte, 1)
		for {
			_ = c.SetReadDeadline(time.Now().Add(idle))
			if _, err := c.Read(buf); err != nil {
				if e, ok := err.(net.Error); ok && e.Timeout() {
					b.timedOut.Add(1)
				}
				return
			}
			if _, err := c.Write(buf); err != nil {
				return
			}
		}
	})
	return b
}

// ask sends a byte and reads the answer.
func ask(t *netloop.Task, c *Conn) error {
	b := []byte{'?'}
	if _, err := c.Stream.Write(t, b); err != nil {
		return err
	}
	_, err := c.Stream.Read(t, b)
	return err
}

// TestRequestsThatCannotBeRepeatedDoNotMeetAClosingConnection: none is lost, ever; and we close before the backend does, which
// has another try where the machine stood still meanwhile.
func TestRequestsThatCannotBeRepeatedDoNotMeetAClosingConnection(t *testing.T) {
	for try := 1; ; try++ {
		learned, late := meetClosing(t)
		if learned > 0 && late == 0 {
			return
		}
		if try == 4 {
			t.Fatalf("%d were closed for the learned timeout, %d by the backend", learned, late)
		}
	}
}

// meetClosing asks in the moments in which a backend closes. It says how many connections we closed in time, and how many the
// backend did.
func meetClosing(t *testing.T) (learned int, late int64) {
	t.Helper()
	const idle = 400 * time.Millisecond
	f := setUp(t, 2, Options{LearnIdle: true, IdleTimeout: time.Minute})
	b := newImpatient(t, idle)
	f.backend = b.backend
	for round := range int64(agreement) { // the pool watches
		f.task(int(round)%2, func(task *netloop.Task) {
			c, _, err := f.get(task, Request{Repeatable: true})
			if err != nil || ask(task, c) != nil {
				t.Fatal(err)
			}
			c.Release("")
		})
		f.eventually("the backend's timeout", func() bool { return b.timedOut.Load() == round+1 && f.pool.Open() == 0 })
	}
	d, from := f.pool.LearnedIdle()
	if d < idle-100*time.Millisecond || d > idle+200*time.Millisecond || from != "observed" {
		t.Logf("learned %v, %q", d, from) // closes that the machine held up do not agree
		return 0, 0
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Add(1)
		f.spawn(i%2, func(task *netloop.Task) {
			defer wg.Done()
			for range 4 {
				c, _, err := f.get(task, Request{})
				if err != nil {
					t.Error(err)
					return
				}
				if err := ask(task, c); err != nil {
					t.Errorf("lost on a connection that had been idle for %v: %v", c.Idle(), err)
				}
				c.Release("")
				task.Sleep(idle - time.Duration(i)*time.Millisecond) // the moment in which the backend closes
			}
		})
	}
	wg.Wait()
	f.eventually("we close what is idle", func() bool { return f.pool.Open() == 0 })
	for _, r := range f.journal.reasons()[agreement:] {
		switch r {
		case facts.CloseLearnedIdle:
			learned++
		case facts.ClosePeer: // no request met it
		default:
			t.Errorf("closed for %s", r)
		}
	}
	return learned, b.timedOut.Load() - agreement
}

func TestACloseMakesCarefulAtOnce(t *testing.T) {
	f := setUp(t, 1, Options{LearnIdle: true})
	f.pool.learned[0].saw(300*ms, 0)
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Release("")
		task.Sleep(250 * time.Millisecond)
		post, why, err := f.get(task, Request{})
		if err != nil || post == c || why != facts.NewSafeOnly {
			t.Errorf("a request that cannot be repeated got %q, %v", why, err)
		}
		if f.mustGet(task, "") != c {
			t.Error("one that can be repeated uses it")
		}
		c.Release("")
		if again, why, _ := f.get(task, Request{}); again != c {
			t.Errorf("so does the other, right after that: %q", why)
		}
	})
	if d, from := f.pool.LearnedIdle(); d != 0 || from != "" {
		t.Errorf("one close is no timeout: %v %q", d, from)
	}
}

// TestOnlyAnIdleTimeThatWasLivedThroughIsTrusted: of a peer about which nothing is known, a POST after a pause opens a
// second connection rather than meet the first one's end; the next POST finds that such a pause does no harm.
func TestOnlyAnIdleTimeThatWasLivedThroughIsTrusted(t *testing.T) {
	const pause = 700 * time.Millisecond // longer than unproven
	f := setUp(t, 1, Options{LearnIdle: true})
	f.task(0, func(task *netloop.Task) {
		first := f.mustGet(task, facts.NewFirst)
		first.Release("")
		task.Sleep(pause)
		second, why, err := f.get(task, Request{})
		if err != nil || second == first || why != facts.NewSafeOnly {
			t.Fatalf("nobody knows yet whether the first connection is about to be closed: %q, %v", why, err)
		}
		second.Release("")
		task.Sleep(pause)
		third, why, err := f.get(task, Request{})
		if err != nil || third != second {
			t.Fatalf("the first connection has been idle for twice as long, and lives: %q, %v", why, err)
		}
		third.Release("")
	})
	if f.pool.Open() != 2 {
		t.Errorf("%d connections, want 2", f.pool.Open())
	}
}

func TestWhatLivesOnDisprovesALesson(t *testing.T) {
	f := setUp(t, 1, Options{LearnIdle: true, IdleTimeout: 50 * time.Millisecond, KeepIdle: 1})
	n := &f.pool.learned[0]
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Release("")
		n.lesson.Store(&lesson{doubt: 1, outlive: 20 * ms})
		task.Sleep(30 * time.Millisecond)
		if f.mustGet(task, "") != c || n.lesson.Load() != nil {
			t.Error("a request got the connection alive")
		}
		if c.Idle() < 20*time.Millisecond || c.Age() < c.Idle() {
			t.Errorf("idle for %v, %v old", c.Idle(), c.Age())
		}
		n.lesson.Store(&lesson{doubt: 1, outlive: 20 * ms})
		c.Release("")
	})
	f.eventually("its idle timeout found it alive", func() bool { return n.lesson.Load() == nil })
	if f.pool.Idle() != 1 {
		t.Error("it is kept")
	}
}

func TestAnEndUnderAReusedConnectionsRequestTeaches(t *testing.T) {
	f := setUp(t, 1, Options{LearnIdle: true})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Release("")
		task.Sleep(time.Duration(leastTimeout + 10*ms))
		c = f.mustGet(task, "")
		c.Release(facts.ClosePeer)
		if f.pool.learned[0].doubt() == 0 {
			t.Error("nothing was learned")
		}
		f.pool.learned[0].forget()
		c = f.mustGet(task, facts.NewFirst)
		c.Release(facts.ClosePeer)
		if f.pool.learned[0].lesson.Load() != nil {
			t.Error("a new connection had not been idle")
		}
	})
}

func TestKeepAliveFields(t *testing.T) {
	f := setUp(t, 1, Options{LearnIdle: true, IdleTimeout: time.Minute})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Hint(200*time.Millisecond, 0)
		c.Release("")
	})
	if d, from := f.pool.LearnedIdle(); d != 200*time.Millisecond || from != "keep-alive field" {
		t.Errorf("%v %q", d, from)
	}
	f.eventually("it is closed in time", func() bool { return f.pool.Open() == 0 })
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Hint(1<<62, 1<<63) // hostile numbers do no harm
		c.Hint(-1, 0)
		c.Hint(0, 2) // two are left
		c.Release("")
		f.mustGet(task, "").Hint(0, 1)
		c.Release("")
		f.mustGet(task, "")
		c.Release("")
		c = f.mustGet(task, facts.NewFirst)
		c.Hint(0, 3) // three in all
		c.Release("")
		f.mustGet(task, "").Hint(0, 3)
		c.Release("")
		f.mustGet(task, "").Hint(0, 3)
		c.Release("")
		c = f.mustGet(task, facts.NewFirst)
		c.Release("")
	})
	want := []string{facts.CloseLearnedIdle, facts.CloseMaxRequests, facts.CloseMaxRequests}
	if got := f.journal.reasons(); len(got) != 3 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Errorf("closed for %v, want %v", got, want)
	}
}

func TestLearningIsTurnedOff(t *testing.T) {
	f := setUp(t, 1, Options{})
	f.task(0, func(task *netloop.Task) {
		c := f.mustGet(task, facts.NewFirst)
		c.Hint(time.Second, 1)
		c.Release("")
		f.mustGet(task, "").Release("")
	})
	f.pool.learned[0].saw(1000*ms, 0)
	f.pool.SetOptions(Options{})
	if d, from := f.pool.LearnedIdle(); d != 0 || from != "" || f.pool.learned[0].lesson.Load() != nil {
		t.Errorf("%v %q", d, from)
	}
}

func TestAConnectionIsRefusedPastTheTimeoutThatWasLearnedMeanwhile(t *testing.T) {
	f := setUp(t, 1, Options{LearnIdle: true, IdleTimeout: time.Minute})
	f.task(0, func(task *netloop.Task) {
		f.mustGet(task, facts.NewFirst).Release("")
		task.Sleep(200 * time.Millisecond)
		now := task.Loop().Now()
		for i := range int64(3) {
			f.pool.learned[0].saw(250*ms, now-2000*ms+i*1000*ms)
		}
		f.mustGet(task, facts.NewRetired).Release("")
	})
	if got := f.journal.reasons(); len(got) != 1 || got[0] != facts.CloseLearnedIdle {
		t.Errorf("closed for %v", got)
	}
}

func TestConnectionsOfOneClientAreItsOwn(t *testing.T) {
	f := setUp(t, 2, Options{MaxConnections: 2})
	one, two := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	owned := func(task *netloop.Task, owner netip.AddrPort, want string) *Conn {
		c, why, err := f.get(task, Request{Repeatable: true, Owner: owner})
		if err != nil || why != want || c.Owner != owner {
			t.Errorf("for %v: %q, %v; want %q", owner, why, err, want)
		}
		return c
	}
	f.task(0, func(task *netloop.Task) {
		a := owned(task, one, facts.NewFirst)
		a.Release("")
		b := owned(task, two, facts.NewProxyProtocol)
		b.Release("")
		if owned(task, one, "") != a {
			t.Error("not its own")
		}
		other := owned(task, one, facts.NewProxyProtocol) // at the limit: that of the other client makes place
		a.Release("")
		other.Release("")
		if owned(task, one, "") != other || owned(task, one, "") != a {
			t.Error("both are its own, the newest first")
		}
		a.Release("")
		other.Release("")
	})
	f.task(1, func(task *netloop.Task) { // at the limit, for nobody in particular, on another loop
		f.mustGet(task, facts.NewNoIdle).Release("")
	})
	if got := f.journal.reasons(); len(got) != 2 || got[0] != facts.CloseMadePlace || got[1] != facts.CloseMadePlace {
		t.Errorf("closed for %v", got)
	}
	if n := f.pool.Open(); n != 2 {
		t.Errorf("%d are open, want 2", n)
	}
}
