// Package suite reads tests of a plugin, written in YAML, and runs them: requests, and what the plugin shall decide about
// them. README.md of the SDKs says how they are written; the keys are below.
//
// YAML is read by package config, so that a mistake is told as one of a config is.
package suite

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"wasmgate/config"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/plugintest"
)

// Suffix is how the names of test files end.
const Suffix = ".test.yaml"

// File is a file of tests.
type File struct {
	Module string `koanf:"module" doc:"The module, from the file's folder. Default: what plugin build makes there."`
	Plugin Plugin `koanf:"plugin" doc:"What the gateway's config would say of the plugin."`
	Tests  []Test `koanf:"tests" required:"true" doc:"The tests."`

	Name   string // of the file
	report *config.Report
	skip   map[int]bool // tests that nobody wants to run
}

// Plugin is what a config would say of the plugin; the keys are the config's.
type Plugin struct {
	Config    config.PluginConfig `koanf:"config" doc:"Handed to the plugin: a string as it is, anything else as JSON."`
	Upstreams []string            `koanf:"upstreams" doc:"Upstreams that it may choose. Default: all that it asks for."`
	Dynamic   []string            `koanf:"dynamic" doc:"Addresses that it may choose, as 10.0.0.7:8080. Default: none."`
	Env       map[string]string   `koanf:"env" doc:"Environment variables that it may read. Default: none."`
	Clock     bool                `koanf:"clock" doc:"It may read the real time."`
	ProxyWasm ProxyWasm           `koanf:"proxy_wasm" doc:"For modules that speak Proxy-Wasm."`
	Limits    Limits              `koanf:"limits" doc:"What one instance may use. Default: what the gateway's config has."`
}

// ProxyWasm is what Proxy-Wasm has a plugin know.
type ProxyWasm struct {
	RootID   string `koanf:"root_id" doc:"Which of the module's root contexts the plugin is."`
	VMID     string `koanf:"vm_id" doc:"The id of its VM."`
	VMConfig string `koanf:"vm_config" doc:"Handed to on_vm_start."`

	StopIteration string          `koanf:"stop_iteration" enum:"auto,all,headers" doc:"What pausing in a callback for headers means, as in the gateway's config."`
	MaxPause      config.Duration `koanf:"max_pause" min:"1ms" max:"1h" doc:"How long a stream may be paused before that is a failure, as 50ms. Default: 1s, and what the delays of the test's calls come to."`
}

// Limits bound an instance.
type Limits struct {
	Memory config.Size `koanf:"memory" min:"64KiB" max:"4GiB" doc:"Most linear memory, as 16MiB."`
	Body   config.Size `koanf:"body" min:"0" max:"1GiB" doc:"Most bytes of a body that are held, as 64KiB. Default: what the plugin asks for."`
	Fuel   int         `koanf:"fuel" min:"1000" doc:"Most fuel for one call."`
}

// Test is a request and what shall become of it, or several in turn.
type Test struct {
	Name   string                       `koanf:"name" required:"true" doc:"What is tested."`
	Config *config.PluginConfig         `koanf:"config" doc:"Instead of the file's."`
	Refuse Match                        `koanf:"refuse" doc:"The plugin shall refuse its configuration, with this text in what it says."`
	State  map[string]map[string]Stored `koanf:"state" doc:"What is in key-value stores before it, by store and key; \"counter 7\" is a counter."`
	Calls  []Call                       `koanf:"calls" doc:"The requests that the plugin sends to upstreams, and their answers."`
	Steps  []Step                       `koanf:"steps" doc:"Several requests, one after the other, to the same plugin."`

	Role           string    `koanf:"role" enum:"route,match,listener"`
	Route          string    `koanf:"route"`
	Request        *Request  `koanf:"request"`
	Expect         *Expect   `koanf:"expect"`
	Response       *Response `koanf:"response"`
	ExpectResponse *Expect   `koanf:"expect_response"`
}

// Step is a request and what shall become of it.
type Step struct {
	Times          int             `koanf:"times" min:"1" max:"100000" doc:"How often it is sent. Default: once."`
	Wait           config.Duration `koanf:"wait" doc:"How long to wait before it, as 50ms."`
	Role           string          `koanf:"role" enum:"route,match,listener" doc:"Where in the config the plugin stands. Default: route."`
	Route          string          `koanf:"route" doc:"The name of the route that matched. Default: test."`
	Request        *Request        `koanf:"request" required:"true" doc:"The request."`
	Expect         *Expect         `koanf:"expect" doc:"What the plugin shall decide about the request."`
	Response       *Response       `koanf:"response" doc:"The upstream's answer. Default: none, and the plugin is not asked about it."`
	ExpectResponse *Expect         `koanf:"expect_response" doc:"What the plugin shall decide about the answer."`

	path string // where it stands
}

