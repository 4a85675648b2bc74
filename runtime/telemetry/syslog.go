package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// Syslog says which server of the syslog protocol the access log goes to.
type Syslog struct {
	Network  string // "udp", "tcp" or "unixgram"
	Address  string // host:port, or the path of a socket
	Facility int    // 0 to 23
	Tag      string // APP-NAME; empty: "wasmgate"
	BSD      bool   // RFC 3164 instead of RFC 5424: what the sockets of many systems expect
}

const (
	syslogInfo     = 6 // severity
	syslogDial     = 2 * time.Second
	syslogWrite    = 3 * time.Second // for a batch
	syslogFresh    = time.Minute     // after which a name is looked up anew for UDP
	syslogWaitMin  = 100 * time.Millisecond
	syslogWaitMost = 30 * time.Second
)

// syslogOutput sends each line as a message. While the server cannot be reached lines are lost and counted; it is tried
// again with growing pauses, when there are lines.
type syslogOutput struct {
	o         Syslog
	conn      net.Conn
	gone      *atomic.Bool // of conn: the server has closed it
	dialled   time.Time
	next      time.Time // when to try again
	wait      time.Duration
	failed    error // of the last try
	before    []byte
	after     []byte // the header around the time
	message   []byte
	batch     []byte
	ends      []int // of the messages in batch
	now       func() time.Time
	dialAgain func() (net.Conn, error)
}

func newSyslog(o Syslog) (*syslogOutput, error) {
	switch o.Network {
	case "udp", "tcp", "unixgram":
	default:
		return nil, fmt.Errorf("syslog over %q is not known: udp, tcp or unixgram", o.Network)
	}
	if o.Facility < 0 || o.Facility > 23 {
		return nil, fmt.Errorf("syslog facility %d must be between 0 and 23", o.Facility)
	}
	if o.Tag == "" {
		o.Tag = "wasmgate"
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "-"
	}
	s := &syslogOutput{o: o, now: time.Now}
	s.dialAgain = func() (net.Conn, error) { return net.DialTimeout(o.Network, o.Address, syslogDial) }
	pid := strconv.Itoa(os.Getpid())
	s.before = fmt.Appendf(nil, "<%d>", o.Facility*8+syslogInfo)
	switch {
	case !o.BSD:
		s.before = append(s.before, "1 "...)
		s.after = fmt.Appendf(nil, " %s %s %s access - ", host, o.Tag, pid)
	case o.Network == "unixgram": // the system's own socket knows the host
		s.after = fmt.Appendf(nil, " %s[%s]: ", o.Tag, pid)
	default:
		s.after = fmt.Appendf(nil, " %s %s[%s]: ", host, o.Tag, pid)
	}
	return s, nil
}

func (s *syslogOutput) reopen() (string, error) { return "", nil }

func (s *syslogOutput) close() error {
	s.hangUp()
	return nil
}

func (s *syslogOutput) write(b []byte, lines int) (size, lost int, err error) {
	if err := s.reach(); err != nil {
		return 0, lines, err
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(syslogWrite))
	if s.o.Network == "tcp" {
		size, lost, err = s.sendStream(b)
	} else {
		size, lost, err = s.sendDatagrams(b)
	}
	if err == nil {
		s.wait, s.failed = 0, nil
	}
	return size, lost, err
}

// reach makes sure that there is a connection, or says why there is none.
func (s *syslogOutput) reach() error {
	if s.conn != nil && (s.gone.Load() || s.o.Network == "udp" && s.now().Sub(s.dialled) > syslogFresh) {
		s.hangUp()
	}
	if s.conn != nil {
		return nil
	}
	if s.failed != nil && s.now().Before(s.next) {
		return s.failed
	}
	conn, err := s.dialAgain()
	if err != nil {
		return s.pause(err)
	}
	s.conn, s.gone, s.dialled = conn, &atomic.Bool{}, s.now()
	if s.o.Network == "tcp" {
		// A server has nothing to say. That it closes the connection must be seen before the next lines are written, for
		// those would be taken and lost.
		gone := s.gone
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			gone.Store(true)
			_ = conn.Close()
		}()
	}
	return nil
}

// pause ends the connection and says when to try again.
func (s *syslogOutput) pause(err error) error {
	s.hangUp()
	s.wait = min(max(2*s.wait, syslogWaitMin), syslogWaitMost)
	s.next, s.failed = s.now().Add(s.wait), err
	return err
}

func (s *syslogOutput) hangUp() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}

// sendStream sends lines as messages that begin with their length (RFC 6587 section 3.4.1).
func (s *syslogOutput) sendStream(b []byte) (size, lost int, err error) {
	s.batch, s.ends = s.batch[:0], s.ends[:0]
	now := s.now()
	for line := range bytes.Lines(b) {
		m := s.frame(line, now)
		s.batch = append(strconv.AppendInt(s.batch, int64(len(m)), 10), ' ')
		s.batch = append(s.batch, m...)
		s.ends = append(s.ends, len(s.batch))
	}
	n, err := s.conn.Write(s.batch)
	if err == nil {
		return len(b), 0, nil
	}
	for line := range bytes.Lines(b) {
		if s.ends[0] > n {
			lost++
		} else {
			size += len(line)
		}
		s.ends = s.ends[1:]
	}
	return size, lost, s.pause(err)
}

// sendDatagrams sends each line by itself.
func (s *syslogOutput) sendDatagrams(b []byte) (size, lost int, err error) {
	now := s.now()
	for line := range bytes.Lines(b) {
		if s.conn == nil {
			lost++
			continue
		}
		m := s.frame(line, now)
		_, one := s.conn.Write(m)
		if one != nil && errors.Is(one, syscall.ECONNREFUSED) && s.o.Network == "udp" {
			// That is about a message before this one, which was not sent yet.
			lost, err = lost+1, one
			_, one = s.conn.Write(m)
		}
		if one != nil && s.o.Network == "unixgram" && !errors.Is(one, os.ErrDeadlineExceeded) && !errors.Is(one, syscall.EMSGSIZE) {
			one = s.again(m) // the server was started anew, with another socket of that name
		}
		switch {
		case one == nil:
			size += len(line)
		case errors.Is(one, syscall.EMSGSIZE): // too long for a datagram: it alone is lost
			lost, err = lost+1, one
		default:
			lost, err = lost+1, s.pause(one)
		}
	}
	return size, lost, err
}

// again sends a message over another connection.
func (s *syslogOutput) again(m []byte) error {
	s.hangUp()
	if err := s.reach(); err != nil {
		return err
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(syslogWrite))
	_, err := s.conn.Write(m)
	return err
}

// frame makes the message of a line.
func (s *syslogOutput) frame(line []byte, now time.Time) []byte {
	m := append(s.message[:0], s.before...)
	if s.o.BSD {
		m = now.AppendFormat(m, time.Stamp)
	} else {
		m = now.UTC().AppendFormat(m, "2006-01-02T15:04:05.000000Z")
	}
	m = append(append(m, s.after...), bytes.TrimSuffix(line, newline)...)
	s.message = m
	return m
}
