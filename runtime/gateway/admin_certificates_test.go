package gateway_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wasmgate/runtime/admin"
	"wasmgate/runtime/internal/testkit"
)

// TestListenersTellOfTheirCertificates: those in files with what is wrong with them, those of ACME with why there is none, and
// when it is tried again.
func TestListenersTellOfTheirCertificates(t *testing.T) {
	a := newIssuer(t)
	a.listener("")
	d := openDesk(t, fmt.Sprintf(`
admin: { address: '127.0.0.1:0' }
acme: { agree: true, directory: 'https://127.0.0.1:1/dir', storage: '%s' }
listeners:
  - { name: plain, address: '127.0.0.1:0' }
  - name: test
    address: '127.0.0.1:0'
    tls: { acme: a.example.com, certificates: [{ cert: '%s', key: '%s', names: [a.test, b.test] }] }
routes: [{ respond: { status: 200 } }]
`, filepath.Join(t.TempDir(), "acme"), a.file("a.pem"), a.file("a.key")))
	var list []admin.Listener
	testkit.Eventually(t, "an attempt has failed", func() bool {
		if err := json.Unmarshal([]byte(get(t, d.url("/listeners"))), &list); err != nil {
			t.Fatal(err)
		}
		return len(list[1].Certificates) == 2 && list[1].Certificates[1].Error != ""
	})
	if list[0].Certificates != nil {
		t.Errorf("cleartext: %+v", list[0])
	}
	file, issued := list[1].Certificates[0], list[1].Certificates[1]
	if file.File != a.file("a.pem") || len(file.Names) != 2 || file.NotBefore == nil || time.Until(*file.NotAfter) < time.Hour || file.Stapled || file.Next != nil {
		t.Errorf("of a file: %+v", file)
	}
	if p := file.Problems; len(p) == 0 || !strings.Contains(strings.Join(p, " "), "to be shown for b.test") {
		t.Errorf("its problems: %q", p)
	}
	if issued.Names[0] != "a.example.com" || issued.File != "" || issued.NotAfter != nil || !strings.Contains(issued.Error, "connection refused") ||
		issued.Next == nil || time.Until(*issued.Next) > time.Minute {
		t.Errorf("of ACME: %+v", issued)
	}
}
