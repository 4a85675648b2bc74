package modules

import (
	"bytes"
	"testing"

	"wasmgate/config"
)

const fuzzMost = 1 << 16

// FuzzManifest reads anything as a manifest: it says where the module is, by digests, or what is wrong.
func FuzzManifest(f *testing.F) {
	for _, l := range layouts(moduleOf("m", 10)) {
		f.Add(l.blobs[len(l.blobs)-1].content)
	}
	for _, s := range []string{"{}", "[]", `{"layers":[{"digest":"sha256"}]}`, `{"manifests":[{"digest":":"},{"platform":{"os":"linux","architecture":"amd64"}}]}`,
		`{"layers":[{"mediaType":"a+wasm","digest":"sha256:x","size":-1}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readManifest(b)
		if err != nil {
			if err.Kind != KindFormat || err.Message == "" {
				t.Errorf("%+v", err)
			}
			return
		}
		if (p.child == "") == (len(p.layers) == 0) || (p.child != "" && !isDigest(p.child)) || len(p.layers) > maxParts {
			t.Errorf("%+v", p)
		}
		for _, l := range p.layers {
			if !isDigest(l.digest) || l.size < 0 {
				t.Errorf("%+v", l)
			}
		}
	})
}

// FuzzLayer looks for a module in anything: no more comes out than is allowed, whatever it unpacks to.
func FuzzLayer(f *testing.F) {
	module := moduleOf("m", 100)
	for _, b := range [][]byte{module, gzipped(module), tarOf("plugin.wasm", string(module)), gzipped(tarOf("./plugin.wasm", string(module), "a", "b")),
		gzipped(tarOf("a.wasm", "x", "b.wasm", "y")), bigTar("plugin.wasm", 1<<20), zstdMagic, gzipMagic, {}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		module, err := unpack(b, fuzzMost)
		switch {
		case err != nil && (module != nil || err.Message == "" || (err.Kind != KindFormat && err.Kind != KindTooLarge)):
			t.Errorf("%d bytes, %+v", len(module), err)
		case len(module) > fuzzMost && !bytes.Equal(module, b):
			t.Errorf("%d bytes came out of %d", len(module), len(b))
		}
		if module != nil {
			_ = isModule(module)
		}
	})
}

// FuzzReference takes any text for a reference: what config accepts has parts that lead to its own host, and nothing that
// leaves the folder of the cache.
func FuzzReference(f *testing.F) {
	d := digestOf(nil)
	for _, s := range []string{"https://h/a@sha256:" + d, "oci://ghcr.io/a/b:1@sha256:" + d, "oci://[::1]:5000/a@sha256:" + d, "http://127.0.0.1/../a@sha256:" + d, "a.wasm"} {
		f.Add(s)
	}
	fetcher, err := New(Options{CacheDir: f.TempDir() + "/modules", DockerConfig: "off"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(fetcher.Close)
	f.Fuzz(func(t *testing.T, s string) {
		var ref config.Module
		if ref.UnmarshalText([]byte(s)) != nil || !ref.Fetched() {
			return
		}
		if !isDigest(ref.Digest) || ref.Host() == "" {
			t.Fatalf("%+v", ref)
		}
		if fetcher.has(ref) {
			t.Errorf("%s is in an empty cache", ref)
		}
		_, _, e := fetcher.cached(t.Context(), ref)
		if e == nil || e.Kind != kindMiss {
			t.Errorf("%s: %v", ref, e)
		}
	})
}
