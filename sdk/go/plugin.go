package wasmgate

import "wasmgate/sdk/abi"

// Decision is what a handler says. Edits made on the request or response are applied with it, all or none.
type Decision struct {
	code  abi.Code
	value uint32
	text  string
	data  []byte // of Piece.Replace; it is copied when the handler has returned
}

// Continue goes on: the next plugin, or the upstream that the route or an earlier plugin chose.
var Continue = Decision{code: abi.CodeContinue}

// NoMatch says that the route is not for the request. It is for plugins that match routes; edits are dropped.
var NoMatch = Decision{code: abi.CodeNoMatch}

// RouteTo sends the request to an upstream.
func RouteTo(u Upstream) Decision { return Decision{code: abi.CodeRoute, value: uint32(u)} }

// Deny answers with a status of 400 to 599 and no body; 0 is 403.
func Deny(status int) Decision {
	return Decision{code: abi.CodeDeny, value: uint32(status)} //nolint:gosec // the host checks it
}

// Fail says that the plugin could not decide. The request follows the plugin's on_error policy; the text is logged.
func Fail(text string) Decision { return Decision{code: abi.CodeError, text: text} }

// Upstream is an upstream that the plugin may choose: see Config.Upstream.
type Upstream uint32

// Header is a header that the plugin wants to see, declared by RequestHeader or ResponseHeader.
type Header struct {
	index    uint16
	response bool
}

// plugin is the one plugin of the module.
var plugin struct {
	configure func(*Config) error
	request   func(*Request) Decision
	response  func(*Response) Decision
	marked    bool
	pieces    [2]func(*Piece) Decision // of requests, of answers
	tick      func(*Tick) error

	manifest abi.Manifest
	static   declared // before the first configuration
	sealed   bool
}

// declared is how much of a manifest was declared, of what may be declared early.
type declared struct {
	requestHeaders, responseHeaders, metrics int
	requestBody, responseBody                abi.Body
	tick                                     uint32
}

// Handle registers the function that decides about requests. Call it in init.
func Handle(fn func(*Request) Decision) { plugin.request = fn }

// HandleResponse registers a function that is called before an answer is sent to the client. Call it in init.
func HandleResponse(fn func(*Response) Decision) { plugin.response = fn }

// HandleMarkedResponse is HandleResponse only for those requests whose handler left a context word that is not 0.
func HandleMarkedResponse(fn func(*Response) Decision) { plugin.response, plugin.marked = fn, true }

// Configure registers a function that is called once, before any request. An error refuses the configuration, with
// its text. Call it in init.
func Configure(fn func(*Config) error) { plugin.configure = fn }

// RequestHeader declares a request header that handlers read. The name is not case-sensitive. Call it in a package
// variable's declaration, in init, or in the function given to Configure, not later.
func RequestHeader(name string) Header {
	return Header{index: declare(&plugin.manifest.RequestHeaders, name)}
}

// ResponseHeader declares a response header that the response handler reads, as RequestHeader does for requests.
func ResponseHeader(name string) Header {
	return Header{index: declare(&plugin.manifest.ResponseHeaders, name), response: true}
}

func declare(names *[]string, name string) uint16 {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	for i, s := range *names {
		if s == string(b) {
			return uint16(i) //nolint:gosec // at most abi.MaxSlots
		}
	}
	*names = append(*names, string(b))
	return uint16(len(*names) - 1) //nolint:gosec // the host refuses more than abi.MaxSlots
}

// Config is what the plugin is told about itself.
type Config struct{ raw abi.Config }

// Name is the plugin's name in the gateway's configuration.
func (c *Config) Name() string { return view(c.raw.Name) }

// Raw is the plugin's configuration: a string as it is, everything else as JSON, empty if there is none.
func (c *Config) Raw() string { return view(c.raw.Bytes) }

// Upstream declares an upstream that the plugin may choose. A configuration of the gateway that does not know or not
// allow it is refused.
func (c *Config) Upstream(name string) Upstream {
	for i, s := range plugin.manifest.Upstreams {
		if s == name {
			return Upstream(i) //nolint:gosec // at most abi.MaxUpstreams
		}
	}
	plugin.manifest.Upstreams = append(plugin.manifest.Upstreams, string([]byte(name)))
	return Upstream(len(plugin.manifest.Upstreams) - 1) //nolint:gosec // see above
}

// configure answers the call of the same name.
func configure(in []byte) uint64 {
	m, d := &plugin.manifest, &plugin.static
	if !plugin.sealed {
		plugin.sealed = true
		*d = declared{len(m.RequestHeaders), len(m.ResponseHeaders), len(m.Metrics), m.RequestBody, m.ResponseBody, m.Tick}
	}
	m.RequestHeaders, m.ResponseHeaders, m.Metrics = m.RequestHeaders[:d.requestHeaders], m.ResponseHeaders[:d.responseHeaders], m.Metrics[:d.metrics]
	m.RequestBody, m.ResponseBody, m.Tick = d.requestBody, d.responseBody, d.tick
	m.Upstreams, m.Calls, m.Stores = nil, nil, nil
	out.begin()
	raw, err := abi.ParseConfig(in)
	if err != nil {
		return out.text(err.Error())
	}
	if plugin.configure != nil {
		if err := plugin.configure(&Config{raw}); err != nil {
			return out.text(err.Error())
		}
	}
	m.Phases = 0
	if plugin.request != nil {
		m.Phases |= abi.WantsRequest
	}
	switch {
	case plugin.response == nil:
	case plugin.marked:
		m.Phases |= abi.WantsMarkedResponses
	default:
		m.Phases |= abi.WantsResponse
	}
	if m.RequestBody.Mode != abi.BodyNone || m.Phases == 0 && plugin.tick != nil {
		m.Phases |= abi.WantsRequest // without a handler it says CONTINUE
	}
	if m.ResponseBody.Mode != abi.BodyNone && m.Phases&^abi.WantsRequest == 0 {
		m.Phases |= abi.WantsResponse
	}
	if m.Phases == 0 {
		return out.text("the plugin registers no handler: call wasmgate.Handle in init")
	}
	out.buf = abi.AppendManifest(out.buf, m)
	return abi.Pack(uint32(abi.CodeOK), out.settle())
}

// The handlers' arguments are used again for every call: they are valid during one call only, and a fresh one would
// be an allocation.
var (
	theRequest  Request
	theResponse Response
)

func request(in []byte) uint64 {
	out.begin()
	theRequest.begin(in, abi.MessageRequest)
	if plugin.request == nil {
		return 0
	}
	return out.finish(plugin.request(&theRequest))
}

func response(in []byte) uint64 {
	out.begin()
	theResponse.begin(in, abi.MessageResponse)
	if plugin.response == nil {
		return 0
	}
	return out.finish(plugin.response(&theResponse))
}
