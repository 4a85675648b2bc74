package cli

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

var adminAt = regexp.MustCompile(`"address":"([^"]+)"[^\n]*"message":"admin endpoint`)

// operate asks the admin endpoint.
func (r *running) operate(method, path, body string, status int) string {
	r.t.Helper()
	var base string
	testkit.Eventually(r.t, "the admin endpoint is open", func() bool {
		m := adminAt.FindStringSubmatch(r.log.String())
		if m != nil {
			base = "http://" + m[1]
		}
		return m != nil
	})
	req, err := http.NewRequest(method, base+path, strings.NewReader(body))
	must(r.t, err)
	resp, err := http.DefaultClient.Do(req)
	must(r.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(r.t, err)
	if resp.StatusCode != status {
		r.t.Errorf("%s %s: %s %s", method, path, resp.Status, text)
	}
	return string(text)
}

// The file is the command's: the admin endpoint has it read again, and the log's level changed.
func TestRunIsOperatedByTheAdminEndpoint(t *testing.T) {
	t.Chdir(t.TempDir())
	const text = "admin: { address: '127.0.0.1:0' }\nlisteners: [{ address: '127.0.0.1:0' }]\nroutes: [{ name: hello, respond: { status: 200, body: hello } }]\n"
	write(t, "gateway.yaml", text)
	r := startRun(t, "-c", "gateway.yaml")
	r.logs("ready")
	contains(t, r.operate("GET", "/config", "", 200), `"file": "gateway.yaml"`, `"gateway.yaml:3:`)
	contains(t, r.operate("POST", "/config/reload?dry_run=true", "", 200), `"changes": []`, `"applied": false`)
	contains(t, r.operate("POST", "/config/reload", "", 200), `"applied": true`)
	r.logs("reloaded")
	contains(t, r.log.String(), `"why":"the admin endpoint"`, `"operation":"reloadConfig"`)
	write(t, "gateway.yaml", text+"listner: 1\n")
	contains(t, r.operate("POST", "/config/reload", "", 422), `"at": "gateway.yaml:4:1"`, "listeners")
	r.logs("reload refused")
	contains(t, r.operate("PUT", "/log/level", `{"level": "debug"}`, 200), `"debug"`)
	contains(t, r.operate("GET", "/changes", "", 200), `"log_level"`, `"what": "setLogLevel"`)
	http.DefaultClient.CloseIdleConnections()
}
