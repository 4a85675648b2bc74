package modules

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/internal/testkit"
)

// shelf is a server of modules by their path; what is not on it is 404, and the paths below /slow never answer.
type shelf struct {
	mu    sync.Mutex
	has   map[string][]byte
	asked map[string]int
}

func (s *shelf) handle(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	b, ok := s.has[r.URL.Path]
	s.asked[r.URL.Path]++
	s.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/slow"):
		<-r.Context().Done()
	case !ok:
		w.WriteHeader(404)
	default:
		w.Write(b)
	}
}

func (s *shelf) put(path string, b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.has[path] = b
}

func (s *shelf) times(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

// news is what a manager says.
type news struct {
	t         *testing.T
	mu        sync.Mutex
	available map[config.Module]string // the digest of what was handed over
	failed    map[config.Module]int
}

func (n *news) Available(ref config.Module, module []byte, info Info) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.available[ref] += digestOf(module) + info.Digest
}

func (n *news) Failed(ref config.Module, err error, tries int, next time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil || tries != n.failed[ref]+1 || next <= 0 {
		n.t.Errorf("%s: %v, %d tries after %d, %v", ref, err, tries, n.failed[ref], next)
	}
	n.failed[ref] = tries
}

func (n *news) has(ref config.Module) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.available[ref]
}

func (n *news) fails(ref config.Module) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.failed[ref]
}

type managed struct {
	*Manager
	*shelf
	*news
	t   *testing.T
	url string
}

func manage(t *testing.T, change func(*Options)) *managed {
	t.Helper()
	s := &shelf{has: map[string][]byte{}, asked: map[string]int{}}
	url, ca := serve(t, true, s.handle)
	n := &news{t: t, available: map[config.Module]string{}, failed: map[config.Module]int{}}
	m := NewManager(trusting(t, ca, change), ManagerOptions{First: 2 * time.Millisecond, Most: 20 * time.Millisecond, Available: n.Available, Failed: n.Failed})
	t.Cleanup(func() { m.Close() })
	return &managed{m, s, n, t, url}
}

// shelve puts a module on the shelf and returns its reference.
func (m *managed) shelve(path string) config.Module {
	b := moduleOf(path, 1000)
	m.put(path, b)
	return refTo(m.url+path, digestOf(b))
}

// missing is the reference of a module that is not on the shelf.
func (m *managed) missing(path string) config.Module {
	return refTo(m.url+path, digestOf(moduleOf(path, 1000)))
}

// fetch fetches and returns what became of each.
func (m *managed) fetch(ctx context.Context, refs ...config.Module) (map[config.Module]Result, map[config.Module]error) {
	m.t.Helper()
	results := map[config.Module]Result{}
	failed := m.Manager.Fetch(ctx, refs, func(ref config.Module, r Result) {
		if _, twice := results[ref]; twice {
			m.t.Errorf("%s was told of twice", ref)
		}
		results[ref] = r
	})
	for ref, r := range results {
		if (r.Err == nil) != (failed[ref] == nil) || (r.Err == nil && digestOf(r.Module) != r.Info.Digest) {
			m.t.Errorf("%s: %v, %v", ref, r.Err, failed[ref])
		}
	}
	return results, failed
}

func kindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return ""
}

