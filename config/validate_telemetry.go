package config

import (
	"net/url"
	"slices"
	"strings"
)

func (v *validator) telemetry() {
	t, p := &v.config.Telemetry, keyPath{"telemetry"}
	v.label(p.key("service_name"), t.ServiceName)
	v.receiver(p.key("traces"), t.Traces.Endpoint, t.Traces.Protocol)
	v.traces(p.key("traces"), &t.Traces)
	v.receiver(p.key("metrics"), t.Metrics.Endpoint, t.Metrics.Protocol)
	v.reached(p.key("metrics"), t.Metrics.Endpoint, t.Metrics.Headers, &t.Metrics.TLS)
	v.accessLog(p.key("access_log"), &t.AccessLog)
}

// receiver checks where something is exported to.
func (v *validator) receiver(p keyPath, endpoint string, protocol TraceProtocol) {
	q := p.key("endpoint")
	if endpoint == "" || !v.ok(q) {
		return
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		help := "write http://host:4318 or https://host:4318"
		if protocol == TraceGRPC {
			help = "write http://host:4317 or https://host:4317; the scheme says whether TLS is used"
		}
		v.fail(q, help, "%s is not the URL of an OTLP receiver", quote(endpoint))
	case protocol == TraceHTTP && u.Port() == "4317":
		v.warn(q, "4318 speaks HTTP; for 4317 say `protocol: grpc`", "port 4317 is for gRPC as a rule, and the protocol is http")
	case protocol == TraceGRPC && u.Port() == "4318":
		v.warn(q, "4317 speaks gRPC; for 4318 say `protocol: http`", "port 4318 is for HTTP as a rule, and the protocol is grpc")
	}
}

// reached checks how it is spoken to.
func (v *validator) reached(p keyPath, endpoint string, headers map[string]string, t *TLS) {
	v.fieldMap(p.key("headers"), headers, nil)
	u := UpstreamTLS{CA: t.CA, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, Cert: t.Cert, Key: t.Key}
	v.tls(p.key("tls"), &u, true)
	t.CA, t.Cert, t.Key = u.CA, u.Cert, u.Key // where they are
	if *t != (TLS{}) && strings.HasPrefix(endpoint, "http:") {
		v.warn(p.key("tls"), "write `https://` in `endpoint`", "has no effect: the endpoint is not https")
	}
}

// Bounds of what is done for each request that is traced.
const (
	maxBaggageNames = 16
	maxBaggageName  = 128
)

func (v *validator) traces(p keyPath, t *Traces) {
	v.reached(p, t.Endpoint, t.Headers, &t.TLS)
	q := p.key("propagation")
	if len(t.Propagation) == 0 {
		v.fail(q, "write one of w3c, b3 and b3multi", "is empty")
	}
	for i, one := range t.Propagation {
		if slices.Contains(t.Propagation[:i], one) {
			v.fail(q.index(i), "name each once", "%s is there twice", quote(string(one)))
		}
	}
	q = p.key("baggage")
	if len(t.Baggage) > maxBaggageNames {
		v.fail(q, "every one is looked for in each request that is traced", "%d names, more than %d", len(t.Baggage), maxBaggageNames)
	}
	for i, name := range t.Baggage {
		switch {
		case !isToken(name) || len(name) > maxBaggageName:
			v.fail(q.index(i), "a name is letters, digits, '-', '.' and '_', as in tenant.id", "%s is not the name of a member of baggage", quote(name))
		case slices.Contains(t.Baggage[:i], name):
			v.fail(q.index(i), "name each once", "%s is there twice", quote(name))
		}
	}
}
