package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"wasmgate/config"
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/plugintest"
	"wasmgate/runtime/upstream/facts"
	"wasmgate/runtime/watch"
)

// trying is a gateway around one plugin.
type trying struct {
	process   *Process
	args      []string
	port      int
	config    string
	upstreams []string // NAME=URL, or URL
	noBuild   bool

	paint   paint
	project *project
	echoes  *echoes
	tell    chan string // what happened, told by one goroutine
	names   []string    // of upstreams, by their id
	env     map[string]string
	gateway *gateway.Gateway

	logged, decided texts // failures that the log, and a decision, have told
}

func newRun(p *Process) *cobra.Command {
	t := &trying{process: p}
	c := &cobra.Command{
		Use:   "run [DIR|FILE]",
		Short: "Try a plugin: a gateway around it, and an upstream that echoes",
		Long: `Builds the project in DIR (default: this folder), or takes the module FILE, and serves a gateway around the plugin on
127.0.0.1. The upstream answers with what reached it; each upstream that the plugin asks for is one of its own. Every
decision is printed as it happens, with its edits, its time and its fuel, and what the plugin writes to the log.

A change of the sources, or of the module, is built and swapped in while requests run. The plugin's configuration is that
of its tests, or --config.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			t.args = args
			return failing(t.run())
		},
	}
	c.Flags().IntVar(&t.port, "port", 8080, "`port` of the gateway on 127.0.0.1; 0 is a free one, and so is 8080 when it is taken")
	c.Flags().StringVar(&t.config, "config", "", "the plugin's configuration: `text`, or @FILE")
	c.Flags().StringArrayVar(&t.upstreams, "upstream", nil, "a real upstream instead of an echo: `[NAME=]URL`; without a name it is the route's; may be repeated")
	c.Flags().BoolVar(&t.noBuild, "no-build", false, "serve the module that is there")
	return c
}

// routed is the upstream of the route: where requests go for which the plugin chooses none.
const routed = "app"

// stopping is how long requests may take to end after an interrupt.
const stopping = 5 * time.Second

func (t *trying) run() error {
	var err error
	if t.project, err = open(t.args); err != nil {
		return err
	}
	for _, u := range t.upstreams {
		if _, origin := named(u); !isOrigin(origin) {
			return fmt.Errorf("--upstream %s: that is no URL of an upstream; write [NAME=]http://HOST:PORT", u)
		}
	}
	t.paint = t.process.paint(t.process.Stdout)
	signals := t.process.Signals()
	log := zerolog.New(zerolog.ConsoleWriter{Out: t.process.Stderr, NoColor: !bool(t.paint), TimeFormat: time.TimeOnly}).Level(zerolog.WarnLevel).With().Timestamp().Logger()
	w, err := watch.New(&log)
	if err != nil {
		return err
	}
	defer w.Close()
	w.WatchList(t.project.watched) // before the files are read
	t.echoes = &echoes{}
	defer t.echoes.close()
	t.tell = make(chan string, 1000)
	c, err := t.plan(true)
	if errors.Is(err, errInterrupted) {
		return nil
	}
	if err != nil {
		return err
	}
	if t.gateway, err = gateway.New(gateway.Options{
		Config: c, Log: t.log(), Env: t.getenv, Build: t.process.Build, Watcher: t, Filter: t.observe,
	}); err != nil {
		return unjoined(err)
	}
	defer t.gateway.Close()
	if err := t.gateway.Start(); err != nil {
		return err
	}
	t.invite()
	t.serve(w, signals)
	ctx, cancel := context.WithTimeout(context.Background(), stopping)
	defer cancel()
	if err := t.gateway.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// serve tells what happens until it is interrupted.
func (t *trying) serve(w *watch.Watcher, signals <-chan os.Signal) {
	for {
		select {
		case s := <-t.tell:
			fmt.Fprint(t.process.Stdout, s)
		case <-w.Changed():
			t.reload()
		case s := <-signals:
			if s != syscall.SIGHUP {
				return
			}
			t.reload()
		}
	}
}

// reload builds the plugin anew and swaps it in. If that cannot be done, the one before stays.
func (t *trying) reload() {
	c, err := t.plan(!t.noBuild)
	if err == nil {
		err = unjoined(t.gateway.Reload(c))
	}
	switch {
	case errors.Is(err, errInterrupted): // and so is this, in a moment
		return
	case err != nil:
		fmt.Fprintf(t.process.Stdout, "%s\n", t.paint.in("bad", fmt.Sprintf("not swapped in, the one before goes on: %v", err)))
		return
	}
	fmt.Fprintf(t.process.Stdout, "%s\n", t.paint.in("good", "swapped in: "+t.project.module))
}

// unjoined is an error in the words of a plugin's author, who wrote no config.
func unjoined(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if rest, ok := strings.CutPrefix(text, "plugins."); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			text = after
		}
	}
	return errors.New(text)
}

// pluginName is what the plugin is called in the config: what the project is called, if that is a name there.
func (p *project) pluginName() string {
	if len(p.name) > 64 || !configName.MatchString(p.name) {
		return "plugin"
	}
	return p.name
}

// configName is what a config takes as a plugin's name.
var configName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// plan builds the plugin, asks it what it wants, and makes a config that grants it all.
func (t *trying) plan(build bool) (*config.Config, error) {
	pr := t.project
	module, err := t.process.prepare(pr, build && !t.noBuild)
	if err != nil {
		return nil, err
	}
	files, err := readTests(pr.tests())
	if err != nil {
		return nil, told(t.process, err)
	}
	limits, settings := limitsOf(files)
	settings.Name = pr.name
	if t.config != "" {
		if settings.Config, err = configText(t.config); err != nil {
			return nil, err
		}
	}
	h, err := plugintest.New(plugintest.Options{})
	if err != nil {
		return nil, err
	}
	defer h.Close()
	m, err := h.LoadAs(pr.name, module, limits)
	if err != nil {
		return nil, pr.named(err)
	}
	defer m.Close()
	p, err := m.Start(settings)
	if err != nil {
		return nil, t.process.unconfigured(pr, err)
	}
	defer p.Close()
	var called []string
	for _, f := range files {
		called = append(called, f.Called()...)
	}
	return t.configFor(p, &settings, called, int(limits.Fuel), int64(limits.MemoryPages)<<16)
}

// configFor is the gateway's config around a plugin.
func (t *trying) configFor(p *plugintest.Plugin, s *plugintest.Settings, called []string, fuel int, memory int64) (*config.Config, error) {
	module, err := filepath.Abs(t.project.module)
	if err != nil {
		return nil, err
	}
	name, plugin := t.project.pluginName(), map[string]any{"module": module}
	if len(s.Config) > 0 {
		plugin["config"] = configValue(s.Config)
	}
	limits := map[string]any{}
	if fuel > 0 {
		limits["fuel"] = fuel
	}
	if memory > 0 {
		limits["memory"] = strconv.FormatInt(memory, 10)
	}
	if len(limits) > 0 {
		plugin["limits"] = limits
	}
	plugin["log"] = map[string]any{"level": "debug", "rate": 1000}
	called = append(called, t.grant(plugin, p, s)...)
	if called, err = t.granted(p, called); err != nil {
		return nil, err
	}
	upstreams, err := t.targets(append(slices.Clone(p.Upstreams()), called...))
	if err != nil {
		return nil, err
	}
	if len(called) > 0 {
		slices.Sort(called)
		plugin["calls"] = slices.Compact(called)
	}
	if names := p.Upstreams(); len(names) > 0 {
		plugin["upstreams"] = names
	}
	port, err := t.choosePort()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{
		"listeners": []any{map[string]any{"name": "try", "address": "127.0.0.1:" + strconv.Itoa(port)}},
		"upstreams": upstreams,
		"plugins":   map[string]any{name: plugin},
		"routes":    []any{map[string]any{"name": "everything", "plugins": []string{name}, "upstream": routed}},
		"admin":     map[string]any{"address": ""},
		"telemetry": map[string]any{"access_log": map[string]any{"output": "off"}},
	})
	if err != nil {
		return nil, err
	}
	c, _, err := config.Load(config.Source{File: "the config around the plugin", Data: []byte(strings.ReplaceAll(string(text), "${", "$${"))})
	if err != nil {
		return nil, err
	}
	t.names = slices.Sorted(maps.Keys(c.Upstreams))
	return c, nil
}

// grant gives a plugin what its manifest and its tests ask for, and returns the upstreams that it calls.
func (t *trying) grant(plugin map[string]any, p *plugintest.Plugin, s *plugintest.Settings) (calls []string) {
	t.env = map[string]string{}
	var names []string
	for _, kv := range s.Env {
		name, value, _ := strings.Cut(kv, "=")
		t.env[name], names = value, append(names, name)
	}
	if names != nil {
		plugin["env"] = names
	}
	if s.Clock {
		plugin["clock"] = true
	}
	if s.RootID != "" || s.VMID != "" || len(s.VMConfig) > 0 {
		plugin["proxy_wasm"] = map[string]any{"root_id": s.RootID, "vm_id": s.VMID, "vm_config": string(s.VMConfig)}
	}
	m := p.Manifest()
	if m == nil {
		return nil
	}
	if len(m.Stores) > 0 {
		plugin["state"] = m.Stores
	}
	return slices.Clone(m.Calls)
}

// getenv is the environment that the plugin may see, as its tests have it, and otherwise the process's.
func (t *trying) getenv(name string) string {
	if value, ok := t.env[name]; ok {
		return value
	}
	return t.process.getenv(name)
}

// configValue is a plugin's configuration as YAML has it: JSON as what it says, anything else as a text.
func configValue(b []byte) any {
	var v any
	if b[0] != '{' && b[0] != '[' || json.Unmarshal(b, &v) != nil {
		return string(b)
	}
	return v
}

// choosePort returns the port that the gateway has or gets.
func (t *trying) choosePort() (int, error) {
	if t.gateway != nil {
		return t.port, nil
	}
	for _, port := range []int{t.port, 0} {
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			t.port = ln.Addr().(*net.TCPAddr).Port
			return t.port, ln.Close()
		}
		if port != 8080 {
			return 0, fmt.Errorf("port %d cannot be used: %w", port, err)
		}
	}
	return 0, errors.New("no port is free")
}

func (t *trying) invite() {
	url := "http://127.0.0.1:" + strconv.Itoa(t.port)
	fmt.Fprintf(t.process.Stdout, "%s around %s\n\n", t.paint.in("bold", "A gateway on "+url), t.project.module)
	for _, line := range t.suggestions(url) {
		fmt.Fprintf(t.process.Stdout, "  %s\n", line)
	}
	fmt.Fprintln(t.process.Stdout)
	fmt.Fprintf(t.process.Stdout, "%s Each decision is told here; a change is swapped in; Ctrl-C ends.\n\n", t.behind())
}

// mostSuggested is how many requests are proposed.
const mostSuggested = 5

// suggestions are curl commands for the requests of the plugin's tests.
func (t *trying) suggestions(url string) (list []string) {
	files, _ := readTests(t.project.tests()) // they were fine a moment ago
	for _, f := range files {
		for _, c := range f.Cases() {
			if line := curl(url, &c.Case.Request); len(list) < mostSuggested && !slices.Contains(list, line) {
				list = append(list, line)
			}
		}
	}
	if len(list) == 0 {
		list = append(list, "curl -i "+url+"/")
	}
	return list
}

// curl is the command that sends a request.
func curl(url string, m *plugintest.Message) string {
	b := "curl -i"
	if m.Method != "" && m.Method != "GET" && (m.Method != "POST" || m.Body == nil) {
		b += " -X " + m.Method
	}
	if m.Authority != "" {
		b += " -H " + quoted("host: "+m.Authority)
	}
	for _, f := range m.Fields {
		b += " -H " + quoted(f.Name+": "+f.Value)
	}
	if m.Body != nil {
		b += " --data-binary " + quoted(strings.Join(m.Body, ""))
	}
	target := m.Target
	if target == "" {
		target = "/"
	}
	return b + " " + quoted(url+target)
}

// plainWord is what a shell takes as it is.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9:/._=,-]+$`)

// quoted is a text as a shell takes it.
func quoted(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(printable(s), "'", `'\''`) + "'"
}

// log is the gateway's log: what the plugin writes to it, and warnings.
func (t *trying) log() zerolog.Logger {
	w := zerolog.ConsoleWriter{
		Out: writer(t.say), NoColor: !bool(t.paint), PartsExclude: []string{zerolog.TimestampFieldName},
		FieldsExclude: []string{"plugin", "phase", "says"}, FormatMessage: func(v any) string { return "" },
		FormatPrepare: func(m map[string]any) error {
			text, said := m["says"].(string) // which may be an empty line
			if !said {
				text, _ = m["message"].(string)
			}
			if failure, ok := strings.CutPrefix(text, "plugin failed: "); ok {
				t.logged.put(failure)
			}
			m["text"] = text
			return nil
		},
		PartsOrder: []string{"level", "phase", "text"},
	}
	w.FieldsExclude = append(w.FieldsExclude, "text")
	return zerolog.New(filtered{w})
}

// filtered lets through what a plugin writes, and warnings.
type filtered struct{ zerolog.ConsoleWriter }

// WriteLevel is zerolog.LevelWriter's.
func (f filtered) WriteLevel(l zerolog.Level, p []byte) (int, error) {
	if l < zerolog.WarnLevel && !strings.Contains(string(p), `"says":`) {
		return len(p), nil
	}
	return f.Write(p)
}

// writer is an io.Writer of a function.
type writer func(string)

func (w writer) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// say has a text told. It never waits: what comes too fast is not told.
func (t *trying) say(s string) {
	select {
	case t.tell <- s:
	default:
	}
}

// observe puts itself around the plugin.
func (t *trying) observe(_ string, f filter.Filter) filter.Filter {
	names := t.names
	upstream := func(id int) string {
		if id >= 0 && id < len(names) {
			return names[id]
		}
		return ""
	}
	return plugintest.Observe(f, upstream, func(x *exchange.Exchange, response bool, o *plugintest.Phase) {
		if !response || len(o.Calls) > 0 || o.Failure != nil { // it was asked
			t.say(t.decision(x, response, o))
		}
	})
}

// Exchange is gateway.Watcher's: the end of a request.
func (t *trying) Exchange(x *exchange.Exchange) {
	took := time.Duration(x.Ended - x.Started)
	from := "the plugin or the gateway"
	if a := x.Attempt(); a != nil {
		from = "upstream " + a.Upstream
	}
	if x.Err != nil {
		from += ": " + t.failure(x.Err)
	}
	colour := "good"
	if x.StatusSent >= 400 || x.StatusSent == 0 {
		colour = "bad"
	}
	t.say(fmt.Sprintf("  %s from %s, in all %s\n", t.paint.in(colour, strconv.Itoa(x.StatusSent)), from, micros(took)))
}

// ConnOpened is gateway.Watcher's.
func (*trying) ConnOpened(*facts.Connection) {}

// ConnClosed is gateway.Watcher's.
func (*trying) ConnClosed(*facts.Connection) {}
