package modules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/memory"
	"oras.land/oras-go/v2/registry/remote/auth"
)

const dockerConfigType = "application/vnd.docker.container.image.v1+json"

// layout is a way to push a module.
type layout struct {
	name  string
	is    Layout
	blobs []blob // the last one is what is referred to
}

// layouts are all that are accepted, each with that module.
func layouts(module []byte) []layout {
	text := string(module)
	empty := newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	imageConfig := newBlob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	dockerConfig := newBlob(dockerConfigType, imageConfig.content)
	envoyConfig := newBlob("application/vnd.module.wasm.config.v1+json", []byte(`{"type":"envoy_proxy","abiVersions":["v0-541b2c1155fffb15ccde92b8324f3e38f7339ba6"],"config":{"rootIds":["r"]}}`))
	toOCIConfig := newBlob("application/vnd.wasm.config.v1+json", []byte("{}"))
	cncfConfig := newBlob("application/vnd.wasm.config.v0+json", []byte(`{"created":"2024-09-25T12:00:00Z","architecture":"wasm","os":"wasip1","layerDigests":[]}`))
	whole := func(mediaType string) blob { return newBlob(mediaType, module).titled("filter.wasm") }
	packed := func(mediaType string, files ...string) blob { return newBlob(mediaType, gzipped(tarOf(files...))) }
	manifest := func(mediaType string, blobs ...blob) []blob { return append(blobs, imageOf(mediaType, blobs...)) }

	oci, oldOCI := ocispec.MediaTypeImageManifest, ""
	compat := manifest(oci, imageConfig, packed(ocispec.MediaTypeImageLayerGzip, "plugin.wasm", text, "runtime-config.json", "{}"))
	list := []layout{
		{"envoy", LayoutArtifact, manifest(oci, envoyConfig, whole(envoyModule))},
		{"envoy-two-layers", LayoutArtifact, manifest(oldOCI, empty, envoyConfig.titled("runtime-config.json"), whole(envoyModule))},
		{"wasm-to-oci", LayoutArtifact, manifest(oldOCI, toOCIConfig, whole(toOCIModule))},
		{"cncf", LayoutArtifact, manifest(oci, cncfConfig, whole(cncfModule))},
		{"another-vendor", LayoutArtifact, manifest(oci, empty, whole("application/vnd.acme.filter.v1+wasm"))},
		{"oras-untyped", LayoutArtifact, manifest(oci, empty, newBlob(ocispec.MediaTypeImageLayer, module).titled("plugin.wasm"))},
		{"compat", LayoutImage, compat},
		{"compat-plain-tar", LayoutImage, manifest(oci, imageConfig, newBlob(ocispec.MediaTypeImageLayer, tarOf("./plugin.wasm", text)))},
		{"docker", LayoutImage, manifest(dockerManifest, dockerConfig, packed(dockerLayer, "plugin.wasm", text))},
		{"docker-other-name", LayoutImage, manifest(dockerManifest, dockerConfig, packed(dockerLayer, "app/", "", "app/tenant.wasm", text))},
		{"docker-layers", LayoutImage, manifest(dockerManifest, dockerConfig, packed(dockerLayer, "etc/passwd", "root"),
			packed(dockerLayer, "plugin.wasm", string(moduleOf("below", 10))), packed(dockerLayer, "plugin.wasm", text), packed(dockerLayer, "README", "read me"))},
		{"higress", LayoutImage, manifest(oci, empty, newBlob("application/vnd.module.wasm.spec.v1+yaml", []byte("apiVersion: 1.0.0")),
			newBlob("application/vnd.module.wasm.doc.v1+markdown", []byte("# Doc")), packed(ocispec.MediaTypeImageLayerGzip, "plugin.wasm", text))},
		{"several-modules-one-named", LayoutArtifact, manifest(oci, empty, whole(envoyModule).titled("plugin.wasm"), newBlob(envoyModule, moduleOf("other", 9)).titled("other.wasm"))},
	}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	attestation := manifest(oci, imageConfig, newBlob("application/vnd.in-toto+json", []byte("{}")))
	image := compat[len(compat)-1].Descriptor
	image.Platform = &ocispec.Platform{Architecture: "amd64", OS: "linux"}
	about := attestation[len(attestation)-1].Descriptor
	about.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	about.Platform = &ocispec.Platform{Architecture: "unknown", OS: "unknown"}
	index.Manifests = []ocispec.Descriptor{about, image}
	content, _ := json.Marshal(index)
	blobs := append(append([]blob{}, compat...), attestation...)
	return append(list, layout{"index", LayoutImage, append(blobs, newBlob(ocispec.MediaTypeImageIndex, content))})
}

