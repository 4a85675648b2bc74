package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// readme returns the README, and the folder that it is in.
func readme(t *testing.T) (text, root string) {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	must(t, err)
	return string(b), root
}

// block is the first code block of a language after a line of the README.
func block(t *testing.T, text, after, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(text, after)
	if !ok {
		t.Fatalf("the README does not say %q", after)
	}
	_, rest, _ = strings.Cut(rest, "```"+language+"\n")
	code, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("no block of %s after %q", language, after)
	}
	return code
}

// TestFirstPlugin follows the README: builds its plugin, checks its config, serves it, and changes the plugin.
func TestFirstPlugin(t *testing.T) {
	text, root := readme(t)
	dir := t.TempDir()
	source := block(t, text, "## A first plugin", "go")
	build := func(source string) {
		t.Helper()
		write(t, filepath.Join(dir, "main.go"), source)
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "first", "main.go"): filepath.Join(dir, "main.go")}})
		must(t, err)
		write(t, filepath.Join(dir, "overlay.json"), string(overlay))
		cmd := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-buildmode=c-shared", "-o", filepath.Join(dir, "built.wasm"), "./first")
		cmd.Dir, cmd.Env = root, append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("building the plugin: %v\n%s", err, out)
		}
		must(t, os.Rename(filepath.Join(dir, "built.wasm"), filepath.Join(dir, "first.wasm")))
	}
	build(source)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("variant " + r.Header.Get("x-variant")))
	}))
	defer upstream.Close()
	file := filepath.Join(dir, "first.yaml")
	write(t, file, strings.NewReplacer("127.0.0.1:8081", "127.0.0.1:0", "http://127.0.0.1:8080", upstream.URL).Replace(block(t, text, "and `first.yaml`", "yaml")))
	if code, out, problems := call("check", file); code != exitOK || problems != "" {
		t.Errorf("check: exit code %d, %s%s", code, out, problems)
	}

	r := startRun(t, "-c", file, "--set", "admin.address=", "--set", "telemetry.access_log.output=off")
	url := r.url()
	ask := func(path, want string) {
		t.Helper()
		if got := get(t, url+path); got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
	ask("/ping", "pong\n")
	ask("/", "variant ")
	request, err := http.NewRequest("GET", url+"/", nil)
	must(t, err)
	request.Header.Set("x-beta", "yes")
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	must(t, err)
	if got := readBody(t, answer); got != "variant beta" {
		t.Errorf("with x-beta: %q", got)
	}
	answer, err = http.Get(url + "/internal/x")
	must(t, err)
	if readBody(t, answer); answer.StatusCode != 403 {
		t.Errorf("/internal/x: %s", answer.Status)
	}
	http.DefaultClient.CloseIdleConnections()

	build(strings.Replace(source, `"pong\n"`, `"swapped\n"`, 1))
	r.logs("reloaded")
	ask("/ping", "swapped\n")
	write(t, filepath.Join(dir, "first.wasm"), "not a module")
	r.logs("reload refused")
	contains(t, r.log.String(), "plugins.first")
	ask("/ping", "swapped\n")
}

func TestTheReadmesConfigIsOne(t *testing.T) {
	text, root := readme(t)
	dir := t.TempDir()
	must(t, os.Symlink(filepath.Join(root, "plugins"), filepath.Join(dir, "plugins")))
	file := filepath.Join(dir, "wasmgate.yaml")
	write(t, file, block(t, text, "## A config", "yaml"))
	if code, _, problems := call("check", file); code != exitOK || problems != "" {
		t.Errorf("check: exit code %d\n%s", code, problems)
	}
	said := block(t, text, "`enablereuse`", "")
	write(t, filepath.Join(dir, "gateway.yaml"), "\n\n\n\nupstreams:\n  app:\n    targets: [http://127.0.0.1]\n    pool:\n      enableuse: on\n")
	t.Chdir(dir)
	if _, _, problems := call("check", "gateway.yaml"); !strings.Contains(problems, said) {
		t.Errorf("the README shows\n%s\ncheck says\n%s", said, problems)
	}
}
