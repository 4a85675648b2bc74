// header-policy sets, appends, removes and renames headers of requests and answers: see README.md.
package main

import (
	"errors"
	"strconv"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// policy is what is done to a message, in the order of the fields.
type policy struct {
	remove   []string
	rename   []rename
	defaults []edit
	set      []edit
	add      []edit
}

type rename struct {
	from wasmgate.Header
	old  string
	name string
}

type edit struct {
	name  string
	field wasmgate.Header // of the message as it came
	value kit.Template
}

// What the gateway takes in one answer: fields, and their bytes (sdk/abi.md). Something is left for another step.
const (
	maxFields = 250
	maxBytes  = 60 << 10
	maxSteps  = 100
)

var (
	requests, answers policy
	scratch           = make([]byte, 0, 2*kit.MaxText) // the value under way
)

func init() {
	wasmgate.Configure(configure)
}

func configure(c *wasmgate.Config) error {
	requests, answers = policy{}, policy{}
	err := kit.Read(c, kit.Keys{"request": requests.read(false), "response": answers.read(true)})
	if err != nil {
		return err
	}
	wasmgate.Handle(nil)
	wasmgate.HandleResponse(nil)
	if requests.steps() > 0 {
		wasmgate.Handle(request)
	}
	if answers.steps() > 0 {
		wasmgate.HandleResponse(response) // an answer costs nothing where there is nothing to do to it
	}
	if requests.steps()+answers.steps() == 0 {
		return errors.New("config: nothing is to be done; request and response have remove, rename, default, set and append")
	}
	return nil
}

func (p *policy) steps() int {
	return len(p.remove) + len(p.rename) + len(p.defaults) + len(p.set) + len(p.add)
}

// read reads what is done to requests, or to answers.
func (p *policy) read(answer bool) func(kit.Value) error {
	return func(v kit.Value) error {
		err := v.Object(kit.Keys{
			"remove": func(v kit.Value) error {
				return v.List(func(v kit.Value) error {
					name, err := v.EditedField()
					p.remove = append(p.remove, name)
					return err
				})
			},
			"rename":  func(v kit.Value) error { return v.Map(p.readRename(answer)) },
			"default": edits(&p.defaults, answer),
			"set":     edits(&p.set, answer),
			"append":  edits(&p.add, answer),
		})
		if err == nil && p.steps() > maxSteps {
			err = errors.New(v.Path() + ": there are " + strconv.Itoa(p.steps()) + " steps, and at most " + strconv.Itoa(maxSteps))
		}
		return err
	}
}

func (p *policy) readRename(answer bool) func(string, kit.Value) error {
	return func(old string, v kit.Value) error {
		if err := v.Editable(old); err != nil {
			return err
		}
		name, err := v.EditedField()
		p.rename = append(p.rename, rename{declare(old, answer), kit.Lower(old), name})
		return err
	}
}

// edits reads names, each with a value or a list of them.
func edits(to *[]edit, answer bool) func(kit.Value) error {
	return func(v kit.Value) error {
		return v.Map(func(name string, v kit.Value) error {
			if err := v.Editable(name); err != nil {
				return err
			}
			return v.List(func(v kit.Value) error {
				value, err := v.Template(answer)
				*to = append(*to, edit{kit.Lower(name), declare(name, answer), value})
				return err
			})
		})
	}
}

func declare(name string, answer bool) wasmgate.Header {
	if answer {
		return wasmgate.ResponseHeader(name)
	}
	return wasmgate.RequestHeader(name)
}

func request(r *wasmgate.Request) wasmgate.Decision {
	if !requests.apply(r) {
		return wasmgate.Deny(431) // a client sent so much that what is made of it is too long
	}
	return wasmgate.Continue
}

func response(r *wasmgate.Response) wasmgate.Decision {
	if !answers.apply(r) {
		return wasmgate.Deny(502)
	}
	return wasmgate.Continue
}

// message is a request or an answer.
type message interface {
	kit.Exchange
	SetHeader(name, value string)
	AppendHeader(name, value string)
	RemoveHeader(name string)
}

// apply does all steps, each with what the message was when it came. false: it would be more than the gateway takes.
func (p *policy) apply(m message) bool {
	left := budget{maxFields, maxBytes}
	for _, name := range p.remove {
		m.RemoveHeader(name)
	}
	for i := range p.rename {
		if !p.rename[i].apply(m, &left) {
			return false
		}
	}
	for i := range p.defaults {
		if m.HeaderCount(p.defaults[i].field) == 0 && !p.defaults[i].apply(m, &left, false) {
			return false
		}
	}
	for i := range p.set {
		if !p.set[i].apply(m, &left, true) {
			return false
		}
	}
	for i := range p.add {
		if !p.add[i].apply(m, &left, false) {
			return false
		}
	}
	return true
}

// apply moves all values to the other name.
func (r *rename) apply(m message, left *budget) bool {
	for k := range m.HeaderCount(r.from) {
		v := m.HeaderAt(r.from, k)
		if !left.take(r.name, v) {
			return false
		}
		if k == 0 {
			m.SetHeader(r.name, v)
		} else {
			m.AppendHeader(r.name, v)
		}
	}
	if m.HeaderCount(r.from) > 0 && r.old != r.name {
		m.RemoveHeader(r.old)
	}
	return true
}

// apply sets the field, or adds one. An empty value sets nothing: then there is no field.
func (e *edit) apply(m message, left *budget, set bool) bool {
	var ok bool
	if scratch, ok = e.value.Append(scratch[:0], m); !ok || !left.take(e.name, kit.View(scratch)) {
		return false
	}
	switch {
	case len(scratch) > 0 && set:
		m.SetHeader(e.name, kit.View(scratch))
	case len(scratch) > 0:
		m.AppendHeader(e.name, kit.View(scratch))
	case set:
		m.RemoveHeader(e.name)
	}
	return true
}

// budget is what is left of what the gateway takes.
type budget struct{ fields, bytes int }

func (b *budget) take(name, value string) bool {
	b.fields--
	b.bytes -= len(name) + len(value)
	return b.fields >= 0 && b.bytes >= 0
}

func main() {} // never called: everything is registered in init
