package proxywasm

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/internal/unixaddr"
)

// properties are those that plugins have set for an exchange, or one for its root context. All plugins that see an exchange
// share them.
type properties struct {
	list  []property
	bytes int
}

type property struct{ path, value []byte }

func (p *properties) find(path []byte) *property {
	if p == nil {
		return nil
	}
	for i := range p.list {
		if bytes.Equal(p.list[i].path, path) {
			return &p.list[i]
		}
	}
	return nil
}

// set sets a property, or says that there is no room.
func (p *properties) set(path, value []byte) bool {
	it := p.find(path)
	if it == nil {
		if len(p.list) >= maxProperties || p.bytes+len(path)+len(value) > maxPropertyBytes {
			return false
		}
		p.bytes += len(path) + len(value)
		p.list = append(p.list, property{bytes.Clone(path), bytes.Clone(value)})
		return true
	}
	if p.bytes+len(value)-len(it.value) > maxPropertyBytes {
		return false
	}
	p.bytes += len(value) - len(it.value)
	it.value = append(it.value[:0], value...)
	return true
}

// maxPlaces is how many of an exchange's filters share the properties that they set.
const maxPlaces = 32

// propertiesOf finds what plugins have set for the stream's exchange, and makes room for it if make is set.
func (s *stream) propertiesOf(create bool) *properties {
	if s.properties != nil {
		return s.properties
	}
	if s.x != nil && s.x.Task != nil { // not a copy
		for place := range maxPlaces {
			if place == s.place {
				continue
			}
			switch other := (*s.x.State(place)).(type) {
			case *stream:
				s.properties = other.properties
			case *properties:
				s.properties = other
			}
			if s.properties != nil {
				return s.properties
			}
		}
	}
	if create {
		s.properties = &properties{}
	}
	return s.properties
}

// property appends a property's value to dst. Parts of the path are separated by zeros.
func (v *vm) property(dst, path []byte) ([]byte, bool) {
	c := v.effectiveContext()
	if c == nil || c.root == nil {
		return dst, false
	}
	if value, ok := c.wellKnown(dst, string(path)); ok {
		return value, true
	}
	var set *properties
	if c.stream != nil {
		set = c.stream.propertiesOf(false)
	} else {
		set = c.root.properties
	}
	if it := set.find(path); it != nil {
		return append(dst, it.value...), true
	}
	if bytes.IndexByte(path, 0) < 0 && bytes.IndexByte(path, '.') > 0 { // as some SDKs write it
		name := string(path)
		if first, rest, _ := strings.Cut(name, "."); first == "node" || rest != "" {
			parts := 2
			if strings.HasPrefix(rest, "headers.") || strings.HasPrefix(rest, "trailers.") || strings.HasPrefix(rest, "metadata.") {
				parts = 3
			}
			return c.wellKnown(dst, strings.Join(strings.SplitN(name, ".", parts), "\x00"))
		}
	}
	return dst, false
}

// listenerOutbound is Envoy's number for a listener that clients' requests come to on their way out of a mesh, or into it
// through a gateway.
const listenerOutbound = 2

func appendInt(dst []byte, n int64) []byte { return binary.LittleEndian.AppendUint64(dst, uint64(n)) } //nolint:gosec // its bits

