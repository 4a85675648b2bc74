package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"wasmgate/config"
)

// defaultFile is the config that is used where none is named.
const defaultFile = "wasmgate.yaml"

// maxStdin bounds what is read of a config from standard input, in bytes; the config's own limit is below it.
const maxStdin = 2 << 20

// errNoConfig says that there is nothing to make a config of.
var errNoConfig = errors.New("no config")

// source is where a command's config comes from.
type source struct {
	process *Process
	file    string   // as it was named; "": the default; "-": standard input
	set     []string // --set
	stdin   []byte   // what standard input had, since it can be read only once
}

// addFile lets a command be told its config, as FILE or as -c FILE: who knows one of nginx, HAProxy or Envoy tries either.
func (s *source) addFile(c *cobra.Command) {
	c.Use += " [FILE]"
	c.Flags().StringVarP(&s.file, "config", "c", "", "config `file`, or - for standard input (default wasmgate.yaml); the same as FILE")
	_ = c.MarkFlagFilename("config", "yaml", "yml")
	c.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := cobra.MaximumNArgs(1)(c, args); err != nil {
			return err
		}
		if len(args) == 0 {
			return nil
		}
		if s.file != "" && s.file != args[0] {
			return fmt.Errorf("two configs were named, %s and %s: %s takes one", s.file, args[0], c.Name())
		}
		s.file = args[0]
		return nil
	}
}

func (s *source) addSet(c *cobra.Command) {
	c.Flags().StringArrayVar(&s.set, "set", nil, "change the config: `key=value`, as in listeners[0].address=:9090; may be repeated")
}

// find settles which file it is. Without a file there still may be a config, from the environment and --set.
func (s *source) find() error {
	if s.file != "" {
		return nil
	}
	if _, err := os.Stat(defaultFile); err == nil {
		s.file = defaultFile
		return nil
	}
	if len(s.set) > 0 {
		return nil
	}
	for _, kv := range s.process.Env {
		if strings.HasPrefix(kv, config.EnvPrefix) && !strings.HasPrefix(kv, config.EnvPrefix+"TEST_") {
			return nil
		}
	}
	return errNoConfig
}

// load reads the config. It may be called again after the file has changed.
func (s *source) load() (*config.Config, *config.Report, error) {
	from := config.Source{File: s.file, Env: s.process.Env, Overrides: s.set}
	if s.file == "-" {
		if s.stdin == nil {
			data, err := io.ReadAll(io.LimitReader(s.process.Stdin, maxStdin))
			if err != nil {
				return nil, &config.Report{}, err
			}
			s.stdin = append([]byte{}, data...)
		}
		from.File, from.Data = "stdin", s.stdin
	}
	return config.Load(from)
}

// watched lists the files whose change calls for a reload: the config and the plugins' modules.
func (s *source) watched(c *config.Config) []string {
	var files []string
	if s.file != "" && s.file != "-" {
		files = append(files, s.file)
	}
	if c != nil {
		for _, p := range c.Plugins {
			if !p.Module.Fetched() {
				files = append(files, p.Module.Path)
			}
		}
	}
	return files
}

// logErrors writes each mistake of a config as a line of its own, with its place, so that none is lost in the others.
// It returns how many there were.
func logErrors(log *zerolog.Logger, err error) int {
	var list config.Errors
	if !errors.As(err, &list) {
		for _, e := range unjoin(err) {
			log.Error().Err(e).Msg("error in the config")
		}
		return len(unjoin(err))
	}
	for _, p := range list {
		problem(log.Error(), p).Msg("error in the config")
	}
	return len(list)
}

// unjoin takes apart what errors.Join has put together.
func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var list []error
		for _, e := range j.Unwrap() {
			list = append(list, unjoin(e)...)
		}
		return list
	}
	return []error{err}
}

func problem(e *zerolog.Event, p config.Problem) *zerolog.Event {
	e = e.Str("at", p.Position.String())
	if p.Path != "" {
		e = e.Str("key", p.Path)
	}
	e = e.Str("problem", p.Message)
	if p.Help != "" {
		e = e.Str("help", p.Help)
	}
	return e
}