// TestLayouts pushes a module in every accepted layout to a real registry and has it back, from the registry and, when
// that is gone, from the cache, in another process as it were.
func TestLayouts(t *testing.T) {
	r := startRegistry(t, "", "")
	f := fetcher(t, nil)
	module := moduleOf("the module", 100_000)
	all := layouts(module)
	for _, l := range all {
		ref := r.push(l.name, l.blobs...)
		info := has(t, f, ref, module)
		if info.Layout != l.is || info.Cached || info.MediaType == "" || info.Tries != 1 || info.NotKept != nil {
			t.Errorf("%s: %+v", l.name, info)
		}
	}
	r.stop()
	other := fetcher(t, func(o *Options) { o.CacheDir = f.o.CacheDir })
	for _, l := range all {
		info := has(t, other, r.ref(l.name, l.blobs[len(l.blobs)-1].Digest), module)
		if info.Layout != l.is || !info.Cached {
			t.Errorf("%s, from the cache: %+v", l.name, info)
		}
	}
}

// TestOrasPush packs an artifact as oras does, and copies it as it does.
func TestOrasPush(t *testing.T) {
	r := startRegistry(t, "", "")
	module := moduleOf("packed", 1000)
	store, ctx := memory.New(), context.Background()
	layer := newBlob(envoyModule, module).titled("plugin.wasm")
	if err := store.Push(ctx, layer.Descriptor, strings.NewReader(string(layer.content))); err != nil {
		t.Fatal(err)
	}
	for _, version := range []oras.PackManifestVersion{oras.PackManifestVersion1_0, oras.PackManifestVersion1_1} {
		desc, err := oras.PackManifest(ctx, store, version, "application/vnd.acme.plugin", oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer.Descriptor}})
		if err != nil {
			t.Fatal(err)
		}
		if err := oras.CopyGraph(ctx, store, r.repository("packed"), desc, oras.DefaultCopyGraphOptions); err != nil {
			t.Fatal(err)
		}
		has(t, fetcher(t, nil), r.ref("packed", desc.Digest), module)
	}
}

// TestWrongImages are images that a registry has and that no plugin is made of.
func TestWrongImages(t *testing.T) {
	r := startRegistry(t, "", "")
	f := fetcher(t, func(o *Options) { o.MaxSize = 200_000 })
	module := moduleOf("m", 1000)
	empty := newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	image := func(layers ...blob) []blob {
		blobs := append([]blob{empty}, layers...)
		return append(blobs, imageOf(ocispec.MediaTypeImageManifest, blobs...))
	}
	archive := func(files ...string) blob { return newBlob(ocispec.MediaTypeImageLayerGzip, gzipped(tarOf(files...))) }
	for i, c := range []struct {
		blobs []blob
		kind  Kind
		words []string
	}{
		{image(newBlob("application/vnd.cncf.helm.chart.content.v1.tar+gzip", gzipped(tarOf("plugin.wasm", "x")))), KindFormat, []string{"media type", "helm.chart", "oras push"}},
		{image(newBlob(ocispec.MediaTypeImageLayerZstd, zstdMagic)), KindFormat, []string{"zstd", "gzip"}},
		{image(newBlob(ocispec.MediaTypeImageLayerGzip, zstdMagic)), KindFormat, []string{"zstd", "gzip"}},
		{image(archive("bin/sh", "x")), KindFormat, []string{"no plugin.wasm"}},
		{image(archive("a.wasm", "x", "b.wasm", "y")), KindFormat, []string{"several modules", "a.wasm, b.wasm"}},
		{image(archive("plugin.wasm", "not wasm")), KindFormat, []string{"not a WebAssembly module", "not wasm"}},
		{image(archive("plugin.wasm", string(componentHead))), KindFormat, []string{"component", "wasip1"}},
		{image(archive("plugin.wasm", "")), KindFormat, []string{"empty"}},
		{image(newBlob(envoyModule, gzipped(module))), KindFormat, []string{"not a WebAssembly module"}},
		{image(newBlob(envoyModule, module), newBlob(envoyModule, moduleOf("n", 9))), KindFormat, []string{"2 modules"}},
		{image(newBlob(envoyModule, moduleOf("m", 200_001))), KindTooLarge, []string{"200000 are allowed", "plugin_sources.max_size"}},
		{image(newBlob(ocispec.MediaTypeImageLayerGzip, bigTar("plugin.wasm", 200_001))), KindTooLarge, []string{"unpacked", "plugin_sources.max_size"}},
		{image(newBlob(ocispec.MediaTypeImageLayerGzip, bigTar("other", 3<<20))), KindTooLarge, []string{"unpacked"}},
		{image(newBlob(ocispec.MediaTypeImageLayerGzip, []byte("junk"))), KindFormat, []string{"not an archive"}},
		{image(newBlob(ocispec.MediaTypeImageLayerGzip, gzipped(tarOf("plugin.wasm", string(module)))[:60])), KindFormat, []string{"not an archive"}},
	} {
		fails(t, f, r.push("wrong"+strconv.Itoa(i), c.blobs...), c.kind, c.words...)
	}
	ref := r.push("there", image(newBlob(envoyModule, module))...)
	ref.Digest = digestOf(module) // there is something with that digest
	fails(t, f, ref, KindBusy, "500", "oras resolve", "not that of the module")
	ref.Digest = digestOf(nil)
	fails(t, f, ref, KindNotFound, "404", "for the manifest", "oras resolve", "not that of the module")
	ref.URL = "oci://" + r.addr + "/nowhere"
	fails(t, f, ref, KindNotFound, "404", "check the repository")
}

