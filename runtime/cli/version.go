package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"wasmgate/runtime/telemetry"
)

// build is what the Go toolchain has noted down in the binary.
type build struct {
	version  string // the module's; "(devel)" where it was not built by version
	revision string // of the repository; empty if it is not known
	time     string // of the revision
	modified bool   // there were changes that the revision has not
}

func readBuild() build {
	b := build{version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.version = cmp.Or(info.Main.Version, b.version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.revision = s.Value
		case "vcs.time":
			b.time = s.Value
		case "vcs.modified":
			b.modified = s.Value == "true"
		}
	}
	return b
}

// String is one line: version, revision, and what it was built with.
func (b build) String() string {
	s := "wasmgate " + b.version
	if b.revision != "" {
		s += " " + b.revision[:min(len(b.revision), 12)]
		if b.time != "" {
			s += " of " + b.time
		}
		if b.modified {
			s += ", modified"
		}
	}
	return fmt.Sprintf("%s (%s %s/%s)", s, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func (b build) telemetry() telemetry.Build {
	return telemetry.Build{Version: b.version, Revision: b.revision}
}

func newVersion(p *Process) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which wasmgate this is",
		Args:  cobra.NoArgs,
		Run:   func(*cobra.Command, []string) { fmt.Fprintln(p.Stdout, readBuild()) },
	}
}