// wellKnown appends the value of a property that the gateway knows.
func (c *context) wellKnown(dst []byte, path string) ([]byte, bool) {
	o := &c.root.core.options
	first, rest, _ := strings.Cut(path, "\x00")
	switch first {
	case "plugin_name":
		return append(dst, o.Name...), rest == ""
	case "plugin_root_id":
		return append(dst, o.RootID...), rest == ""
	case "plugin_vm_id":
		return append(dst, o.VMID...), rest == ""
	case "plugin_vm_memory": // Higress's
		return appendInt(dst, c.root.vm.in.MemoryBytes()), rest == ""
	case "listener_direction":
		return appendInt(dst, listenerOutbound), rest == ""
	case "node":
		return o.Node.property(dst, rest)
	}
	if c.stream == nil || c.stream.x == nil {
		return dst, false
	}
	s, x := c.stream, c.stream.x
	switch first {
	case "route_name":
		return append(dst, x.Route...), rest == ""
	case "cluster_name":
		name := s.cluster()
		return append(dst, name...), rest == "" && name != ""
	case "connection_id":
		return appendInt(dst, int64(x.Client.Conn)), rest == "" //nolint:gosec // an id
	case "xds":
		switch rest {
		case "route_name":
			return append(dst, x.Route...), true
		case "cluster_name":
			name := s.cluster()
			return append(dst, name...), name != ""
		}
	case "request":
		if s.tcp {
			return dst, false
		}
		return s.requestProperty(dst, rest)
	case "response":
		return s.responseProperty(dst, rest)
	case "source":
		return addressProperty(dst, netip.AddrPortFrom(x.Client.Addr, x.Client.Peer.Port()), rest)
	case "destination":
		return addressProperty(dst, x.Client.Local, rest)
	case "connection":
		switch rest {
		case "id":
			return appendInt(dst, int64(x.Client.Conn)), true //nolint:gosec // an id
		case "requested_server_name":
			if s.sni != "" { // of TCP mode
				return append(dst, s.sni...), true
			}
		}
		return secureProperty(dst, x.Client.TLS, rest)
	case "upstream":
		if n := len(x.Attempts); n > 0 {
			return upstreamProperty(dst, &x.Attempts[n-1], rest)
		}
	}
	return dst, false
}

// cluster is the name of the upstream.
func (s *stream) cluster() string {
	x := s.x
	if n := len(x.Attempts); n > 0 {
		return x.Attempts[n-1].Upstream
	}
	if id, names := x.Target.Upstream, s.plugin.grants.Upstreams; id >= 0 && id < len(names) {
		return names[id]
	}
	return ""
}

func addressProperty(dst []byte, a netip.AddrPort, rest string) ([]byte, bool) {
	if !a.IsValid() {
		return dst, false
	}
	switch rest {
	case "address":
		return unixaddr.Append(dst, a), true
	case "port":
		return appendInt(dst, int64(a.Port())), true
	}
	return dst, false
}

func (n *Node) property(dst []byte, rest string) ([]byte, bool) {
	key, isMetadata := strings.CutPrefix(rest, "metadata\x00")
	switch {
	case rest == "id":
		return append(dst, n.ID...), true
	case rest == "cluster":
		return append(dst, n.Cluster...), true
	case isMetadata:
		value, ok := n.Metadata[key]
		return append(dst, value...), ok
	}
	return dst, false
}

// field appends the value of a field, as the guest may see it.
func (s *stream) field(dst []byte, h *http1.Head, name string) ([]byte, bool) {
	value, ok := h.Get(name)
	if !ok {
		return dst, false
	}
	m := fieldMap{nonUTF8: s.plugin.core.options.NonUTF8}
	value, ok = m.shown(value)
	return append(dst, value...), ok
}

// allFields appends the fields as a serialized map.
func (s *stream) allFields(dst []byte, m fieldMap) ([]byte, bool) {
	m.v, m.nonUTF8 = s.vm, s.plugin.core.options.NonUTF8
	return m.appendPairs(dst), true
}

