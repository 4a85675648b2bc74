//go:build unix

package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"wasmgate/runtime/internal/testkit"
)

var combinedLine = regexp.MustCompile(`^127\.0\.0\.1 - - \[\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} \+0000\] "GET /(\d+)\?n=1&token=\*\*\* HTTP/1\.1" 200 5 "-" "logrotate \\x22test\\x22"\n$`)

// logrotate renames the file and sends SIGUSR1, again and again, while clients ask: each request has its line in one of the
// files, whole, and none has two.
func TestLogrotateUnderLoad(t *testing.T) {
	dir := t.TempDir()
	file, log := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "access.log")
	write(t, file, "listeners: [{ address: \"127.0.0.1:0\" }]\nadmin: { address: \"\" }\n"+
		"telemetry: { access_log: { output: access.log, format: combined, redact: { query: [token] } } }\n"+
		"routes: [{ respond: { status: 200, body: hello } }]\n")
	r := startRun(t, "-c", file)
	url := r.url()
	r.logs("ready")

	var asked atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			client := http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				q, err := http.NewRequest(http.MethodGet, fmt.Sprintf("%s/%d?n=1&token=secret", url, asked.Add(1)), nil)
				if err != nil {
					t.Error(err)
					return
				}
				q.Header.Set("User-Agent", `logrotate "test"`)
				answer, err := client.Do(q)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		})
	}
	const rotations = 10
	for i := range rotations {
		at := asked.Load()
		testkit.Eventually(t, "clients ask", func() bool { return asked.Load() > at+100 })
		must(t, os.Rename(log, fmt.Sprint(log, ".", i)))
		r.signals <- syscall.SIGUSR1
		r.logs("the access log was opened anew")
	}
	close(stop)
	clients.Wait()
	r.signals <- syscall.SIGTERM
	r.ends(exitOK)

	files, err := filepath.Glob(log + "*")
	must(t, err)
	if len(files) != rotations+1 {
		t.Errorf("the files are %v", files)
	}
	seen := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		must(t, err)
		for line := range strings.Lines(string(b)) {
			m := combinedLine.FindStringSubmatch(line)
			if m == nil || seen[m[1]] {
				t.Fatalf("%s: %q", f, line)
			}
			seen[m[1]] = true
		}
	}
	if len(seen) != int(asked.Load()) {
		t.Errorf("%d requests, %d lines", asked.Load(), len(seen))
	}
}

// The process is told of SIGUSR1, which would end it otherwise.
func TestSIGUSR1IsNotDeadly(t *testing.T) {
	signals := OS().Signals()
	must(t, syscall.Kill(os.Getpid(), syscall.SIGUSR1))
	if s := <-signals; s != syscall.SIGUSR1 {
		t.Errorf("the signal is %v", s)
	}
}
