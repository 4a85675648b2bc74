package modules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"time"

	"wasmgate/config"
)

// The defaults of Options.
const (
	DefaultMaxSize    = 64 << 20
	DefaultCacheBytes = 1 << 30
	DefaultTimeout    = 2 * time.Minute
	DefaultStall      = 15 * time.Second
	DefaultTries      = 4
	DefaultParallel   = 4
	DefaultBackoff    = 500 * time.Millisecond
)

// mostBackoff is the longest wait between two tries of one Fetch, also where a server asks for more.
const mostBackoff = 15 * time.Second

// Options say how modules are fetched. The zero Options fetch with the defaults.
type Options struct {
	CacheDir   string // folder for what was fetched; made with mode 0700; "": wasmgate/modules in the user's cache folder
	CacheBytes int64  // most that it holds; 0: DefaultCacheBytes
	NoCache    bool   // nothing is kept

	MaxSize  int64         // of a module, and of a layer of an image; 0: DefaultMaxSize
	Timeout  time.Duration // of one try; 0: DefaultTimeout
	Stall    time.Duration // longest time in which nothing comes; 0: DefaultStall
	Tries    int           // where the server cannot be reached or is busy; 0: DefaultTries
	Parallel int           // tries at a time for one host, so that no host keeps the modules of another; 0: DefaultParallel
	Backoff  time.Duration // before the second try, about; doubles before each further one; 0: DefaultBackoff

	CAFile       string              // PEM; trusted beside the system's authorities
	DockerConfig string              // path of Docker's config.json; "": where Docker has it; "off": none
	Hosts        map[string]Host     // by host[:port] in lower case
	Env          func(string) string // the process's environment: credentials, Docker's folder, proxies; nil: empty
	Version      string              // of the gateway, for the User-Agent field
}

// Host is what is special about a host.
type Host struct {
	CAFile      string // PEM; trusted in place of all other authorities
	Credentials string // name of an environment variable with user:password, or with a token; before DockerConfig
}

// Layout is how a module lay where it was found.
type Layout string

// The values of Layout.
const (
	LayoutFile     Layout = "file"     // of a path
	LayoutURL      Layout = "url"      // the answer's content
	LayoutArtifact Layout = "artifact" // an image's layer that is the module
	LayoutImage    Layout = "image"    // a file in a layer of an image
)

// Info is what there is to say about a module that was had.
type Info struct {
	Digest    string        // SHA-256 of the module, in hexadecimal digits
	Layout    Layout        // how it lay
	MediaType string        // of the image's layer; empty for others
	Cached    bool          // the cache had all of it: no server was asked
	Tries     int           // 1 if the first one succeeded
	Took      time.Duration // from the first try on
	NotKept   error         // why the cache could not keep it, if it could not
}

// Fetcher has modules. Its methods may be called from any goroutine.
type Fetcher struct {
	o         Options
	cache     *cache // nil: none
	transport *transport
	client    *http.Client
	agent     string

	ctx   context.Context
	close context.CancelCauseFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	flights map[flightKey]*flight
	places  map[string]chan struct{} // by host, for those who try
	closed  bool
}

// New opens the cache and reads the files of authorities. It asks nobody anything.
func New(o Options) (*Fetcher, error) {
	o.CacheBytes = cmp.Or(o.CacheBytes, DefaultCacheBytes)
	o.MaxSize, o.Tries, o.Parallel = cmp.Or(o.MaxSize, DefaultMaxSize), cmp.Or(o.Tries, DefaultTries), cmp.Or(o.Parallel, DefaultParallel)
	o.Timeout, o.Stall, o.Backoff = cmp.Or(o.Timeout, DefaultTimeout), cmp.Or(o.Stall, DefaultStall), cmp.Or(o.Backoff, DefaultBackoff)
	if o.Env == nil {
		o.Env = func(string) string { return "" }
	}
	f := &Fetcher{o: o, flights: map[flightKey]*flight{}, places: map[string]chan struct{}{}, agent: "wasmgate/" + cmp.Or(o.Version, "dev")}
	var err error
	if f.transport, err = newTransport(&o); err != nil {
		return nil, err
	}
	if !o.NoCache {
		if f.cache, err = openCache(o.CacheDir, o.CacheBytes); err != nil {
			return nil, err
		}
	}
	f.client = &http.Client{Transport: f.transport, CheckRedirect: redirected}
	f.ctx, f.close = context.WithCancelCause(context.Background())
	return f, nil
}

