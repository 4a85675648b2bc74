package meter_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"

	"wasmgate/runtime/wasm/meter"
)

// section returns the content of a module's section.
func section(t *testing.T, module []byte, id byte) []byte {
	t.Helper()
	for at := 8; at < len(module); {
		size, n := binary.Uvarint(module[at+1:])
		content := module[at+1+n : at+1+n+int(size)]
		if module[at] == id {
			return content
		}
		at += 1 + n + int(size)
	}
	t.Fatalf("no section %d", id)
	return nil
}

func custom(name string, content string) []byte {
	b := append([]byte{byte(len(name))}, name+content...)
	return append(binary.AppendUvarint([]byte{0}, uint64(len(b))), b...)
}

const codeSection = 10

// TestOffsets goes through the rewritten code of a module. What the way back says to be of the original must be the same
// bytes there, all of the original must be met, and in order.
func TestOffsets(t *testing.T) {
	original := tenantRouterInC(t)
	described := bytes.Clone(original)
	for _, name := range []string{".debug_info", ".debug_line", ".debug_abbrev", ".debug_loc"} {
		described = append(described, custom(name, "content of "+name)...)
	}
	m, err := meter.Rewrite(described, meter.Options{Debug: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Debug) != 3 || string(m.Debug[".debug_line"]) != "content of .debug_line" {
		t.Errorf("the debugging information is %q", m.Debug)
	}
	was, is := section(t, original, codeSection), section(t, m.Binary, codeSection)
	if int(m.Offsets.End()) != len(is) {
		t.Fatalf("the code ends at %d, and has %d bytes", m.Offsets.End(), len(is))
	}
	met := make([]bool, len(was))
	last, differ := uint32(0), 0
	for at := range uint32(len(is)) {
		from, ok := m.Offsets.Original(at)
		if !ok {
			continue
		}
		if from+8 < last { // what is put around a loop stands for what is in it
			t.Fatalf("0x%x comes from 0x%x, and what is before it from 0x%x", at, from, last)
		}
		if !met[from] && was[from] != is[at] {
			differ++
		}
		met[from], last = true, from
	}
	missed := 0
	for _, ok := range met {
		if !ok {
			missed++
		}
	}
	// The heads of functions are no instructions, and operands of calls are others.
	if missed > len(was)/10 || differ > len(was)/10 {
		t.Errorf("of %d bytes %d were not met, and %d differ", len(was), missed, differ)
	}
	if _, ok := m.Offsets.Original(uint32(len(is))); ok {
		t.Error("there is something behind the end")
	}
	if _, err := wazero.NewRuntimeWithConfig(context.Background(), wazero.NewRuntimeConfig().WithDebugInfoEnabled(true)).CompileModule(context.Background(), m.Binary); err != nil {
		t.Error(err)
	}

	plain, err := meter.Rewrite(described, meter.Options{})
	if err != nil || plain.Debug != nil || plain.Offsets != nil {
		t.Errorf("%v, %v: debugging information that nobody wanted", plain, err)
	}
	if without, err := meter.Rewrite(original, meter.Options{Debug: true}); err != nil || without.Debug != nil || !slices.Equal(without.Binary, plain.Binary) {
		t.Errorf("a module without debugging information is another with Options.Debug: %v", err)
	}
}