// Request is a request.
type Request struct {
	Method   string            `koanf:"method" doc:"Default: GET."`
	URL      string            `koanf:"url" doc:"A path, or a whole URL. Default: http://example.com/"`
	Headers  map[string]Values `koanf:"headers" doc:"A text, or a list of texts for a field that is there several times."`
	Body     Values            `koanf:"body" doc:"A text, or a list of texts: the pieces in which it comes. Default: none."`
	Trailers map[string]Values `koanf:"trailers"`
	Client   string            `koanf:"client" doc:"The client's address. Default: 192.0.2.7"`
	TLS      *TLS              `koanf:"tls" doc:"How the client's connection is secured. Default: not at all, whatever the URL says."`
}

// Response is an upstream's answer.
type Response struct {
	Status   int               `koanf:"status" min:"200" max:"599" doc:"Default: 200."`
	Headers  map[string]Values `koanf:"headers"`
	Body     Values            `koanf:"body"`
	Trailers map[string]Values `koanf:"trailers"`
}

// Expect is what shall become of a message. What is not there is not looked at; but a plugin that fails when it is not
// expected to fails the test.
type Expect struct {
	Decision   string                      `koanf:"decision" enum:"continue,route,deny,respond,no_match,rematch,fail" doc:"deny: a status of 400 to 599, and no body. respond: any other answer of the plugin's own."`
	Upstream   Match                       `koanf:"upstream" doc:"The upstream that was chosen; {absent: true} for none."`
	Address    Match                       `koanf:"address" doc:"The address that was chosen."`
	Status     int                         `koanf:"status" min:"200" max:"599" doc:"Of the answer."`
	Method     Match                       `koanf:"method"`
	Authority  Match                       `koanf:"authority"`
	Path       Match                       `koanf:"path"`
	Query      Match                       `koanf:"query"`
	Headers    map[string]Match            `koanf:"headers" doc:"Fields of the message as it goes on, set by the plugin or not; others may be there."`
	Set        map[string]Match            `koanf:"set" doc:"The fields that the plugin set or added: all of them."`
	Removed    *[]string                   `koanf:"removed" doc:"The fields that the plugin removed: all of them."`
	Trailers   map[string]Match            `koanf:"trailers"`
	Body       Match                       `koanf:"body" doc:"The body as it goes on, or of the plugin's answer."`
	Timeout    *config.Duration            `koanf:"timeout" doc:"The time limit that was set for the request, as 1.5s."`
	Attributes map[string]Match            `koanf:"attributes" doc:"Attributes of the trace; others may be there."`
	Log        *[]Match                    `koanf:"log" doc:"Texts in the lines that the plugin wrote, line by line: all of them."`
	Error      Match                       `koanf:"error" doc:"A text in what the failure says. The decision is fail."`
	State      map[string]map[string]Match `koanf:"state" doc:"What is in key-value stores then, by store and key; others may be there."`
	Metrics    map[string]Number           `koanf:"metrics" doc:"What was measured since the start, by metric; of a histogram, how often."`
	MaxFuel    int                         `koanf:"max_fuel" min:"1" doc:"The most fuel that the decision may take."`
}

// ReadFile reads a file of tests. An error lists every mistake with its place.
func ReadFile(name string) (*File, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, data)
}

// Parse reads tests. name is what messages call the file, and its folder is where the module's path begins.
func Parse(name string, data []byte) (*File, error) {
	f := &File{Name: name}
	report, err := config.Decode(name, data, nil, f)
	var list config.Errors
	if errors.As(err, &list) {
		for i := range list {
			if list[i].Path == "plugin.calls" || list[i].Path == "plugin.state" {
				list[i].Help = "in tests, services and stores are granted as the plugin asks for them: leave it out; what they answer and hold is `calls` and `state` of a test"
			}
		}
		return nil, list
	}
	if err != nil {
		return nil, err
	}
	f.report = report
	for i := range f.Tests {
		list = append(list, f.check(i)...)
	}
	if len(list) > 0 {
		return nil, list
	}
	if f.Module != "" && !filepath.IsAbs(f.Module) {
		f.Module = filepath.Join(filepath.Dir(name), f.Module)
	}
	return f, nil
}

// check finds what is wrong with a test although each of its keys is fine, and brings it into its one form.
func (f *File) check(i int) (list config.Errors) {
	t := &f.Tests[i]
	at := fmt.Sprintf("tests[%d]", i)
	fail := func(path, message, help string) { list = append(list, f.report.Problem(path, message, help)) }
	single := t.Request != nil || t.Expect != nil || t.Response != nil || t.ExpectResponse != nil || t.Role != "" || t.Route != ""
	switch {
	case t.Refuse.set:
		if single || t.Steps != nil {
			fail(at+".refuse", "a plugin that refuses its configuration is sent no request", "remove `request` and `steps`")
		}
		return list
	case single && t.Steps != nil:
		fail(at+".steps", "a test has either one request or steps", "move `request` and what belongs to it into a step")
		return list
	case t.Steps != nil:
		for k := range t.Steps {
			t.Steps[k].path = fmt.Sprintf("%s.steps[%d]", at, k)
		}
	case t.Request == nil:
		fail(at, "\"request\" is missing", "write `request: { url: / }`, or `steps`")
		return list
	default:
		t.Steps = []Step{{
			Role: t.Role, Route: t.Route, Request: t.Request, Expect: t.Expect, Response: t.Response, ExpectResponse: t.ExpectResponse, path: at,
		}}
	}
	for k := range t.Steps {
		s := &t.Steps[k]
		s.Times = max(s.Times, 1)
		if s.ExpectResponse != nil && s.Response == nil {
			fail(s.path+".expect_response", "nothing is expected of an answer that is not there", "write `response: { status: 200 }` too")
		}
		if _, err := s.request(); err != nil {
			at, help := ".url", "write a path such as /orders?id=1, or http://example.com/orders"
			var m *misplaced
			if errors.As(err, &m) {
				at, help = m.at, m.help
			}
			fail(s.path+".request"+at, err.Error(), help)
		}
	}
	return list
}

