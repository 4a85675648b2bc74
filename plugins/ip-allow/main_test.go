package main

import (
	"fmt"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

func tester(t testing.TB, config string) *wasmgate.Tester {
	t.Helper()
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestClients(t *testing.T) {
	for config, clients := range map[string]map[string]bool{
		`{"allow":["10.0.0.0/8","2001:db8::/32","192.0.2.7"],"deny":["10.6.6.0/24","10.9.9.9"]}`: {
			"10.1.2.3": true, "10.6.6.1": false, "10.9.9.9": false, "10.9.9.8": true, "192.0.2.7": true, "192.0.2.8": false,
			"2001:db8::7": true, "2001:db9::7": false, "::ffff:10.0.0.1": true, "::ffff:10.6.6.6": false, "": false, "not an address": false,
		},
		`{"deny":"10.0.0.0/8"}`:             {"10.1.2.3": false, "11.1.2.3": true, "::1": true, "": false},
		`{"allow":[]}`:                      {"10.1.2.3": false},
		`{"allow":["0.0.0.0/0","::/0"]}`:    {"10.1.2.3": true, "::1": true},
		`{"allow":["fe80::/10"],"deny":[]}`: {"fe80::1%eth0": true, "::1": false},
	} {
		p := tester(t, config)
		for client, want := range clients {
			a := p.Request(wasmgate.TestMessage{Client: client})
			if got := a.Decision == "continue"; got != want || !got && (a.Decision != "deny" || a.Status != 403) {
				t.Errorf("%s, %s: %+v", config, client, a)
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	p := tester(t, `{"deny":["10.0.0.0/8"],"status":404,"body":"nothing here","log":true}`)
	a := p.Request(wasmgate.TestMessage{Client: "10.0.0.1"})
	if a.Decision != "respond" || a.Status != 404 || a.Text != "nothing here" || fmt.Sprint(a.Logged) != "[1 keeps out 10.0.0.1]" {
		t.Errorf("%+v", a)
	}
}

func TestConfigsThatAreRefused(t *testing.T) {
	for config, want := range map[string]string{
		"":                                  "config: allow or deny is needed",
		`{"status":403}`:                    "config: allow or deny is needed",
		`{"alow":[]}`:                       "config.alow: there is no such key; the keys are allow, body, deny, log, status",
		`{"allow":["10.0.0.0/8","10.0.0"]}`: `config.allow[1]: "10.0.0" is neither a network`,
		`{"allow":["10.0.0.1/8"]}`:          `config.allow[0]: "10.0.0.1/8" has bits behind the prefix; the network is 10.0.0.0/8`,
		`{"allow":[7]}`:                     "config.allow[0]: 7 is neither",
		`{"allow":[],"status":200}`:         "config.status: 200 is not a whole number from 400 to 599",
		`{"allow":`:                         "config: the configuration is not JSON",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", config, err, want)
		}
	}
}

// many is a configuration with n networks, no two of which touch.
func many(n int) string {
	var b strings.Builder
	b.WriteString(`{"allow":["2001:db8::/32"`)
	for i := range n {
		fmt.Fprintf(&b, `,"10.%d.%d.0/25"`, i>>8, i&255)
	}
	b.WriteString("]}")
	return b.String()
}

func TestManyNetworks(t *testing.T) {
	p := tester(t, many(10_000))
	for client, want := range map[string]string{"10.39.15.127": "continue", "10.39.15.128": "deny", "10.39.16.1": "deny", "10.0.0.0": "continue", "2001:db8::1": "continue"} {
		if a := p.Request(wasmgate.TestMessage{Client: client}); a.Decision != want {
			t.Errorf("%s: %+v", client, a)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	tester(t, many(100))
	var n float64
	wasmgate.Handle(func(r *wasmgate.Request) wasmgate.Decision {
		n = testing.AllocsPerRun(100, func() { request(r) })
		return wasmgate.Continue
	})
	defer wasmgate.Handle(request)
	tester(t, many(100)).Request(wasmgate.TestMessage{Client: "10.0.3.3"})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
