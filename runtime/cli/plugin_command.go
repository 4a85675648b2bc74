package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"wasmgate/runtime/cli/plugin"
)

func newPlugin(p *Process) *cobra.Command {
	return plugin.Command(&plugin.Process{
		Env: p.Env, Stdout: p.Stdout, Stderr: p.Stderr, Color: p.color, Signals: p.Signals, Build: readBuild().telemetry(),
	})
}

// ofPlugin makes errors of what the plugin commands do errors of this package.
func ofPlugin(err error) error {
	var f plugin.Failed
	switch {
	case !errors.As(err, &f):
		return err
	case f.Told:
		return told(exitFailed)
	}
	return failure{f.Unwrap()}
}