// login is the line of a htpasswd file for user:secret.
const login = "user:$2y$05$PX4XxGMTxjVFuFXQJ5/WuehM4RRF4CRbxLLDYj3l653jKaMUzfed.\n"

// TestRegistryCredentials has a registry that wants a password.
func TestRegistryCredentials(t *testing.T) {
	file := filepath.Join(t.TempDir(), "htpasswd")
	write(t, file, []byte(login))
	r := startRegistry(t, "", fmt.Sprintf("auth: { htpasswd: { realm: test, path: %s } }\n", file))
	r.client = &auth.Client{Credential: auth.StaticCredential(r.addr, auth.Credential{Username: "user", Password: "secret"})}
	module := moduleOf("locked", 1000)
	blobs := []blob{newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), newBlob(envoyModule, module)}
	ref := r.push("locked", append(blobs, imageOf(ocispec.MediaTypeImageManifest, blobs...))...)

	docker := filepath.Join(t.TempDir(), "config.json")
	dockerConfig := func(text string) { write(t, docker, []byte(text)) }
	dockerConfig(`{"auths":{"` + r.addr + `":{"auth":"dXNlcjpzZWNyZXQ="}}}`)
	has(t, fetcher(t, func(o *Options) { o.DockerConfig = docker }), ref, module)

	// Docker's own places, by the environment that is given.
	for _, env := range []map[string]string{{"DOCKER_CONFIG": filepath.Dir(docker)}, {"HOME": func() string {
		home := t.TempDir()
		if err := mkdir(home, ".docker"); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(home, ".docker", "config.json"), []byte(`{"auths":{"`+r.addr+`":{"auth":"dXNlcjpzZWNyZXQ="}}}`))
		return home
	}()}} {
		has(t, fetcher(t, func(o *Options) { o.DockerConfig, o.Env = "", func(name string) string { return env[name] } }), ref, module)
	}

	variable := ""
	named := func(o *Options) {
		o.Hosts = map[string]Host{r.addr: {Credentials: "LOGIN"}}
		o.DockerConfig = docker
		o.Env = func(name string) string { return map[string]string{"LOGIN": variable}[name] }
	}
	f := fetcher(t, named)
	fails(t, f, ref, KindCredentials, "LOGIN", "not set") // rather than with others
	variable = "user:wrong"
	fails(t, f, ref, KindUnauthorized, "401", "docker login "+r.addr)
	variable = "user:secret"
	has(t, f, ref, module) // it is read anew

	fails(t, fetcher(t, nil), ref, KindUnauthorized, "401", "wants a password", "docker login")
	dockerConfig(`{"auths":{"` + r.addr + `":{"auth":"!"}}}`)
	fails(t, fetcher(t, func(o *Options) { o.DockerConfig = docker }), ref, KindCredentials, docker)
	dockerConfig(`{`)
	fails(t, fetcher(t, func(o *Options) { o.DockerConfig = docker }), ref, KindCredentials, docker)
	programs := t.TempDir()
	helper := filepath.Join(programs, "docker-credential-wasmgate-test")
	write(t, helper, []byte("#!/bin/sh\n[ $1 = get ] && echo '{\"Username\":\"user\",\"Secret\":\"secret\"}'\n"))
	if err := os.Chmod(helper, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	dockerConfig(`{"credHelpers":{"` + r.addr + `":"wasmgate-test"}}`)
	has(t, fetcher(t, func(o *Options) { o.DockerConfig = docker }), ref, module)
	dockerConfig(`{"credHelpers":{"` + r.addr + `":"nobody-has-this"}}`)
	fails(t, fetcher(t, func(o *Options) { o.DockerConfig = docker }), ref, KindCredentials, "nobody-has-this")
}