// At is the place of a test, for messages.
func (f *File) At(test int) config.Position { return f.report.At(fmt.Sprintf("tests[%d]", test)) }

// Cases are the requests of all tests, for those who measure: also of those whose calls and state there are.
func (f *File) Cases() []NamedCase {
	var list []NamedCase
	for i := range f.Tests {
		t := &f.Tests[i]
		for k := range t.Steps {
			c, err := t.Steps[k].plan()
			if err != nil {
				continue // not after check
			}
			name := t.Name
			if len(t.Steps) > 1 {
				name = fmt.Sprintf("%s, step %d", name, k+1)
			}
			list = append(list, NamedCase{Name: name, Config: f.configOf(t), Case: c, file: f, test: t})
		}
	}
	return list
}

// NamedCase is a request of a test.
type NamedCase struct {
	Name   string
	Config []byte
	Case   plugintest.Case

	file *File
	test *Test
}

// Apply adds to settings what the request's test says there is around the plugin: stores with what is in them, and
// upstreams that answer as often as they are asked, and at once.
func (c *NamedCase) Apply(s *plugintest.Settings, h *plugintest.Host) {
	if c.test == nil {
		return
	}
	outside := newUpstreams(c.test.Calls)
	outside.forever = true
	s.Calls, s.Call = outside.names(), outside.answer
	s.Stores = stores(c.test.State, h.Now())
	s.MaxPause = c.file.maxPause(nil)
}

// Called are the upstreams that tests have the plugin call.
func (f *File) Called() (names []string) {
	for i := range f.Tests {
		for _, c := range f.Tests[i].Calls {
			if !slices.Contains(names, c.Upstream) {
				names = append(names, c.Upstream)
			}
		}
	}
	return names
}

func (f *File) configOf(t *Test) []byte {
	if t.Config != nil {
		return *t.Config
	}
	return f.Plugin.Config
}

// plan is a step as a host takes it.
func (s *Step) plan() (plugintest.Case, error) {
	m, err := s.request()
	c := plugintest.Case{Request: m, Route: s.Route, Role: map[string]filter.Role{"match": filter.Match, "listener": filter.Listener}[s.Role]}
	if s.Response != nil {
		c.Response = &plugintest.Message{
			Status: s.Response.Status, Fields: fields(s.Response.Headers), Body: s.Response.Body, Trailers: fields(s.Response.Trailers),
		}
	}
	return c, err
}

func (s *Step) request() (m plugintest.Message, err error) {
	r := s.Request
	m = plugintest.Message{Method: r.Method, Target: r.URL, Fields: fields(r.Headers), Body: r.Body, Trailers: fields(r.Trailers)}
	if strings.Contains(r.URL, "://") {
		u, err := url.Parse(r.URL)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return m, fmt.Errorf("%q is not an http or https URL", r.URL)
		}
		_, rest, _ := strings.Cut(r.URL, "://")
		rest = strings.TrimPrefix(rest, u.Host)
		if !strings.HasPrefix(rest, "/") {
			rest = "/" + rest
		}
		m.Scheme, m.Authority, m.Target = u.Scheme, u.Host, rest
	} else if r.URL != "" && r.URL[0] != '/' && r.URL != "*" {
		return m, fmt.Errorf("%q is neither a path nor a URL", r.URL)
	}
	for i, f := range m.Fields {
		if strings.EqualFold(f.Name, "host") {
			m.Authority = f.Value
			m.Fields = slices.Delete(m.Fields, i, i+1)
			break
		}
	}
	if r.Client != "" {
		if m.Client, err = netip.ParseAddr(r.Client); err != nil {
			return m, &misplaced{".client", fmt.Sprintf("client: %q is no address", r.Client), "write an address such as 192.0.2.7"}
		}
	}
	if r.TLS != nil {
		if m.Scheme == "http" {
			return m, &misplaced{".tls", "a connection with TLS brings no request for http", "write https in the URL, or a path alone"}
		}
		m.Scheme = "https"
		if m.TLS, err = r.TLS.facts(); err != nil {
			return m, &misplaced{".tls.certificate.ip", err.Error(), "write addresses such as 192.0.2.7"}
		}
	}
	return m, nil
}

// misplaced is a mistake in a request, but for one of its URL.
type misplaced struct{ at, text, help string }

func (m *misplaced) Error() string { return m.text }

func fields(m map[string]Values) (list []plugintest.Field) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		for _, v := range m[name] {
			list = append(list, plugintest.Field{Name: name, Value: v})
		}
	}
	return list
}
