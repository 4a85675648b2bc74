package observability

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// need returns where a program is. Without it the test is skipped, or fails where everything must be tried.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("WASMGATE_TEST_ALL") != "" {
			t.Fatalf("%s is missing: it is in Debian's package prometheus", program)
		}
		t.Skipf("%s is missing: it is in Debian's package prometheus", program)
	}
	return path
}

// Prometheus's own tool takes the rules and the configuration, and fires each alert when it shall.
func TestEveryAlertFires(t *testing.T) {
	promtool := need(t, "promtool")
	for _, args := range [][]string{
		{"check", "config", "prometheus.yml"},
		{"check", "rules", "rules/recording.yml", "rules/alerts.yml"},
		{"test", "rules", "testdata/alerts_test.yml"},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
	b, err := os.ReadFile("testdata/alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	rules, _ := readRules(t)
	for _, r := range rules {
		if want := fmt.Sprintf(`count(ALERTS{alertname="%s",alertstate="firing"})`, r.Alert); r.Alert != "" && !strings.Contains(string(b), want) {
			t.Errorf("nothing tries %s", r.Alert)
		}
	}
}

// prometheus is a real one.
type prometheus struct {
	*testing.T
	url string
}

// startPrometheus starts one that scrapes the gateway often, with what compose.yaml turns on.
func startPrometheus(t *testing.T, g *gateway) *prometheus {
	t.Helper()
	path := need(t, "prometheus")
	rules, err := filepath.Abs("rules")
	if err != nil {
		t.Fatal(err)
	}
	dir, addr := t.TempDir(), freeAddr(t)
	config := fmt.Sprintf(`global: { scrape_interval: 200ms, evaluation_interval: 200ms }
rule_files: [%q]
scrape_configs: [{ job_name: wasmgate, static_configs: [{ targets: [%q] }] }]
`, rules+"/*.yml", g.admin)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+addr, "--enable-feature=native-histograms,exemplar-storage")
	return &prometheus{t, "http://" + addr}
}

// ask asks its API.
func (p *prometheus) ask(path string, into any, args ...string) error {
	values := url.Values{}
	for i := 0; i < len(args); i += 2 {
		values.Set(args[i], args[i+1])
	}
	resp, err := http.Get(p.url + "/api/v1/" + path + "?" + values.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return nil
}

// samples is how many series a query has now.
func (p *prometheus) samples(text string) int {
	p.Helper()
	var result struct{ Result []any }
	if err := p.ask("query", &result, "query", text); err != nil {
		p.Errorf("%s: %v", text, err)
	}
	return len(result.Result)
}

// quiet are queries that have no answer as long as nothing is wrong, or that need what this gateway has not.
var quiet = []string{"annotation Configuration put in force"}

// A real Prometheus that scrapes a gateway evaluates every rule and every panel, and each panel has something to show. The
// exemplars of its native histograms are the traces of the requests that were made.
func TestPrometheusAnswersEveryPanel(t *testing.T) {
	need(t, "prometheus")
	g := startGateway(t)
	const trace = "0af7651916cd43dd8448eb211c80319c"
	g.live(trace)
	p := startPrometheus(t, g)
	eventually(t, "Prometheus has native histograms", func() bool {
		var result struct{ Result []any }
		return p.ask("query", &result, "query", "histogram_count(wasmgate_request_duration_seconds) > 0") == nil && len(result.Result) > 0
	})
	g.live(trace)
	eventually(t, "rates can be taken", func() bool {
		return p.samples(`rate(wasmgate_requests_total{route="all",class="2xx"}[1m]) > 0`) > 0
	})
	eventually(t, "rules are evaluated", func() bool { return p.samples("wasmgate:request_duration_seconds:p99_5m > 0") > 0 })
	_, queries := readDashboard(t)
	for _, q := range queries {
		if p.samples(q.text) == 0 && !slices.Contains(quiet, q.where) { // what it is about may have been scraped once so far, or a rule is behind
			eventually(t, q.where+" has something to show: "+q.text, func() bool { return p.samples(q.text) > 0 })
		}
	}
	eventually(t, "alerts are on their way, and none about what has not happened", func() bool {
		states := p.rules()
		return states["WasmgatePluginFails"] == "pending" && states["WasmgateMembersOut"] == "pending" &&
			states["WasmgateDown"] == "inactive" && states["WasmgateConfigRefused"] == "inactive" // it is down for a moment where a scrape was late
	})
	var exemplars []struct {
		Exemplars []struct{ Labels map[string]string }
	}
	eventually(t, "the trace is an exemplar", func() bool {
		if err := p.ask("query_exemplars", &exemplars, "query", "wasmgate_request_duration_seconds", "start", "0", "end", "9999999999"); err != nil {
			t.Fatal(err)
		}
		for _, s := range exemplars {
			for _, e := range s.Exemplars {
				if e.Labels["trace_id"] == trace {
					return true
				}
			}
		}
		return false
	})
}

// rules are the states of the alerts. All rules must be in good health.
func (p *prometheus) rules() map[string]string {
	p.Helper()
	var rules struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	if err := p.ask("rules", &rules); err != nil {
		p.Fatal(err)
	}
	states := map[string]string{}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			if states[r.Name] = r.State; r.Health != "ok" && r.Health != "unknown" { // unknown: it was not evaluated yet
				p.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	return states
}
