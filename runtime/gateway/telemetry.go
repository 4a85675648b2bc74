package gateway

import (
	"wasmgate/config"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/telemetry"
)

func (g *Gateway) telemetryOptions(loops int) telemetry.Options {
	t := &g.options.Config.Telemetry
	o := telemetry.Options{
		Loops: loops, Build: g.options.Build, Log: g.log, Env: g.options.Env,
		Sources: []func(*telemetry.Live){g.live},
		Traces:  traces(&t.Traces),
	}
	o.Traces.ServiceName = t.ServiceName
	o.AccessLog = accessLog(&t.AccessLog)
	return o
}

// traces are the config's in telemetry's terms. What it leaves out the environment says.
func traces(t *config.Traces) telemetry.Traces {
	o := telemetry.Traces{
		Endpoint: t.Endpoint, Protocol: protocol(t), Headers: t.Headers,
		TLS:     telemetry.TLS{CA: t.TLS.CA, ServerName: t.TLS.ServerName, InsecureSkipVerify: t.TLS.InsecureSkipVerify, Cert: t.TLS.Cert, Key: t.TLS.Key},
		Segment: t.Segment.Std(), KeepErrors: t.KeepErrors, Slow: t.Slow.Std(), KeepRate: t.KeepRate, Baggage: t.Baggage, Answers: t.Answers,
	}
	if t.Sample != nil {
		ratio := float64(*t.Sample)
		o.Sample = &ratio
	}
	for _, p := range t.Propagation {
		o.Propagation = append(o.Propagation, string(p))
	}
	return o
}

// protocol is OTLP's transport in telemetry's terms. Without an endpoint in the config the environment has both.
func protocol(t *config.Traces) string {
	switch {
	case t.Endpoint == "":
		return ""
	case t.Protocol == config.TraceGRPC:
		return telemetry.ProtocolGRPC
	}
	return telemetry.ProtocolHTTP
}

// sweep has each loop look now and then whether a connection has lived for long without anything having been told of it.
func (g *Gateway) sweep() {
	every, on := g.telemetry.SweepEvery()
	if !on {
		return
	}
	for i, l := range g.group.Loops() {
		recorder := g.observers[i].recorder
		var look func(*netloop.Loop)
		look = func(l *netloop.Loop) {
			recorder.Sweep(l.WallNow())
			l.AfterFunc(every, func() { look(l) })
		}
		l.Post(func() { look(l) })
	}
}
