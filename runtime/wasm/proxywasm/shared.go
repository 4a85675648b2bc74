package proxywasm

import (
	"slices"
	"sync"

	"wasmgate/runtime/kv"
	"wasmgate/runtime/wasm"
)

// Shared is what the plugins of a process have in common: VMs by their id, shared data, queues. It lives as long as the
// process does. Data and queues of a vm_id, or of a plugin without one, last as long as there is a plugin that has it:
// over a reload, if the new plugin is made before the old one is closed.
type Shared struct {
	options SharedOptions

	mu     sync.Mutex
	groups []*group
	spaces map[string]*space
	queues queues
}

// SharedOptions are bounds. Zero values mean the defaults.
type SharedOptions struct {
	DataBytes int64 // of the shared data of one vm_id; default kv.DefaultMaxBytes
}

// space is what belongs to a vm_id.
type space struct {
	name  string
	users int
	data  *kv.Store
}

// NewShared returns a Shared.
func NewShared(o SharedOptions) *Shared {
	return &Shared{
		options: o, spaces: map[string]*space{}, queues: queues{byName: map[queueName]*queue{}, byToken: map[uint32]*queue{}},
	}
}

// join returns the group that a plugin belongs to, a new one if there is none. The compiled module is the group's from
// then on, unless there is an error.
func (s *Shared) join(k *core, c *wasm.Compiled, o *Options) (g *group, first bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.VMID != "" {
		for _, g := range s.groups {
			if g.fits(c, o) {
				g.compiled = append(g.compiled, c)
				g.members = append(slices.Clone(g.members), k)
				return g, false, nil
			}
		}
	}
	if g, err = newGroup(s, c, o); err != nil {
		return nil, false, err
	}
	g.members = []*core{k}
	s.groups = append(s.groups, g)
	name := spaceName(o.VMID, o.Name)
	sp := s.spaces[name]
	if sp == nil {
		sp = &space{name: name, data: kv.New(kv.Options{MaxBytes: s.options.DataBytes, MaxValue: maxSharedValue, MaxKey: maxName})}
		s.spaces[name] = sp
	}
	sp.users++
	g.space = sp
	return g, true, nil
}

// spaceName tells the spaces of vm_ids from those of plugins without one.
func spaceName(vmID, plugin string) string {
	if vmID != "" {
		return "vm " + vmID
	}
	return "plugin " + plugin
}

// leave takes a plugin out of its group, and says whether it was the last.
func (s *Shared) leave(g *group, k *core) (last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g.members = slices.DeleteFunc(slices.Clone(g.members), func(m *core) bool { return m == k })
	if len(g.members) > 0 {
		return false
	}
	s.groups = slices.DeleteFunc(s.groups, func(other *group) bool { return other == g })
	if g.space.users--; g.space.users == 0 {
		delete(s.spaces, g.space.name)
		s.queues.forget(g.space.name)
	}
	return true
}

// membersOf are the plugins of a group now.
func (s *Shared) membersOf(g *group) []*core {
	s.mu.Lock()
	defer s.mu.Unlock()
	return g.members
}

// Become makes the shared data of each vm_id, and of each plugin without one, that both have, that of another Shared; see
// kv.Store.Become. Queues are not copied.
func (s *Shared) Become(o *Shared) {
	o.mu.Lock()
	theirs := map[string]*kv.Store{}
	for name, sp := range o.spaces {
		theirs[name] = sp.data
	}
	o.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sp := range s.spaces {
		if data := theirs[name]; data != nil {
			sp.data.Become(data)
		}
	}
}
