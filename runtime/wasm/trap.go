package wasm

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/tetratelabs/wazero/api"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/wasm/meter"
)

// maxFrames is how many guest functions a message names.
const maxFrames = 5

// exitError is a guest's proc_exit.
type exitError struct{ code uint32 }

func (e *exitError) Error() string { return fmt.Sprintf("the guest exited with code %d", e.code) }

// failure says what a failed call was, and marks the instance as broken. phase is the function that was called.
func (in *Instance) failure(phase string, err error) *fault.Error {
	in.broken = true
	in.flushAll()
	f := &fault.Error{Kind: fault.PluginTrap, Source: fault.Plugin, Status: 503, Plugin: in.plugin, Phase: phase}
	cause, trace := splitTrap(err)
	stack := in.unit.tell(trace)
	var own *fault.Error
	var bug runtime.Error
	switch {
	case errors.As(err, &own):
		*f = *own
		f.Plugin = in.plugin
		if f.Phase == "" {
			f.Phase = phase
		}
	case errors.As(err, &bug):
		f.Kind, f.Source, f.Status = fault.Internal, fault.Gateway, 500
		f.Detail = fmt.Sprintf("a host function failed: %s", err)
		return f
	case errors.Is(err, errFuel):
		f.Kind = fault.PluginFuel
		f.Detail = fmt.Sprintf("out of fuel after %d units", in.budget)
	default:
		f.Detail = cause
	}
	if own == nil && in.refused > 0 && f.Kind == fault.PluginTrap {
		f.Kind = fault.PluginMemory
		f.Detail = in.memoryDetail() + "; then: " + f.Detail
	}
	if stack != "" && own == nil {
		f.Detail += ", in " + stack
	}
	return f
}

func (in *Instance) memoryDetail() string {
	size, limit := in.MemoryBytes()>>16, int64(in.unit.module.MemoryMax)
	if size+int64(in.refused) <= limit {
		return fmt.Sprintf("%d more pages of 64 KiB were refused at %d: the memory of all plugin instances together has reached its limit of %d MiB",
			in.refused, size, in.unit.engine.limit>>20)
	}
	return fmt.Sprintf("%d more pages of 64 KiB were refused at %d, the limit is %d", in.refused, size, limit)
}

// signatureAtEnd is what wazero puts behind a function's name.
var signatureAtEnd = regexp.MustCompile(`\((?:[a-z0-9]+(?:,[a-z0-9]+)*)?\)(?: [a-z0-9]+| \([a-z0-9,]+\))?$`)

// traced is a frame of wazero's stack trace. offset is that of the instruction in the rewritten code; 0: it is not said.
type traced struct {
	function string
	offset   uint32
}

// splitTrap takes wazero's message apart: what happened, and in which functions, innermost first.
func splitTrap(err error) (cause string, trace []traced) {
	cause, lines, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n\t")
	cause = strings.TrimSuffix(strings.TrimPrefix(cause, "wasm error: "), " (recovered by wazero)")
	for line := range strings.SplitSeq(lines, "\n\t") {
		if source, ok := strings.CutPrefix(line, "\t0x"); ok { // of the frame before
			hex, _, _ := strings.Cut(source, ":")
			if at, err := strconv.ParseUint(hex, 16, 32); err == nil && len(trace) > 0 {
				trace[len(trace)-1].offset = uint32(at)
			}
			continue
		}
		name := strings.TrimPrefix(signatureAtEnd.ReplaceAllString(line, ""), ".")
		if name == "" || strings.HasPrefix(line, "... ") {
			continue
		}
		trace = append(trace, traced{function: readable(name)})
	}
	return cause, trace
}

// tell writes a stack: names, and where the module says so, lines.
func (u *unit) tell(trace []traced) string {
	var text []string
	nameless := false
	trace = slices.DeleteFunc(trace, func(t traced) bool { return strings.HasPrefix(t.function, meter.ImportModule+".") })
	for _, t := range caller(trace) {
		nameless = nameless || strings.HasPrefix(t.function, "$")
		for _, f := range u.symbols.frames(u.function(t.function), t.offset) {
			if len(text) == maxFrames {
				text = append(text, "…")
				break
			}
			text = append(text, f.String())
		}
		if len(text) > maxFrames {
			break
		}
	}
	told := strings.Join(text, " < ")
	if nameless && !u.module.Named {
		told += " (no names: build without -s / --strip)"
	}
	return told
}

// stackField is the index of the field of wazero's type for functions that holds the stack, plus one; 0: not looked for
// yet, -1: there is none.
var stackField atomic.Int32

// functionStack is the size of a function's native stack, in bytes. wazero lets nobody ask for it: it is the length of a
// slice in its type for functions. Where that is not so (its interpreter, another version) it is 0, and the stack is
// bounded by wazero's own ceiling only; a test says so.
func functionStack(fn api.Function) int {
	v := reflect.ValueOf(fn)
	if v.Kind() != reflect.Pointer {
		return 0
	}
	i := stackField.Load()
	if i == 0 {
		i = -1
		if t := v.Type().Elem(); t.Kind() == reflect.Struct {
			if f, ok := t.FieldByName("stack"); ok && f.Type.Kind() == reflect.Slice && len(f.Index) == 1 {
				i = int32(f.Index[0]) + 1
			}
		}
		stackField.Store(i)
	}
	if i < 0 {
		return 0
	}
	return v.Elem().Field(int(i - 1)).Len()
}
