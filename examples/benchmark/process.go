package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// Linux counts CPU time for programs in hundredths of a second on every architecture that Go knows.
	ticksPerSecond = 100
	startTimeout   = 20 * time.Second
	stopTimeout    = 5 * time.Second
	logShown       = 2000 // bytes of a log that explain a failure
)

// process is a program bound to CPUs, together with what it starts.
type process struct {
	cmd   *exec.Cmd
	log   string // path
	ended chan struct{}
}

func start(cpus string, command []string, log string) (*process, error) {
	f, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the process has its own descriptor by then
	p := &process{cmd: exec.Command("taskset", append([]string{"-c", cpus}, command...)...), log: log, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = f, f
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", command[0], err)
	}
	go func() {
		_ = p.cmd.Wait() // it is stopped by a signal: the exit status says nothing
		close(p.ended)
	}()
	return p, nil
}

// listening waits until the process accepts connections.
func (p *process) listening(port int) error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		c, err := net.Dial("tcp", address(port))
		if err == nil {
			return c.Close()
		}
		select {
		case <-again.C:
		case <-p.ended:
			return fmt.Errorf("it ended; its log: %s", p.logEnd())
		case <-deadline.C:
			return fmt.Errorf("it does not listen after %s; its log: %s", startTimeout, p.logEnd())
		}
	}
}

func (p *process) logEnd() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-logShown):]))
}

// stop ends the process and everything that it has started, and returns when the process is gone. Nil has nothing to end.
func (p *process) stop() {
	if p == nil {
		return
	}
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Kill} {
		for _, pid := range p.tree() {
			if q, err := os.FindProcess(pid); err == nil {
				_ = q.Signal(sig) // it may be gone by now
			}
		}
		select {
		case <-p.ended:
			return
		case <-time.After(stopTimeout):
		}
	}
}

// tree returns the process and its descendants; none once it has ended, for then its id may be another's.
func (p *process) tree() []int {
	select {
	case <-p.ended:
		return nil
	default:
	}
	var seen []int
	for todo := []int{p.cmd.Process.Pid}; len(todo) > 0; {
		pid := todo[0]
		todo = todo[1:]
		seen = append(seen, pid)
		lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, list := range lists {
			b, err := os.ReadFile(list)
			if err != nil {
				continue // a thread that has ended
			}
			for _, word := range strings.Fields(string(b)) {
				if child, err := strconv.Atoi(word); err == nil {
					todo = append(todo, child)
				}
			}
		}
	}
	return seen
}

// cpu returns the user and system time that the tree has used.
func (p *process) cpu() (time.Duration, error) {
	var ticks int64
	for _, pid := range p.tree() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		n, err := parseStat(string(b))
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// parseStat returns user and system time, in ticks, from the text of /proc/PID/stat (proc(5)).
func parseStat(text string) (int64, error) {
	const utime, stime = 14 - 3, 15 - 3 // fields as counted in proc(5), from the third: the second is a name in brackets
	_, rest, ok := cutLast(text, ")")
	f := strings.Fields(rest)
	if !ok || len(f) <= stime {
		return 0, fmt.Errorf("/proc stat: %q", text)
	}
	u, err1 := strconv.ParseInt(f[utime], 10, 64)
	s, err2 := strconv.ParseInt(f[stime], 10, 64)
	return u + s, errors.Join(err1, err2)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// memory returns the tree's proportional set size in bytes: what several processes share counts once.
func (p *process) memory() int64 {
	var total int64
	for _, pid := range p.tree() {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue
		}
		total += parsePss(string(b))
	}
	return total
}

// parsePss returns the bytes of the Pss line of /proc/PID/smaps_rollup.
func parsePss(text string) int64 {
	for line := range strings.Lines(text) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" && f[2] == "kB" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// freePorts returns ports of 127.0.0.1 that nothing listens on, of those that systems do not give to clients: nobody takes them before the
// program that they are for.
func freePorts(n int) ([]int, error) {
	var ports []int
	var open []io.Closer
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for tries := 0; len(ports) < n; tries++ { // together, so that no port comes twice
		l, err := net.Listen("tcp", address(18_000+rand.IntN(2000)))
		if err != nil {
			if tries > 1000 {
				return nil, err
			}
			continue
		}
		open = append(open, l)
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func address(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
