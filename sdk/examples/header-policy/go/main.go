// header-policy removes, renames, sets and appends headers, as its configuration says: see ../../README.md. The versions
// in other languages do the same.
package main

import (
	"errors"

	wasmgate "wasmgate/sdk/go"
)

// field is a name and a value that it is given.
type field struct{ name, value string }

// rename is a header that gets another name.
type rename struct {
	from     wasmgate.Header
	old, new string
}

// policy is what is done to a message, in this order.
type policy struct {
	remove  []string
	renames []rename
	set     []field
	add     []field
}

var requests, responses policy

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision { return requests.apply(r) })
	wasmgate.HandleResponse(func(r *wasmgate.Response) wasmgate.Decision { return responses.apply(r) })
}

func configure(c *wasmgate.Config) error {
	requests, responses = policy{}, policy{}
	return c.Walk(func(path []string, value string) error {
		switch {
		case len(path) != 3:
			return errKeys
		case path[0] == "request":
			return requests.rule(path[1], path[2], value, wasmgate.RequestHeader)
		case path[0] == "response":
			return responses.rule(path[1], path[2], value, wasmgate.ResponseHeader)
		}
		return errKeys
	})
}

var (
	errKeys = errors.New("config: the keys are request and response, with remove, rename, set and append in each")
	errName = errors.New("config: a header has no name")
)

// rule adds what the configuration has.
func (p *policy) rule(kind, name, value string, declare func(string) wasmgate.Header) error {
	switch kind {
	case "remove":
		if value == "" {
			return errName
		}
		p.remove = append(p.remove, value)
	case "rename":
		if name == "" || value == "" {
			return errName
		}
		p.renames = append(p.renames, rename{declare(name), name, value})
	case "set":
		p.set = append(p.set, field{name, value})
	case "append":
		p.add = append(p.add, field{name, value})
	default:
		return errKeys
	}
	if name == "" {
		return errName
	}
	return nil
}

// message is a request or an answer.
type message interface {
	HeaderCount(h wasmgate.Header) int
	HeaderAt(h wasmgate.Header, k int) string
	SetHeader(name, value string)
	AppendHeader(name, value string)
	RemoveHeader(name string)
}

// apply does it all, each with the message as it came.
func (p *policy) apply(m message) wasmgate.Decision {
	for _, name := range p.remove {
		m.RemoveHeader(name)
	}
	for i := range p.renames {
		r := &p.renames[i]
		n := m.HeaderCount(r.from)
		if n == 0 {
			continue
		}
		m.RemoveHeader(r.old)
		m.SetHeader(r.new, m.HeaderAt(r.from, 0))
		for k := 1; k < n; k++ {
			m.AppendHeader(r.new, m.HeaderAt(r.from, k))
		}
	}
	for _, f := range p.set {
		m.SetHeader(f.name, f.value)
	}
	for _, f := range p.add {
		m.AppendHeader(f.name, f.value)
	}
	return wasmgate.Continue
}

func main() {} // never called: everything is registered in init
