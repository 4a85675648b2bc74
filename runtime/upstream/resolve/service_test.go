package resolve

import (
	"fmt"
	"testing"
	"time"

	"github.com/miekg/dns"

	"wasmgate/runtime/internal/dnstest"
)

const svc = "_http._tcp.web.test"

func srv(priority, weight, port uint16, target string) dnstest.SRV {
	return dnstest.SRV{Priority: priority, Weight: weight, Port: port, Target: target}
}

func TestAServiceWithGlue(t *testing.T) {
	f := setUp(t)
	f.Set("a.test", 30*time.Second, "10.0.0.1", "fd00::1")
	f.Set("b.test", 7*time.Second, "10.0.0.2")
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(10, 5, 8080, "A.test"), srv(20, 1, 8081, "b.test"), srv(10, 5, 8090, "a.test")})
	n := f.name(svc)
	a := f.resolve(n)
	f.wantFresh(a, "10.0.0.1:8080/10/5 10.0.0.2:8081/20/1 10.0.0.1:8090/10/5 fd00::1:8080/10/5 fd00::1:8090/10/5")
	if a.TTL != 7*time.Second || a.Server != f.Addr() {
		t.Errorf("%+v; want the least TTL of all", a)
	}
	if f.Queries(svc) != 1 || f.Queries("a.test")+f.Queries("b.test") != 0 {
		t.Error("what came along was asked for")
	}
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(20, 1, 8081, "b.test"), srv(10, 5, 8080, "a.test"), srv(10, 5, 8090, "a.test")})
	f.pass(n, 7*time.Second)
	f.wantChanges(1)
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(20, 9, 8081, "b.test"), srv(10, 5, 8080, "a.test"), srv(10, 5, 8090, "a.test")})
	f.pass(n, 7*time.Second)
	f.wantChanges(2) // a weight
	v6 := f.with(svc, NameOptions{Server: f.Addr(), Family: IPv6})
	f.Glue(false)
	f.wantStale(f.resolve(v6), "fd00::1:8080/10/5 fd00::1:8090/10/5", "b.test")
}

func TestAServiceWithoutGlue(t *testing.T) {
	f := setUp(t)
	f.Glue(false)
	f.Set("a.test", 30*time.Second, "10.0.0.1", "fd00::1")
	f.Set("b.test", 9*time.Second, "10.0.0.2")
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(1, 2, 8080, "a.test"), srv(3, 4, 8081, "B.test")})
	n := f.name(svc)
	a := f.resolve(n)
	f.wantFresh(a, "10.0.0.1:8080/1/2 10.0.0.2:8081/3/4 fd00::1:8080/1/2")
	if a.TTL != 9*time.Second {
		t.Errorf("%s; want the least TTL of all", a.TTL)
	}
	f.Fail("b.test", dns.RcodeServerFailure)
	f.Set("a.test", 30*time.Second, "10.0.0.3")
	f.wantStale(f.pass(n, 9*time.Second), "10.0.0.3:8080/1/2 10.0.0.2:8081/3/4", "b.test", "SERVFAIL")
	f.Remove("b.test") // which the service still names
	f.wantStale(f.pass(n, time.Second), "10.0.0.3:8080/1/2 10.0.0.2:8081/3/4", "b.test", "NXDOMAIN")
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(1, 2, 8080, "a.test")})
	f.wantFresh(f.pass(n, 2*time.Second), "10.0.0.3:8080/1/2")
	f.Fail("a.test", dns.RcodeServerFailure)
	f.wantStale(f.pass(n, 30*time.Second), "10.0.0.3:8080/1/2", "a.test", "SERVFAIL")
	f.Remove(svc)
	f.wantStale(f.pass(n, time.Second), "10.0.0.3:8080/1/2", "NXDOMAIN", svc)
}

func TestAServiceWithoutTargets(t *testing.T) {
	f := setUp(t)
	f.Set("a.test", time.Minute, "10.0.0.1")
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(0, 0, 0, "a.test"), srv(0, 0, 80, ".")})
	f.fails(f.name(svc), "without a target")
	f.SetSRV(svc, time.Minute, []dnstest.SRV{srv(0, 0, 80, "gone.test")})
	f.fails(f.name(svc), "gone.test", "NXDOMAIN")
	if f.Queries(".") != 0 {
		t.Error("the root was asked for")
	}
}

func TestAServiceByTheFiles(t *testing.T) {
	f := setUp(t)
	f.write(f.hosts, "10.9.9.9 a.test "+svc+"\n")
	f.configure("search domain.test\n", f.Server)
	f.SetSRV(svc+".domain.test", time.Minute, []dnstest.SRV{srv(0, 0, 80, "a.test")})
	f.wantFresh(f.resolve(f.with(svc, NameOptions{})), "10.9.9.9:80/0/0")
	f.SetCNAME("_alias._tcp.test", 3*time.Second, svc+".domain.test")
	a := f.resolve(f.with("_alias._tcp.test", NameOptions{}))
	f.wantFresh(a, "10.9.9.9:80/0/0")
	if a.TTL != 3*time.Second {
		t.Errorf("%s; want that of the CNAME", a.TTL)
	}
}

func TestALargeService(t *testing.T) {
	f := setUp(t)
	f.Glue(false)
	records := make([]dnstest.SRV, 200)
	for i := range records {
		host := fmt.Sprintf("t%03d.test", i)
		records[i] = dnstest.SRV{Priority: uint16(200 - i), Port: 80, Target: host}
		f.Set(host, time.Minute, fmt.Sprintf("10.0.0.%d", i))
	}
	f.SetSRV(svc, time.Minute, records)
	a := f.resolve(f.name(svc))
	if len(a.Endpoints) != maxTargets || a.Stale {
		t.Fatalf("%d endpoints, want %d; %s", len(a.Endpoints), maxTargets, a.Doubt)
	}
	for _, e := range a.Endpoints {
		if e.Priority > maxTargets {
			t.Errorf("%+v was taken, and one with a lower priority not", e)
		}
	}
	if f.Queries("t000.test") != 0 {
		t.Error("more was asked for than is kept")
	}
}
