package plugintest

import (
	"fmt"
	"strings"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/runtime/wasm/native"
	sdkabi "wasmgate/sdk/abi"
)

// ABI is a way in which modules speak with the gateway.
type ABI struct {
	Name    string
	speaks  func(*meter.Module) bool
	version func(*meter.Module) string
	compile *wasm.ABI // nil: there is no host for it here
	start   func(c *wasm.Compiled, s *settings) (running, error)
}

// running is a plugin that was started.
type running interface {
	filter.Filter
	Close()
}

// figures are what a plugin used since its start.
type figures struct {
	calls, fuel uint64
	memory      int64 // bytes, of instances that are not in a call
	instances   int64
}

// The ABIs, in the order in which a module is asked.
var abis = []*ABI{&nativeABI, &proxyWasmABI, &httpWasmABI}

var nativeABI = ABI{
	Name: "native", speaks: native.Speaks, compile: &native.ABI, start: startNative,
	version: func(m *meter.Module) string {
		for _, e := range m.Exports {
			if rest, ok := strings.CutPrefix(e.Name, sdkabi.ExportPrefix); ok {
				number, _, _ := strings.Cut(rest, "_")
				return number
			}
		}
		return ""
	},
}

var proxyWasmABI = ABI{
	Name: "Proxy-Wasm",
	speaks: func(m *meter.Module) bool {
		return exports(m, func(name string) bool {
			return strings.HasPrefix(name, "proxy_abi_version_") || strings.HasPrefix(name, "proxy_on_")
		})
	},
	version: func(m *meter.Module) string {
		for _, e := range m.Exports {
			if rest, ok := strings.CutPrefix(e.Name, "proxy_abi_version_"); ok {
				return strings.ReplaceAll(rest, "_", ".")
			}
		}
		return "0.1.0"
	},
}

var httpWasmABI = ABI{
	Name: "http-wasm",
	speaks: func(m *meter.Module) bool {
		return exports(m, func(name string) bool { return name == "handle_request" })
	},
	version: func(*meter.Module) string { return "http-handler" },
}

func exports(m *meter.Module, is func(string) bool) bool {
	for _, e := range m.Exports {
		if e.Kind == meter.KindFunction && is(e.Name) {
			return true
		}
	}
	return false
}

// Detect says which ABI a module speaks, and in which version; nil if none that is known.
func Detect(m *meter.Module) (abi *ABI, version string) {
	for _, a := range abis {
		if a.speaks(m) {
			return a, a.version(m)
		}
	}
	return nil, ""
}

// errNoABI says that a module is no plugin, and what makes one.
func errNoABI() error {
	return fmt.Errorf("the module speaks no plugin ABI: it exports nothing that begins with %s1_ (native) or proxy_on_ (Proxy-Wasm), and no handle_request (http-wasm)",
		sdkabi.ExportPrefix)
}
