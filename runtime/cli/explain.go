package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"wasmgate/config"
	"wasmgate/runtime/cli/ask"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/gateway"
)

// question is what explain is asked.
type question struct {
	process *Process
	source  *source
	fields  []string
	data    string
	admin   ask.Endpoint
	token   func() error // reads the endpoint's
	json    bool
	all     bool
	request explain.Request
}

func newExplain(p *Process) *cobra.Command {
	q := &question{process: p, source: &source{process: p}}
	c := &cobra.Command{
		Use:   "explain [-c FILE | --admin ADDRESS] [METHOD] URL",
		Short: "Say where a request would go, and why, without sending it",
		Long: `Shows what a gateway would do with a request: which listener takes it, each route that is tried and why it does not
match, what each plugin decides and changes (they are run, in their sandbox), the upstream with its addresses and the rules
in force, and the request as it would go out, or the answer that the gateway gives itself.

With -c it reads a config as run would, and no gateway is needed. Names of targets may be looked up; nothing else is sent,
and nothing listens. With --admin a running gateway is asked, at its admin.address: then addresses come with their health,
connections and age of DNS as they are now, and what plugins find in their stores is a copy of what is there: a limit
denies whom it would deny, and counts nothing. Places are those of the file that it was started with, or, with both, of FILE.

Calls that plugins make are not sent: a plugin is told that the upstream is not available. With --calls they are.
A URL's bytes are taken as they are: quote it. tls://NAME asks about a listener in mode tcp, by its server name.`,
		Example: `  wasmgate explain http://shop.example/cart
  wasmgate explain -c edge.yaml POST 'http://shop.example/api?v=2' -H 'x-tenant: acme' -d '{"a": 1}'
  wasmgate explain --client 203.0.113.9 --listener public /admin
  wasmgate explain --admin 127.0.0.1:9901 http://shop.example/cart
  wasmgate explain --json /cart | jq .upstream.members
  wasmgate explain tls://db.example`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 2 {
				q.request.Method = args[0]
			}
			q.request.URL = args[len(args)-1]
			return q.answer()
		},
	}
	f := c.Flags()
	f.StringVarP(&q.source.file, "config", "c", "", "config `file`, or - for standard input (default wasmgate.yaml)")
	q.token = adminFlags(c, &q.admin, "", "ask the gateway whose admin endpoint has this `address`")
	f.StringArrayVarP(&q.fields, "header", "H", nil, "a `'name: value'` of the request; may be repeated")
	f.StringVarP(&q.data, "data", "d", "", "the request's `body`, or @FILE")
	f.StringVar(&q.request.Client, "client", "", "the `address` that the client has (default 127.0.0.1)")
	f.StringVar(&q.request.Listener, "listener", "", "`name` or address of the listener (default: by the URL's port)")
	f.BoolVar(&q.request.Calls, "calls", false, "send what plugins call")
	f.BoolVar(&q.json, "json", false, "write JSON")
	f.BoolVar(&q.all, "all", false, "write a line for each route, also for many that differ in the same")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	q.source.addSet(c)
	return c
}

// answer asks, and writes what is said.
func (q *question) answer() error {
	for _, field := range q.fields {
		name, value, ok := strings.Cut(field, ":")
		if !ok {
			return fmt.Errorf("-H %q is not as in 'name: value'", field)
		}
		q.request.Fields = append(q.request.Fields, explain.Field{Name: name, Value: strings.Trim(value, " \t")})
	}
	q.request.Body = q.data
	if name, ok := strings.CutPrefix(q.data, "@"); ok {
		b, err := os.ReadFile(name)
		if err != nil {
			return failure{err}
		}
		q.request.Body = string(b)
	}
	e, err := q.ask()
	var mistake explain.Mistake
	switch {
	case errors.As(err, &mistake):
		return mistake
	case err != nil:
		return err
	}
	if !q.json {
		_, err = io.WriteString(q.process.Stdout, e.Text(explain.Options{All: q.all, Color: q.process.color(q.process.Stdout)}))
		return err
	}
	out := json.NewEncoder(q.process.Stdout)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(e)
}

func (q *question) ask() (*explain.Explanation, error) {
	if q.admin.Admin != "" && q.source.file == "" && len(q.source.set) == 0 {
		return q.askGateway()
	}
	if err := q.source.find(); err != nil {
		return nil, errors.New("by which config? No -c FILE and no --admin ADDRESS was given, and there is no " + defaultFile + " in this folder")
	}
	c, report, err := q.source.load()
	if err != nil {
		fmt.Fprintln(q.process.Stderr, err)
		return nil, told(exitFailed)
	}
	var e *explain.Explanation
	if q.admin.Admin != "" {
		e, err = q.askGateway()
	} else {
		e, err = q.askConfig(c, report)
	}
	if err != nil {
		return nil, err
	}
	e.Locate(func(path string) string {
		if at := report.At(path); at != (config.Position{}) {
			return at.String()
		}
		return ""
	})
	return e, nil
}

// askConfig asks a gateway that is made for the question, and neither listens nor connects to anything.
func (q *question) askConfig(c *config.Config, report *config.Report) (*explain.Explanation, error) {
	trial := *c
	trial.Loops = 1
	trial.Telemetry.AccessLog.Output = "off"
	trial.PluginSources.Wait = max(c.PluginSources.Wait, config.Default().PluginSources.Wait) // a gateway may start without modules
	trial.Upstreams = map[string]*config.Upstream{}
	for name, u := range c.Upstreams {
		quiet := *u
		quiet.Health.Active.Type, quiet.Pool.MinIdle = config.CheckOff, 0
		trial.Upstreams[name] = &quiet
	}
	g, err := gateway.New(gateway.Options{Config: &trial, Log: zerolog.Nop(), Env: q.process.getenv, Build: readBuild().telemetry()})
	if err != nil {
		var list config.Errors
		for _, e := range unjoin(err) {
			list = append(list, placed(report, e))
		}
		list.Sort()
		fmt.Fprintln(q.process.Stderr, list)
		return nil, told(exitFailed)
	}
	defer g.Close()
	e, err := g.Explain(context.Background(), q.request)
	return e, failed(err)
}

// failed is a failure, unless the asker is to blame.
func failed(err error) error {
	var mistake explain.Mistake
	if err == nil || errors.As(err, &mistake) {
		return err
	}
	return failure{err}
}

// askGateway asks one that runs.
func (q *question) askGateway() (*explain.Explanation, error) {
	if err := q.token(); err != nil {
		return nil, err
	}
	body, err := json.Marshal(q.request)
	if err != nil {
		return nil, failure{err}
	}
	q.admin.Limit = 30 * time.Second // plugins may wait for what they call
	var e explain.Explanation
	err = q.admin.Post(context.Background(), "/explain", body, func(r io.Reader) error { return json.NewDecoder(r).Decode(&e) })
	var refused ask.Refused
	if errors.As(err, &refused) {
		return nil, explain.Mistake(refused)
	}
	return &e, failed(err)
}
