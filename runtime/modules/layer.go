package modules

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// moduleName is what the file with the module is called in an image.
const moduleName = "plugin.wasm"

const (
	maxEntries  = 10_000  // of an archive
	archiveRoom = 1 << 20 // for what an archive has beside the module: heads, padding, a README
)

var (
	magic          = []byte("\x00asm")
	moduleHead     = []byte("\x00asm\x01\x00\x00\x00")
	componentHead  = []byte("\x00asm\x0d\x00\x01\x00")
	gzipMagic      = []byte{0x1f, 0x8b}
	zstdMagic      = []byte{0x28, 0xb5, 0x2f, 0xfd}
	errTooMuch     = errors.New("more than is allowed")
	errManyEntries = fmt.Errorf("more than %d entries", maxEntries)
)

// unpack finds the module in a layer: the layer itself, or plugin.wasm in an archive, or the archive's only .wasm file. It
// is nil if the archive has none. No more than most bytes are unpacked, and a little for the archive itself.
func unpack(layer []byte, most int64) ([]byte, *Error) {
	if bytes.HasPrefix(layer, magic) {
		return layer, nil
	}
	if bytes.HasPrefix(layer, zstdMagic) {
		return nil, wrong("the layer is compressed with zstd", "compress it with gzip")
	}
	var r io.Reader = bytes.NewReader(layer)
	if bytes.HasPrefix(layer, gzipMagic) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, broken(err)
		}
		r = z
	}
	in := bufio.NewReader(&bounded{r, most + archiveRoom})
	if head, _ := in.Peek(len(magic)); bytes.Equal(head, magic) {
		module, err := readModule(in, most)
		if err != nil {
			return nil, broken(err)
		}
		return module, nil
	}
	return search(tar.NewReader(in), most)
}

// search looks through an archive.
func search(archive *tar.Reader, most int64) (module []byte, e *Error) {
	var other []byte
	var names []string
	for entries := 0; ; entries++ {
		head, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err == nil && entries == maxEntries {
			err = errManyEntries
		}
		if err != nil {
			return nil, broken(err)
		}
		name := path.Base(head.Name)
		if !strings.HasSuffix(name, ".wasm") {
			continue
		}
		if head.Typeflag != tar.TypeReg {
			if name == moduleName {
				return nil, wrong(moduleName+" in the image is not a file", "copy the file itself into it, not a link")
			}
			continue
		}
		if names = append(names, clean(name)); name != moduleName && len(names) > 1 {
			continue
		}
		b, err := readModule(archive, most)
		if err != nil {
			return nil, broken(err)
		}
		if name == moduleName {
			return b, nil
		}
		other = b
	}
	if len(names) > 1 {
		return nil, wrong("the image has several modules, and none is called "+moduleName+": "+some(names), "rename the one that is meant")
	}
	return other, nil
}

func readModule(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(b)) > most {
		err = errTooMuch
	}
	return b, err
}

func broken(err error) *Error {
	if errors.Is(err, errTooMuch) {
		return &Error{Kind: KindTooLarge, Message: "unpacked it is " + err.Error(), Help: "plugin_sources.max_size says how much may be", Err: err}
	}
	return &Error{Kind: KindFormat, Message: "the layer is not an archive that can be read: " + clean(err.Error()), Help: pushHelp, Err: err}
}

// bounded reads no more than left bytes, and fails where more come.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooMuch
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, errTooMuch
	}
	return n, err
}

// isModule says why what was found is no module, as far as its first bytes tell.
func isModule(b []byte) *Error {
	switch {
	case bytes.HasPrefix(b, moduleHead):
		return nil
	case bytes.HasPrefix(b, componentHead):
		return wrong("it is a component, not a module", "build it for wasm32-wasip1, or without wasi")
	case len(b) == 0:
		return wrong("it is empty", "")
	}
	return wrong(fmt.Sprintf("it is not a WebAssembly module: it begins with %q", b[:min(len(b), 16)]), "pin the digest of the module itself, as `sha256sum` prints it")
}
