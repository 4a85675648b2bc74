package main

import (
	"errors"
	"strconv"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// keySet is where keys are fetched from, and kept.
type keySet struct {
	declared  bool
	service   wasmgate.Service
	store     wasmgate.Store
	authority string
	path      string
	query     string
	timeout   int    // milliseconds, of a call
	keep      int64  // milliseconds that a set is used
	cooldown  int64  // milliseconds between two calls for keys that are not known
	document  string // the store's key of the set
	turn      string // and of who fetches it
}

const (
	maxDocument = 60 << 10 // a store's values have 64 KiB
	maxKeys     = 64
	// lookEvery is how often an instance looks whether there is a newer set, in milliseconds.
	lookEvery = 2000
	// afterFailure is when it is tried again.
	afterFailure = 1000
)

// seen is what an instance knows of the set in the store.
var seen struct {
	version wasmgate.Version
	at      int64 // when it looked
}

var document = make([]byte, 0, 4096)

// refresh takes over the set that is in the store, if it is another one. One that has expired is none: keys must not be used for
// ever because nobody can be asked.
func refresh(r *wasmgate.Request) {
	if now := r.Time(); conf.set.declared && (seen.version == 0 || now-seen.at >= lookEvery || now < seen.at) {
		seen.at = now
		look()
	}
}

func look() {
	var version wasmgate.Version
	document, version = conf.set.store.Get(document[:0], conf.set.document)
	if version == seen.version {
		return
	}
	seen.version = version
	var list []key
	if version != 0 {
		list, _ = readSet(document)
	}
	install(list)
}

// install has these keys in force, behind those of the configuration.
func install(list []key) {
	keys.all = append(keys.all[:keys.static:keys.static], list...)
	forget()
}

// readSet reads a set of keys (RFC 7517, 5). Those that cannot be used are left out, and so is each secret: whoever can read the set
// could sign with it.
func readSet(b []byte) (list []key, err error) {
	doc, err := kit.ParseJSON(b)
	if err != nil {
		return nil, err
	}
	set, n := doc.Get("keys")
	if n != 1 || set.Kind() != '[' {
		return nil, errors.New("it has no keys")
	}
	for m := set.Elements(); len(list) < maxKeys; {
		_, j, ok := m.Next()
		if !ok {
			break
		}
		if k, other, problem := readJWK(j); !other && problem == "" && k.alg != hs256 {
			list = append(list, k)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("it has no key that can be used")
	}
	return list, nil
}

// caller is a request, or a tick.
type caller interface {
	Call(wasmgate.Service, wasmgate.OutboundRequest) (*wasmgate.OutboundResponse, error)
}

// The values of the turn: somebody fetches the set, or has done so a moment ago.
var fetching, done = []byte{1}, []byte{2}

// fetchNow fetches the set because of a key that is not known, if it is time and nobody else does. changed says that there is another
// set now, and busy that there may be one in a moment.
func fetchNow(r *wasmgate.Request) (changed, busy bool) {
	before := seen.version
	if look(); seen.version != before { // somebody else was faster
		return true, false
	}
	if _, err := conf.set.store.CompareAndSet(conf.set.turn, fetching, 0, int64(conf.set.timeout)); err != nil {
		var turn [8]byte
		v, _ := conf.set.store.Get(turn[:0], conf.set.turn)
		return false, len(v) == 1 && v[0] == fetching[0]
	}
	after := conf.set.cooldown
	err := fetch(r)
	if err != nil {
		wasmgate.Log(wasmgate.Warn, "the key set cannot be had: "+err.Error())
		after = min(after, afterFailure)
	}
	_ = conf.set.store.Set(conf.set.turn, done, after) // nothing can be done about a store that is full
	return err == nil, false
}

// fetch fetches the set, and leaves it in the store for all instances.
func fetch(c caller) error {
	err := call(c)
	if err != nil {
		unread.Add(1)
	} else {
		fetched.Add(1)
	}
	return err
}

func call(c caller) error {
	a, err := c.Call(conf.set.service, wasmgate.OutboundRequest{
		Authority: conf.set.authority, Path: conf.set.path, Query: conf.set.query, Timeout: conf.set.timeout, Header: []string{"accept", "application/jwk-set+json, application/json"},
	})
	switch {
	case err != nil:
		return err
	case a.Status() != 200:
		return errors.New("the service answered with status " + strconv.Itoa(a.Status()))
	case len(a.Body()) > maxDocument:
		return errors.New("the answer has more than " + strconv.Itoa(maxDocument) + " bytes")
	}
	body := []byte(a.Body())
	list, err := readSet(body)
	if err != nil {
		return errors.New("the answer is no key set: " + err.Error())
	}
	if err := conf.set.store.Set(conf.set.document, body, conf.set.keep); err != nil {
		install(list) // this instance has them, until it looks again
		return err
	}
	look()
	return nil
}

// tick fetches the set anew, before anybody needs it.
func tick(t *wasmgate.Tick) error {
	_ = conf.set.store.Set(conf.set.turn, fetching, int64(conf.set.timeout))
	err := fetch(t)
	_ = conf.set.store.Set(conf.set.turn, done, afterFailure)
	if err != nil {
		return errors.New("the key set cannot be had: " + err.Error())
	}
	return nil
}
