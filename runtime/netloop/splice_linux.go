//go:build linux && !wasmgate_portable

package netloop

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// pipe is what bytes go through on their way from one socket to another without being copied.
type pipe struct {
	r, w int
	size int
}

// pipes are a loop's. A flow holds one only while bytes are on their way.
type pipes struct {
	free  []pipe
	open  int
	most  int   // 0: not known yet
	after int64 // loop time before which none is opened, because that failed
}

const (
	pipeSize   = 256 << 10 // bytes; the kernel's default of 64 KiB needs twice as many calls
	leastPipe  = 64 << 10  // what a pipe must hold to be worth its two descriptors
	mostPipes  = 256       // of a loop; flows beyond copy
	sparePipes = 16        // kept open without being used
	slice      = 1 << 20   // bytes that a flow moves before others have their turn
	pipeRetry  = int64(1e9)
)

// takePipe returns an empty pipe, or false if there are too many: then bytes are copied.
func (l *Loop) takePipe() (pipe, bool) {
	s := &l.pipes
	if n := len(s.free); n > 0 {
		p := s.free[n-1]
		s.free = s.free[:n-1]
		return p, true
	}
	if s.most == 0 {
		s.most = mostPipesOf(len(l.group.loops))
	}
	if s.open >= s.most || l.now < s.after {
		return pipe{}, false
	}
	p, ok := openPipe()
	if !ok {
		s.after = l.now + pipeRetry
		return pipe{}, false
	}
	s.open++
	return p, true
}

// mostPipesOf lets the pipes of all loops have an eighth of the descriptors that the process may open.
func mostPipesOf(loops int) int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1
	}
	return int(min(mostPipes, max(1, limit.Cur/16/uint64(loops))))
}

// openPipe fails where descriptors, or the pages that a user's pipes may have, are used up.
func openPipe() (pipe, bool) {
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return pipe{}, false
	}
	p := pipe{r: fds[0], w: fds[1]}
	p.size, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize)
	if p.size < leastPipe {
		p.size, _ = unix.FcntlInt(uintptr(p.w), unix.F_GETPIPE_SZ, 0)
	}
	if p.size < leastPipe {
		p.close()
		return pipe{}, false
	}
	return p, true
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// putPipe gives a pipe back; one with something in it is of no use to anybody else.
func (l *Loop) putPipe(p pipe, empty bool) {
	s := &l.pipes
	if empty && len(s.free) < sparePipes {
		s.free = append(s.free, p)
		return
	}
	p.close()
	s.open--
}

func (s *pipes) closeAll() {
	for _, p := range s.free {
		p.close()
	}
	s.open -= len(s.free)
	s.free = nil
}

// SpliceTo passes on to dst what there is to read, and returns when there is nothing more, without waiting: nil and nil
// mean that the connection can become idle (OnEvent) until the next bytes come. It parks while dst takes no more, and
// now and then so that others have their turn; nothing is read that dst has no room for but what is on its way.
//
// readErr is io.EOF when the peer has ended its side, and otherwise what reading failed with; writeErr is what writing
// to dst failed with, ErrDeadline past dst's write deadline. Bytes that were read before readErr have been written.
//
// Small amounts are copied by way of one of the loop's buffers. As soon as a read fills it, bytes go from socket to
// socket through a pipe, which the flow holds only while bytes are on their way. Only one task at a time may read from
// the connection and write to dst, which must be of the same loop; the opposite direction is another task's.
func (c *Conn) SpliceTo(t *Task, dst *Conn, f *Flow) (readErr, writeErr error) {
	s := stream{Flow: f, src: c, dst: dst, task: t}
	moved := 0
	for budget := slice; ; {
		if c.closed {
			readErr = ErrClosed
			break
		}
		if !c.readable {
			break
		}
		n := 0
		if f.bulk && !c.urgent && s.hasPipe() {
			n, readErr, writeErr = s.splice()
		} else {
			n, readErr, writeErr = s.copy()
		}
		if readErr != nil || writeErr != nil {
			break
		}
		moved += n
		if budget -= n; budget <= 0 && c.readable {
			budget = slice
			t.pause()
		}
	}
	if moved < BufferSize { // few at a time are cheaper to copy
		f.bulk = false
	}
	if s.held {
		c.loop.putPipe(s.pipe, writeErr == nil)
	}
	return readErr, writeErr
}

// stream is a call of SpliceTo.
type stream struct {
	*Flow
	src, dst *Conn
	task     *Task
	pipe     pipe
	held     bool
}

func (s *stream) hasPipe() bool {
	if !s.held {
		s.pipe, s.held = s.src.loop.takePipe()
	}
	return s.held
}

// copy moves a buffer's worth.
func (s *stream) copy() (n int, readErr, writeErr error) {
	l := s.src.loop
	b := l.Buffer()
	defer l.Recycle(b)
	n, readErr = s.src.TryRead(b)
	s.bulk = n == len(b)
	for rest := b[:n]; len(rest) > 0; {
		m, err := s.dst.TryWrite(rest)
		switch {
		case err != nil:
			return n, nil, err
		case m > 0:
			s.moved(s.src, s.dst, m)
			rest = rest[m:]
		default:
			if err := s.dst.waitWritable(s.task); err != nil {
				return n, nil, err
			}
		}
	}
	return n, readErr, nil
}

const spliceFlags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE

// splice moves a pipe's worth.
func (s *stream) splice() (n int, readErr, writeErr error) {
	n, e := splice(s.src.fd, s.pipe.w, s.pipe.size)
	switch {
	case e == syscall.EAGAIN: // the pipe is empty, so it is the socket
		s.src.readable = false
		return 0, nil, nil
	case e == syscall.EINTR:
		return 0, nil, nil
	case e == syscall.EINVAL: // a kind of socket that cannot be spliced
		s.src.urgent = true
		return 0, nil, nil
	case e != 0:
		return 0, os.NewSyscallError("splice", e), nil
	case n == 0:
		return 0, io.EOF, nil
	}
	for rest := n; rest > 0; {
		if s.dst.closed {
			return n, nil, ErrClosed
		}
		m, e := splice(s.pipe.r, s.dst.fd, rest)
		switch {
		case e == syscall.EAGAIN:
			if err := s.dst.waitWritable(s.task); err != nil {
				return n, nil, err
			}
		case e == syscall.EINTR:
		case e != 0:
			return n, nil, os.NewSyscallError("splice", e)
		default:
			rest -= m
			s.moved(s.src, s.dst, m)
		}
	}
	return n, nil, nil
}

func splice(from, to, size int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), spliceFlags)
	return int(n), e
}

// OnReset has fn run on the loop once, should the connection fail while nobody reads from it: its peer has sent a reset,
// or is gone. A peer that has ended its side and is read no more can be watched in this way. Nil disarms. Only Linux
// tells; elsewhere a failure shows when something is written.
func (c *Conn) OnReset(fn func(*Conn)) { c.onReset = fn }

// unsent is how many bytes were written that the peer has not acknowledged.
func (c *Conn) unsent() int {
	n, err := unix.IoctlGetInt(c.fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// pause lets the loop serve others before the task goes on.
func (t *Task) pause() {
	t.loop.enqueueOrResumeLater(t)
	t.suspend()
}