// TestRegistryTLS has a registry with a certificate of an authority of its own.
func TestRegistryTLS(t *testing.T) {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	ca, key := keyPair(t, s)
	r := startRegistry(t, fmt.Sprintf("  tls: { certificate: %s, key: %s }\n", ca, key), "")
	r.client = &auth.Client{Client: s.Client()}
	module := moduleOf("secret", 1000)
	blobs := []blob{newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), newBlob(envoyModule, module)}
	ref := r.push("secret", append(blobs, imageOf(ocispec.MediaTypeImageManifest, blobs...))...)
	s.Client().CloseIdleConnections()

	has(t, fetcher(t, func(o *Options) { o.CAFile = ca }), ref, module)
	has(t, fetcher(t, func(o *Options) { o.Hosts = map[string]Host{r.addr: {CAFile: ca}} }), ref, module)
	fails(t, fetcher(t, nil), ref, KindTLS, "authority that is not trusted", "plugin_sources.hosts."+r.addr+".ca_file")
	fails(t, fetcher(t, func(o *Options) { o.CAFile, o.Hosts = ca, map[string]Host{r.addr: {CAFile: otherAuthority(t)}} }), ref, KindTLS, "not trusted")
}

// tokens is a registry of one image that wants a token of another server's.
type tokens struct {
	blobs  map[string]blob
	scopes []string
	deny   int // what the token server answers; 0: a token
}

