package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	// How long a program may take to start, and to end after it was asked to.
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
	// How much of its log is kept to explain a failure, in lines.
	logKept = 40
)

// process is a program that runs beside this one.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone; err is then set
	err   error
	log   tail
}

// startProcess starts a program, with env beside the environment of this one, and returns when a line that it writes is the
// one that says that it is ready. It ends with ctx at the latest.
func startProcess(ctx context.Context, name string, args, env []string, isReady func(line string) bool) (*process, error) {
	p := &process{name: name, ended: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, args[0], args[1:]...)
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(os.Interrupt) }
	p.cmd.WaitDelay = stopTimeout
	ready := make(chan struct{})
	said := false
	w := &lineWriter{line: func(line string) {
		p.log.add(line)
		if isReady(line) && !said {
			said = true
			close(ready)
		}
	}}
	p.cmd.Stdout, p.cmd.Stderr = w, w // the same writer twice: os/exec then writes from one goroutine
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	timer := time.NewTimer(startTimeout)
	defer timer.Stop()
	select {
	case <-ready:
		return p, nil
	case <-p.ended:
		return nil, p.failure("did not start")
	case <-timer.C:
		_ = p.Stop()
		return nil, p.failure(fmt.Sprintf("was not ready after %s", startTimeout))
	}
}

// Wait keeps the process running until ctx ends, then stops it. That it ended by itself is an error.
func (p *process) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		_ = p.Stop() // it was interrupted: what it ends with does not matter
		return nil
	case <-p.ended:
		return p.failure("ended by itself")
	}
}

// Stop asks the process to end, as a service manager does, and ends it if it does not. It returns when the process is gone.
func (p *process) Stop() error {
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		_ = p.cmd.Process.Kill() // a system that cannot signal
	}
	select {
	case <-p.ended:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	return p.err
}

func (p *process) failure(what string) error {
	if p.err == nil {
		return fmt.Errorf("%s %s; the end of its log:\n%s", p.name, what, &p.log)
	}
	return fmt.Errorf("%s %s: %w; the end of its log:\n%s", p.name, what, p.err, &p.log)
}

// tail keeps the last lines of a log. Its methods may be called from any goroutine.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == logKept {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	t.lines = append(t.lines, line)
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// lineWriter calls line for each line written to it.
type lineWriter struct {
	line func(string)
	rest []byte
}

func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		i := bytes.IndexByte(w.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		w.line(string(w.rest[:i]))
		w.rest = w.rest[i+1:]
	}
}
