package cli

import (
	"strings"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
)

// tryPlugins makes everything that a gateway makes of a config before it listens: plugins are compiled and given their
// config, certificates are read. Each error gets the place of what it is about. The plugin cache is used and filled, as
// run would; access log and traces are left alone.
func tryPlugins(p *Process, c *config.Config, report *config.Report) error {
	trial := *c
	trial.Loops = 1
	trial.Telemetry.AccessLog.Output = "off"
	trial.Telemetry.Traces.Endpoint = ""
	g, err := gateway.New(gateway.Options{Config: &trial, Log: zerolog.Nop(), Env: noExport(p)})
	if err == nil {
		g.Close()
		return nil
	}
	var list config.Errors
	for _, e := range unjoin(err) {
		problem := config.Problem{Message: e.Error()}
		if path, message, ok := strings.Cut(e.Error(), ": "); ok && !strings.Contains(path, " ") {
			if at := report.At(path); at != (config.Position{}) {
				problem = config.Problem{Position: at, Path: path, Message: message}
			}
		}
		list = append(list, problem)
	}
	return list
}

// noExport is the environment without what would switch the export of telemetry on.
func noExport(p *Process) func(string) string {
	return func(name string) string {
		if strings.HasPrefix(name, "OTEL_") {
			return ""
		}
		return p.getenv(name)
	}
}
