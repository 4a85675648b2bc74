package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"wasmgate/runtime/internal/testkit"
)

const goingAway = websocket.StatusGoingAway

// chatSite is a gateway before WebSocket servers, with more to its limits, its upstream and its route.
func chatSite(t *testing.T, e *webSockets, limits, upstream, route string) *site {
	t.Helper()
	return startSite(t, chatConfig(e, limits, upstream, route))
}

func chatConfig(e *webSockets, limits, upstream, route string) string {
	return fmt.Sprintf(`
loops: 2
listeners: [{ name: test, address: '127.0.0.1:0' }]
limits: { %s }
upstreams: { app: { targets: ['http://%s'], %s } }
routes: [{ name: chat, upstream: app, %s }]
`, limits, e.addr, upstream, route)
}

const chatLabels = `{listener="test",upstream="app",protocol="websocket"`

func (s *site) tunnels(fact string) bool {
	return s.metric("wasmgate_tunnels_open"+chatLabels+"}") == fact
}

func (s *site) endedTunnels(why, count string) bool {
	return s.metric("wasmgate_tunnels_total"+chatLabels+`,reason="`+why+`"}`) == count
}

// tunnelLine is a tunnel's line of the access log.
type tunnelLine struct {
	Status   int
	Tunnel   string
	Why      string `json:"tunnel_why_ended"`
	BytesIn  int64  `json:"bytes_in"`
	BytesOut int64  `json:"bytes_out"`
}

func (s *site) tunnelLines(n int) (list []tunnelLine) {
	s.Helper()
	s.lines(n)
	text, _ := os.ReadFile(s.access)
	for line := range strings.Lines(string(text)) {
		var l tunnelLine
		if json.Unmarshal([]byte(line), &l) == nil && l.Tunnel != "" {
			list = append(list, l)
		}
	}
	return list
}

// TestTunnelsAreCounted: how many are open, what has passed, and why they ended.
func TestTunnelsAreCounted(t *testing.T) {
	e := startWebSockets(t)
	s := chatSite(t, e, "", "", "")
	const many = 200
	var list []*chat
	for i := range many {
		c := dialChat(t, s.at("test"), fmt.Sprint("/", i))
		if c.Subprotocol() != "chat" {
			t.Errorf("the subprotocol is %q", c.Subprotocol())
		}
		c.says(strings.Repeat("x", 1+i))
		list = append(list, c)
	}
	testkit.Eventually(t, "all are open", func() bool { return s.tunnels(fmt.Sprint(many)) })
	if _, text := s.admin("/connections"); strings.Count(text, `"kind": "tunnel"`)+strings.Count(text, `"kind":"tunnel"`) != many {
		t.Errorf("the admin endpoint tells of other connections than %d tunnels: %.500s", many, text)
	}
	for i, c := range list {
		switch i % 2 {
		case 0:
			_ = c.Close(websocket.StatusNormalClosure, "")
		default:
			_ = c.CloseNow()
		}
	}
	testkit.Eventually(t, "all have ended", func() bool { return s.tunnels("0") && e.open.Load() == 0 })
	if !s.endedTunnels("client_closed", fmt.Sprint(many)) {
		_, text := s.admin("/metrics")
		t.Errorf("they ended for other reasons:\n%s", grep(text, "tunnel"))
	}
	var in, out int64
	for _, l := range s.tunnelLines(many) {
		if l.Status != 101 || l.Tunnel != "websocket" || l.Why != "client_closed" {
			t.Errorf("%+v", l)
		}
		in, out = in+l.BytesIn, out+l.BytesOut
	}
	const payload = many * (many + 1) / 2
	if in <= payload || out <= payload || in > payload+many*20 || out > payload+many*20 {
		t.Errorf("%d bytes in, %d out; want a bit more than %d", in, out, payload)
	}
	if got := s.metric("wasmgate_tunnel_received_bytes_total" + chatLabels + "}"); got != fmt.Sprint(in) {
		t.Errorf("%s bytes counted, %d in the access log", got, in)
	}
	if e.closedWith(websocket.StatusNormalClosure) != many/2 {
		t.Errorf("%v", e.closed)
	}
}

