package suite

import (
	"bytes"
	"os"
	"testing"
)

// TestOtherABIs tests plugins of Proxy-Wasm and http-wasm.
func TestOtherABIs(t *testing.T) {
	for file, tests := range map[string]string{
		"../../wasm/proxywasm/testdata/tenant.wasm": `
tests:
  - name: chooses the host by the tenant
    request: { url: "http://shop.example.com/orders?id=1", headers: { x-tenant: acme } }
    expect: { decision: rematch, authority: acme.internal, set: { x-routed-by: tenant }, removed: [], path: /orders }
  - name: leaves others alone
    request: { method: POST, url: /, body: [a, b] }
    expect: { decision: continue, set: {}, body: ab }
`,
		"../../wasm/httpwasm/testdata/redact.wasm": `
plugin:
  config: secret
tests:
  - name: redacts a request
    request: { method: POST, url: /, body: [my sec, ret is out] }
    expect: { decision: continue, body: "my ###### is out" }
    response: { headers: { content-type: text/plain }, body: [another sec, ret] }
    expect_response: { status: 200, body: "another ######" }
  - name: needs a configuration
    config: ""
    refuse: unreachable, in _initialize
`,
	} {
		f, err := Parse("x.test.yaml", []byte(tests))
		if err != nil {
			t.Fatal(err)
		}
		module, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		r := Report{}
		r.Add(f.Run(load(t, module, f), "p"))
		var text bytes.Buffer
		r.Text(&text, plain)
		if r.Failed > 0 {
			t.Errorf("%s\n%s", file, text.String())
		}
	}
}
