package telemetry

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/internal/testkit"
)

// ordinals are the numbers of requests that a log has, as $client_ordinal; all lines must be whole.
func ordinals(t *testing.T, b []byte) (list []int) {
	t.Helper()
	for line := range bytes.Lines(b) {
		n, err := strconv.Atoi(strings.TrimSuffix(string(line), " whole\n"))
		if err != nil {
			t.Fatalf("a line is torn: %q", line)
		}
		list = append(list, n)
	}
	return list
}

// The file is renamed and opened anew again and again while requests end: every line is in one of the files, whole, and in
// its order.
func TestRotationUnderLoadLosesNoLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "access.log")
	var log messages
	tel := start(t, Options{AccessLog: AccessLog{Output: file, Format: formatOf(t, "$client_ordinal whole")}, Log: log.log()})
	const rotations, each = 8, 3000
	r := tel.Loop(0)
	x := sampled(t, r)
	n := 0
	for i := range rotations {
		old := fmt.Sprint(file, ".", i)
		if err := os.Rename(file, old); err != nil {
			t.Fatal(err)
		}
		tel.ReopenLogs()
		for range each {
			x.Client.Ordinal = uint64(n)
			end(r, x, 200)
			n++
		}
		eventually(t, "the file is there again", func() bool { _, err := os.Stat(file); return err == nil })
	}
	finish(t, tel)
	want := 0
	for i := range rotations + 1 {
		name := fmt.Sprint(file, ".", i)
		if i == rotations {
			name = file
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range ordinals(t, b) {
			if got != want {
				t.Fatalf("%s: line of request %d, want %d", name, got, want)
			}
			want++
		}
	}
	if want != n || r.cells.linesDropped.Load() != 0 {
		t.Errorf("%d requests, %d lines, %d dropped", n, want, r.cells.linesDropped.Load())
	}
	if said := strings.Count(log.String(), "opened anew"); said != rotations {
		t.Errorf("opened anew %d times, said %d times: %s", rotations, said, log.String())
	}
}

// A file that cannot be opened anew is kept, and that is said.
func TestAFileThatCannotBeReopenedIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	moved := dir + ".old"
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var log messages
	tel := start(t, Options{AccessLog: AccessLog{Output: filepath.Join(dir, "access.log")}, Log: log.log()})
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	r := tel.Loop(0)
	tel.ReopenLogs() // without a request: the writer sleeps
	eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "cannot be opened anew") })
	end(r, sampled(t, r), 200)
	finish(t, tel)
	b, err := os.ReadFile(filepath.Join(moved, "access.log"))
	if err != nil || len(logLinesOf(t, b)) != 1 {
		t.Errorf("%v, %q", err, b)
	}
}

// What has no name is not opened anew, and goes on.
func TestReopeningWhatIsNoFile(t *testing.T) {
	var log messages
	var out bytes.Buffer
	for _, a := range []AccessLog{{}, {Writer: &out}, {Syslog: &Syslog{Network: "udp", Address: "127.0.0.1:9"}}} {
		tel := start(t, Options{AccessLog: a, Log: log.log()})
		tel.ReopenLogs()
		finish(t, tel)
	}
	tel := start(t, Options{AccessLog: AccessLog{Writer: &out}, Log: log.log()})
	tel.ReopenLogs()
	end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
	finish(t, tel)
	if len(logLinesOf(t, out.Bytes())) != 1 || strings.Contains(log.String(), "anew") {
		t.Errorf("%q, and the log says %q", out.String(), log.String())
	}
}

// The buffer is as large as it is asked for, and that lines are dropped is said, once.
func TestALogThatFallsBehindSaysSo(t *testing.T) {
	for buffer, most := range map[int]int{128 << 10: 2, 4 << 20: 64} {
		var log messages
		out := newStuck()
		tel := start(t, Options{AccessLog: AccessLog{Writer: out, Buffer: buffer}, Log: log.log()})
		r := tel.Loop(0)
		x := sampled(t, r)
		end(r, x, 200)
		<-out.began
		for r.cells.linesDropped.Load() < 1000 {
			end(r, x, 200)
		}
		if r.lines.made != most {
			t.Errorf("%d bytes are %d buffers, want %d", buffer, r.lines.made, most)
		}
		close(out.hold)
		eventually(t, "it is said", func() bool { return strings.Contains(log.String(), "slower than the requests") })
		finish(t, tel)
		if strings.Count(log.String(), "\n") != 1 {
			t.Errorf("the log says %q", log.String())
		}
	}
}

// syslogServer receives what is sent over one of the networks.
type syslogServer struct {
	t       *testing.T
	network string
	address string
	mu      sync.Mutex
	got     []string
	conns   []io.Closer
}

func (s *syslogServer) take(m string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, m)
}

func (s *syslogServer) messages() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

