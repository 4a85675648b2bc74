package main

import (
	"strconv"
	"strings"

	wasmgate "wasmgate/sdk/go"
)

// configureMore does a line about what version 1.1 has; false if it is none.
func configureMore(c *wasmgate.Config, word, arg string) bool {
	first, rest, _ := strings.Cut(arg, " ")
	switch word {
	case "call":
		services = append(services, c.Service(arg))
	case "store":
		stores = append(stores, c.Store(arg))
	case "metric":
		metrics = append(metrics, metricOf(first, rest))
	case "request-body":
		declareBody(first, rest, wasmgate.BufferRequestBody, wasmgate.StreamRequestBody)
	case "response-body":
		declareBody(first, rest, wasmgate.BufferResponseBody, wasmgate.StreamResponseBody)
	case "pieces":
		pieces = strings.Clone(arg)
	case "tick":
		wasmgate.HandleTick(int(number(arg)), tick) //nolint:gosec // the kit's own numbers
	default:
		return false
	}
	return true
}

func metricOf(kind, name string) func(float64) {
	switch kind {
	case "1":
		return wasmgate.NewGauge(name, "").Set
	case "2":
		return wasmgate.NewHistogram(name, "").Observe
	case "3":
		return wasmgate.NewUpDownCounter(name, "").Add
	}
	return wasmgate.NewCounter(name, "").Add
}

func declareBody(mode, args string, buffer func(int, ...wasmgate.BodyFlag), stream func(func(*wasmgate.Piece) wasmgate.Decision, ...wasmgate.BodyFlag)) {
	bits, most, _ := strings.Cut(args, " ")
	flags := wasmgate.BodyFlag(number(bits)) //nolint:gosec // the kit's own numbers
	if mode == "1" {
		buffer(int(number(most)), flags) //nolint:gosec // see above
		return
	}
	stream(piece, flags)
}

func call(x exchange, word, arg string) bool {
	id, rest, _ := strings.Cut(arg, " ")
	r := wasmgate.OutboundRequest{Header: []string{"x-conformance", "yes"}}
	switch word {
	case "call":
		var target string
		r.Method, target, _ = strings.Cut(rest, " ")
		r.Path, r.Query, _ = strings.Cut(target, "?")
	case "call-body":
		r = wasmgate.OutboundRequest{Method: "POST", Authority: "kit.example", Timeout: 250, Body: []byte(strings.Repeat("z", int(number(rest))))} //nolint:gosec // the kit's own numbers
	default:
		return false
	}
	a, err := x.Call(services[number(id)], r)
	if err != nil {
		x.AppendHeader("x-call", result(err))
		return true
	}
	field, trailer := a.Header("x-answer"), a.Trailer("x-end")
	for _, s := range []*string{&field, &trailer} {
		if *s == "" {
			*s = "-"
		}
	}
	b := a.Body()
	x.AppendHeader("x-call", strconv.Itoa(a.Status())+" "+field+" "+trailer+" "+strconv.Itoa(len(b))+":"+b[:min(len(b), 20)])
	return true
}

// result is ok, or error and the result's number.
func result(err error) string {
	if r, ok := err.(wasmgate.Result); ok { //nolint:errorlint // it is never wrapped
		return "error " + strconv.Itoa(int(r))
	}
	return "ok"
}

