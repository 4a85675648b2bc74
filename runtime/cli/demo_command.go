package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"wasmgate/runtime/cli/demo"
)

func newDemo(p *Process) *cobra.Command {
	o := demo.Options{Out: p.Stdout, Color: p.color(p.Stdout), Env: p.getenv, Build: readBuild().telemetry()}
	var printConfig bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "See it work: upstreams, a plugin and requests, all in this process",
		Long: `Starts two small upstreams, and a gateway in front of them whose decisions a sandboxed WebAssembly plugin makes. Sends
it 200 requests, and says for each upstream connection why it was opened, what it carried and who used it. Then it
stays up for requests of yours, until it is interrupted.

With --traces, or OTEL_EXPORTER_OTLP_ENDPOINT, it sends traces there: see examples/jaeger.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if printConfig {
				fmt.Fprint(p.Stdout, demo.Config())
				return nil
			}
			o.Strict = c.Flags().Changed("port")
			o.Signals = p.Signals()
			if err := demo.Run(o); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	c.Flags().IntVar(&o.Port, "port", 8080, "port of the gateway on 127.0.0.1; 0 is a free one")
	c.Flags().BoolVar(&o.Once, "once", false, "end after the summary")
	c.Flags().StringVar(&o.Traces, "traces", "", "send traces to an OTLP `endpoint`, as http://localhost:4318")
	c.Flags().BoolVar(&printConfig, "print-config", false, "print the gateway's config and end")
	return c
}
