package proxywasm

import (
	"slices"
	"sync"
)

// queues are the shared queues of a process.
type queues struct {
	mu      sync.Mutex
	byName  map[queueName]*queue
	byToken map[uint32]*queue
	last    uint32
}

// queueName is a queue's name in the space of a vm_id.
type queueName struct{ space, name string }

// queue is a shared queue. Its items are told to who registered last, and is still there.
type queue struct {
	name    queueName
	token   uint32
	items   [][]byte
	bytes   int
	readers []*root
}

// register opens a queue, or makes it, for a root context that wants to hear of its items. Token 0: there are too many.
func (q *queues) register(space, name string, r *root) (token uint32, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	key := queueName{space, name}
	it := q.byName[key]
	if it == nil {
		n := 0
		for other := range q.byName {
			if other.space == space {
				n++
			}
		}
		if n >= maxQueues {
			return 0, 0
		}
		q.last++
		it = &queue{name: key, token: q.last}
		q.byName[key], q.byToken[it.token] = it, it
	}
	it.readers = append(slices.DeleteFunc(it.readers, func(o *root) bool { return o == r }), r)
	return it.token, len(it.items)
}

// resolve finds a queue; 0: there is none.
func (q *queues) resolve(space, name string) uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if it := q.byName[queueName{space, name}]; it != nil {
		return it.token
	}
	return 0
}

// add puts a copy of an item into a queue, and returns whom to tell.
func (q *queues) add(token uint32, item []byte) (*root, status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.byToken[token]
	switch {
	case it == nil:
		return nil, statusNotFound
	case len(it.items) >= maxQueueItems || it.bytes+len(item) > maxQueueBytes:
		return nil, statusInternal
	}
	it.items = append(it.items, append([]byte(nil), item...))
	it.bytes += len(item)
	if n := len(it.readers); n > 0 {
		return it.readers[n-1], statusOK
	}
	return nil, statusOK
}

// take takes the oldest item.
func (q *queues) take(token uint32) ([]byte, status) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.byToken[token]
	switch {
	case it == nil:
		return nil, statusNotFound
	case len(it.items) == 0:
		return nil, statusEmpty
	}
	item := it.items[0]
	it.items[0] = nil
	it.items = it.items[1:]
	it.bytes -= len(item)
	return item, statusOK
}

// quit forgets a root context, and returns the queues whose items another one must be told of.
func (q *queues) quit(r *root) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.byToken {
		it.readers = slices.DeleteFunc(it.readers, func(o *root) bool { return o == r })
	}
}

// forget drops all queues of a space.
func (q *queues) forget(space string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for key, it := range q.byName {
		if key.space == space {
			delete(q.byName, key)
			delete(q.byToken, it.token)
		}
	}
}
