package abi

import (
	"errors"
	"fmt"
)

// The records of a manifest.
const (
	ManifestPhases         uint16 = 1 // u32: bits
	ManifestRequestHeader  uint16 = 2 // string: the next request slot
	ManifestResponseHeader uint16 = 3 // string: the next response slot
	ManifestUpstream       uint16 = 4 // string: the next upstream id
)

// The bits of ManifestPhases.
const (
	WantsRequest          uint32 = 1 << 0
	WantsResponse         uint32 = 1 << 1 // of every exchange
	WantsResponseOnDemand uint32 = 1 << 2 // of those whose request phase said OpWantResponse

	knownPhases = WantsRequest | WantsResponse | WantsResponseOnDemand
)

// Manifest is a guest's answer to configure: what it wants and what it may choose.
type Manifest struct {
	Phases          uint32
	RequestHeaders  []string // lower case; a name's place is its slot
	ResponseHeaders []string // their slots follow the request's
	Upstreams       []string // an upstream's place is its id
}

// AppendPhases appends a record that says which phases are wanted; without one it is the request phase.
func AppendPhases(dst []byte, bits uint32) []byte {
	return le.AppendUint32(appendHeader(dst, ManifestPhases, 4), bits)
}

// AppendName appends a record that declares a name: ManifestRequestHeader, ManifestResponseHeader or ManifestUpstream.
func AppendName[T Text](dst []byte, record uint16, name T) []byte {
	return appendText(appendHeader(dst, record, 4+len(name)), name)
}

// AppendManifest appends m.
func AppendManifest(dst []byte, m *Manifest) []byte {
	dst = AppendPhases(dst, m.Phases)
	for _, s := range m.RequestHeaders {
		dst = AppendName(dst, ManifestRequestHeader, s)
	}
	for _, s := range m.ResponseHeaders {
		dst = AppendName(dst, ManifestResponseHeader, s)
	}
	for _, s := range m.Upstreams {
		dst = AppendName(dst, ManifestUpstream, s)
	}
	return dst
}

// ParseManifest reads a manifest and checks it against the bounds. It copies what it keeps.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("manifest: %d bytes, at most %d are allowed", len(b), MaxManifest)
	}
	m := &Manifest{}
	r := records{rest: b}
	for {
		kind, body, ok, err := r.next()
		if err != nil {
			return nil, fmt.Errorf("manifest: %w", err)
		}
		if !ok {
			break
		}
		if err := m.record(kind, body); err != nil {
			return nil, fmt.Errorf("manifest: record %d: %w", r.n, err)
		}
	}
	if m.Phases == 0 {
		m.Phases = WantsRequest
	}
	return m, nil
}

func (m *Manifest) record(kind uint16, body []byte) error {
	if kind == ManifestPhases {
		switch {
		case len(body) != 4:
			return fmt.Errorf("phases: body of %d bytes, not 4", len(body))
		case m.Phases != 0:
			return errors.New("phases: said twice")
		}
		m.Phases = le.Uint32(body)
		if m.Phases == 0 || m.Phases&^knownPhases != 0 {
			return fmt.Errorf("phases: 0x%x; known bits are 0x%x, and one must be set", m.Phases, knownPhases)
		}
		return nil
	}
	if kind < ManifestRequestHeader || kind > ManifestUpstream {
		return fmt.Errorf("unknown kind 0x%02x", kind)
	}
	name, rest, ok := cutString(body)
	if !ok || len(rest) != 0 || len(name) == 0 || len(name) > MaxHeaderName {
		return fmt.Errorf("kind 0x%02x: the body is not one string of 1 to %d bytes", kind, MaxHeaderName)
	}
	switch kind {
	case ManifestRequestHeader:
		return declare(&m.RequestHeaders, name)
	case ManifestResponseHeader:
		return declare(&m.ResponseHeaders, name)
	}
	if len(m.Upstreams) == MaxUpstreams {
		return fmt.Errorf("more than %d upstreams", MaxUpstreams)
	}
	m.Upstreams = append(m.Upstreams, string(name))
	return nil
}

func declare(names *[]string, name []byte) error {
	if len(*names) == MaxSlots {
		return fmt.Errorf("more than %d headers of one message", MaxSlots)
	}
	for _, c := range name {
		if !token[c] || c >= 'A' && c <= 'Z' {
			return fmt.Errorf("header %q: not a lower-case field name", name)
		}
	}
	for _, s := range *names {
		if s == string(name) {
			return fmt.Errorf("header %q: declared twice", name)
		}
	}
	*names = append(*names, string(name))
	return nil
}

// token has the bytes of a field name (RFC 9110, section 5.6.2).
var token = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()
