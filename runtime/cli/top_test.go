package cli

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	// An upstream with requests: a rate, a time to the answer, connections, and how many requests were on pooled ones.
	topUpstream = regexp.MustCompile(`(?m)^web +healthy +[1-9][\d.]* +[\d.]+ms +0 +[1-9]\d* +\d+ +0 +(\d+)% +\d+$`)
	topConn     = regexp.MustCompile(`(?m)^#\d+ +web +127\.0\.0\.1:\d+ +(idle|busy) +[1-9][\d.]* +[1-9]\d* `)
	topPlugin   = regexp.MustCompile(`(?m)^tenant +well +[1-9][\d.]* +[1-9]\d* +[1-9]\d* +\d+\S+ +0 +[1-9]\d* +native$`)
	topLoop     = regexp.MustCompile(`(?m)^0 +\d+% +[\d.]+ms +[1-9]\d* +\d+$`)
)

// TestTopShowsARunningGateway: what top writes of a gateway that serves requests, and what it says where it cannot ask.
func TestTopShowsARunningGateway(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	router, err := filepath.Abs("../../plugins/tenant-router/tenant-router.wasm")
	must(t, err)
	t.Chdir(t.TempDir())
	write(t, "tokens", "\nann 0123456789abcdef-ann\nbob 0123456789abcdef-bob\n")
	write(t, "wrong", "0123456789abcdef-eve\n")
	write(t, "empty", "\n")
	write(t, "gateway.yaml", "loops: 1\nadmin: { address: '127.0.0.1:0', token_file: tokens }\nlisteners: [{ address: '127.0.0.1:0' }]\n"+
		"telemetry: { access_log: { output: 'off' } }\nplugin_cache: { dir: 'off' }\nupstreams: { web: { targets: ['"+web.URL+"'] } }\n"+
		"plugins: { tenant: { module: '"+router+"', upstreams: [web], config: { default: web } } }\nroutes: [{ plugins: [tenant] }]\n")
	r := startRun(t, "-c", "gateway.yaml")
	url := r.url()
	r.logs("ready")
	admin := adminAt.FindStringSubmatch(r.log.String())
	if admin == nil {
		t.Fatalf("the log does not say where the admin endpoint is: %s", r.log.String())
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		client := http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		for {
			select {
			case <-stop:
				return
			default:
			}
			answer, err := client.Get(url)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
		}
	}()
	var wrong []string
	for try := 1; try == 1 || len(wrong) > 0 && try <= 5; try++ { // the client may have stood still between the two readings
		code, out, text := call("top", "--once", "--interval", "500ms", "--admin", admin[1], "--token-file", "tokens")
		if wrong = nil; code != exitOK || text != "" {
			wrong = append(wrong, fmt.Sprintf("exit code %d: %s", code, text))
			break
		}
		for what, want := range map[string]*regexp.Regexp{"the upstream": topUpstream, "its connection": topConn, "the plugin": topPlugin, "the loop": topLoop} {
			if !want.MatchString(out) {
				wrong = append(wrong, fmt.Sprintf("%s is not there:\n%s", what, out))
			}
		}
		if m := topUpstream.FindStringSubmatch(out); m != nil && len(m[1]) < 2 { // one client, one loop: but for the first all are
			wrong = append(wrong, m[1]+" % are on pooled connections")
		}
	}
	close(stop)
	<-stopped
	for _, w := range wrong {
		t.Error(w)
	}
	for want, args := range map[string][]string{
		"wants a token: give the file that has one with --token-file": {"--admin", admin[1]},
		"does not accept the token":                                   {"--admin", admin[1], "--token-file", "wrong"},
		"there is no token in it":                                     {"--token-file", "empty"},
		"no such file":                                                {"--token-file", "none"},
		"the admin endpoint at 127.0.0.1:1 cannot be reached":         {"--admin", "127.0.0.1:1"},
	} {
		code, _, text := call(append([]string{"top", "--once"}, args...)...)
		if code != exitFailed || !strings.Contains(text, want) {
			t.Errorf("%q: exit code %d, %s", args, code, text)
		}
	}
	if code, _, text := call("top", "--interval", "1ms"); code != exitUsage || !strings.Contains(text, "too short") {
		t.Errorf("exit code %d, %s", code, text)
	}
}