func state(x exchange, word, arg string) bool {
	if !strings.HasPrefix(word, "kv-") {
		return false
	}
	id, rest, _ := strings.Cut(arg, " ")
	key, value, _ := strings.Cut(rest, " ")
	s := stores[number(id)]
	old, version := s.Get(nil, key)
	var err error
	switch word {
	case "kv-get":
		if version == 0 {
			x.AppendHeader("x-kv", "none")
		} else {
			x.AppendHeader("x-kv", strconv.Itoa(len(old))+":"+string(old))
		}
		return true
	case "kv-set":
		ttl, text, _ := strings.Cut(value, " ")
		err = s.Set(key, []byte(text), int64(number(ttl))) //nolint:gosec // the kit's own numbers
	case "kv-new":
		_, err = s.CompareAndSet(key, []byte(value), 0, 0)
	case "kv-swap":
		_, err = s.CompareAndSet(key, []byte(value), version, 0)
	case "kv-late":
		_ = s.Set(key, []byte("early"), 0)
		_, err = s.CompareAndSet(key, []byte(value), version, 0)
	case "kv-delete":
		err = s.Delete(key)
	case "kv-add":
		delta, ttl, _ := strings.Cut(value, " ")
		n, _ := strconv.ParseInt(delta, 10, 64)
		sum, err := s.Add(key, n, int64(number(ttl))) //nolint:gosec // the kit's own numbers
		if err == nil {
			x.AppendHeader("x-kv", strconv.FormatInt(sum, 10))
			return true
		}
		x.AppendHeader("x-kv", result(err))
		return true
	default:
		return false
	}
	x.AppendHeader("x-kv", result(err))
	return true
}

func body(x exchange, word, arg string) bool {
	first, rest, _ := strings.Cut(arg, " ")
	switch word {
	case "show-body":
		b, what := x.Body(), "whole "
		if x.BodyIsPart() {
			what = "part "
		}
		if !x.HasBody() {
			x.AppendHeader("x-body", "none")
			break
		}
		x.AppendHeader("x-body", what+strconv.Itoa(len(b))+":"+string(b[:min(len(b), 40)]))
	case "set-body":
		x.SetBody([]byte(arg))
	case "fill-body":
		x.SetBody([]byte(strings.Repeat("b", int(number(arg))))) //nolint:gosec // the kit's own numbers
	case "want-body":
		if !x.HasBody() {
			x.WantBody()
		}
	case "metric":
		n, _ := strconv.ParseInt(rest, 10, 64)
		metrics[number(first)](float64(n) / 4)
	default:
		return false
	}
	return true
}

// pieces is what pieces become.
var pieces = "pass"

func piece(p *wasmgate.Piece) wasmgate.Decision {
	switch pieces {
	case "upper":
		b := []byte(string(p.Data()))
		for i, c := range b {
			if 'a' <= c && c <= 'z' {
				b[i] = c - 'a' + 'A'
			}
		}
		return p.Replace(b)
	case "drop":
		return p.Replace(nil)
	case "keep":
		if !p.Last() {
			p.Keep(min(len(p.Data()), 2))
		}
	case "count":
		return count(p)
	case "trailer":
		if p.Last() {
			v, ok := p.LookupTrailer(nil, "x-end", 0)
			if !ok {
				v = []byte("-")
			}
			return p.Replace(v)
		}
	case "deny":
		return wasmgate.Deny(422)
	case "fail":
		return wasmgate.Fail("as the configuration says")
	case "trap":
		panic("as the configuration says")
	}
	return wasmgate.Continue
}

func count(p *wasmgate.Piece) wasmgate.Decision {
	flag := map[bool]uint64{true: 1}
	b := []byte{'['}
	for i, v := range []uint64{flag[p.Response()], p.Word(), uint64(p.Before()), uint64(len(p.Data())), flag[p.Last()]} { //nolint:gosec // lengths
		if i > 0 {
			b = append(b, ' ')
		}
		b = strconv.AppendUint(b, v, 10)
	}
	p.SetWord(p.Word() + 1)
	return p.Replace(append(b, ']'))
}

func tick(t *wasmgate.Tick) error {
	a, err := t.Call(services[0], wasmgate.OutboundRequest{Path: "/tick"})
	if err != nil {
		t.Log(wasmgate.Info, "kit: tick "+result(err))
	} else {
		t.Log(wasmgate.Info, "kit: tick "+strconv.Itoa(a.Status()))
	}
	_, err = stores[0].Add("ticks", 1, 0)
	return err
}
