package gateway

import (
	"wasmgate/config"
	"wasmgate/runtime/certs"
	"wasmgate/runtime/http3"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/server"
	"wasmgate/runtime/telemetry"
)

func (g *Gateway) telemetryOptions(loops int) telemetry.Options {
	t := &g.options.Config.Telemetry
	o := telemetry.Options{
		Loops: loops, Build: g.options.Build, Log: g.log, Env: g.options.Env,
		Sources: []func(*telemetry.Live){g.live},
		Traces:  traces(&t.Traces),
		Recent:  recentRequests(g.options.Config),
	}
	o.Traces.ServiceName = t.ServiceName
	o.Metrics = metrics(&t.Metrics)
	o.Metrics.ServiceName = t.ServiceName
	o.AccessLog = accessLog(&t.AccessLog)
	return o
}

// metrics are the config's in telemetry's terms. What it leaves out the environment says.
func metrics(m *config.Metrics) telemetry.Metrics {
	return telemetry.Metrics{
		Endpoint: m.Endpoint, Protocol: protocol(m.Endpoint, m.Protocol), Headers: m.Headers, TLS: collectorTLS(&m.TLS),
		Interval: m.Interval.Std(), Forget: m.Forget.Std(),
	}
}

func collectorTLS(t *config.TLS) telemetry.TLS {
	return telemetry.TLS{CA: t.CA, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify, Cert: t.Cert, Key: t.Key}
}

// traces are the config's in telemetry's terms. What it leaves out the environment says.
func traces(t *config.Traces) telemetry.Traces {
	o := telemetry.Traces{
		Endpoint: t.Endpoint, Protocol: protocol(t.Endpoint, t.Protocol), Headers: t.Headers,
		TLS:     collectorTLS(&t.TLS),
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
func protocol(endpoint string, p config.TraceProtocol) string {
	switch {
	case endpoint == "":
		return ""
	case p == config.TraceGRPC:
		return telemetry.ProtocolGRPC
	}
	return telemetry.ProtocolHTTP
}

// namedSocket is a listener's socket, and what the config in force calls it.
type namedSocket struct {
	name   string
	socket *netloop.Listener
	http   *server.Server  // nil: it is of TCP mode
	set    *certs.Set      // nil: it speaks cleartext
	http3  *http3.Listener // nil: it has none
}

// nameSockets notes down the listeners in force for those who count.
func (g *Gateway) nameSockets(s *state) {
	var list []namedSocket
	for i, key := range listenerKeys(s.config) {
		if l := g.listeners[key]; l != nil {
			list = append(list, namedSocket{s.listeners[i].name, l.socket, l.http, s.listeners[i].set, l.http3})
		}
	}
	g.sockets.Store(&list)
}

// liveSockets adds up what listeners of one name count.
func (g *Gateway) liveSockets(l *telemetry.Live) {
	list := g.sockets.Load()
	if list == nil {
		return
	}
	for _, one := range *list {
		s, sum := one.socket.Stats(), l.Listeners[one.name]
		sum.Accepted, sum.Refused, sum.Open = sum.Accepted+s.Accepted, sum.Refused+s.Refused, sum.Open+s.Open
		if one.set != nil {
			sum.Handshakes = addHandshakes(sum.Handshakes, one.http.Handshakes())
			for _, c := range one.set.Certificates() {
				l.Shown = append(l.Shown, telemetry.ShownCertificate{Listener: one.name, Name: c.Name, NotAfter: c.NotAfter})
			}
		}
		if one.http3 != nil {
			q := one.http3.Stats()
			sum.Accepted, sum.Refused, sum.Open = sum.Accepted+q.Accepted, sum.Refused+q.Refused, sum.Open+q.Open
			sum.HTTP3, sum.Retried = true, sum.Retried+q.Retried
		}
		l.Listeners[one.name] = sum
	}
}

// addHandshakes adds up how handshakes ended.
func addHandshakes(sum map[string]uint64, h server.Handshakes) map[string]uint64 {
	if sum == nil {
		sum = map[string]uint64{}
	}
	for result, n := range h {
		sum[server.HandshakeResult(result).String()] += n
	}
	return sum
}

// inForce are the names that counters are kept under.
func (s *state) inForce() *telemetry.Names {
	n := &telemetry.Names{Listeners: map[string]bool{}, Routes: map[string]bool{}, Upstreams: map[string]bool{}}
	for _, l := range s.listeners {
		n.Listeners[l.name] = true
	}
	for i := range s.config.Routes {
		n.Routes[s.config.Routes[i].Name] = true
	}
	for name := range s.upstreams {
		n.Upstreams[name] = true
	}
	return n
}

// forget has each loop drop, now and then, what is counted under names that are not in force any more.
func (g *Gateway) forget() {
	every := g.telemetry.ForgetEvery()
	for i, l := range g.group.Loops() {
		recorder := g.observers[i].recorder
		var look func(*netloop.Loop)
		look = func(l *netloop.Loop) {
			if s := g.current.Load(); s != nil {
				now := l.Now()
				if recorder.Forget(s.names, now); l.Index() == 0 {
					go g.telemetry.ForgetMembers(s.names, now) // which locks
				}
			}
			l.AfterFunc(every, func() { look(l) })
		}
		l.Post(func() { look(l) })
	}
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

// recentRequests is how many are kept to look at: none where nobody can.
func recentRequests(c *config.Config) int {
	if c.Admin.Address == "" {
		return 0
	}
	return c.Admin.Traces
}