// Close ends all fetches, which fail, and waits for them.
func (f *Fetcher) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.close(errClosed)
	f.work.Wait()
	f.transport.closeIdle()
}

// Fetch returns the bytes of a module, which must not be changed: those who ask for the same at the same time share them,
// and one download. The error is an *Error. It takes as long as ctx allows, and at most Options.Tries times
// Options.Timeout; what the cache has is there at once. A path is read as it is, without a bound.
func (f *Fetcher) Fetch(ctx context.Context, ref config.Module) ([]byte, Info, error) {
	if !ref.Fetched() {
		return readFile(ref)
	}
	// The reference may come from somewhere else than a config that was checked.
	if again := (config.Module{}); again.UnmarshalText([]byte(ref.String())) != nil || again != ref {
		return nil, Info{}, &Error{Ref: ref, Kind: KindFormat, Message: "not a reference", Help: "write https://HOST/FILE.wasm@sha256:DIGEST, or oci://REGISTRY/REPOSITORY@sha256:DIGEST"}
	}
	for {
		fl, err := f.join(ref)
		if err != nil {
			return nil, Info{}, err
		}
		select {
		case <-fl.done:
		case <-ctx.Done():
			f.leave(fl)
			return nil, Info{}, &Error{Ref: ref, Kind: KindCanceled, Message: "not there in time", Err: context.Cause(ctx)}
		}
		if fl.err == nil || fl.ref == ref {
			return fl.module, fl.info, fl.failure()
		}
		// Another place with the same digest failed; ours may not.
	}
}

func readFile(ref config.Module) ([]byte, Info, error) {
	began := time.Now()
	b, err := os.ReadFile(ref.Path)
	if err != nil {
		kind := KindFile
		if errors.Is(err, fs.ErrNotExist) {
			kind = KindNotFound
		}
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, Info{}, &Error{Ref: ref, Kind: kind, Message: err.Error(), Err: err}
	}
	return b, Info{Digest: digestOf(b), Layout: LayoutFile, Tries: 1, Took: time.Since(began)}, nil
}

// flightKey is what is the same for all who share a flight.
type flightKey struct {
	image  bool // the digest is a manifest's
	digest string
}

func keyOf(ref config.Module) flightKey {
	_, _, _, image := ref.Image()
	return flightKey{image, ref.Digest}
}

// flight is one module on its way, to everybody who wants it now.
type flight struct {
	ref     config.Module
	waiting int // guarded by Fetcher.mu
	cancel  context.CancelCauseFunc
	done    chan struct{}

	// Valid once done is closed.
	module []byte
	info   Info
	err    *Error
}

// failure is err as an error.
func (fl *flight) failure() error {
	if fl.err == nil {
		return nil
	}
	return fl.err
}

// join takes part in the flight of a module, and begins it if there is none.
func (f *Fetcher) join(ref config.Module) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, &Error{Ref: ref, Kind: KindCanceled, Message: "the gateway is closing", Err: errClosed}
	}
	key := keyOf(ref)
	if fl := f.flights[key]; fl != nil {
		fl.waiting++
		return fl, nil
	}
	ctx, cancel := context.WithCancelCause(f.ctx)
	fl := &flight{ref: ref, waiting: 1, cancel: cancel, done: make(chan struct{})}
	f.flights[key] = fl
	f.work.Go(func() {
		fl.module, fl.info, fl.err = f.fetch(ctx, ref)
		cancel(nil)
		f.mu.Lock()
		if f.flights[key] == fl {
			delete(f.flights, key)
		}
		last := len(f.flights) == 0
		f.mu.Unlock()
		if last {
			f.transport.closeIdle()
		}
		close(fl.done)
	})
	return fl, nil
}

// leave ends a flight that nobody waits for any more; whoever comes later begins another.
func (f *Fetcher) leave(fl *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.waiting--; fl.waiting == 0 {
		if key := keyOf(fl.ref); f.flights[key] == fl {
			delete(f.flights, key)
		}
		fl.cancel(context.Canceled)
	}
}

// local has what needs no server: a file, or what the cache has. ok is false if a server must be asked.
func (f *Fetcher) local(ctx context.Context, ref config.Module) (r Result, ok bool) {
	if !ref.Fetched() {
		r.Module, r.Info, r.Err = readFile(ref)
		return r, true
	}
	module, info, err := f.cached(ctx, ref)
	switch {
	case err == nil:
		return Result{Module: module, Info: info}, true
	case err.Kind == kindMiss:
		return Result{}, false
	}
	return Result{Err: err}, true
}

