package server

import (
	"bytes"

	"wasmgate/runtime/http1"
	sticky "wasmgate/runtime/session"
	"wasmgate/runtime/upstream"
)

// Affinity says which requests belong together, for an upstream that keeps them together.
type Affinity struct {
	Sessions *sticky.Sessions // nil: no sticky sessions
	HashOn   HashOn           // what a consistent hash is made of
	Name     string           // of the query parameter, the field or the cookie
}

// HashOn is the part of a request that a consistent hash is made of.
type HashOn uint8

// The parts.
const (
	HashNothing HashOn = iota
	HashIP             // the client's address, behind trusted proxies
	HashPath
	HashQuery  // a parameter
	HashHeader // a field
	HashCookie
)

// belong notes where the request belongs: the session that it names, and its key. A key that a plugin chose stays.
func (w *work) belong(a *Affinity) {
	x := &w.x
	if a.Sessions != nil {
		x.Target.Session = append(x.Target.Session, a.Sessions.Find(&x.Request)...)
	}
	if a.HashOn == HashNothing || x.Target.HashKey != 0 {
		return
	}
	var buf [16]byte
	var value []byte
	switch a.HashOn {
	case HashIP:
		if c := x.Client.Addr.Unmap(); c.Is4() {
			four := c.As4()
			value = append(buf[:0], four[:]...)
		} else {
			buf = c.As16()
			value = buf[:]
		}
	case HashPath:
		value = x.Request.Path
	case HashQuery:
		value = valueOf(x.Request.Query(), '&', a.Name)
	case HashHeader:
		value, _ = x.Request.Get(a.Name)
	case HashCookie:
		for i := 0; i < x.Request.Len() && len(value) == 0; i++ {
			if x.Request.ID(i) == http1.FieldCookie {
				value = valueOf(x.Request.Value(i), ';', a.Name)
			}
		}
	}
	if len(value) > 0 {
		x.Target.HashKey = upstream.Key(value)
	}
}

// valueOf finds name=value in a list, byte for byte as it was sent.
func valueOf(list []byte, separator byte, name string) []byte {
	for len(list) > 0 {
		pair, rest, _ := bytes.Cut(list, []byte{separator})
		list = rest
		pair = trim(pair)
		if n := len(name); len(pair) > n && pair[n] == '=' && string(pair[:n]) == name {
			return pair[n+1:]
		}
	}
	return nil
}

// tell has the client keep to the member that has answered, where the gateway is the one to say so.
func (w *work) tell(a *Affinity) {
	if a.Sessions == nil {
		return
	}
	m := w.flight.Member()
	if m == nil || !a.Sessions.Due(w.x.Target.Session, m.Token()) {
		return
	}
	w.scratch = a.Sessions.AppendSetCookie(w.scratch[:0], m.Token())
	w.x.Response.AddBytes(setCookie, w.scratch)
}

var setCookie = []byte("Set-Cookie")
