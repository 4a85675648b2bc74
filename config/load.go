package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// EnvPrefix begins the environment variables that are a layer of the config.
const EnvPrefix = "WASMGATE_"

// ignoredEnv begins variables with that prefix that are not config.
const ignoredEnv = EnvPrefix + "TEST_"

// Source is where a config comes from. Later layers win: the defaults, the file, the environment, the overrides.
type Source struct {
	// File is read if Data is nil; otherwise it is only the name that messages have. Relative paths in the config start
	// at its folder. Without File and Data the config is the defaults and the other layers.
	File string
	// Data is the file's content, for standard input or an embedded file.
	Data []byte
	// Env is the environment as os.Environ gives it. Variables called WASMGATE_ and a path are a layer: upper case, two
	// underscores (or a dot) between keys, the number for an element of a list: WASMGATE_LIMITS__HEAD=64KiB,
	// WASMGATE_LISTENERS__0__ADDRESS=:9090, WASMGATE_UPSTREAMS__USERS__POOL__REUSE=never.
	Env []string
	// Lookup answers ${NAME} in texts of the file. If nil, Env does.
	Lookup func(name string) (value string, ok bool)
	// Overrides are key=value, with the keys as messages write them: listeners[0].address=:9090, limits.head=64KiB. A
	// value for a map or a list is YAML.
	Overrides []string
	// Stat says whether a file that the config names (module, certificate) is there. If nil, os.Stat does.
	Stat func(path string) error
}

// Load reads a config, fills in the defaults and checks everything. The error is an Errors with every mistake that was
// found; then the Config is nil. The Report is never nil: it has the warnings, also those beside errors. It does no I/O
// but reading the file and looking for the files that it names. It may be called from any goroutine.
func Load(s Source) (*Config, *Report, error) {
	c := newCollector()
	if s.Lookup == nil {
		s.Lookup = lookupIn(s.Env)
	}
	if s.Stat == nil {
		s.Stat = func(path string) error {
			info, err := os.Stat(path)
			if err == nil && info.IsDir() {
				return errors.New("is a folder")
			}
			return err
		}
	}
	raw := layers(c, s)
	config := Default()
	report := &Report{marks: c.marks, lines: c.lines, filled: c.filled}
	if raw != nil {
		d := decoder{c}
		d.structure(nil, raw, reflect.ValueOf(&config).Elem())
		v := &validator{collector: c, config: &config, source: s}
		v.run()
		report.Files = v.files
	}
	report.Warnings = sorted(c.warnings)
	if len(c.errors) > 0 {
		return nil, report, sorted(c.errors)
	}
	return &config, report, nil
}

// content returns the file's bytes; false if there is no file, or it cannot be read.
func content(c *collector, s Source) ([]byte, bool) {
	if s.Data != nil || s.File == "" {
		return s.Data, s.Data != nil
	}
	f, err := os.Open(s.File)
	if err == nil {
		defer f.Close()
		var data []byte
		if data, err = io.ReadAll(io.LimitReader(f, maxFile+1)); err == nil {
			return data, true
		}
	}
	c.add(Position{}, nil, "cannot read the config: "+err.Error(), "give the path of a YAML file that may be read")
	return nil, false
}

// lookupIn answers from an environment; of a name that is there twice, the last one counts.
func lookupIn(env []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for _, kv := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(kv, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}
}

// resolve makes a path of the config relative to the process instead of to the config's file.
func (s *Source) resolve(path string) string {
	if s.File == "" || filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(filepath.Dir(s.File), path)
}
