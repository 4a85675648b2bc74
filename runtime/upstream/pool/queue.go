package pool

import (
	"time"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/netloop"
)

// wait queues until a connection or a place becomes free.
func (p *Pool) wait(t *netloop.Task, o *Options, deadline int64) (*waiter, *fault.Error) {
	l := t.Loop()
	w := &waiter{task: t}
	p.mu.Lock()
	if len(p.queue) >= o.Queue {
		p.mu.Unlock()
		return nil, p.exhausted(o, "and the queue is full")
	}
	p.queue = append(p.queue, w)
	p.waiting.Add(1)
	p.mu.Unlock()
	p.serveQueue(l) // what became free before we stood in the queue would not be offered to us

	timer := l.AfterFunc(time.Duration(deadline-l.Now()), func() { w.expired = true; t.Wake() })
	defer timer.Stop()
	for {
		p.mu.Lock()
		served := w.conn != nil || w.slot
		if !served && (w.expired || l.Closing()) {
			p.leave(w)
			p.mu.Unlock()
			return nil, p.exhausted(o, "for "+o.AcquireTimeout.String())
		}
		p.mu.Unlock()
		if served {
			return w, nil
		}
		t.Park()
	}
}

func (p *Pool) exhausted(o *Options, how string) *fault.Error {
	e := fault.New(fault.PoolExhausted, fault.Gateway, 503, "pool exhausted: %d of %d busy %s, %d waiting; see pool.max_connections",
		p.Open()-p.Idle(), o.MaxConnections, how, p.Waiting())
	return e
}

// leave takes w out of the queue; p.mu is held.
func (p *Pool) leave(w *waiter) {
	for i, other := range p.queue {
		if other == w {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			p.waiting.Add(-1)
			return
		}
	}
}

// first takes the first waiter out of the queue.
func (p *Pool) first() *waiter {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil
	}
	w := p.queue[0]
	p.queue = p.queue[1:]
	p.waiting.Add(-1)
	return w
}

// serveQueue gives free places, and this loop's idle connections, to those who wait.
func (p *Pool) serveQueue(l *netloop.Loop) {
	for p.waiting.Load() > 0 {
		if c := p.shards[l.Index()].newest; c != nil {
			if !c.usable(l) {
				continue
			}
			p.shards[l.Index()].remove(c)
			c.Net.OnEvent(nil)
			if !p.handOver(c) {
				p.putIdle(c)
				return
			}
			continue
		}
		if other := p.otherIdle(l); other != nil {
			other.Post(func() { p.serveQueue(other) })
			return
		}
		if !p.reserve(p.options.Load().MaxConnections) {
			return
		}
		w := p.first()
		if w == nil {
			p.open.Add(-1)
			return
		}
		p.grant(w, nil)
	}
}

func (p *Pool) otherIdle(l *netloop.Loop) *netloop.Loop {
	for i := range p.shards {
		if i != l.Index() && p.shards[i].count.Load() > 0 {
			return l.Group().Loop(i)
		}
	}
	return nil
}

// grant serves a waiter: with a connection of its own loop, or with leave to open one.
func (p *Pool) grant(w *waiter, c *Conn) {
	p.mu.Lock()
	w.conn, w.slot = c, c == nil
	p.mu.Unlock()
	w.task.Loop().Post(w.task.Wake)
}

// handOver gives a free connection to the first waiter, on whatever loop that is.
func (p *Pool) handOver(c *Conn) bool {
	w := p.first()
	if w == nil {
		return false
	}
	to := w.task.Loop()
	if to == c.Net.Loop() {
		p.grant(w, c)
		return true
	}
	c.Net.MoveTo(to, func(*netloop.Conn) {
		c.Facts.MovedBetweenLoops++
		c.arrived()
		p.grant(w, c)
	})
	return true
}
