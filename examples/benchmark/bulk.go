package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The load of a bulk transfer is this program itself, started anew and bound to its CPU: a source that sends for ever to
// whoever connects, and a sink that takes what comes for a while. The sink has the kernel drop the bytes unread
// (MSG_TRUNC), so that the candidate, and not the load, is what limits the transfer.
const (
	sourceCommand = "bulk-source" // PORT
	sinkCommand   = "bulk-sink"   // PORT CONNECTIONS SECONDS
	bulkPiece     = 256 << 10
)

// bulkLoad runs the load if that is what the process was started for.
func bulkLoad(args []string) (bool, error) {
	switch {
	case len(args) == 2 && args[0] == sourceCommand:
		return true, source(args[1])
	case len(args) == 4 && args[0] == sinkCommand:
		n, err1 := strconv.Atoi(args[2])
		seconds, err2 := strconv.Atoi(args[3])
		if err := errors.Join(err1, err2); err != nil {
			return true, err
		}
		return true, sink(args[1], n, time.Duration(seconds)*time.Second)
	}
	return false, nil
}

func source(port string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	piece := make([]byte, bulkPiece)
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			for {
				if _, err := c.Write(piece); err != nil {
					return
				}
			}
		}()
	}
}

// sink prints "begin" after a second, and "end BYTES" after the time that is measured.
func sink(port string, connections int, measured time.Duration) error {
	var total atomic.Int64
	var open []net.Conn
	var ended sync.WaitGroup
	for range connections {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		open = append(open, c)
		ended.Go(func() { drop(c.(*net.TCPConn), &total) })
	}
	time.Sleep(time.Second)
	before, begun := total.Load(), time.Now()
	fmt.Println("begin")
	time.Sleep(measured)
	moved, took := total.Load()-before, time.Since(begun)
	fmt.Println("end", moved, took.Nanoseconds())
	for _, c := range open {
		_ = c.Close()
	}
	ended.Wait()
	return nil
}

// drop takes bytes until the connection ends.
func drop(c *net.TCPConn, total *atomic.Int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	piece := make([]byte, bulkPiece)
	for over := false; !over; {
		err := raw.Read(func(fd uintptr) bool {
			n, _, err := syscall.Recvfrom(int(fd), piece, syscall.MSG_TRUNC|syscall.MSG_DONTWAIT)
			switch {
			case err == syscall.EAGAIN || err == syscall.EINTR:
				return false
			case err != nil || n <= 0:
				over = true
			default:
				total.Add(int64(n))
			}
			return true
		})
		if err != nil {
			return
		}
	}
}

// measureBulk starts a candidate, has bytes flow through it and stops it.
func (b *bench) measureBulk(ctx context.Context, c *candidate) sample {
	p, ports, err := b.started(c)
	if err != nil {
		return failed(err)
	}
	defer p.stop()
	moved, took, cpu, err := b.flow(ctx, p, ports[0])
	if err != nil {
		return failed(err)
	}
	gib := float64(moved) / (1 << 30)
	if gib < 0.01 {
		return failed(fmt.Errorf("it moved %d bytes", moved))
	}
	return sample{ok: true, cpu: float64(cpu.Milliseconds()) / gib, perSec: gib * 1024 / took.Seconds(), memory: float64(p.memory()) / (1 << 20)}
}

// flow runs the sink, and takes the candidate's CPU time at its beginning and its end.
func (b *bench) flow(ctx context.Context, p *process, port int) (moved int64, took, cpu time.Duration, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, 0, err
	}
	args := []string{"-c", b.load, self, sinkCommand, strconv.Itoa(port), strconv.Itoa(b.o.connections), strconv.Itoa(b.o.seconds)}
	cmd := exec.CommandContext(ctx, "taskset", args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, 0, 0, err
	}
	var before, after, ns int64
	for lines := bufio.NewScanner(out); lines.Scan(); {
		now, e := p.cpu()
		err = errors.Join(err, e)
		if lines.Text() == "begin" {
			before = int64(now)
			continue
		}
		after = int64(now)
		if _, e := fmt.Sscanf(lines.Text(), "end %d %d", &moved, &ns); e != nil {
			err = errors.Join(err, fmt.Errorf("the sink says %q", lines.Text()))
		}
	}
	if e := cmd.Wait(); e != nil || ns == 0 {
		err = errors.Join(err, e, errors.New("the sink did not come to its end"))
	}
	return moved, time.Duration(ns), time.Duration(after - before), err
}

// startSource starts what candidates of a bulk transfer lead to.
func (b *bench) startSource() (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p, err := start(b.load, []string{self, sourceCommand, strconv.Itoa(b.s.backend)}, filepath.Join(b.s.dir, "source.log"))
	if err != nil {
		return nil, err
	}
	if err := p.listening(b.s.backend); err != nil {
		p.stop()
		return nil, fmt.Errorf("the source: %w", err)
	}
	return p, nil
}

// bulkTable renders the rows of a bulk transfer as Markdown.
func bulkTable(rows []row) string {
	base := &rows[0]
	var t strings.Builder
	fmt.Fprintf(&t, "| candidate | what it does | MiB/s | × %s | CPU ms/GiB | × %s | MiB |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |\n", base.name, base.name)
	for i := range rows {
		r := &rows[i]
		if r.problem() != "" {
			fmt.Fprintf(&t, "| %s | %s | NOT A RESULT | | | | |\n", r.name, r.about)
			continue
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s | %s | %s |\n", r.name, r.about,
			number(medianOf(r.rounds, perSecOf), 0), number(medianRatio(r.rounds, base.rounds, perSecOf), 2),
			number(medianOf(r.rounds, cpuOf), 0), number(medianRatio(r.rounds, base.rounds, cpuOf), 2), number(medianOf(r.rounds, memoryOf), 1))
	}
	return t.String()
}
