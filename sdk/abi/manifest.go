package abi

import "errors"

// The records of a manifest.
const (
	ManifestPhases         uint16 = 1 // u32: bits
	ManifestRequestHeader  uint16 = 2 // string: the next request slot
	ManifestResponseHeader uint16 = 3 // string: the next response slot
	ManifestUpstream       uint16 = 4 // string: the next upstream id
)

// The bits of ManifestPhases.
const (
	WantsRequest         uint32 = 1 << 0
	WantsResponse        uint32 = 1 << 1 // of every exchange
	WantsMarkedResponses uint32 = 1 << 2 // of those whose context word is not 0

	knownPhases = WantsRequest | WantsResponse | WantsMarkedResponses
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
		return nil, problem("manifest: ", len(b), " bytes, at most ", MaxManifest, " are allowed")
	}
	m := &Manifest{}
	r := records{rest: b}
	for {
		kind, body, ok, err := r.next()
		if err != nil {
			return nil, problem("manifest: ", err)
		}
		if !ok {
			break
		}
		if err := m.record(kind, body); err != nil {
			return nil, problem("manifest: record ", r.n, ": ", err)
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
			return problem("phases: body of ", len(body), " bytes, not 4")
		case m.Phases != 0:
			return errors.New("phases: said twice")
		}
		m.Phases = le.Uint32(body)
		if m.Phases == 0 || m.Phases&^knownPhases != 0 {
			return problem("phases: ", m.Phases, "; the known bits make ", knownPhases, ", and one must be set")
		}
		return nil
	}
	if kind < ManifestRequestHeader || kind > ManifestUpstream {
		return problem("unknown kind ", kind)
	}
	name, rest, ok := cutString(body)
	if !ok || len(rest) != 0 || len(name) == 0 || len(name) > MaxHeaderName {
		return problem("kind ", kind, ": the body is not one string of 1 to ", MaxHeaderName, " bytes")
	}
	switch kind {
	case ManifestRequestHeader:
		return declare(&m.RequestHeaders, name)
	case ManifestResponseHeader:
		return declare(&m.ResponseHeaders, name)
	}
	if len(m.Upstreams) == MaxUpstreams {
		return problem("more than ", MaxUpstreams, " upstreams")
	}
	m.Upstreams = append(m.Upstreams, string(name))
	return nil
}

func declare(names *[]string, name []byte) error {
	if len(*names) == MaxSlots {
		return problem("more than ", MaxSlots, " headers of one message")
	}
	for _, c := range name {
		if !token[c] || c >= 'A' && c <= 'Z' {
			return problem("header ", name, ": not a lower-case field name")
		}
	}
	for _, s := range *names {
		if s == string(name) {
			return problem("header ", name, ": declared twice")
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
