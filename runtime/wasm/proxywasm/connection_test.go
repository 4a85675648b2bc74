package proxywasm

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/runtime/netloop"
	"wasmgate/runtime/wasm"
)

var session = exchange.Session{
	Client: exchange.Client{Conn: 7, Addr: netip.MustParseAddr("192.0.2.7"), Peer: netip.MustParseAddrPort("192.0.2.7:4711"), Local: netip.MustParseAddrPort("192.0.2.1:80")},
	SNI:    "db.example", Upstream: "db", Address: netip.MustParseAddrPort("192.0.2.9:5432"),
}

// talk has a client and an upstream say pieces in turn, and returns what each heard.
func (b *bench) talk(p *Plugin, client, upstream []string) (toUpstream, toClient string, err *fault.Error) {
	b.t.Helper()
	b.on(func(t *netloop.Task) {
		var c *Connection
		if c, err = p.Connect(t, &session); err != nil {
			return
		}
		defer c.Close(t, filter.PeerRemote, filter.PeerLocal)
		c.Upstream(&session)
		var up, down []byte
		for i := range max(len(client), len(upstream)) {
			if i < len(client) {
				if up, err = c.FromClient(t, up, []byte(client[i]), i == len(client)-1); err != nil {
					return
				}
			}
			if i < len(upstream) {
				if down, err = c.FromUpstream(t, down, []byte(upstream[i]), i == len(upstream)-1); err != nil {
					return
				}
			}
		}
		toUpstream, toClient = string(up), string(down)
	})
	return toUpstream, toClient, err
}

func TestConnections(t *testing.T) {
	b := newBench(t)
	p := b.quiet(Options{}, "connection prop source%zaddress", "connection prop connection%zrequested_server_name", "connection prop request%zpath", "connection pairs 0", "connection body 0 0", "connection resume 0",
		"downstream prop upstream%zaddress", "downstream prop cluster_name", "downstream body 2 0", "downstream setbody 2 0 0 <", "upstream setbody 3 99 0 >", "upstream body 2 0")
	up, down, err := b.talk(p, []string{"a", "b"}, []string{"x"})
	if up != "<a<b" || down != "x>" || err != nil {
		t.Errorf("%q %q %v", up, down, err)
	}
	b.mu.Lock()
	created := b.lines[slices.IndexFunc(b.lines, func(l wasm.Line) bool { return l.Text == "create(2 1)" })]
	b.mu.Unlock()
	if created.Phase != "connection" {
		t.Errorf("a connection's context is made in phase %s", created.Phase)
	}
	b.wantSays("create(2 1)", "connection(2)", "prop -> 0 192.0.2.7:4711", "prop -> 0 db.example", "prop -> 1", "pairs -> 0", "body -> 1", "resume -> 2",
		"downstream(2 1 0)", "prop -> 0 192.0.2.9:5432", "prop -> 0 db", "body -> 0 a", "setbody -> 0",
		"upstream(2 1 1)", "setbody -> 0", "body -> 1",
		"downstream(2 1 1)", "prop -> 0 192.0.2.9:5432", "prop -> 0 db", "body -> 0 b", "setbody -> 0",
		"downstream_close(2 2)", "upstream_close(2 1)", "done(2)", "log(2)", "delete(2)")
	if s := p.Stats(); s.Streams != 0 {
		t.Errorf("%+v", s)
	}
}

func TestConnectionsThatPlugins(t *testing.T) {
	f := &caller{answer: func(t *netloop.Task, c *filter.Call) *fault.Error {
		t.Sleep(time.Millisecond)
		c.Status = 200
		return nil
	}}
	for name, c := range map[string]struct {
		script string
		up     string
		kind   fault.Kind
		policy wasm.OnError
	}{
		"buffer":                  {"configure tick 10\ndownstream return 1\ntick stream 0\ntick resume 2", "abc", 0, 0},
		"close":                   {"connection close 2", "", fault.Denied, 0},
		"close over data":         {"downstream close 2", "", fault.Denied, 0},
		"close over answers":      {"upstream close 3", "", fault.Denied, 0},
		"ask about":               {"connection " + check + "\nconnection return 1\nanswer stream 0\nanswer resume 2", "abc", 0, 0},
		"ask about, and then not": {"connection " + check + "\nconnection return 1\nanswer stream 0\nanswer close 2", "", fault.Denied, 0},
		"forget":                  {"connection return 1", "", fault.PluginAnswer, 0},
		"hold too much of":        {"downstream return 1\ndownstream setbody 2 0 0 " + strings.Repeat("x", 90), "", fault.BodyTooLarge, 0},
		"fail over":               {"connection trap", "", fault.PluginTrap, 0},
		"fail over data of":       {"downstream trap", "", fault.PluginTrap, 0},
		"fail open over":          {"connection trap", "abc", 0, wasm.FailOpen},
		"fail open over data of":  {"downstream trap", "abc", 0, wasm.FailOpen},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			o := Options{Grants: granted(f), MaxBody: 100, OnError: c.policy}
			if name == "forget" { // nobody continues it; the others have all the time that a machine may stand still
				o.MaxPause = 30 * time.Millisecond
			}
			p := b.quiet(o, c.script)
			up, _, err := b.talk(p, []string{"a", "b", "c"}, []string{"x", "y", "z"})
			if (err != nil) != (c.kind != 0) || err != nil && err.Kind != c.kind {
				t.Errorf("%v\n%s", err, strings.Join(b.says(), "\n"))
			}
			if err == nil && up != c.up {
				t.Errorf("%q\n%s", up, strings.Join(b.says(), "\n"))
			}
			if s := p.Stats(); s.Streams != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}