// TestManager has some modules that are there and some that are not; the one kind does not keep the other, and what was
// not there is when it is.
func TestManager(t *testing.T) {
	m := manage(t, nil)
	a, b, gone, late := m.shelve("/a"), m.shelve("/b"), m.missing("/gone"), m.missing("/late")
	file := config.Module{Path: filepath.Join(t.TempDir(), "f.wasm")}
	write(t, file.Path, []byte("f"))
	nofile := config.Module{Path: file.Path + "x"}
	results, failed := m.fetch(context.Background(), a, b, gone, late, file, nofile, a, a)
	if len(results) != 6 || len(failed) != 3 || kindOf(failed[gone]) != KindNotFound || kindOf(failed[late]) != KindNotFound || kindOf(failed[nofile]) != KindNotFound {
		t.Fatalf("%v, %v", results, failed)
	}
	if m.times("/a") != 1 {
		t.Errorf("/a was asked for %d times", m.times("/a"))
	}

	delete(failed, nofile)
	m.Retry(failed)
	testkit.Eventually(t, "both were tried a few times", func() bool { return m.fails(gone) > 2 && m.fails(late) > 2 })
	pending := m.Pending()
	if len(pending) != 2 || pending[0].Ref != gone || pending[0].Tries < 3 || kindOf(pending[0].Err) != KindNotFound || pending[0].Since.IsZero() {
		t.Errorf("%+v", pending)
	}
	m.put("/late", moduleOf("/late", 1000))
	testkit.Eventually(t, "it is there", func() bool { return m.news.has(late) != "" })
	if m.news.has(late) != late.Digest+late.Digest || m.news.has(gone) != "" {
		t.Errorf("%v", m.available)
	}
	if pending := m.Pending(); len(pending) != 1 || pending[0].Ref != gone {
		t.Errorf("%+v", pending)
	}
	m.Retry(nil)
	if pending := m.Pending(); len(pending) != 0 {
		t.Errorf("%+v", pending)
	}
}

// TestManagerDoesNotWait returns what is there when the caller's patience ends, and has the rest in the background.
func TestManagerDoesNotWait(t *testing.T) {
	m := manage(t, func(o *Options) { o.Parallel = 2 })
	kept := m.shelve("/kept")
	if _, failed := m.fetch(context.Background(), kept); len(failed) > 0 {
		t.Fatal(failed)
	}
	refs := []config.Module{kept}
	for _, path := range []string{"/slow1", "/slow2", "/slow3", "/slow4"} {
		refs = append(refs, m.missing(path))
	}
	ctx, cancel := context.WithCancel(context.Background())
	told := map[config.Module]Result{}
	failed := m.Manager.Fetch(ctx, refs, func(ref config.Module, r Result) {
		told[ref] = r
		cancel() // when the first one is there
	})
	if len(told) != 5 || told[kept].Err != nil || !told[kept].Info.Cached || len(failed) != 4 {
		t.Fatalf("%v", told)
	}
	for ref, err := range failed {
		if kindOf(err) != KindCanceled {
			t.Errorf("%s: %v", ref, err)
		}
	}
	m.Retry(failed)
	testkit.Eventually(t, "they are tried at once", func() bool {
		n := 0
		for _, p := range m.Pending() {
			if p.Next.IsZero() {
				n++
			}
		}
		return n == 4
	})
}

