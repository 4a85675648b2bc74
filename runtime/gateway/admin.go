package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"wasmgate/config"
	"wasmgate/runtime/admin"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/upstream"
)

// Operators is what the admin endpoint needs of who runs the gateway, who has the config file and the log. What is nil the
// endpoint says that it cannot do.
type Operators struct {
	File   string         // the config's; "": there is none
	Report *config.Report // of Options.Config
	// Load reads the config file, and changes nothing.
	Load func() (*config.Config, *config.Report, error)
	// Reload reads the config file and puts it in force, by Gateway.ReloadFrom.
	Reload      func() (*config.Report, error)
	LogLevel    func() string
	SetLogLevel func(string) error
}

// errStopping is the error of what would change a gateway that is stopping.
var errStopping = fmt.Errorf("the gateway is stopping: %w", admin.ErrConflict)

// Bounds of the endpoint. A profile may take a minute, and is written at its end.
const (
	adminConnections  = 128
	adminWriteTimeout = 75 * time.Second
	adminHeadBytes    = 16 << 10
)

// openAdmin opens the endpoint for operators.
func (g *Gateway) openAdmin() error {
	c := &g.options.Config.Admin
	if c.Address == "" {
		return nil
	}
	access, err := adminAccess(c)
	if err != nil {
		return err
	}
	secure, err := adminTLS(c)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", c.Address)
	if err != nil {
		return fmt.Errorf("admin.address %s: %w", c.Address, err)
	}
	g.adminAddr = ln.Addr().(*net.TCPAddr).AddrPort()
	ln = netutil.LimitListener(ln, adminConnections)
	if secure != nil {
		ln = tls.NewListener(ln, secure)
	}
	o := operators{g}
	g.admin = &http.Server{
		Handler: admin.Handler(admin.Options{
			Address: g.adminAddr, Access: access, Log: g.log, Gateway: o, Explain: g.Explain,
			Health: admin.Health{Metrics: g.telemetry.MetricsHandler(), Ready: g.missing},
			Pools:  admin.Pools{Upstreams: g.upstreams, Counts: g.telemetry.Connections, Target: liveTarget, At: func(name string) string { return o.at("upstreams." + name) }},
		}),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: adminWriteTimeout, IdleTimeout: time.Minute, MaxHeaderBytes: adminHeadBytes,
		ErrorLog: stdlog.New(serverLog{g.log}, "", 0),
	}
	go func() { _ = g.admin.Serve(ln) }()
	g.log.Info().Stringer("address", g.adminAddr).Bool("tls", secure != nil).Bool("token", len(access.Tokens) > 0).Bool("client_certificates", access.Certificates).
		Msg("admin endpoint: a page at /, and /metrics, /healthz, /readyz, /openapi.json")
	return nil
}

// serverLog takes what the server says of connections: handshakes that failed, and bytes that were no request.
type serverLog struct{ zerolog.Logger }

// Write implements io.Writer.
func (l serverLog) Write(line []byte) (int, error) {
	l.Debug().Str("says", strings.TrimSpace(string(line))).Msg("admin endpoint")
	return len(line), nil
}

// adminAccess is who may ask.
func adminAccess(c *config.Admin) (a admin.Access, err error) {
	a = admin.Access{Certificates: c.TLS.ClientCA != "", OpenHealth: c.OpenHealth}
	if c.Token != "" {
		a.Tokens = append(a.Tokens, admin.NewToken("token", c.Token))
	}
	if c.TokenFile == "" {
		return a, nil
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return a, fmt.Errorf("admin.token_file: %w", err)
	}
	list, err := readTokens(string(text))
	if err != nil {
		return a, fmt.Errorf("admin.token_file %s: %w", c.TokenFile, err)
	}
	a.Tokens = append(a.Tokens, list...)
	return a, nil
}

// adminTLS is nil where the endpoint is served without. Who shows no certificate may still have a token, or ask for what
// everybody may.
func adminTLS(c *config.Admin) (*tls.Config, error) {
	if c.TLS.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(c.TLS.Cert, c.TLS.Key)
	if err != nil {
		return nil, fmt.Errorf("admin.tls: %w", err)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}
	if c.TLS.ClientCA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.TLS.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("admin.tls.client_ca: %w", err)
	}
	t.ClientAuth, t.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool()
	if !t.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("admin.tls.client_ca: %s has no certificate in PEM", c.TLS.ClientCA)
	}
	return t, nil
}

// operators is the gateway as the admin endpoint sees it.
type operators struct{ *Gateway }

var _ admin.Gateway = operators{}

// at says where a key of the config in force stands: file:line:column; "" where that is not known.
func (o operators) at(path string) string {
	s := o.current.Load()
	if s == nil || s.report == nil {
		return ""
	}
	return s.report.At(path).String()
}

// Process implements admin.Gateway.
func (o operators) Process() admin.Process {
	b := o.options.Build
	p := admin.Process{
		Version: b.Version, Revision: b.Revision, Go: runtime.Version(), Started: o.started, Uptime: time.Since(o.started).Seconds(),
		Clients: o.group.Accepted(), Loops: []admin.Loop{},
		Config: admin.ProcessConfig{File: o.options.Admin.File, Reloads: o.reloads.Load(), ReloadsFailed: o.failed.Load(), Since: o.started},
	}
	if s := o.current.Load(); s != nil {
		p.Config.Since = s.loaded
	}
	for i, l := range o.group.Loops() {
		s := l.Look()
		p.Loops = append(p.Loops, admin.Loop{Loop: i, Connections: s.Conns, Tasks: s.Tasks, Busy: s.Busy.Seconds(), Elapsed: s.Elapsed.Seconds()})
	}
	return p
}

