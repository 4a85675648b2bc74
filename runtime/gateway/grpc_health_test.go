package gateway_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"wasmgate/runtime/internal/testkit"
)

// TestActiveChecksByGRPC: a server that says NOT_SERVING takes no requests until it says SERVING, and one without the service
// is told what it lacks.
func TestActiveChecksByGRPC(t *testing.T) {
	serve := func(register func(*grpc.Server)) (addr string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		s := grpc.NewServer()
		register(s)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		t.Cleanup(func() { s.Stop(); <-done })
		return l.Addr().String()
	}
	h := health.NewServer()
	knows, knowsNot := serve(func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, h) }), serve(func(*grpc.Server) {})
	h.SetServingStatus("acme.Users", grpc_health_v1.HealthCheckResponse_SERVING)
	const checks = "protocol: http2, health: { passive: { failures: 0 }, active: { type: grpc, service: acme.Users, interval: 100ms, timeout: 2s, rise: 1, fall: 1 } }"
	p := startPlant(t, fmt.Sprintf("loops: 1\nupstreams: { knows: { targets: ['http://%s'], %s }, not: { targets: ['http://%s'], %s } }\nroutes: [{ upstream: knows }, { match: { path: /x }, upstream: not }]\n", knows, checks, knowsNot, checks))
	is := func(upstream, health string) memberSays {
		t.Helper()
		testkit.Eventually(t, upstream+" is "+health, func() bool { return p.upstream(upstream).Members[0].Health == health })
		return p.upstream(upstream).Members[0]
	}
	if why := is("not", "unhealthy").Why; !strings.Contains(why, "1 checks in a row failed, the last: the server has no grpc.health.v1.Health") {
		t.Errorf("the admin endpoint says %q", why)
	}
	testkit.Eventually(t, "the log says what is missing", func() bool { return strings.Contains(p.journal.String(), "no grpc.health.v1.Health") })
	is("knows", "healthy")
	for range 2 {
		h.SetServingStatus("acme.Users", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		is("knows", "unhealthy")
		h.SetServingStatus("acme.Users", grpc_health_v1.HealthCheckResponse_SERVING)
		is("knows", "healthy")
	}
}
