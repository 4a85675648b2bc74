package telemetry

import (
	"bytes"
	"io"
	"os"
)

// output is where the access log's lines end up. Only the writer's goroutine uses it.
type output interface {
	// write takes whole lines, and says how many bytes of them it has written and how many lines were lost.
	write(b []byte, lines int) (size, lost int, err error)
	// reopen opens it anew, if that is something that it does, and returns its name then.
	reopen() (name string, err error)
	close() error
}

// openOutput opens what is asked for. Of a syslog server it is not asked whether it is there.
func openOutput(a *AccessLog) (output, error) {
	switch {
	case a.Writer != nil:
		return &stream{w: a.Writer}, nil
	case a.Syslog != nil:
		return newSyslog(*a.Syslog)
	case a.Output == "stdout":
		return &stream{w: os.Stdout}, nil
	case a.Output == "stderr":
		return &stream{w: os.Stderr}, nil
	}
	f, err := openLog(a.Output)
	if err != nil {
		return nil, err
	}
	return &stream{w: f, file: f, name: a.Output}, nil
}

func openLog(name string) (*os.File, error) {
	return os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// stream is an output of bytes, one after the other.
type stream struct {
	w    io.Writer
	file *os.File // nil: it is not ours to close
	name string
	torn bool // the output ends within a line
}

var newline = []byte("\n")

func (s *stream) write(b []byte, lines int) (size, lost int, err error) {
	if s.torn { // whoever reads lines shall lose one of them, not two
		_, err = s.w.Write(newline)
		s.torn = err != nil
	}
	if err == nil {
		size, err = s.w.Write(b)
		size = min(max(size, 0), len(b))
		s.torn = size > 0 && b[size-1] != '\n'
	}
	if err != nil {
		lost = lines - bytes.Count(b[:size], newline)
	}
	return size, lost, err
}

// reopen keeps the old file until the new one is open.
func (s *stream) reopen() (string, error) {
	if s.file == nil {
		return "", nil
	}
	f, err := openLog(s.name)
	if err != nil {
		return "", err
	}
	if s.torn {
		_, _ = s.w.Write(newline)
	}
	_ = s.file.Close() // its lines are written; what the disk says of them now changes nothing
	s.w, s.file, s.torn = f, f, false
	return s.name, nil
}

func (s *stream) close() error {
	if s.file == nil {
		return nil
	}
	return s.file.Close()
}
