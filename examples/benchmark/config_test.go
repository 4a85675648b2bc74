package main

import (
	"testing"

	"wasmgate/config"
)

// TestConfiguration: what wasmgate is given is valid, to the last warning, and says the same as the peers' files do.
func TestConfiguration(t *testing.T) {
	for _, name := range []string{"wasmgate", "wasmgate+plugin", "wasmgate+log", "wasmgate+traces1", "wasmgate+traces100"} {
		c, _ := find(name)
		s := &setup{dir: t.TempDir(), plugin: "/plugins/tenant.wasm", backend: 9001, workers: 2, collector: "http://127.0.0.1:4318"}
		path, err := s.render(c.config, c.config, s.fields(c, 9101, 9102))
		if err != nil {
			t.Fatal(err)
		}
		exists := func(string) error { return nil } // the module may not have been built
		cfg, report, err := config.Load(config.Source{File: path, Stat: exists})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(report.Warnings) > 0 {
			t.Errorf("%s: warnings: %v", name, report.Warnings)
		}
		if cfg.Loops != s.workers || len(cfg.Listeners) != 1 || cfg.Listeners[0].Address != address(9101) || cfg.Admin.Address != address(9102) ||
			(cfg.Telemetry.AccessLog.Output != "off") != c.log || (cfg.Telemetry.Traces.Endpoint != "") != (c.sample != "") || len(cfg.Plugins) != len(cfg.Routes[0].Plugins) {
			t.Errorf("%s: %+v", name, cfg)
		}
		if decides := len(cfg.Routes[0].Plugins) == 1; decides != c.scripts {
			t.Errorf("%s: the route has plugins %v", name, cfg.Routes[0].Plugins)
		}
	}
}

// TestTourConfiguration: the example beside this one is a module of its own and cannot ask the config package.
func TestTourConfiguration(t *testing.T) {
	_, report, err := config.Load(config.Source{File: "../jaeger/wasmgate.yaml"})
	if err != nil || len(report.Warnings) > 0 {
		t.Errorf("%v, warnings: %v", err, report.Warnings)
	}
}
