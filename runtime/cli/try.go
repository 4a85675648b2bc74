package cli

import (
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
)

// tryPlugins makes everything that a gateway makes of a config before it listens: modules are fetched, plugins are compiled
// and given their config, certificates are read. Each error and warning gets the place of what it is about; warnings are
// added to the report. The plugin cache is used and filled, as run would; access log and traces are left alone.
func tryPlugins(p *Process, c *config.Config, report *config.Report) error {
	trial := *c
	trial.Loops = 1
	trial.Telemetry.AccessLog.Output = "off"
	trial.Telemetry.Traces.Endpoint = ""
	trial.PluginSources.Wait = max(c.PluginSources.Wait, config.Default().PluginSources.Wait) // a gateway may start without modules
	g, err := gateway.New(gateway.Options{Config: &trial, Log: zerolog.Nop(), Env: noExport(p)})
	var list config.Errors
	if err != nil {
		for _, e := range unjoin(err) {
			list = append(list, placed(report, e))
		}
	} else {
		for _, r := range g.Review() {
			switch at := report.Problem(r.Path, r.Message, r.Help); {
			case r.Wrong:
				list = append(list, at)
			case report.Given(r.Path):
				report.Warn(at)
			}
		}
		g.Close()
	}
	if len(list) == 0 {
		return nil
	}
	list.Sort()
	return list
}

// located are the errors of a gateway that cannot be made, if they are about places of the config, and nil if any is not.
func located(report *config.Report, err error) config.Errors {
	var list config.Errors
	for _, e := range unjoin(err) {
		if r := (*gateway.Remark)(nil); !errors.As(e, &r) {
			return nil
		}
		list = append(list, placed(report, e))
	}
	list.Sort()
	return list
}

// placed is an error of the gateway at the place that it is about.
func placed(report *config.Report, err error) config.Problem {
	var r *gateway.Remark
	if errors.As(err, &r) {
		return report.Problem(r.Path, r.Message, r.Help)
	}
	path, message, ok := strings.Cut(err.Error(), ": ")
	if ok && !strings.Contains(path, " ") && report.At(path) != (config.Position{}) {
		return report.Problem(path, message, "")
	}
	return config.Problem{Message: err.Error()}
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
