package config

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var (
	digestA = strings.Repeat("0123456789abcdef", 4)
	digestB = strings.Repeat("fedcba9876543210", 4)
)

func TestModule(t *testing.T) {
	for text, want := range map[string]Module{
		"plugins/a.wasm":                     {Path: "plugins/a.wasm"},
		"/plugins/a.wasm":                    {Path: "/plugins/a.wasm"},
		`C:\plugins\a.wasm`:                  {Path: `C:\plugins\a.wasm`},
		"C://plugins/a.wasm":                 {Path: "C://plugins/a.wasm"},
		"a@sha256:1.wasm":                    {Path: "a@sha256:1.wasm"},
		" a.wasm":                            {Path: " a.wasm"},
		"":                                   {},
		"https://h/a.wasm@sha256:" + digestA: {URL: "https://h/a.wasm", Digest: digestA},
		"https://h:8443/a@b.wasm@sha256:" + digestA:      {URL: "https://h:8443/a@b.wasm", Digest: digestA},
		"https://h/a?v=1&w=@sha256:" + digestA:           {URL: "https://h/a?v=1&w=", Digest: digestA},
		"https://h@sha256:" + digestA:                    {URL: "https://h", Digest: digestA},
		"https://h/a@sha256:" + strings.ToUpper(digestA): {URL: "https://h/a", Digest: digestA},
		"http://localhost/a@sha256:" + digestA:           {URL: "http://localhost/a", Digest: digestA},
		"http://127.9.9.9:1/a@sha256:" + digestA:         {URL: "http://127.9.9.9:1/a", Digest: digestA},
		"http://[::1]:80/a@sha256:" + digestA:            {URL: "http://[::1]:80/a", Digest: digestA},
		"oci://ghcr.io/a/b:1.2@sha256:" + digestA:        {URL: "oci://ghcr.io/a/b:1.2", Digest: digestA},
		"oci://localhost/b@sha256:" + digestA:            {URL: "oci://localhost/b", Digest: digestA},
		"oci://[::1]:5000/b@sha256:" + digestA:           {URL: "oci://[::1]:5000/b", Digest: digestA},
	} {
		var m Module
		if err := m.UnmarshalText([]byte(text)); err != nil || m != want {
			t.Errorf("%q is %+v, %v; want %+v", text, m, err, want)
		}
		if want := strings.ReplaceAll(text, strings.ToUpper(digestA), digestA); m.String() != want {
			t.Errorf("%q is written %q", text, m)
		}
		if m.Fetched() == (m.URL == "") {
			t.Errorf("%q: %v", text, m.Fetched())
		}
	}
}

func TestModuleErrors(t *testing.T) {
	at := "@sha256:" + digestA
	for text, word := range map[string]string{
		"https://" + at:                               "not an URL",
		"https:///a" + at:                             "not an URL",
		"https://h:/a" + at:                           "not an URL",
		"https://h:99999/a" + at:                      "not an URL",
		"https://h:0/a" + at:                          "not an URL",
		"https://%zz/a" + at:                          "not an URL",
		"https://h/a b" + at:                          "no URL has",
		"https://h/a\n" + at:                          "no URL has",
		"https://h/a#b" + at:                          "never sent",
		"https://u:p@h/a" + at:                        "password",
		"https://h/a" + at + "0":                      "has 65 digits",
		"https://h/a" + at + "?token=1":               "not a SHA-256 digest",
		"https://h/a@sha256:":                         "has 0 digits",
		"https://h/a@sha1:" + digestA:                 "and by nothing else",
		"HTTPS://h/a" + at:                            "lower case",
		"http://10.0.0.1/a" + at:                      "loopback",
		"http://localhost.example/a" + at:             "loopback",
		"http://127.0.0.1.example/a" + at:             "loopback",
		"http://0.0.0.0/a" + at:                       "loopback",
		"s3://bucket/a" + at:                          "not known",
		"oci://" + at:                                 "not a registry",
		"oci:///b" + at:                               "not a registry",
		"oci://ghcr.io" + at:                          "no registry",
		"oci://ghcr.io/" + at:                         "no registry",
		"oci://acme/b" + at:                           "no registry",
		"oci://ghcr.io:x/b" + at:                      "not a registry",
		"oci://ghcr.io:70000/b" + at:                  "not a registry",
		"oci://gh cr.io/b" + at:                       "no URL has",
		"oci://ghcr.io/b//c" + at:                     "not a repository",
		"oci://ghcr.io/../c" + at:                     "not a repository",
		"oci://ghcr.io/b?x" + at:                      "not a repository",
		"oci://ghcr.io/B" + at:                        "lower case",
		"oci://ghcr.io/b:" + at:                       "not a tag",
		"oci://ghcr.io/b:.x" + at:                     "not a tag",
		"oci://u:p@ghcr.io/b" + at:                    "password",
		"oci://ghcr.io/b@sha512:1" + at:               "nothing else",
		"oci://ghcr.io/b@sha512:" + digestA:           "nothing else",
		"https://h/" + strings.Repeat("a", 3000) + at: "more than 2048",
	} {
		var m Module
		err := m.UnmarshalText([]byte(text))
		var h helped
		if !errors.As(err, &h) || h.help == "" || !strings.Contains(h.message, word) {
			t.Errorf("%q: %v (help: %q), want %q", text, err, h.help, word)
		}
		if m != (Module{}) {
			t.Errorf("%q left %+v", text, m)
		}
	}
}

