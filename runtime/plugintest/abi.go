package plugintest

import (
	"errors"
	"fmt"
	"strings"

	"wasmgate/runtime/filter"
	"wasmgate/runtime/wasm"
	"wasmgate/runtime/wasm/httpwasm"
	"wasmgate/runtime/wasm/meter"
	"wasmgate/runtime/wasm/native"
	"wasmgate/runtime/wasm/proxywasm"
	sdkabi "wasmgate/sdk/abi"
)

// ABI is a way in which modules speak with the gateway.
type ABI struct {
	Name    string
	speaks  func(*meter.Module) bool
	version func(*meter.Module) string
	compile *wasm.ABI
	start   func(h *Host, c *wasm.Compiled, s *settings) (*running, error)
}

// running is a plugin that was started.
type running struct {
	filter.Filter
	close    func()
	figures  func() figures
	metrics  func() map[string]float64
	manifest *sdkabi.Manifest // of the native ABI; nil
}

// figures are what a plugin used since its start.
type figures struct {
	calls, fuel uint64
	memory      int64 // bytes, of instances that are not in a call
}

// abis are all, in the order in which a module is asked.
var abis = []*ABI{&nativeABI, &proxyWasmABI, &httpWasmABI}

var nativeABI = ABI{
	Name: "native", speaks: native.Speaks, compile: &native.ABI, start: startNative,
	version: func(m *meter.Module) string { return versions(m, sdkabi.ExportPrefix, "_") },
}

var proxyWasmABI = ABI{
	Name: "Proxy-Wasm", speaks: proxywasm.Speaks, compile: &proxywasm.ABI, start: startProxyWasm,
	version: func(m *meter.Module) string {
		return strings.ReplaceAll(versions(m, "proxy_abi_version_", ""), "_", ".")
	},
}

var httpWasmABI = ABI{
	Name: "http-wasm", speaks: httpwasm.Speaks, compile: &httpwasm.ABI, start: startHTTPWasm,
	version: func(*meter.Module) string { return "http-handler" },
}

// versions are what stands behind a prefix, up to a mark, in the names of exports.
func versions(m *meter.Module, prefix, mark string) string {
	var list []string
	for _, e := range m.Exports {
		rest, ok := strings.CutPrefix(e.Name, prefix)
		if !ok {
			continue
		}
		if mark != "" {
			rest, _, _ = strings.Cut(rest, mark)
		}
		if len(list) == 0 || list[len(list)-1] != rest {
			list = append(list, rest)
		}
	}
	return strings.Join(list, ", ")
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

// Check says, without compiling it, whether the gateway refuses a module for what it imports.
func (a *ABI) Check(m *meter.Module) error {
	hosts, err := a.compile.Hosts(m)
	if err != nil {
		return err
	}
	var missing []string
	for _, imp := range wasm.Missing(m, hosts) {
		missing = append(missing, wasm.ImportName(&imp))
	}
	if missing != nil {
		return fmt.Errorf("the module imports what the host does not have: %s", strings.Join(missing, ", "))
	}
	return nil
}

// ErrNoABI is about a module that is no plugin.
var ErrNoABI = errors.New("the module speaks no plugin ABI")

// errNoABI says that a module is no plugin, and what makes one.
func errNoABI() error {
	return fmt.Errorf("%w: it exports nothing that begins with %s1_ (native) or proxy_abi_version_ (Proxy-Wasm), "+
		"and no handle_request and handle_response (http-wasm)", ErrNoABI, sdkabi.ExportPrefix)
}
