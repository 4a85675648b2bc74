package main

import (
	"reflect"
	"strings"
	"testing"

	wasmgate "wasmgate/sdk/go"
)

const config = `{"default": "users", "domain": "Example.com", "tenants": {"acme": "acme-upstream", "Globex": "g"}}`

func TestRequest(t *testing.T) {
	p, err := wasmgate.NewTester(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		host, path, tenant string
		want, upstream     string
	}{
		{"x", "/", "acme", "acme", "acme-upstream"},
		{"x", "/", "ACME", "acme", "acme-upstream"},
		{"acme.example.com", "/", "globex", "globex", "g"},
		{"Acme.EXAMPLE.com:8080", "/", "", "acme", "acme-upstream"},
		{"a.acme.example.com", "/", "", "default", "users"},
		{"acme.example.org", "/", "", "default", "users"},
		{"example.com", "/", "", "default", "users"},
		{".example.com", "/", "", "default", "users"},
		{"", "/administer", "", "default", "users"},
		{"x", "/", strings.Repeat("a", 5000), "default", "users"},
	} {
		got := p.Request(wasmgate.TestMessage{Authority: c.host, Path: c.path, Headers: []string{"x-tenant", c.tenant}})
		want := wasmgate.TestAnswer{Decision: "route", Upstream: c.upstream,
			Edits: []string{"set_header x-tenant-id: " + c.want, "set_header x-routed-by: tenant-router"}}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if a := p.Request(wasmgate.TestMessage{Path: "/admin/x"}); a.Decision != "deny" || a.Status != 403 {
		t.Errorf("/admin/x: %+v", a)
	}
	if a := p.Request(wasmgate.TestMessage{Path: "/", Sampled: true}); len(a.Edits) != 3 || a.Edits[2] != "attribute tenant.id: default" {
		t.Errorf("sampled: %+v", a)
	}
}

func TestConfigure(t *testing.T) {
	for config, want := range map[string]string{
		"": "config.default is missing", `{"tenants":{}}`: "config.default is missing", `{"defualt":"x"}`: "the keys are",
		`{"default":"x","tenants":{"":"y"}}`: "1 to 63", `{"default":"x","tenants":{"a":"y","A":"z"}}`: "twice", "{": "not JSON",
	} {
		if _, err := wasmgate.NewTester(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", config, err)
		}
	}
}
