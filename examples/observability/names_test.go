package observability

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

// query is a PromQL text of a file.
type query struct {
	where  string // for errors
	text   string
	legend string
}

// variables are what Grafana puts in the place of its own.
var variables = strings.NewReplacer("$__rate_interval", "1m", "$job", "wasmgate", "$instance", ".*", "$upstream", ".*", "${datasource}", "prometheus")

// dashboard is as much of one as there is to check.
type dashboard struct {
	Panels []struct {
		Type, Title string
		Targets     []struct{ Expr, LegendFormat string }
	}
	Annotations struct{ List []struct{ Name, Expr string } }
	Templating  struct {
		List []struct{ Type, Name, Definition string }
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)

func readDashboard(t *testing.T) (d dashboard, queries []query) {
	t.Helper()
	b, err := os.ReadFile("grafana/dashboards/wasmgate.json")
	if err == nil {
		err = json.Unmarshal(b, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			queries = append(queries, query{"panel " + p.Title, variables.Replace(target.Expr), target.LegendFormat})
		}
	}
	for _, a := range d.Annotations.List {
		queries = append(queries, query{"annotation " + a.Name, variables.Replace(a.Expr), ""})
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			m := labelValues.FindStringSubmatch(v.Definition)
			if m == nil {
				t.Fatalf("variable %s is %q", v.Name, v.Definition)
			}
			queries = append(queries, query{"variable " + v.Name, variables.Replace("count by (" + m[2] + ") (" + m[1] + ")"), ""})
		}
	}
	return d, queries
}

func readRules(t *testing.T) (rules []rulefmt.Rule, queries []query) {
	t.Helper()
	files, _ := filepath.Glob("rules/*.yml")
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation)
		for _, err := range errs {
			t.Error(err)
		}
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				rules = append(rules, r)
				queries = append(queries, query{file + ": " + r.Alert + r.Record, r.Expr, ""})
			}
		}
	}
	if len(rules) == 0 {
		t.Fatal("no rules")
	}
	return rules, queries
}

// surface is what can be asked for: the labels of each series, and the values that they have.
type surface struct {
	labels map[string]map[string]bool // by the series' name
	values map[string]bool
}

// words are the values of labels that the gateway's sources name: reasons, kinds, states.
var words = regexp.MustCompile(`"([a-z0-9_]+)"`)

func newSurface(t *testing.T, scrape map[string]*dto.MetricFamily) *surface {
	t.Helper()
	s := &surface{map[string]map[string]bool{"up": {}}, map[string]bool{"wasmgate": true}}
	for name, f := range scrape {
		set := map[string]bool{}
		for _, m := range f.Metric {
			for _, l := range m.Label {
				set[l.GetName()] = true
				s.values[l.GetValue()] = true
			}
		}
		s.labels[name] = set
		if f.GetType() == dto.MetricType_HISTOGRAM {
			s.labels[name+"_sum"], s.labels[name+"_count"] = set, set
			set = maps.Clone(set)
			set["le"] = true
			s.labels[name+"_bucket"] = set
		}
	}
	for _, file := range []string{"fault/fault.go", "upstream/facts/facts.go", "exchange/exchange.go", "exchange/session.go", "telemetry/members.go", "telemetry/collect.go"} {
		b, err := os.ReadFile(filepath.Join("../../runtime", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range words.FindAllSubmatch(b, -1) {
			s.values[string(m[1])] = true
		}
	}
	return s
}

// record adds what recording rules make.
func (s *surface) record(t *testing.T, rules []rulefmt.Rule) {
	for _, r := range rules {
		if r.Record == "" {
			continue
		}
		e, err := parser.ParseExpr(r.Expr)
		if err != nil {
			t.Fatalf("%s: %v", r.Record, err)
		}
		s.labels[r.Record] = s.of(e)
	}
}

// of are the labels that e's series have.
func (s *surface) of(e parser.Expr) map[string]bool {
	set := map[string]bool{"job": true, "instance": true}
	switch e := e.(type) {
	case *parser.AggregateExpr:
		set = map[string]bool{}
		for _, l := range e.Grouping {
			set[l] = true
		}
		return set
	case *parser.VectorSelector:
		maps.Copy(set, s.labels[e.Name])
		return set
	case *parser.BinaryExpr:
		set = s.of(e.LHS)
		if e.VectorMatching != nil && e.Op == parser.LOR {
			maps.Copy(set, s.of(e.RHS))
		}
		return set
	case *parser.Call:
		for _, a := range e.Args {
			if a.Type() == parser.ValueTypeVector || a.Type() == parser.ValueTypeMatrix {
				set = s.of(a)
			}
		}
		if e.Func.Name == "histogram_quantile" {
			delete(set, "le")
		}
		return set
	case *parser.MatrixSelector:
		return s.of(e.VectorSelector)
	case *parser.ParenExpr:
		return s.of(e.Expr)
	}
	return set
}

var legendLabel = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// reporter is told what is wrong: a test, or one that tries this one.
type reporter interface {
	Helper()
	Errorf(format string, args ...any)
}

// complaints counts.
type complaints int

func (c *complaints) Helper()               {}
func (c *complaints) Errorf(string, ...any) { *c++ }

// check holds a query against the surface.
func (s *surface) check(t reporter, q query) {
	t.Helper()
	e, err := parser.ParseExpr(q.text)
	if err != nil {
		t.Errorf("%s: %v", q.where, err)
		return
	}
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			s.checkSelector(t, q, n)
		case *parser.AggregateExpr:
			have := s.of(n.Expr)
			for _, l := range n.Grouping {
				if !have[l] {
					t.Errorf("%s: there is no label %s in %s", q.where, l, n.Expr)
				}
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				for _, l := range n.VectorMatching.MatchingLabels {
					if !s.of(n.LHS)[l] || !s.of(n.RHS)[l] {
						t.Errorf("%s: both sides must have the label %s: %s", q.where, l, n)
					}
				}
			}
		}
		return nil
	})
	have := s.of(e)
	for _, m := range legendLabel.FindAllStringSubmatch(q.legend, -1) {
		if !have[m[1]] {
			t.Errorf("%s: the legend %q names a label that %s has not", q.where, q.legend, e)
		}
	}
}

