package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
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
	shown   string       // file of the client's certificate
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
Where the listener speaks TLS, it says which certificate a client of the URL's host is shown, and the protocol. What such a listener
wants of clients' certificates is looked at too: --client-cert names the one that the client shows; its key is not needed.

A URL's bytes are taken as they are: quote it. tls://NAME asks about a listener in mode tcp, by its server name.`,
		Example: `  wasmgate explain http://shop.example/cart
  wasmgate explain -c edge.yaml POST 'http://shop.example/api?v=2' -H 'x-tenant: acme' -d '{"a": 1}'
  wasmgate explain --client 203.0.113.9 --listener public /admin
  wasmgate explain --admin 127.0.0.1:9901 http://shop.example/cart
  wasmgate explain --client-cert alice.pem https://shop.example:8443/cart
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
	f.StringVar(&q.shown, "client-cert", "", "PEM `file` of the certificate that the client shows")
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
	if q.shown != "" {
		b, err := os.ReadFile(q.shown)
		if err != nil {
			return failure{err}
		}
		if q.request.ClientCertificate = certificatesOf(b); q.request.ClientCertificate == "" {
			return failure{errors.New("--client-cert " + q.shown + ": there is no certificate in it (PEM)")}
		}
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

// certificatesOf leaves a key that is in the same file where it is.
func certificatesOf(text []byte) string {
	var b bytes.Buffer
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			break
		}
		if text = rest; block.Type == "CERTIFICATE" {
			_ = pem.Encode(&b, block) // a buffer takes anything
		}
	}
	return b.String()
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