func (k *tokens) handle(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		k.scopes = append(k.scopes, r.URL.Query().Get("scope"))
		if k.deny != 0 {
			w.WriteHeader(k.deny)
			fmt.Fprint(w, `{"errors":[{"code":"DENIED","message":"no\nway"}]}`)
			return
		}
		fmt.Fprint(w, `{"token":"the-token"}`)
		return
	}
	if r.Header.Get("Authorization") != "Bearer the-token" {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="registry"`)
		w.WriteHeader(401)
		return
	}
	b, ok := k.blobs[r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]]
	if !ok {
		w.WriteHeader(404)
		return
	}
	w.Header().Set("Content-Type", b.MediaType)
	w.Write(b.content)
}

// TestRegistryTokens goes through the way of tokens, which Docker's and most public registries want.
func TestRegistryTokens(t *testing.T) {
	module := moduleOf("token", 1000)
	layer := newBlob(envoyModule, module)
	image := imageOf(ocispec.MediaTypeImageManifest, newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), layer)
	k := &tokens{blobs: map[string]blob{string(layer.Digest): layer, string(image.Digest): image}}
	url, _ := serve(t, false, k.handle)
	host := strings.TrimPrefix(url, "http://")
	ref := refTo("oci://"+host+"/acme/token", image.Digest.Encoded())
	has(t, fetcher(t, nil), ref, module)
	if len(k.scopes) != 1 || k.scopes[0] != "repository:acme/token:pull" {
		t.Errorf("tokens were asked for %q", k.scopes)
	}
	given := fetcher(t, func(o *Options) {
		o.Hosts = map[string]Host{host: {Credentials: "TOKEN"}}
		o.Env = func(string) string { return "the-token" }
	})
	if has(t, given, ref, module); len(k.scopes) != 1 {
		t.Errorf("a token was asked for, and there was one: %q", k.scopes)
	}
	k.deny = 403
	fails(t, fetcher(t, nil), ref, KindUnauthorized, "a token for", "403", "no way", "docker login")
	k.deny = 503
	if e := fails(t, fetcher(t, nil), ref, KindBusy, "503", "(4 tries)"); !e.Temporary() {
		t.Error("503 is not temporary")
	}
}

// TestTokensOfOthers has a registry that sends its clients to a host within the network, which may be anything there.
func TestTokensOfOthers(t *testing.T) {
	url, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://169.254.169.254/latest/meta-data",service="registry"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	ref := refTo("oci://"+strings.TrimPrefix(url, "http://")+"/a", digestOf(nil))
	if e := fails(t, fetcher(t, nil), ref, KindRefused, "169.254.169.254", "a token alone"); e.Temporary() {
		t.Error("temporary")
	}
}

// TestRegistryThatLies has a registry whose parts are not what they should be.
func TestRegistryThatLies(t *testing.T) {
	module := moduleOf("truth", 1000)
	layer := newBlob(envoyModule, module)
	image := imageOf(ocispec.MediaTypeImageManifest, newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), layer)
	serveBlobs := func(blobs map[digest.Digest][]byte) string {
		url, _ := serve(t, false, func(w http.ResponseWriter, r *http.Request) {
			content, ok := blobs[digest.Digest(r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:])]
			if !ok {
				w.WriteHeader(404)
			}
			w.Write(content)
		})
		return "oci://" + strings.TrimPrefix(url, "http://") + "/a"
	}
	at := func(blobs map[digest.Digest][]byte) string { return serveBlobs(blobs) }
	f := fetcher(t, nil)
	fails(t, f, refTo(at(map[digest.Digest][]byte{image.Digest: []byte(`{"layers":[]}`)}), image.Digest.Encoded()), KindDigest, "the manifest from", digestOf([]byte(`{"layers":[]}`)))
	fails(t, f, refTo(at(map[digest.Digest][]byte{image.Digest: image.content, layer.Digest: moduleOf("lie", 1000)}), image.Digest.Encoded()), KindDigest, "the layer from")
	fails(t, f, refTo(at(map[digest.Digest][]byte{image.Digest: image.content}), image.Digest.Encoded()), KindNotFound, "the layer")

	short := layer
	short.Size = 5
	lying := imageOf(ocispec.MediaTypeImageManifest, newBlob(ocispec.MediaTypeEmptyJSON, []byte("{}")), short)
	fails(t, f, refTo(at(map[digest.Digest][]byte{lying.Digest: lying.content, layer.Digest: module}), lying.Digest.Encoded()), KindFormat, "the manifest says 5")

	huge := []byte(`{"layers":[` + strings.Repeat(" ", maxManifest) + `]}`)
	fails(t, f, refTo(at(map[digest.Digest][]byte{digest.FromBytes(huge): huge}), digestOf(huge)), KindTooLarge, "the manifest")

	for text, word := range map[string]string{
		`{"layers":[{}],"manifests":[{}]}`:     "at once",
		`{"manifests":[{"digest":"nothing"}]}`: "no SHA-256 digest",
		`{"layers":[{"mediaType":"application/wasm","digest":"sha512:` + strings.Repeat("0", 128) + `"}]}`: "no SHA-256 digest",
		`[]`:               "not one",
		`{}`:               "no layers",
		`{"fsLayers":[1]}`: "before 1.10",
		`{"blobs":[{}]}`:   "artifact manifest",
	} {
		d := digest.FromString(text)
		fails(t, f, refTo(at(map[digest.Digest][]byte{d: []byte(text)}), d.Encoded()), KindFormat, word)
	}
	inner := `{"manifests":[{"digest":"` + string(image.Digest) + `"}]}`
	outer := `{"manifests":[{"digest":"` + string(digest.FromString(inner)) + `"}]}`
	d := digest.FromString(outer)
	fails(t, f, refTo(at(map[digest.Digest][]byte{d: []byte(outer), digest.FromString(inner): []byte(inner)}), d.Encoded()), KindFormat, "another index")
}

// TestRegistryThatIsDown tries again, and says how often.
func TestRegistryThatIsDown(t *testing.T) {
	fails(t, fetcher(t, nil), refTo("oci://127.0.0.1:1/a", digestOf(nil)), KindUnreachable, "127.0.0.1:1", "refused", "(4 tries)")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := fetcher(t, nil).Fetch(ctx, refTo("oci://127.0.0.1:1/a", digestOf(nil)))
	if e := (*Error)(nil); !errors.As(err, &e) || e.Kind != KindCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
