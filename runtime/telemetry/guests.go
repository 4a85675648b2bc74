package telemetry

import (
	"cmp"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"
)

// PluginMetric is a metric that a plugin has defined, as it stands.
type PluginMetric struct {
	Name   string // the plugin's own; what Prometheus does not know in names becomes _
	Help   string // may be empty
	Kind   string // counter, gauge or histogram
	Value  float64
	Bounds []float64 // of a histogram: upper bounds, rising
	Counts []uint64  // and how many values were up to each, and above the last: one more; each its own count
	Sum    float64
}

// guestPrefix begins the names of all metrics of plugins, so that none can pass for one of the gateway's.
const guestPrefix = "wasmgate_plugin_custom_"

// guestFamily is the metrics of one name and kind, of several plugins perhaps.
type guestFamily struct {
	name, kind, help string
	samples          []guestSample
}

type guestSample struct {
	plugin string
	PluginMetric
}

// guests writes the metrics that plugins have defined. A family has one kind: where plugins differ in it, the kind is
// part of the name.
func (l *Live) guests(p *page) {
	for _, f := range guestFamilies(l.Plugins) {
		help := f.help
		if help == "" {
			help = "Of plugins."
		}
		p.family(f.name, f.kind, valid(help))
		for _, s := range f.samples {
			if f.kind != histo {
				p.value(s.Value, "plugin", s.plugin)
				continue
			}
			p.guestHistogram(&s)
		}
	}
}

func guestFamilies(plugins map[string]PluginStats) []*guestFamily {
	kinds := map[string]map[string]*guestFamily{} // by name and kind
	for _, plugin := range sortedKeys(plugins) {
		seen := map[string]bool{} // two names that are one to Prometheus: the first counts
		for _, m := range plugins[plugin].Metrics {
			name := guestPrefix + metricName(m.Name)
			key := name + " " + m.Kind
			if seen[key] {
				continue
			}
			seen[key] = true
			if kinds[name] == nil {
				kinds[name] = map[string]*guestFamily{}
			}
			f := kinds[name][m.Kind]
			if f == nil {
				f = &guestFamily{name: name, kind: m.Kind, help: m.Help}
				kinds[name][m.Kind] = f
			}
			f.samples = append(f.samples, guestSample{plugin, m})
		}
	}
	var list []*guestFamily
	for _, byKind := range kinds {
		for _, f := range byKind {
			if len(byKind) > 1 {
				f.name += "_" + f.kind
			}
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *guestFamily) int { return cmp.Compare(a.name, b.name) })
	return list
}

// metricName keeps letters, digits and _.
func metricName(s string) string {
	b := []byte(s)
	for i, c := range b {
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			b[i] = '_'
		}
	}
	return string(b)
}

// guestHistogram adds a classic histogram: its bounds are the plugin's.
func (p *page) guestHistogram(s *guestSample) {
	m, _ := p.add([]string{"plugin", s.plugin})
	h := &dto.Histogram{SampleSum: proto.Float64(s.Sum)}
	sum := uint64(0)
	for i, n := range s.Counts {
		sum += n
		if i < len(s.Bounds) {
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: proto.Uint64(sum), UpperBound: proto.Float64(s.Bounds[i])})
		}
	}
	h.SampleCount, m.Histogram = &sum, h
}