// Listeners implements admin.Gateway.
func (o operators) Listeners() []admin.Listener {
	list := []admin.Listener{}
	s := o.current.Load()
	if s == nil {
		return list
	}
	hits, _ := o.telemetry.Hits()
	for i := range s.config.Listeners {
		c, b := &s.config.Listeners[i], &s.listeners[i]
		l := admin.Listener{Name: b.name, Address: c.Address, Bound: s.bound[i].String(), Mode: b.mode(), Plugins: names(c.Plugins), Upstream: c.Upstream, Requests: hits[b.name], At: o.at(fmt.Sprintf("listeners[%d]", i))}
		for _, r := range c.SNI {
			l.SNI = append(l.SNI, admin.SNI{Hosts: r.Host, Upstream: r.Upstream})
		}
		l.Certificates = o.certificates(c, b.set)
		list = append(list, l)
	}
	return list
}

// Routes implements admin.Gateway.
func (o operators) Routes() []admin.Route {
	list := []admin.Route{}
	s := o.current.Load()
	if s == nil {
		return list
	}
	_, hits := o.telemetry.Hits()
	for i := range s.config.Routes {
		c := &s.config.Routes[i]
		r := admin.Route{
			Index: i, Name: c.Name, Hits: hits[c.Name], Plugins: names(c.Plugins), Upstream: c.Upstream, Exclude: c.Exclude, At: o.at(fmt.Sprintf("routes[%d]", i)),
			Match: admin.RouteMatch{
				Hosts: c.Match.Host, Path: c.Match.Path, PathPrefix: c.Match.PathPrefix, PathRegex: c.Match.PathRegex, Methods: c.Match.Methods, Plugin: c.Match.Plugin,
				Headers: conditionWords(c.Match.Headers), Query: conditionWords(c.Match.Query),
			},
		}
		if a := respond(c); a != nil {
			r.Respond = a.Status
		}
		list = append(list, r)
	}
	return list
}

// names is list, and no null where it is empty.
func names(list []string) []string { return append([]string{}, list...) }

// conditionWords are conditions without their values, which may be secret.
func conditionWords(m map[string]config.ValueMatch) map[string]string {
	words := map[string]string{}
	for name, v := range m {
		words[name] = string(v.Kind)
	}
	return words
}

// Clients implements admin.Gateway.
func (o operators) Clients(limit int) admin.Clients {
	type part struct {
		total int
		list  []admin.Client
	}
	parts, missing := ask(o.group, func(l *netloop.Loop) (p part) {
		looked := 0
		l.SomeConns(func(c *netloop.Conn) bool {
			if c.Accepted() {
				p.list = append(p.list, clientView(l, c))
			}
			looked++
			return len(p.list) < limit && looked < maxLooked
		})
		for c := range o.observers[l.Index()].quic {
			if len(p.list) >= limit {
				break
			}
			p.list = append(p.list, http3View(l, c))
		}
		p.total = l.Look().Accepted
		return p
	})
	all := admin.Clients{Open: o.group.Accepted(), LoopsMissing: missing, Clients: []admin.Client{}}
	for _, p := range parts {
		all.Total += p.total
		all.Clients = append(all.Clients, p.list...)
	}
	all.Clients = all.Clients[:min(len(all.Clients), limit)]
	return all
}

// maxLooked is at how many connections a loop looks for one who asks: it has other things to do.
const maxLooked = 20_000

// patience is how long loops are waited for.
const patience = time.Second

// ask has fn run on each loop, and waits for a second at most. What a loop answers later nobody looks at.
func ask[T any](g *netloop.Group, fn func(*netloop.Loop) T) (answers []T, missing int) {
	said := make(chan T, len(g.Loops()))
	for _, l := range g.Loops() {
		l.Post(func() { said <- fn(l) })
	}
	late := time.NewTimer(patience)
	defer late.Stop()
	for range g.Loops() {
		select {
		case a := <-said:
			answers = append(answers, a)
		case <-late.C:
			return answers, len(g.Loops()) - len(answers)
		}
	}
	return answers, 0
}

// LogLevel implements admin.Gateway.
func (o operators) LogLevel() admin.LogLevel {
	l := admin.LogLevel{Level: string(o.options.Config.Telemetry.Log.Level)}
	configured := l.Level
	if o.options.Admin.LogLevel != nil {
		l.Level = o.options.Admin.LogLevel()
	}
	l.Live = l.Level != configured
	return l
}

// SetLogLevel implements admin.Gateway.
func (o operators) SetLogLevel(level string) error {
	if o.options.Admin.SetLogLevel == nil {
		return errors.New("the log's level cannot be changed here")
	}
	return o.options.Admin.SetLogLevel(level)
}

// upstreams are those in force, by name.
func (g *Gateway) upstreams() (list []*upstream.Upstream) {
	if s := g.current.Load(); s != nil {
		for _, name := range s.order {
			list = append(list, s.upstreams[name].Upstream)
		}
	}
	return list
}
