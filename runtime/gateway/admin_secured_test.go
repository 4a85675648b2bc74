package gateway_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wasmgate/runtime/internal/testkit"
)

// securedSays is what the admin endpoint says of TLS and streams, of clients and of connections to upstreams alike.
type securedSays struct {
	State      string
	TLS        bool
	Version    string `json:"tls_version"`
	Suite      string `json:"tls_suite"`
	Resumed    bool   `json:"tls_resumed"`
	ServerName string `json:"tls_server_name"`
	ALPN       string `json:"tls_alpn"`
	Requests   int
	HTTP2      *struct{ Open, Max int }
	HTTP3      *struct{ Open, Max int }
	Received   string `json:"goaway_received"`
	Sent       string `json:"goaway_sent"`
}

// secured is what the admin endpoint says there.
func (p *plant) secured(t *testing.T, path string) []securedSays {
	t.Helper()
	var all struct{ Connections, Clients []securedSays }
	if err := json.Unmarshal([]byte(get(t, "http://"+p.AdminAddr().String()+path)), &all); err != nil {
		t.Fatal(err)
	}
	return append(all.Connections, all.Clients...)
}

// TestClientsOfHTTP3AreListed, with what they have under way, until they go.
func TestClientsOfHTTP3AreListed(t *testing.T) {
	p, _, c := startHTTP3(t, "")
	c.get("/own")
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := c.RoundTrip(c.request(ctx, "GET", "/endless", nil))
	if err != nil {
		t.Fatal(err)
	}
	var list []securedSays
	testkit.Eventually(t, "the first request is over, after its answer", func() bool {
		list = p.secured(t, "/clients")
		return len(list) != 1 || list[0].HTTP3 == nil || list[0].HTTP3.Open == 1
	})
	if len(list) != 1 || list[0].HTTP3 == nil || list[0].HTTP3.Open != 1 || list[0].HTTP3.Max != 100 || list[0].HTTP2 != nil || list[0].Requests != 2 ||
		!list[0].TLS || list[0].Version != "1.3" || list[0].ALPN != "h3" || list[0].ServerName != "localhost" {
		t.Errorf("%+v", list)
	}
	cancel()
	resp.Body.Close()
	testkit.Eventually(t, "nothing is under way", func() bool {
		list := p.secured(t, "/clients")
		return len(list) == 1 && list[0].HTTP3.Open == 0
	})
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "nobody is there", func() bool { return len(p.secured(t, "/clients")) == 0 })
}

// TestConnectionsTellOfTLSAndStreams, those of clients and those to upstreams.
func TestConnectionsTellOfTLSAndStreams(t *testing.T) {
	authority := newIssuer(t)
	cfg := authority.server("a")
	cfg.SetSessionTicketKeys([][32]byte{{1}})
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	answers := make(chan func(), 10)
	b := startH2Peer(t, cfg, func(l *h2Link, h *http2.MetaHeadersFrame) { answers <- func() { l.answer(h.StreamID, "well") } }, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 7})
	p := startPlant(t, fmt.Sprintf("listeners: [%s]\n", authority.listener(""))+upstreamConfig(authority, b.addr, true, "http2", "pool: { keep_idle: 1 }"))
	say := func(path string) []securedSays { return p.secured(t, path) }
	client := func(h2 bool) *http.Client {
		trust := authority.trust()
		trust.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		tr := &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: h2}
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}
	}
	two := client(true)
	done := make(chan error, 2)
	for range 2 {
		go func() {
			a, err := two.Get("https://" + p.addr.String() + "/")
			if err == nil {
				a.Body.Close()
			}
			done <- err
		}()
	}
	first, second := receive(t, answers), receive(t, answers)
	var clients []securedSays
	testkit.Eventually(t, "a connection that net/http has made in vain is gone", func() bool {
		clients = say("/clients")
		return !slices.ContainsFunc(clients, func(c securedSays) bool { return c.Requests == 0 })
	})
	sum := 0
	for _, c := range clients {
		if c.HTTP2 == nil || c.HTTP2.Max != 100 || !c.TLS || c.Version != "1.3" || !strings.HasPrefix(c.Suite, "TLS_") || c.ServerName != "a.test" || c.ALPN != "h2" || c.Requests < 1 {
			t.Errorf("a client: %+v", c)
		} else {
			sum += c.HTTP2.Open
		}
	}
	if sum != 2 {
		t.Errorf("%d streams of clients", sum)
	}
	up := say("/connections")
	if len(up) != 1 || up[0].HTTP2 == nil || up[0].HTTP2.Open != 2 || up[0].HTTP2.Max != 7 || up[0].Version != "1.2" || up[0].Suite != "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" ||
		up[0].Resumed || up[0].ALPN != "h2" || up[0].ServerName != "a.test" || up[0].State != "busy" {
		t.Errorf("connections to the upstream: %+v", up)
	}
	first()
	second()
	for range 2 {
		if err := receive(t, done); err != nil {
			t.Error(err)
		}
	}
	testkit.Eventually(t, "no client is left", func() bool {
		two.CloseIdleConnections() // a stream may still be on it for a moment
		return len(say("/clients")) == 0
	})
	go func() { receive(t, answers)() }()
	a, err := two.Get("https://" + p.addr.String() + "/")
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	testkit.Eventually(t, "a client has resumed its session", func() bool {
		list := say("/clients")
		return len(list) == 1 && list[0].Resumed
	})

	run(t, "curl", "-sS", "--fail-with-body", "-X", "POST", "http://"+p.AdminAddr().String()+"/connections/drain?address="+b.addr)
	testkit.Eventually(t, "the connection is among the closed, with its GOAWAY", func() bool {
		list := say("/connections?state=closed")
		return len(list) == 1 && list[0].Sent == "NO_ERROR" && list[0].HTTP2 == nil
	})
	go func() { receive(t, answers)() }()
	if a, err = two.Get("https://" + p.addr.String() + "/"); err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if up := say("/connections"); len(up) != 1 || !up[0].Resumed {
		t.Errorf("a session of the upstream was not resumed: %+v", up)
	}

	one := client(false)
	go func() { receive(t, answers)() }()
	if a, err = one.Get("https://" + p.addr.String() + "/"); err != nil {
		t.Fatal(err)
	}
	readAll(t, a)
	plain := 0
	for _, c := range say("/clients") {
		if c.HTTP2 == nil && c.TLS && c.Requests == 1 && c.Version == "1.3" {
			plain++
		}
	}
	if plain != 1 {
		t.Errorf("%+v", say("/clients"))
	}
}
