// rate-limit keeps clients to a rate, with buckets that all of the gateway's loops share: see README.md.
package main

import (
	"encoding/binary"
	"strconv"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// limit is one rate. Its buckets hold burst tokens, and get one each interval.
type limit struct {
	name     string
	prefix   string         // of the keys in the store
	keys     []kit.Template // the first that is not empty is whose bucket it is
	interval int64          // nanoseconds
	burst    int64
	policy   string // for people: RateLimit-Policy
}

const (
	maxLimits = 16
	// maxKey is how long a key can be, that of the store with what is in front of it.
	maxKey = 900
	// maxTries bounds how often a bucket is tried again that others change meanwhile. Each time one of them has got what it
	// wanted, and there are not more of them than loops.
	maxTries = 64
	second   = 1_000_000_000
	most     = 1<<28 - 1 // of what is left for the answer
)

var (
	limited = wasmgate.NewCounter("limited", "requests that were over a limit")
	failed  = wasmgate.NewCounter("unavailable", "requests whose bucket could not be had")

	key    = make([]byte, 0, 2*kit.MaxText)
	value  = make([]byte, 0, 64)
	bucket [8]byte
	fields = make([]string, 0, 16)
	text   = make([]byte, 0, 256) // of the fields' numbers
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

// level is what a bucket has.
type level struct {
	limit     int   // its number, or none
	remaining int64 // tokens
	reset     int64 // seconds until it is full
}

const none = -1

func request(r *wasmgate.Request) wasmgate.Decision {
	if a, ok := kit.ParseClient(r.Client()); ok && conf.exempt.Contains(a) {
		return wasmgate.Continue
	}
	now := r.Time() * (second / 1000)
	lowest := level{limit: none}
	for i := range conf.limits {
		l := &conf.limits[i]
		switch ok, long := l.key(r); {
		case long:
			return wasmgate.Deny(431)
		case !ok:
			continue
		}
		wait, full, err := l.take(now)
		if err != nil {
			failed.Add(1)
			if !conf.allow {
				return l.refuse(r, conf.unavailable, second, l.interval*l.burst)
			}
			continue
		}
		if wait > 0 {
			return l.refuse(r, conf.status, wait, full)
		}
		left := level{i, l.burst - (full+l.interval-1)/l.interval, (full + second - 1) / second}
		if lowest.limit == none || left.remaining < lowest.remaining {
			lowest = left
		}
	}
	if conf.headers && lowest.limit != none {
		r.SetContext(uint64(lowest.limit+1)<<56 | uint64(min(lowest.remaining, most))<<28 | uint64(min(lowest.reset, most))) //nolint:gosec // not negative
	}
	return wasmgate.Continue
}

// key makes the key of the request's bucket. ok is false if the limit is not about the request.
func (l *limit) key(r *wasmgate.Request) (ok, long bool) {
	for i := range l.keys {
		key = append(key[:0], l.prefix...)
		var fits bool
		if key, fits = l.keys[i].Append(key, r); !fits || len(key) > maxKey {
			return false, true
		}
		if len(key) > len(l.prefix) {
			return true, false
		}
	}
	return false, false
}

// take takes a token from the bucket of the key, or says how long the next one takes; full is how long it takes until the bucket
// is. All in nanoseconds. The store has the time when the bucket is full: no more is to be said of it, and when that is over, there
// is nothing to be said at all.
func (l *limit) take(now int64) (wait, full int64, err error) {
	for range maxTries {
		var version wasmgate.Version
		value, version = conf.store.Get(value[:0], kit.View(key))
		at := now
		if len(value) == len(bucket) {
			at = max(now, int64(binary.LittleEndian.Uint64(value))) //nolint:gosec // as it was written
		}
		full = at - now + l.interval
		if full > l.interval*l.burst {
			return full - l.interval*l.burst, at - now, nil
		}
		binary.LittleEndian.PutUint64(bucket[:], uint64(now+full)) //nolint:gosec // after 1970
		if _, err = conf.store.CompareAndSet(kit.View(key), bucket[:], version, (full+second/1000-1)/(second/1000)); err != wasmgate.ErrMismatch {
			return 0, full, err
		}
	}
	return 0, 0, err
}

// refuse answers a request that is over the limit, or whose bucket cannot be had.
func (l *limit) refuse(r *wasmgate.Request, status int, wait, full int64) wasmgate.Decision {
	if status == conf.status {
		limited.Add(1)
	}
	if r.Sampled() {
		r.Attribute("rate_limit.exceeded", l.name)
	}
	fields = append(fields[:0], "retry-after", number(0, (wait+second-1)/second), "cache-control", "no-store")
	if conf.headers {
		fields = append(fields, "ratelimit-limit", number(1, l.burst), "ratelimit-remaining", "0",
			"ratelimit-reset", number(2, (full+second-1)/second), "ratelimit-policy", l.policy)
	}
	if conf.body != "" {
		fields = append(fields, "content-type", conf.contentType)
	}
	return r.Respond(status, conf.body, fields...)
}

// number writes one of three numbers, which live until they are written again.
func number(place int, n int64) string {
	b := text[place*32 : place*32 : place*32+32]
	return kit.View(strconv.AppendInt(b, n, 10))
}

// response tells how much is left.
func response(r *wasmgate.Response) wasmgate.Decision {
	word := r.Context()
	i := int(word>>56) - 1 //nolint:gosec // 8 bits
	if i < 0 || i >= len(conf.limits) {
		return wasmgate.Continue
	}
	l := &conf.limits[i]
	r.SetHeader("ratelimit-limit", number(0, l.burst))
	r.SetHeader("ratelimit-remaining", number(1, int64(word>>28&most))) //nolint:gosec // 28 bits
	r.SetHeader("ratelimit-reset", number(2, int64(word&most)))         //nolint:gosec // 28 bits
	r.SetHeader("ratelimit-policy", l.policy)
	return wasmgate.Continue
}

func main() {} // never called: everything is registered in init