func (s *surface) checkSelector(t reporter, q query, n *parser.VectorSelector) {
	t.Helper()
	known, ok := s.labels[n.Name]
	if !ok {
		t.Errorf("%s: there is no metric %s", q.where, n.Name)
		return
	}
	for _, m := range n.LabelMatchers {
		if m.Name == labels.MetricName || m.Name == "job" || m.Name == "instance" {
			continue
		}
		if !known[m.Name] {
			t.Errorf("%s: %s has no label %s", q.where, n.Name, m.Name)
		}
		for _, v := range strings.Split(m.Value, "|") {
			if v != ".*" && !s.values[v] {
				t.Errorf("%s: no label has the value %q", q.where, v)
			}
		}
	}
}

// Every metric, label and value that the dashboard and the rules name is one that a gateway has.
func TestQueriesAskForWhatThereIs(t *testing.T) {
	g := startGateway(t)
	g.live("")
	rules, ruleQueries := readRules(t)
	_, panelQueries := readDashboard(t)
	for _, native := range []bool{false, true} {
		s := newSurface(t, g.scrape(native))
		s.record(t, rules)
		for _, q := range slices.Concat(ruleQueries, panelQueries) {
			s.check(t, q)
		}
	}
	testDocumented(t, newSurface(t, g.scrape(false)))
}

// absent are metrics that need something that this gateway does not have: an upstream that closes idle connections, an issuer
// of certificates, a plugin that looks into compressed bodies.
var absent = []string{
	"wasmgate_upstream_learned_idle_timeout_seconds", "wasmgate_decompression_bytes_total",
	"wasmgate_acme_certificate_not_after_seconds", "wasmgate_acme_certificates_total", "wasmgate_acme_next_attempt_seconds",
}

var metricName = regexp.MustCompile(`\bwasmgate_[a-z0-9_]+\b`)

// testDocumented: README.md, and the table of all metrics, name no other metrics than a gateway has, and the table all of those.
func testDocumented(t *testing.T, s *surface) {
	t.Helper()
	documented := map[string]bool{}
	for _, file := range []string{"README.md", "../../runtime/telemetry/README.md"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricName.FindAllString(string(b), -1) {
			documented[name] = true
			if s.labels[name] == nil && !slices.Contains(absent, name) && name != "wasmgate_plugin_custom_" {
				t.Errorf("%s names %s, and no gateway has it", file, name)
			}
		}
	}
	for name := range s.labels {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "wasmgate_") && !documented[base] && !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
}

// What a query must not be taken for right, because the check looks elsewhere.
func TestWrongQueriesAreFound(t *testing.T) {
	s := &surface{
		labels: map[string]map[string]bool{"a_total": {"reason": true, "upstream": true}, "b": {"upstream": true}},
		values: map[string]bool{"first": true},
	}
	for text, wrong := range map[string]bool{
		`sum by (upstream) (rate(a_total{reason="first"}[1m])) / on (upstream) b`: false,
		`rate(c_total[1m])`:             true,
		`a_total{route="x"}`:            true,
		`a_total{reason="last"}`:        true,
		`a_total{reason=~"first|x"}`:    true,
		`sum by (route) (a_total)`:      true,
		`a_total / on (reason) b`:       true,
		`sum by (upstream) (a_total`:    true,
		`sum by (reason) (rate(b[1m]))`: true,
	} {
		var said complaints
		if s.check(&said, query{"probe", text, ""}); (said > 0) != wrong {
			t.Errorf("%s: %d complaints", text, said)
		}
	}
}

// README.md explains every panel and every alert, and each alert leads to its section.
func TestEveryPanelAndAlertIsExplained(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)
	d, _ := readDashboard(t)
	panels := 0
	for _, p := range d.Panels {
		if p.Type == "row" {
			continue
		}
		panels++
		if len(p.Targets) == 0 || !strings.Contains(text, "\n| **"+p.Title+"** | ") {
			t.Errorf("README.md does not explain the panel %s", p.Title)
		}
	}
	if n := strings.Count(text, "\n| **"); n != panels {
		t.Errorf("README.md explains %d panels, there are %d", n, panels)
	}
	rules, _ := readRules(t)
	alerts := 0
	for _, r := range rules {
		if r.Alert == "" {
			continue
		}
		alerts++
		if !strings.Contains(text, "\n### "+r.Alert+"\n") {
			t.Errorf("README.md does not explain %s", r.Alert)
		}
		if want := "examples/observability/README.md#" + strings.ToLower(r.Alert); r.Annotations["runbook"] != want || r.Annotations["summary"] == "" {
			t.Errorf("%s: runbook %q, want %q; summary %q", r.Alert, r.Annotations["runbook"], want, r.Annotations["summary"])
		}
		if s := r.Labels["severity"]; s != "page" && s != "warn" {
			t.Errorf("%s: severity %q", r.Alert, s)
		}
	}
	if n := strings.Count(text, "\n### Wasmgate"); n != alerts {
		t.Errorf("README.md explains %d alerts, there are %d", n, alerts)
	}
}

// The gateway of the tour has a config that can be put in force.
func TestTheToursConfigIsRight(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(path, "check", "wasmgate.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