func TestModuleParts(t *testing.T) {
	image := Module{URL: "oci://ghcr.io:443/a/b:1", Digest: digestA}
	if r, n, tag, ok := image.Image(); r != "ghcr.io:443" || n != "a/b" || tag != "1" || !ok || image.Host() != r {
		t.Errorf("%q %q %q %v %q", r, n, tag, ok, image.Host())
	}
	if r, n, tag, ok := (Module{URL: "oci://[::1]:5000/b"}).Image(); r != "[::1]:5000" || n != "b" || tag != "" || !ok {
		t.Errorf("%q %q %q %v", r, n, tag, ok)
	}
	for url, host := range map[string]string{"https://h:1/a": "h:1", "https://h?x/y": "h", "": ""} {
		m := Module{URL: url}
		if _, _, _, ok := m.Image(); ok || m.Host() != host {
			t.Errorf("%q is an image: %v, of %q", url, ok, m.Host())
		}
	}
}

// TestModuleOfLayers sets modules where a file has others, in both forms.
func TestModuleOfLayers(t *testing.T) {
	const file = "plugins:\n  a: { module: a.wasm }\n  b: { module: { url: 'https://h/b', sha256: '" + "0000000000000000000000000000000000000000000000000000000000000000' } }\nroutes: [{ upstream: 'http://a', plugins: [a, b] }]\n"
	fetched := Module{URL: "https://h/c", Digest: digestB}
	for _, c := range []struct {
		env, override string
		plugin        string
		want          Module
	}{
		{"", "", "b", Module{URL: "https://h/b", Digest: strings.Repeat("0", 64)}},
		{"", "", "a", Module{Path: "a.wasm"}},
		{"WASMGATE_PLUGINS__A__MODULE=" + fetched.String(), "", "a", fetched},
		{"WASMGATE_PLUGINS__B__MODULE=c.wasm", "", "b", Module{Path: "c.wasm"}},
		{"", "plugins.b.module=" + fetched.String(), "b", fetched},
		{"", "plugins.a.module={url: https://h/c, sha256: " + digestB + "}", "a", fetched},
	} {
		var env, overrides []string
		if c.env != "" {
			env = []string{c.env}
		}
		if c.override != "" {
			overrides = []string{c.override}
		}
		stated := []string{}
		got, report, err := Load(Source{Data: []byte(file), Env: env, Overrides: overrides, Stat: func(path string) error {
			stated = append(stated, path)
			return nil
		}})
		if err != nil || got.Plugins[c.plugin].Module != c.want {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		for _, looked := range append(stated, report.Files...) {
			if strings.Contains(looked, "https") {
				t.Errorf("%+v: %s was looked for as a file", c, looked)
			}
		}
		if c.want.Path != "" && !slices.Contains(report.Files, c.want.Path) {
			t.Errorf("%+v: the files are %v", c, report.Files)
		}
	}
}

// FuzzModule reads anything as a module: what is accepted is written and read again as the same, and what is fetched has
// a host and a digest.
func FuzzModule(f *testing.F) {
	for _, s := range []string{"a.wasm", "https://h/a@sha256:" + digestA, "oci://ghcr.io/a/b:1@sha256:" + digestA, "http://[::1]:1/@sha256:" + digestA,
		"docker://a", "oci://a@sha256:", "https://h/\xff@sha256:" + digestB} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var m, again Module
		if err := m.UnmarshalText([]byte(s)); err != nil {
			var h helped
			if !errors.As(err, &h) || h.help == "" {
				t.Errorf("%q: no help: %v", s, err)
			}
			return
		}
		if err := again.UnmarshalText([]byte(m.String())); err != nil || again != m {
			t.Errorf("%q is %+v, and then %+v, %v", s, m, again, err)
		}
		if !m.Fetched() {
			if m != (Module{Path: s}) {
				t.Errorf("%q is %+v", s, m)
			}
			return
		}
		registry, repository, _, image := m.Image()
		if len(m.Digest) != 64 || m.Path != "" || m.Host() == "" || (image && (registry != m.Host() || repository == "")) {
			t.Errorf("%q is %+v", s, m)
		}
	})
}

// TestPluginSources are the defaults, and where relative paths start.
func TestPluginSources(t *testing.T) {
	s := load(t, "plugin_sources: { hosts: { \"registry:5000\": { credentials: LOGIN } } }\nroutes: [{ upstream: 'http://a' }]\n", nil).PluginSources
	want := Default().PluginSources
	want.Hosts = map[string]*PluginHost{"registry:5000": {Credentials: "LOGIN"}}
	if !reflect.DeepEqual(s, want) || want.MaxSize != 64*MiB || want.Wait == 0 || want.Timeout == 0 {
		t.Errorf("%+v", s)
	}
	c, _, err := Load(Source{File: "/etc/wasmgate/w.yaml", Data: []byte("plugin_sources: { ca_file: ca.pem, docker_config: docker.json, hosts: { h: { ca_file: h.pem } } }\n"),
		Stat: func(string) error { return nil }})
	if err != nil || c.PluginSources.CAFile != "/etc/wasmgate/ca.pem" || c.PluginSources.DockerConfig != "/etc/wasmgate/docker.json" || c.PluginSources.Hosts["h"].CAFile != "/etc/wasmgate/h.pem" {
		t.Errorf("%+v, %v", c, err)
	}
}
