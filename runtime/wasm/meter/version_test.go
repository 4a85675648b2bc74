package meter_test

import (
	"crypto/sha256"
	"fmt"
	"testing"

	"wasmgate/runtime/wasm/meter"
)

// rewritten is the digest of what this Version makes of the generated modules, and of one that dispatches as Go's compiler does.
const rewritten = "1 cdf2e3f2eec7cf9b9558412584ee9f002cd283f0a618fb4f45b12134973ffca0"

// TestVersionSaysWhatIsWritten: rewritten modules are kept beside the code that was compiled of them, by Version. A rewrite that
// writes something else must have another one.
func TestVersionSaysWhatIsWritten(t *testing.T) {
	h := sha256.New()
	for seed := range uint64(200) {
		m, err := meter.Rewrite(generate(seed), meter.Options{})
		if err != nil {
			t.Fatal(err)
		}
		b := m.Binary
		m.Binary = nil
		fmt.Fprintf(h, "%d %x %+v\n", seed, b, *m)
	}
	if got := fmt.Sprintf("%d %x", meter.Version, h.Sum(nil)); got != rewritten {
		t.Errorf("Rewrite writes something else than before: raise meter.Version, and have rewritten say %q", got)
	}
}
