package modules

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Bounds of a manifest; what registries themselves take is 4 MiB.
const (
	maxManifest = 4 << 20
	maxParts    = 1024 // layers of an image, or images of an index
)

// The media types of what Docker makes, and of a layer that is a module, as it is.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerPlain    = "application/vnd.docker.image.rootfs.diff.tar"

	envoyModule = "application/vnd.module.wasm.content.layer.v1+wasm"
	toOCIModule = "application/vnd.wasm.content.layer.v1+wasm"
	cncfModule  = "application/wasm"
)

// acceptManifests is what a registry is told that we understand.
const acceptManifests = ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex + ", " + dockerManifest + ", " + dockerIndex

var (
	moduleLayers  = []string{envoyModule, toOCIModule, cncfModule}
	archiveLayers = []string{ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayer, dockerLayer, dockerPlain}
)

const pushHelp = "push the module as in `oras push REGISTRY/REPOSITORY:TAG plugin.wasm:" + envoyModule + "`"

// plan is where in an image the module may be.
type plan struct {
	child  string // the digest of the manifest to go on with, if it was an index
	layers []part // those to look into, one after the other, until one has it
	whole  bool   // the one layer is the module itself
}

// part is a descriptor that was checked.
type part struct {
	digest    string // SHA-256 in hexadecimal digits
	size      int64
	mediaType string // fit for a log
}

func partOf(d ocispec.Descriptor) (part, *Error) {
	hex, ok := strings.CutPrefix(string(d.Digest), "sha256:")
	if !ok || !isDigest(hex) || d.Size < 0 {
		return part{}, wrong("a part of the image has no SHA-256 digest, or no size: "+clean(string(d.Digest)), "")
	}
	return part{hex, d.Size, clean(d.MediaType)}, nil
}

// readManifest says where the module is. What a manifest is follows from its own content alone, which is what its digest
// is of, and from nothing that a server says beside it.
func readManifest(b []byte) (plan, *Error) {
	var m struct {
		MediaType string               `json:"mediaType"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
		FSLayers  []any                `json:"fsLayers"`
		Blobs     []ocispec.Descriptor `json:"blobs"`
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return plan{}, &Error{Kind: KindFormat, Message: "the manifest is not one: " + clean(err.Error()), Help: "the digest is that of a manifest, as `oras resolve` prints it", Err: err}
	}
	switch {
	case len(m.Layers) > 0 && len(m.Manifests) > 0:
		return plan{}, wrong("the manifest is an image and an index of images at once", "")
	case len(m.Layers) > maxParts || len(m.Manifests) > maxParts:
		return plan{}, wrong(fmt.Sprintf("the manifest has more than %d parts", maxParts), "")
	case len(m.Manifests) > 0:
		child, err := choose(m.Manifests)
		return plan{child: child.digest}, err
	case len(m.Layers) > 0:
		return chooseLayers(m.Layers)
	case len(m.FSLayers) > 0:
		return plan{}, wrong("the image has the manifest of Docker before 1.10", "push it anew with a tool of today")
	case len(m.Blobs) > 0:
		return plan{}, wrong("the image has an artifact manifest, which was withdrawn", "push it anew: oras 1.0 and later make another one")
	}
	return plan{}, wrong("the image has no layers", pushHelp)
}

func wrong(message, help string) *Error {
	return &Error{Kind: KindFormat, Message: message, Help: help}
}

// choose takes the image of an index that was made for WebAssembly, or the only one, or the one that Istio would take: a
// module is the same for all processors.
func choose(list []ocispec.Descriptor) (part, *Error) {
	var images []ocispec.Descriptor
	for _, d := range list {
		if d.Annotations["vnd.docker.reference.type"] == "" { // else it is what BuildKit says about another
			images = append(images, d)
		}
	}
	platforms := make([]string, 0, len(images))
	find := func(is func(p *ocispec.Platform) bool) *ocispec.Descriptor {
		i := slices.IndexFunc(images, func(d ocispec.Descriptor) bool { return d.Platform != nil && is(d.Platform) })
		if i < 0 {
			return nil
		}
		return &images[i]
	}
	if d := find(func(p *ocispec.Platform) bool { return p.Architecture == "wasm" && p.OS != "wasip2" }); d != nil {
		return partOf(*d)
	}
	if len(images) == 1 {
		return partOf(images[0])
	}
	if d := find(func(p *ocispec.Platform) bool { return p.Architecture == "amd64" && p.OS == "linux" }); d != nil {
		return partOf(*d)
	}
	for _, d := range images {
		if d.Platform != nil {
			platforms = append(platforms, clean(d.Platform.OS+"/"+d.Platform.Architecture))
		}
	}
	return part{}, wrong(fmt.Sprintf("an index of %d images, none of which is for wasm: %s", len(images), some(platforms)), "pin the digest of one image")
}

// chooseLayers finds the layers that can have a module in them: one that is a module, else all archives, the last first.
func chooseLayers(list []ocispec.Descriptor) (plan, *Error) {
	var modules, archives []ocispec.Descriptor
	var types []string
	for _, d := range list {
		switch {
		case slices.Contains(moduleLayers, d.MediaType) || strings.HasSuffix(d.MediaType, "+wasm"):
			modules = append(modules, d)
		case slices.Contains(archiveLayers, d.MediaType):
			archives = append(archives, d)
		}
		if t := clean(d.MediaType); !slices.Contains(types, t) {
			types = append(types, t)
		}
	}
	if len(modules) > 1 {
		named := slices.DeleteFunc(slices.Clone(modules), func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationTitle] != moduleName })
		if len(named) != 1 {
			return plan{}, wrong(fmt.Sprintf("the image has %d modules, and not one that is called %s", len(modules), moduleName), "push one module in an image")
		}
		modules = named
	}
	found := modules
	if len(modules) == 0 {
		slices.Reverse(archives)
		found = archives
	}
	if len(found) == 0 {
		help := pushHelp
		if slices.ContainsFunc(types, func(t string) bool { return strings.HasSuffix(t, "+zstd") }) {
			help = "compress layers with gzip: `docker buildx build --output type=image,compression=gzip,force-compression=true`; or " + pushHelp
		}
		return plan{}, wrong("no layer of the image has a media type that a module may have; they are "+some(types), help)
	}
	p := plan{whole: len(modules) > 0}
	for _, d := range found {
		layer, err := partOf(d)
		if err != nil {
			return plan{}, err
		}
		p.layers = append(p.layers, layer)
	}
	return p, nil
}

// some lists a few of many.
func some(list []string) string {
	const most = 6
	switch {
	case len(list) == 0:
		return "none"
	case len(list) > most:
		return strings.Join(list[:most], ", ") + " and others"
	}
	return strings.Join(list, ", ")
}