// has says whether local will have a module, as far as the names in the cache tell.
func (f *Fetcher) has(ref config.Module) bool {
	if _, _, _, image := ref.Image(); !image {
		return !ref.Fetched() || f.cache.has(ref.Digest)
	}
	p := plan{child: ref.Digest}
	for range 2 { // an index, and the image that it leads to
		b, ok := f.cache.get(p.child, maxManifest)
		if !ok {
			return false
		}
		var err *Error
		if p, err = readManifest(b); err != nil {
			return true // local says what is wrong
		}
		if p.child == "" {
			break
		}
	}
	return p.child != "" || f.cache.has(p.layers[0].digest)
}

// kindMiss says that a server must be asked. It leaves the package in no Error.
const kindMiss Kind = "miss"

// cached has what the cache has.
func (f *Fetcher) cached(ctx context.Context, ref config.Module) ([]byte, Info, *Error) {
	began := time.Now()
	module, info, err := f.once(ctx, ref, true)
	if err != nil {
		err.Ref = ref
		return nil, Info{}, err
	}
	info.Digest, info.Tries, info.Took = digestOf(module), 1, time.Since(began)
	return module, info, nil
}

// fetch tries until it has the module, or there is no sense in another try.
func (f *Fetcher) fetch(ctx context.Context, ref config.Module) ([]byte, Info, *Error) {
	if module, info, err := f.cached(ctx, ref); err == nil || err.Kind != kindMiss {
		return module, info, err
	}
	began, place := time.Now(), f.placesOf(ref.Host())
	for try := 1; ; try++ {
		select {
		case place <- struct{}{}:
		case <-ctx.Done():
			return nil, Info{}, &Error{Ref: ref, Kind: KindCanceled, Message: "given up while others were fetched", Err: context.Cause(ctx)}
		}
		module, info, err := f.once(ctx, ref, false)
		<-place
		if err == nil {
			info.Digest, info.Tries, info.Took = digestOf(module), try, time.Since(began)
			return module, info, nil
		}
		err.Ref = ref
		if !err.temporary {
			return nil, Info{}, err
		}
		if try >= f.o.Tries {
			err.Message += fmt.Sprintf(" (%d tries)", try)
			return nil, Info{}, err
		}
		wait := time.NewTimer(max(backoff(f.o.Backoff, mostBackoff, try), min(err.retryAfter, mostBackoff)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			return nil, Info{}, &Error{Ref: ref, Kind: KindCanceled, Message: "given up; before that: " + err.Message, Err: context.Cause(ctx)}
		}
	}
}

// placesOf are the places for those who ask a host.
func (f *Fetcher) placesOf(host string) chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := hostKey(host)
	if f.places[key] == nil {
		f.places[key] = make(chan struct{}, f.o.Parallel)
	}
	return f.places[key]
}

// once is one try, with the cache alone or with a server as well.
func (f *Fetcher) once(ctx context.Context, ref config.Module, offline bool) (module []byte, info Info, err *Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, f.o.Timeout, errTimedOut)
	defer cancel()
	if _, _, _, image := ref.Image(); image {
		return f.image(ctx, ref, offline)
	}
	module, ok := f.cache.get(ref.Digest, f.o.MaxSize)
	info = Info{Layout: LayoutURL, Cached: ok}
	if ok {
		return module, info, isModule(module)
	}
	s := source{url: ref.URL, what: "the module", accept: "application/wasm, application/octet-stream;q=0.9, */*;q=0.5", offline: offline}
	if module, err = f.get(ctx, s, ref.Digest, f.o.MaxSize); err != nil {
		return nil, info, err
	}
	if err = isModule(module); err != nil {
		return nil, info, err
	}
	info.NotKept = f.cache.put(ref.Digest, module)
	return module, info, nil
}

// backoff is how long to wait after a number of failures: first, doubled for each further one, up to most, and less by up
// to a half at random, so that gateways that failed together do not come back together.
func backoff(first, most time.Duration, failures int) time.Duration {
	d := first
	for range failures - 1 {
		if d *= 2; d >= most {
			break
		}
	}
	d = min(d, most)
	return d - time.Duration(rand.Int64N(int64(d)/2+1)) //nolint:gosec // no secret
}
