package telemetry

import (
	"bytes"
	"testing"

	"github.com/prometheus/common/expfmt"
)

// TestPluginsOwnMetrics: names and texts are a stranger's, and two plugins may mean different things by one name.
func TestPluginsOwnMetrics(t *testing.T) {
	l := &Live{Plugins: map[string]PluginStats{
		"b": {Metrics: []PluginMetric{{Name: "hits", Kind: gauge, Value: 1.5}}},
		"a": {Metrics: []PluginMetric{
			{Name: "hits", Kind: counter, Value: 3},
			{Name: "envoy.cluster-2 latency\n", Help: "one\ntwo", Kind: histo, Bounds: []float64{1, 5}, Counts: []uint64{2, 0, 1}, Sum: 12.5},
			{Name: "envoy_cluster.2 latency\n", Kind: histo, Counts: []uint64{1}},
			{Name: "", Kind: counter, Value: 1},
		}},
	}}
	p := &page{}
	l.guests(p)
	const want = `# HELP wasmgate_plugin_custom_ Of plugins.
# TYPE wasmgate_plugin_custom_ counter
wasmgate_plugin_custom_{plugin="a"} 1
# HELP wasmgate_plugin_custom_envoy_cluster_2_latency_ one\ntwo
# TYPE wasmgate_plugin_custom_envoy_cluster_2_latency_ histogram
wasmgate_plugin_custom_envoy_cluster_2_latency__bucket{plugin="a",le="1"} 2
wasmgate_plugin_custom_envoy_cluster_2_latency__bucket{plugin="a",le="5"} 2
wasmgate_plugin_custom_envoy_cluster_2_latency__bucket{plugin="a",le="+Inf"} 3
wasmgate_plugin_custom_envoy_cluster_2_latency__sum{plugin="a"} 12.5
wasmgate_plugin_custom_envoy_cluster_2_latency__count{plugin="a"} 3
# HELP wasmgate_plugin_custom_hits_counter Of plugins.
# TYPE wasmgate_plugin_custom_hits_counter counter
wasmgate_plugin_custom_hits_counter{plugin="a"} 3
# HELP wasmgate_plugin_custom_hits_gauge Of plugins.
# TYPE wasmgate_plugin_custom_hits_gauge gauge
wasmgate_plugin_custom_hits_gauge{plugin="b"} 1.5
`
	var page bytes.Buffer
	if err := write(&page, p.full(), expfmt.NewFormat(expfmt.TypeTextPlain)); err != nil {
		t.Fatal(err)
	}
	if got := page.String(); got != want {
		t.Errorf("wrote\n%s\nwant\n%s", got, want)
	}
}
