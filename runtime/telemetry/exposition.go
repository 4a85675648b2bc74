package telemetry

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// expositionType is the content type of the Prometheus text format that page writes.
const expositionType = "text/plain; version=0.0.4; charset=utf-8"

// page writes metrics in the Prometheus text format. The lines of a family must follow its head.
type page struct{ b []byte }

const (
	counter = "counter"
	gauge   = "gauge"
	histo   = "histogram"
)

func (p *page) family(name, kind, help string) {
	p.b = append(p.b, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// value writes one sample; labels are names and values in turn.
func (p *page) value(name string, v float64, labels ...string) {
	p.b = append(p.b, name...)
	p.labels(labels, "")
	p.b = append(p.b, ' ')
	p.b = strconv.AppendFloat(p.b, v, 'g', -1, 64)
	p.b = append(p.b, '\n')
}

func (p *page) count(name string, v uint64, labels ...string) {
	p.b = append(p.b, name...)
	p.labels(labels, "")
	p.b = append(p.b, ' ')
	p.b = strconv.AppendUint(p.b, v, 10)
	p.b = append(p.b, '\n')
}

func (p *page) labels(labels []string, le string) {
	if len(labels) == 0 && le == "" {
		return
	}
	p.b = append(p.b, '{')
	for i := 0; i < len(labels); i += 2 {
		if i > 0 {
			p.b = append(p.b, ',')
		}
		p.b = append(append(append(append(p.b, labels[i]...), `="`...), labelEscaper.Replace(valid(labels[i+1]))...), '"')
	}
	if le != "" {
		if len(labels) > 0 {
			p.b = append(p.b, ',')
		}
		p.b = append(append(append(p.b, `le="`...), le...), '"')
	}
	p.b = append(p.b, '}')
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// boundNames are the bounds in seconds, as text.
var boundNames = func() (names [len(bounds)]string) {
	for i, b := range bounds {
		names[i] = strconv.FormatFloat(float64(b)/1e9, 'g', -1, 64)
	}
	return names
}()

// histogram writes t; atOnce is how many more there were that took no time.
func (p *page) histogram(name string, t *totals, atOnce uint64, labels ...string) {
	sum := atOnce
	line := func(le string) {
		p.b = append(p.b, name+"_bucket"...)
		p.labels(labels, le)
		p.b = append(strconv.AppendUint(append(p.b, ' '), sum, 10), '\n')
	}
	for i, le := range boundNames {
		sum += t.counts[i]
		line(le)
	}
	sum += t.counts[len(bounds)]
	line("+Inf")
	p.value(name+"_sum", float64(t.sum)/1e9, labels...)
	p.count(name+"_count", sum, labels...)
}

// sortedKeys makes a page's order the same each time.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
