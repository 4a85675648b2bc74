package modules

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"wasmgate/config"
	"wasmgate/runtime/internal/testkit"
)

// TestMain fails if a goroutine is left when all tests have ended. The fuzzer has some of its own.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(code)
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	for end := time.Now().Add(5 * time.Second); code == 0 && runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(end) {
			stacks := make([]byte, 64<<10)
			fmt.Fprintf(os.Stderr, "goroutines are left over:\n%s\n", stacks[:runtime.Stack(stacks, true)])
			code = 1
		}
	}
	os.Exit(code)
}

// need returns the path of a program, or ends the test: it is skipped, or fails where everything must be there.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	if os.Getenv("WASMGATE_TEST_ALL") != "" {
		t.Fatalf("needs %s, and WASMGATE_TEST_ALL is set", program)
	}
	t.Skipf("needs %s", program)
	return ""
}

// moduleOf is a module of about that many bytes, another one for each name.
func moduleOf(name string, size int) []byte {
	content := append([]byte{byte(len(name))}, name...)
	content = append(content, bytes.Repeat([]byte{7}, size)...)
	b := append(bytes.Clone(moduleHead), 0) // a custom section
	for n := len(content); ; n >>= 7 {
		if n < 0x80 {
			b = append(b, byte(n))
			break
		}
		b = append(b, byte(n)|0x80)
	}
	return append(b, content...)
}

// fetcher is one with a cache of its own, that is quick to give up; change may be nil.
func fetcher(t *testing.T, change func(*Options)) *Fetcher {
	t.Helper()
	o := Options{CacheDir: filepath.Join(t.TempDir(), "modules"), Stall: 5 * time.Second, Timeout: 20 * time.Second, Backoff: time.Millisecond, DockerConfig: "off"}
	if change != nil {
		change(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// serve is a server on loopback, with TLS if secure; then its authority is in the file that ca names.
func serve(t *testing.T, secure bool, h http.HandlerFunc) (url, ca string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if secure {
		s.StartTLS()
		ca = filepath.Join(t.TempDir(), "ca.pem")
		write(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	} else {
		s.Start()
	}
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL, ca
}

func write(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func refTo(url, digest string) config.Module { return config.Module{URL: url, Digest: digest} }

// fails fetches and wants an error of that kind with these words in it.
func fails(t *testing.T, f *Fetcher, ref config.Module, kind Kind, words ...string) *Error {
	t.Helper()
	b, _, err := f.Fetch(context.Background(), ref)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%s: %d bytes, %v; want an error of kind %s", Short(ref), len(b), err, kind)
	}
	if e.Kind != kind || e.Ref != ref || !strings.HasPrefix(e.Error(), Short(ref)+": ") {
		t.Errorf("%s: kind %s, want %s: %v", Short(ref), e.Kind, kind, e)
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("%q does not say %q", e, w)
		}
	}
	return e
}

// has fetches and wants that module.
func has(t *testing.T, f *Fetcher, ref config.Module, module []byte) Info {
	t.Helper()
	b, info, err := f.Fetch(context.Background(), ref)
	if err != nil {
		t.Fatalf("%s: %v", Short(ref), err)
	}
	if !bytes.Equal(b, module) || info.Digest != digestOf(module) || info.Tries < 1 {
		t.Fatalf("%s: %d bytes, %+v; want %d bytes", Short(ref), len(b), info, len(module))
	}
	return info
}

// realRegistry is Debian's docker-registry.
type realRegistry struct {
	t      *testing.T
	addr   string
	client remote.Client
	plain  bool
	stop   func()
}

// startRegistry runs a registry; more is added to its config, below "http:" first.
func startRegistry(t *testing.T, http, more string) *realRegistry {
	t.Helper()
	program := need(t, "docker-registry")
	addr := fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))
	dir := t.TempDir()
	conf := filepath.Join(dir, "config.yml")
	write(t, conf, []byte(fmt.Sprintf("version: 0.1\nlog: { level: warn, accesslog: { disabled: true } }\nstorage: { filesystem: { rootdirectory: %s } }\n"+
		"http:\n  addr: %s\n%s%s", filepath.Join(dir, "data"), addr, http, more)))
	r := &realRegistry{t: t, addr: addr, plain: http == "", client: &auth.Client{}}
	cmd := exec.Command(program, "serve", conf)
	output := &testkit.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	r.stop = func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	t.Cleanup(r.stop)
	testkit.Eventually(t, "the registry listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("the registry ended: %s", output)
		default:
		}
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return r
}

func (r *realRegistry) repository(name string) *remote.Repository {
	r.t.Helper()
	repo, err := remote.NewRepository(r.addr + "/" + name)
	if err != nil {
		r.t.Fatal(err)
	}
	repo.PlainHTTP, repo.Client = r.plain, r.client
	return repo
}

// blob is content that is pushed, with what a manifest says of it.
type blob struct {
	ocispec.Descriptor
	content []byte
}

func newBlob(mediaType string, content []byte) blob {
	return blob{ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(content), Size: int64(len(content))}, content}
}

func (b blob) titled(title string) blob {
	b.Annotations = map[string]string{ocispec.AnnotationTitle: title}
	return b
}

// imageOf is a manifest of these, whose first is the config.
func imageOf(mediaType string, blobs ...blob) blob {
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Config: blobs[0].Descriptor}
	for _, b := range blobs[1:] {
		m.Layers = append(m.Layers, b.Descriptor)
	}
	content, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	if mediaType == "" {
		mediaType = ocispec.MediaTypeImageManifest
	}
	return newBlob(mediaType, content)
}

// push pushes blobs, the last of which is the manifest, and returns the reference to it.
func (r *realRegistry) push(name string, blobs ...blob) config.Module {
	r.t.Helper()
	repo := r.repository(name)
	for _, b := range blobs {
		if err := repo.Push(context.Background(), b.Descriptor, bytes.NewReader(b.content)); err != nil {
			r.t.Fatalf("%s: %v", name, err)
		}
	}
	return r.ref(name, blobs[len(blobs)-1].Digest)
}

func (r *realRegistry) ref(name string, d digest.Digest) config.Module {
	return refTo("oci://"+r.addr+"/"+name+":latest", d.Encoded())
}

// tarOf is an archive of files: name, content, name, content.
func tarOf(files ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		if strings.HasSuffix(files[i], "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(files[i+1])); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipped(content []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(content); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// bigTar is an archive whose one file has size zero bytes, written as it is compressed.
func bigTar(name string, size int64) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
		panic(err)
	}
	chunk := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(chunk)) {
		if _, err := w.Write(chunk[:min(left, int64(len(chunk)))]); err != nil {
			panic(err)
		}
	}
	_ = w.Close()
	_ = z.Close()
	return b.Bytes()
}