// TestHostsDoNotKeepEachOther has one host that never answers, and as many modules from it as there are places.
func TestHostsDoNotKeepEachOther(t *testing.T) {
	dead, ca := serve(t, true, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	m := manage(t, func(o *Options) {
		o.Parallel, o.Hosts = 2, map[string]Host{strings.TrimPrefix(dead, "https://"): {CAFile: ca}}
	})
	alive := m.shelve("/alive")
	refs := []config.Module{alive}
	for _, path := range []string{"/1", "/2", "/3"} {
		refs = append(refs, refTo(dead+path, digestOf([]byte(path))))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	m.Manager.Fetch(ctx, refs, func(ref config.Module, r Result) {
		if ref == alive {
			if r.Err != nil {
				t.Error(r.Err)
			}
			cancel()
		}
	})
}

// TestManagerKeepsTrying is asked again for what it tries already, and goes on as it was.
func TestManagerKeepsTrying(t *testing.T) {
	m := manage(t, nil)
	one, two := m.missing("/1"), m.missing("/2")
	_, failed := m.fetch(context.Background(), one, two)
	m.Retry(failed)
	testkit.Eventually(t, "it was tried", func() bool { return m.fails(one) > 1 })
	since := m.Pending()[0].Since
	delete(failed, two)
	m.Retry(failed)
	if p := m.Pending(); len(p) != 1 || p[0].Since != since || p[0].Tries < 2 {
		t.Errorf("%+v", p)
	}
}

// TestFetchDoesNotWaitForPending fetches what is tried in the background: it has the last error at once, and the next try
// does not wait for its time.
func TestFetchDoesNotWaitForPending(t *testing.T) {
	m := manage(t, nil)
	m.Manager.Close()
	m.Manager = NewManager(m.fetcher, ManagerOptions{First: time.Hour, Most: time.Hour, Available: m.Available, Failed: m.Failed})
	late := m.missing("/late")
	_, failed := m.fetch(context.Background(), late)
	m.Retry(failed)
	if next := m.Pending()[0].Next; next.Before(time.Now().Add(20 * time.Minute)) {
		t.Errorf("the next try is at %v", next)
	}
	m.put("/late", moduleOf("/late", 1000))
	if _, again := m.fetch(context.Background(), late); again[late] != failed[late] {
		t.Errorf("%v, and before %v", again, failed)
	}
	testkit.Eventually(t, "it is there", func() bool { return m.news.has(late) != "" })
}

// TestReadyWithoutCache hands over what arrived to the next Fetch, where there is no cache to have it from.
func TestReadyWithoutCache(t *testing.T) {
	m := manage(t, func(o *Options) { o.NoCache = true })
	late := m.missing("/late")
	_, failed := m.fetch(context.Background(), late)
	m.put("/late", moduleOf("/late", 1000))
	m.Retry(failed)
	testkit.Eventually(t, "it is there", func() bool { return m.news.has(late) != "" })
	asked := m.times("/late")
	if _, failed = m.fetch(context.Background(), late); len(failed) > 0 || m.times("/late") != asked {
		t.Errorf("%v, asked %d times", failed, m.times("/late"))
	}
	m.Retry(nil)
	if _, failed = m.fetch(context.Background(), late); len(failed) > 0 || m.times("/late") != asked+1 {
		t.Errorf("%v, asked %d times", failed, m.times("/late"))
	}
}

// TestManagerOfBrokenCache finds what was in the cache broken when it reads it.
func TestManagerOfBrokenCache(t *testing.T) {
	m := manage(t, nil)
	a := m.shelve("/a")
	m.fetch(context.Background(), a)
	write(t, filepath.Join(m.fetcher.o.CacheDir, a.Digest), []byte("broken"))
	if results, failed := m.fetch(context.Background(), a); len(failed) > 0 || results[a].Info.Cached || m.times("/a") != 2 {
		t.Errorf("%v", failed)
	}
}

// TestCallbacksMayCallBack asks the manager from its own functions, and closes it while they are under way.
func TestCallbacksMayCallBack(t *testing.T) {
	s := &shelf{has: map[string][]byte{}, asked: map[string]int{}}
	url, ca := serve(t, true, s.handle)
	var m *Manager
	var under, calls atomic.Int32
	call := func(config.Module) {
		if under.Add(1) != 1 {
			t.Error("two calls at a time")
		}
		m.Pending()
		m.Fetch(context.Background(), nil, func(config.Module, Result) {})
		calls.Add(1)
		under.Add(-1)
	}
	m = NewManager(trusting(t, ca, nil), ManagerOptions{First: time.Millisecond, Most: 2 * time.Millisecond,
		Available: func(ref config.Module, _ []byte, _ Info) { call(ref); m.Retry(nil) },
		Failed:    func(ref config.Module, _ error, _ int, _ time.Duration) { call(ref) }})
	failed := map[config.Module]error{}
	for _, path := range []string{"/1", "/2", "/3", "/4", "/5"} {
		failed[refTo(url+path, digestOf(moduleOf(path, 10)))] = errors.New("not yet")
	}
	m.Retry(failed)
	testkit.Eventually(t, "some failed", func() bool { return calls.Load() > 20 })
	s.put("/3", moduleOf("/3", 10))
	testkit.Eventually(t, "one is there, and nothing else is wanted", func() bool { return len(m.Pending()) == 0 })
	m.Retry(failed)
	m.Close()
	if m.Retry(failed); len(m.Pending()) != 0 {
		t.Error("a closed manager tries")
	}
}