func (s *stream) requestProperty(dst []byte, rest string) ([]byte, bool) {
	x := s.x
	r := &x.Request
	if name, ok := strings.CutPrefix(rest, "headers\x00"); ok {
		m := fieldMap{v: s.vm, head: &r.Head, request: r, scheme: x.Client.Scheme, nonUTF8: s.plugin.core.options.NonUTF8}
		value, ok := m.get([]byte(name))
		return append(dst, value...), ok
	}
	switch rest {
	case "path":
		return appendTarget(dst, r), true
	case "url_path":
		return append(dst, r.Path...), true
	case "query":
		return append(dst, r.Query()...), true
	case "host":
		return append(dst, r.Authority...), true
	case "scheme":
		return append(dst, x.Client.Scheme...), true
	case "method":
		return append(dst, r.Method...), true
	case "protocol":
		p := x.Client.Protocol()
		if p >= "HTTP/2" { // as Envoy names it
			p = p[:len("HTTP/2")]
		}
		return append(dst, p...), true
	case "headers":
		return s.allFields(dst, fieldMap{head: &r.Head, request: r, scheme: x.Client.Scheme})
	case "referer":
		return s.field(dst, &r.Head, "referer")
	case "useragent":
		return s.field(dst, &r.Head, "user-agent")
	case "id":
		return s.field(dst, &r.Head, "x-request-id")
	case "time":
		return appendInt(dst, x.WallStarted), true
	case "duration":
		if x.Ended == 0 {
			return appendInt(dst, s.vm.loop.Now()-x.Started), true
		}
		return appendInt(dst, x.Ended-x.Started), true
	case "size":
		return appendInt(dst, max(x.BytesIn, announced(&r.Framing))), true
	case "total_size":
		return appendInt(dst, max(x.BytesIn, announced(&r.Framing))+headSize(&r.Head)), true
	}
	return dst, false
}

// announced is the length that a message says its body has.
func announced(f *http1.Framing) int64 {
	if f.Kind == http1.Length {
		return f.Length
	}
	return 0
}

// headSize is about how many bytes a head has.
func headSize(h *http1.Head) (n int64) {
	for i := range h.Len() {
		n += int64(len(h.Name(i)) + len(h.Value(i)) + len(": \r\n"))
	}
	return n
}

func (s *stream) responseProperty(dst []byte, rest string) ([]byte, bool) {
	x := s.x
	if !s.resp.begun && x.StatusSent == 0 {
		return dst, false
	}
	r := &x.Response
	if name, ok := strings.CutPrefix(rest, "headers\x00"); ok {
		m := fieldMap{v: s.vm, head: &r.Head, reply: r, nonUTF8: s.plugin.core.options.NonUTF8}
		value, ok := m.get([]byte(name))
		return append(dst, value...), ok
	}
	if name, ok := strings.CutPrefix(rest, "trailers\x00"); ok {
		if s.resp.trailers == nil {
			return dst, false
		}
		return s.field(dst, s.resp.trailers, name)
	}
	switch rest {
	case "code":
		return appendInt(dst, int64(r.Status)), true
	case "headers":
		return s.allFields(dst, fieldMap{head: &r.Head, reply: r})
	case "grpc_status":
		return grpcProperty(dst, r)
	case "flags":
		return appendInt(dst, 0), true
	case "code_details":
		return append(dst, detailsOf(x)...), true
	case "size":
		return appendInt(dst, max(x.BytesOut, announced(&r.Framing))), true
	case "total_size":
		return appendInt(dst, max(x.BytesOut, announced(&r.Framing))+headSize(&r.Head)), true
	case "backend_latency":
		if n := len(x.Attempts); n > 0 && x.Attempts[n-1].FirstByte > 0 {
			return appendInt(dst, x.Attempts[n-1].FirstByte-x.Attempts[n-1].Sent), true
		}
	}
	return dst, false
}

func grpcProperty(dst []byte, r *http1.Response) ([]byte, bool) {
	value, ok := r.Get("grpc-status")
	if !ok || len(value) == 0 || len(value) > 9 {
		return dst, false
	}
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return dst, false
		}
		n = 10*n + int64(c-'0')
	}
	return appendInt(dst, n), true
}

// detailsOf is Envoy's word for where an answer comes from, or our own for an error.
func detailsOf(x *exchange.Exchange) string {
	switch {
	case x.Err != nil:
		return x.Err.Kind.String()
	case x.Local.Set:
		return "direct_response"
	}
	return "via_upstream"
}
