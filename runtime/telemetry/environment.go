package telemetry

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"go.opentelemetry.io/otel/attribute"
)

// The environment is what Options.Env says, and nothing else: what OpenTelemetry's libraries would read of the process'
// own is told to them.

// signal is what is exported, as the names of the variables have it.
type signal string

const (
	signalTraces  signal = "TRACES"
	signalMetrics signal = "METRICS"
)

// path is where a collector takes it over HTTP.
func (s signal) path() string { return "v1/" + strings.ToLower(string(s)) }

func (s signal) String() string { return strings.ToLower(string(s)) }

// otlp returns what the environment says of OTLP, of the signal before of all signals.
func (s signal) otlp(env func(string) string, name string) string {
	if v := env("OTEL_EXPORTER_OTLP_" + string(s) + "_" + name); v != "" {
		return v
	}
	return env("OTEL_EXPORTER_OTLP_" + name)
}

// pairs reads a list of the form key=value,key=value with values that may be percent-encoded (W3C Baggage, without
// properties), as OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES are.
func pairs(list string) (keys, values []string, err error) {
	for one := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(one) == "" {
			continue
		}
		key, value, found := strings.Cut(one, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !found || key == "" {
			err = errors.Join(err, fmt.Errorf("%q is not key=value", one))
			continue
		}
		if text, e := url.PathUnescape(value); e == nil {
			value = text
		}
		keys, values = append(keys, key), append(values, value)
	}
	return keys, values, err
}

// environmentHeaders are the fields that the environment wants to be sent with each export.
func (s signal) environmentHeaders(env func(string) string) (map[string]string, error) {
	keys, values, err := pairs(s.otlp(env, "HEADERS"))
	if err != nil { // its text would show a secret
		return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS must be key=value,key=value")
	}
	fields := make(map[string]string, len(keys))
	for i, key := range keys {
		fields[key] = values[i]
	}
	return fields, nil
}

// environmentResource is what the environment says of who exports. With an error it is what could be read.
func environmentResource(env func(string) string) (attrs []attribute.KeyValue, err error) {
	keys, values, err := pairs(env("OTEL_RESOURCE_ATTRIBUTES"))
	if err != nil {
		err = fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	for i, key := range keys {
		attrs = append(attrs, attribute.String(valid(key), valid(values[i])))
	}
	if name := env("OTEL_SERVICE_NAME"); name != "" {
		attrs = append(attrs, attribute.String("service.name", valid(name)))
	}
	return attrs, err
}
