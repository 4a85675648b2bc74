package modules

import (
	"os"
	"strings"
	"testing"

	"oras.land/oras-go/v2/registry/remote/auth"

	"wasmgate/config"
)

// TestReadme reads the configs that README.md shows, and holds it to the kinds and media types that there are.
func TestReadme(t *testing.T) {
	b, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	text, shown := string(b), 0
	for i, part := range strings.Split(text, "```yaml\n") {
		if i == 0 {
			continue
		}
		example, _, _ := strings.Cut(part, "```")
		c, _, err := config.Load(config.Source{Data: []byte(example), Stat: func(string) error { return nil }})
		if err != nil {
			t.Error(err)
			continue
		}
		shown += len(c.Plugins) + len(c.PluginSources.Hosts)
	}
	if shown != 5 {
		t.Errorf("%d plugins and hosts are shown", shown)
	}
	words := []string{moduleName, envoyModule, toOCIModule, cncfModule, archiveLayers[0], archiveLayers[1], dockerLayer}
	for _, k := range []Kind{KindName, KindUnreachable, KindTLS, KindTimeout, KindBusy, KindUnauthorized, KindNotFound, KindRefused, KindDigest, KindFormat, KindTooLarge, KindCredentials, KindFile} {
		words = append(words, "`"+string(k)+"`")
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("README.md does not name %s", w)
		}
	}
	e := explainAuth("ghcr.io", auth.ErrBasicCredentialNotFound)
	e.Ref = refTo("oci://ghcr.io/acme/limit:2.0", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03")
	if !strings.Contains(text, "\n"+e.Error()+"\n") {
		t.Errorf("README.md does not show %s", e)
	}
}
