package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
	"wasmgate/runtime/telemetry"
	"wasmgate/runtime/watch"
)

// noConfig is what run says where there is nothing to run.
const noConfig = `wasmgate run: no config: no -c FILE was given, and there is no wasmgate.yaml in this folder.

To see it work first, with nothing but this program:

  wasmgate demo

To put it in front of a service of yours, write wasmgate.yaml:

  upstreams:
    app:
      targets: ["http://127.0.0.1:3000"]
  routes:
    - upstream: app

and then:

  wasmgate check                says everything that is wrong with it, at once
  wasmgate run                  serves it on port 8080
  wasmgate demo --print-config  shows a config with a plugin, to begin with
`

func newRun(p *Process) *cobra.Command {
	s := &source{process: p}
	c := &cobra.Command{
		Use:   "run",
		Short: "Serve a config",
		Long: `Serves a config until it is told to stop.

SIGHUP, and a change of the config file or of a plugin's module, reload: a config with an error changes nothing, and
the log says what is wrong with it. SIGUSR1 opens the access log's file anew, after it was renamed. SIGTERM and
SIGINT stop: no further connections, requests under way may end within limits.drain_timeout. A second one stops at
once.`,
		RunE: func(*cobra.Command, []string) error { return run(p, s) },
	}
	s.addFile(c)
	s.addSet(c)
	return c
}

func run(p *Process, s *source) error {
	if err := s.find(); err != nil {
		fmt.Fprint(p.Stderr, noConfig)
		return told(exitUsage)
	}
	signals := p.Signals()
	c, report, err := s.load()
	if err != nil {
		fmt.Fprintln(p.Stderr, err)
		return told(exitFailed)
	}
	log, err := newLog(p, c)
	if err != nil {
		return failure{err}
	}
	defer log.Close()
	for _, w := range report.Warnings {
		problem(log.Warn(), w).Msg("warning about the config")
	}
	r := &runner{process: p, source: s, log: log.Logger, level: log, config: c, report: report, loops: loops(p, c)}
	if r.watcher, err = watch.New(&r.log); err != nil {
		r.log.Warn().Err(err).Msg("cannot watch for changes; SIGHUP still reloads")
	} else {
		defer r.watcher.Close()
	}
	if err := r.start(); err != nil {
		if list := located(report, err); list != nil {
			fmt.Fprintln(p.Stderr, list)
			return told(exitFailed)
		}
		return failure{err}
	}
	r.serve(signals)
	return nil
}

// newLog starts the process's own log, to standard error.
func newLog(p *Process, c *config.Config) (*telemetry.Log, error) {
	return telemetry.NewLog(telemetry.LogOptions{
		Output: p.Stderr, Level: string(c.Telemetry.Log.Level), Format: string(c.Telemetry.Log.Format), Color: p.color(p.Stderr),
	})
}

// loops is the number of event loops, which stays for the life of the process. Go gets two threads more than that: a
// loop that returns from waiting for its sockets should not have to queue for a place to run behind the garbage
// collector or an exporter. GOMAXPROCS in the environment is the user's word against that.
func loops(p *Process, c *config.Config) int {
	n := c.Loops
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	if p.getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(n + spareThreads)
	}
	return n
}

const spareThreads = 2

// runner is a gateway and what makes it reload and stop.
type runner struct {
	process *Process
	source  *source
	log     zerolog.Logger
	level   *telemetry.Log

	mu      sync.Mutex     // one reload at a time: signals, files and the admin endpoint ask for them
	config  *config.Config // in force
	report  *config.Report
	loops   int
	watcher *watch.Watcher // nil: files are not watched
	gateway *gateway.Gateway
}

func (r *runner) start() error {
	r.watch(r.config)
	var err error
	r.gateway, err = gateway.New(gateway.Options{
		Config: r.settled(r.config), Log: r.log, Env: r.process.getenv, Build: readBuild().telemetry(), Admin: r.operators(),
	})
	if err != nil {
		return err
	}
	if err := r.gateway.Start(); err != nil {
		r.gateway.Close()
		return err
	}
	r.log.Info().Str("version", readBuild().version).Int("loops", r.loops).Int("pid", os.Getpid()).Str("config", r.source.file).Msg("ready")
	return nil
}

// settled is c with the number of loops that there really are, since 0 would now be counted anew.
func (r *runner) settled(c *config.Config) *config.Config {
	if c.Loops != 0 {
		return c
	}
	copied := *c
	copied.Loops = r.loops
	return &copied
}

// watch is called before the files are read, so that a change meanwhile is not missed.
func (r *runner) watch(c *config.Config) {
	if r.watcher != nil {
		r.watcher.Watch(r.source.watched(c))
	}
}

// serve reloads and stops as it is told, and returns when the gateway has ended.
func (r *runner) serve(signals <-chan os.Signal) {
	var changed <-chan struct{}
	if r.watcher != nil {
		changed = r.watcher.Changed()
	}
	for {
		select {
		case <-changed:
			_, _ = r.reload("a file changed")
		case s := <-signals:
			switch {
			case slices.Contains(reopenSignals, s):
				r.gateway.ReopenLogs()
			case s != syscall.SIGHUP:
				r.stop(s, signals)
				return
			default:
				_, _ = r.reload("SIGHUP")
			}
		}
	}
}

// operators is what the admin endpoint asks for.
func (r *runner) operators() gateway.Operators {
	return gateway.Operators{
		File: r.source.file, Report: r.report, LogLevel: r.level.LevelName, SetLogLevel: r.level.SetLevel,
		Load: func() (*config.Config, *config.Report, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			c, report, err := r.source.load()
			if err == nil {
				c = r.settled(c)
			}
			return c, report, err
		},
		Reload: func() (*config.Report, error) { return r.reload("the admin endpoint") },
	}
}

// reload puts the config in force as it is now, or leaves everything as it was and logs why.
func (r *runner) reload(why string) (*config.Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, report, err := r.source.load()
	if err == nil {
		r.watch(c)
		err = r.gateway.ReloadFrom(r.settled(c), report)
	}
	if err != nil {
		n := logErrors(&r.log, err)
		r.log.Error().Str("why", why).Int("errors", n).Msg("reload refused: nothing has changed")
		return report, err
	}
	for _, w := range report.Warnings {
		problem(r.log.Warn(), w).Msg("warning about the config")
	}
	r.config = c
	r.log.Info().Str("why", why).Msg("reloaded")
	return report, nil
}

// stop lets requests under way end, for as long as the config says and until a second signal.
func (r *runner) stop(first os.Signal, signals <-chan os.Signal) {
	r.mu.Lock()
	timeout := r.config.Limits.DrainTimeout.Std()
	r.mu.Unlock()
	r.log.Info().Stringer("signal", first).Stringer("drain_timeout", timeout).Msg("stopping: requests under way may end; a second signal ends them")
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-ended:
				return
			case s := <-signals:
				switch {
				case slices.Contains(reopenSignals, s):
					r.gateway.ReopenLogs()
				case s != syscall.SIGHUP:
					cancel()
				}
			}
		}
	}()
	err := r.gateway.Shutdown(ctx)
	close(ended)
	switch {
	case err == nil:
		r.log.Info().Msg("stopped")
	case errors.Is(err, context.Canceled):
		r.log.Warn().Err(err).Msg("stopped by a second signal")
	default:
		r.log.Warn().Err(err).Msg("stopped when limits.drain_timeout was over")
	}
}

// plural is "1 route", "2 routes".
func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