func (s *syslogServer) open() {
	s.t.Helper()
	if s.network == "tcp" {
		l, err := net.Listen("tcp", s.address)
		if err != nil {
			s.t.Fatal(err)
		}
		s.address = l.Addr().String()
		s.keep(l)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				s.keep(c)
				go s.readStream(c)
			}
		}()
		return
	}
	c, err := net.ListenPacket(s.network, s.address)
	if err != nil {
		s.t.Fatal(err)
	}
	s.address = c.LocalAddr().String()
	s.keep(c)
	go func() {
		b := make([]byte, 128<<10)
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			s.take(string(b[:n]))
		}
	}()
}

func (s *syslogServer) keep(c io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
}

// readStream reads messages that begin with their length.
func (s *syslogServer) readStream(c net.Conn) {
	in := bufio.NewReader(c)
	for {
		length, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil || n > 128<<10 {
			s.t.Errorf("a message of %q bytes", length)
			return
		}
		m := make([]byte, n)
		if _, err := io.ReadFull(in, m); err != nil {
			return
		}
		s.take(string(m))
	}
}

func (s *syslogServer) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func newSyslogServer(t *testing.T, network string) *syslogServer {
	s := &syslogServer{t: t, network: network, address: fmt.Sprint("127.0.0.1:", testkit.Port(t))} // nobody else takes it while it is closed
	if network == "unixgram" {
		if runtime.GOOS == "windows" {
			t.Skip("there are no sockets of this kind")
		}
		dir, err := os.MkdirTemp("", "log") // a socket's path must be short
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		s.address = filepath.Join(dir, "s")
	}
	s.open()
	t.Cleanup(s.close)
	return s
}

// Each line is a message as RFC 5424 and RFC 3164 have it, over each network.
func TestSyslogMessages(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	host, pid := regexp.QuoteMeta(host), os.Getpid()
	for _, network := range []string{"udp", "tcp", "unixgram"} {
		for _, bsd := range []bool{false, true} {
			s := newSyslogServer(t, network)
			tel := start(t, Options{AccessLog: AccessLog{
				Syslog: &Syslog{Network: network, Address: s.address, Facility: 16, Tag: "edge", BSD: bsd},
				Format: formatOf(t, `$client_ordinal "$request"`),
			}})
			r := tel.Loop(0)
			x := sampled(t, r)
			const n = 100
			for i := range n {
				x.Client.Ordinal = uint64(i)
				end(r, x, 200)
			}
			finish(t, tel)
			eventually(t, "all messages arrive over "+network, func() bool { return len(s.messages()) == n })
			pattern := fmt.Sprintf(`^<134>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z %s edge %d access - `, host, pid)
			switch {
			case bsd && network == "unixgram":
				pattern = fmt.Sprintf(`^<134>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d edge\[%d\]: `, pid)
			case bsd:
				pattern = fmt.Sprintf(`^<134>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d %s edge\[%d\]: `, host, pid)
			}
			for i, m := range s.messages() {
				if !regexp.MustCompile(pattern + fmt.Sprintf(`%d "GET / HTTP/1.1"$`, i)).MatchString(m) {
					t.Fatalf("%s, message %d: %q, want %s", network, i, m, pattern)
				}
			}
			if tel.lines.lost() != 0 || tel.lines.written() == 0 {
				t.Errorf("%s: %d lines are counted as lost, %d bytes as written", network, tel.lines.lost(), tel.lines.written())
			}
		}
	}
}

// A server that is away costs lines, which are counted and told of; when it is back, the next ones arrive. Requests notice
// nothing of it.
func TestASyslogServerThatGoesAway(t *testing.T) {
	for _, network := range []string{"tcp", "unixgram"} {
		s := newSyslogServer(t, network)
		var log messages
		tel := start(t, Options{AccessLog: AccessLog{Syslog: &Syslog{Network: network, Address: s.address}, Format: formatOf(t, "$client_ordinal")}, Log: log.log()})
		r := tel.Loop(0)
		x := sampled(t, r)
		sent := 0
		more := func() {
			x.Client.Ordinal = uint64(sent)
			end(r, x, 200)
			sent++
		}
		more()
		eventually(t, "the first arrives", func() bool { return len(s.messages()) == 1 })
		eventually(t, "the writer is done with it", func() bool { return tel.lines.written() > 0 })
		gone := tel.lines.out.(*syslogOutput).gone
		s.close()
		if network == "unixgram" {
			os.Remove(s.address)
		} else {
			eventually(t, "it is seen", gone.Load) // what is written before that is lost without a trace
		}
		eventually(t, "lines are lost", func() bool {
			more()
			return tel.lines.lost() > 0
		})
		if said := log.String(); !strings.Contains(said, "the access log cannot be written") || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: the log says %q", network, said)
		}
		before := len(s.messages())
		s.open()
		eventually(t, "lines arrive again", func() bool {
			more()
			return len(s.messages()) > before
		})
		finish(t, tel)
		eventually(t, "every line has arrived or is counted", func() bool { return len(s.messages())+int(tel.lines.lost()) == sent })
	}
}