func grep(text, what string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.Contains(line, what) {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestTunnelsAreDrainedWithNotice: a gateway that stops tells both ends of every WebSocket, and is done when they have gone.
func TestTunnelsAreDrainedWithNotice(t *testing.T) {
	e := startWebSockets(t)
	s := chatSite(t, e, "drain_timeout: 20s, tunnel_grace: 300ms", "", "")
	var list []*chat
	for range 50 {
		list = append(list, dialChat(t, s.at("test"), "/"))
		list[len(list)-1].says("hello")
	}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go func() { done <- s.Shutdown(ctx) }()
	for _, c := range list {
		if code, reason := c.ends(); code != goingAway || reason != "going away" {
			t.Errorf("a client was told %v %q", code, reason)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the servers were told too", func() bool { return e.closedWith(goingAway) == len(list) })
	for _, l := range s.tunnelLines(len(list)) {
		if l.Why != "drained" {
			t.Errorf("%+v", l)
		}
	}
}

// TestIdleTunnels are ended with a reason, those that are old too; others live on. Where the machine stood still before one was of use
// there is another try, with twice the time.
func TestIdleTunnels(t *testing.T) {
	for _, c := range []struct{ name, upstream, route, why, reason string }{
		{"idle", "timeouts: { tunnel_idle: LIMIT }", "", "idle_timeout", "idle for too long"},
		{"idle, by the route", "timeouts: { tunnel_idle: 1h }", "timeouts: { tunnel_idle: LIMIT }", "idle_timeout", "idle for too long"},
		{"old", "timeouts: { tunnel_max: LIMIT }", "", "max_age", "open for too long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for limit := 200 * time.Millisecond; ; limit *= 2 {
				e, with := startWebSockets(t), strings.NewReplacer("LIMIT", inMilliseconds(limit))
				s := chatSite(t, e, "", with.Replace(c.upstream), with.Replace(c.route))
				begun := time.Now()
				one := dialChat(t, s.at("test"), "/")
				if err := one.try("hello"); err != nil && time.Since(begun) >= limit && limit < 4*time.Second {
					continue
				} else if err != nil {
					t.Fatalf("%v after %v", err, time.Since(begun))
				}
				if code, reason := one.ends(); code != goingAway || reason != c.reason || time.Since(begun) < limit*3/4 {
					t.Errorf("%v %q after %v", code, reason, time.Since(begun))
				}
				testkit.Eventually(t, "it is counted", func() bool { return s.endedTunnels(c.why, "1") && e.closedWith(goingAway) == 1 })
				return
			}
		})
	}
}

// inMilliseconds is a time as a config has it.
func inMilliseconds(d time.Duration) string { return fmt.Sprintf("%dms", d.Milliseconds()) }

// TestATunnelInUseIsNotIdle: every byte, in whichever direction, begins the time anew. Where the machine stood still for as long as a
// tunnel may be idle there is another try, with twice the time.
func TestATunnelInUseIsNotIdle(t *testing.T) {
	e := startWebSockets(t)
	for idle := 500 * time.Millisecond; ; idle *= 2 {
		s := chatSite(t, e, "", "timeouts: { tunnel_idle: "+inMilliseconds(idle)+" }", "")
		one := dialChat(t, s.at("test"), "/")
		tick := time.NewTicker(idle / 5)
		var err error
		for i := 0; i < 12 && err == nil; i++ {
			err = one.try("still here")
			<-tick.C
		}
		tick.Stop()
		if err == nil && s.tunnels("1") {
			return
		}
		if idle > 4*time.Second {
			t.Fatalf("it was ended: %v", err)
		}
	}
}

// TestReloadsKeepTunnels whose upstream stays, and tell those whose upstream or target goes.
func TestReloadsKeepTunnels(t *testing.T) {
	e, other := startWebSockets(t), startWebSockets(t)
	s := chatSite(t, e, "tunnel_grace: 50ms", "", "")
	one := dialChat(t, s.at("test"), "/")
	for i := range 100 {
		more := fmt.Sprintf("pool: { max_connections: %d }", 10+i)
		if err := s.Reload(siteConfig(t, s.access, chatConfig(e, "tunnel_grace: 50ms", more, fmt.Sprintf("timeouts: { connect: %dms }", 100+i)))); err != nil {
			t.Fatal(err)
		}
		one.says(fmt.Sprint("reload ", i))
	}
	if err := s.Reload(siteConfig(t, s.access, chatConfig(other, "tunnel_grace: 50ms", "", ""))); err != nil {
		t.Fatal(err)
	}
	if code, _ := one.ends(); code != goingAway {
		t.Errorf("a client of a target that has gone was told %v", code)
	}
	two := dialChat(t, s.at("test"), "/")
	two.says("hello")
	gone := strings.NewReplacer("upstreams: { app:", "upstreams: { new:", "upstream: app", "upstream: new").Replace(chatConfig(other, "tunnel_grace: 50ms", "", ""))
	if err := s.Reload(siteConfig(t, s.access, gone)); err != nil {
		t.Fatal(err)
	}
	if code, _ := two.ends(); code != goingAway {
		t.Errorf("a client of an upstream that has gone was told %v", code)
	}
	three := dialChat(t, s.at("test"), "/")
	three.says("hello")
	if err := s.Reload(siteConfig(t, s.access, strings.Replace(gone, "127.0.0.1:0", "127.0.0.2:0", 1))); err != nil {
		t.Fatal(err)
	}
	if code, _ := three.ends(); code != goingAway {
		t.Errorf("a client of a listener that has gone was told %v", code)
	}
	testkit.Eventually(t, "each is counted", func() bool {
		return e.closedWith(goingAway) == 1 && other.closedWith(goingAway) == 2 && s.endedTunnels("drained", "2")
	})
}

// TestAnOperatorDrainsTunnels by the state of a target, and by its connections.
func TestAnOperatorDrainsTunnels(t *testing.T) {
	e := startWebSockets(t)
	s := chatSite(t, e, "tunnel_grace: 50ms", "", "")
	ask := func(method, path, body string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+s.AdminAddr().String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text := readAll(t, resp); resp.StatusCode != 200 {
			t.Fatalf("%s %s: %d %s", method, path, resp.StatusCode, text)
		}
	}
	one := dialChat(t, s.at("test"), "/")
	one.says("hello")
	ask("POST", "/connections/drain?address="+e.addr, "")
	if code, _ := one.ends(); code != goingAway {
		t.Errorf("connections drained: %v", code)
	}
	for _, state := range []string{"drain", "disabled"} {
		two := dialChat(t, s.at("test"), "/")
		two.says("hello")
		ask("PATCH", "/upstreams/app/targets/"+e.addr, `{"state": "`+state+`"}`)
		if code, _ := two.ends(); code != goingAway {
			t.Errorf("%s: %v", state, code)
		}
		ask("PATCH", "/upstreams/app/targets/"+e.addr, `{"state": "active"}`)
	}
	testkit.Eventually(t, "each is counted", func() bool { return e.closedWith(goingAway) == 3 && s.endedTunnels("drained", "3") })
}