// A server that is restarted between two lines costs none: that it closed the connection is seen, and another is opened.
func TestASyslogServerThatIsRestarted(t *testing.T) {
	for _, network := range []string{"tcp", "unixgram"} {
		s := newSyslogServer(t, network)
		tel := start(t, Options{AccessLog: AccessLog{Syslog: &Syslog{Network: network, Address: s.address}}})
		r := tel.Loop(0)
		for i := range 3 {
			was := tel.lines.written()
			end(r, sampled(t, r), 200)
			eventually(t, "the line arrives", func() bool { return len(s.messages()) == i+1 && tel.lines.written() > was })
			out := tel.lines.out.(*syslogOutput)
			s.close()
			if network == "unixgram" {
				os.Remove(s.address)
			} else {
				gone := out.gone // the writer is done with it
				eventually(t, "it is seen", gone.Load)
			}
			s.open()
		}
		finish(t, tel)
		if tel.lines.lost() != 0 {
			t.Errorf("%s: %d lines lost", network, tel.lines.lost())
		}
	}
}

// Between two tries the pause grows, to 30 s; after a success it begins anew.
func TestTriesToReachASyslogServerAreSpaced(t *testing.T) {
	s, err := newSyslog(Syslog{Network: "tcp", Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	now, dials := time.Unix(0, wall), 0
	s.now = func() time.Time { return now }
	s.dialAgain = func() (net.Conn, error) { dials++; return nil, io.ErrUnexpectedEOF }
	for range 60_000 { // a minute, two lines each millisecond
		if _, lost, err := s.write([]byte("a\nb\n"), 2); lost != 2 || err == nil {
			t.Fatalf("%d lost, %v", lost, err)
		}
		now = now.Add(time.Millisecond)
	}
	if dials != 10 { // after 0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 25.5, 51.1 s
		t.Errorf("%d tries in a minute", dials)
	}
	here, there := net.Pipe()
	go io.Copy(io.Discard, there)
	s.dialAgain = func() (net.Conn, error) { return here, nil }
	now = now.Add(syslogWaitMost)
	if size, lost, err := s.write([]byte("a\nb\n"), 2); size != 4 || lost != 0 || err != nil || s.wait != 0 {
		t.Errorf("%d bytes, %d lost, %v, wait %v", size, lost, err, s.wait)
	}
	s.close()
}

// A line that no datagram holds is lost alone.
func TestALineThatIsTooLongForADatagram(t *testing.T) {
	s := newSyslogServer(t, "udp")
	out, err := newSyslog(Syslog{Network: "udp", Address: s.address})
	if err != nil {
		t.Fatal(err)
	}
	defer out.close()
	size, lost, err := out.write([]byte("a\n"+strings.Repeat("b", 70_000)+"\nc\n"), 3)
	if size != 4 || lost != 1 || err == nil {
		t.Errorf("%d bytes, %d lost, %v", size, lost, err)
	}
	eventually(t, "the others arrive", func() bool { return len(s.messages()) == 2 })
}

func TestSyslogServersThatAreRefused(t *testing.T) {
	for _, o := range []Syslog{{Network: "http", Address: "a:1"}, {Network: "udp", Address: "a:1", Facility: 24}} {
		if _, err := New(Options{AccessLog: AccessLog{Syslog: &o}}); err == nil {
			t.Errorf("%+v is taken", o)
		}
	}
}

// What a request costs telemetry, with a line in each format.
func BenchmarkLine(b *testing.B) {
	for _, format := range []string{"json", "common", "combined", `$client $status $duration_s "$request" $request_header_x_request_id $upstream $why_new`} {
		name := format
		if len(name) > 10 {
			name = "own"
		}
		for _, redacted := range []bool{false, true} {
			a := AccessLog{Writer: io.Discard, Query: true, Format: formatOf(b, format)}
			if redacted {
				a.RedactQuery = []string{"token", "password"}
			}
			b.Run(fmt.Sprintf("%s/redact=%v", name, redacted), func(b *testing.B) {
				tel := start(b, Options{AccessLog: a})
				r := tel.Loop(0)
				x := request(b, "GET /users/42?page=2&token=1 HTTP/1.1", "Host: api.test", "User-Agent: Mozilla/5.0 (X11; Linux x86_64)", "Referer: https://api.test/", "X-Request-Id: 77")
				conn := connection(1)
				b.ReportAllocs()
				for b.Loop() {
					x.Attempts = append(x.Attempts[:0], exchange.Attempt{Upstream: conn.Upstream, Host: conn.Host, Address: conn.Address, ConnID: 1})
					r.Begin(x)
					end(r, x, 200)
				}
			})
		}
	}
}
