package telemetry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"wasmgate/runtime/exchange"
)

// A collector that is down costs nobody anything but its spans, and those are counted and told of.
func TestRequestsDoNotNoticeThatTheCollectorIsDown(t *testing.T) {
	var log messages
	tel := start(t, Options{Traces: Traces{Endpoint: nowhere(t)}, Log: log.log()})
	r := tel.Loop(0)
	for range 10 {
		end(r, sampled(t, r), 200)
	}
	eventually(t, "the spans are given up", func() bool {
		return scrape(t, tel).value("wasmgate_telemetry_spans_dropped_total", "reason", "export_failed") == 10
	})
	m := scrape(t, tel)
	if m.value("wasmgate_telemetry_spans_exported_total") != 0 || m.value("wasmgate_requests_total", "class", "2xx") != 10 {
		t.Errorf("%d spans exported, %v requests counted", int(m.value("wasmgate_telemetry_spans_exported_total")), m.value("wasmgate_requests_total", "class", "2xx"))
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, "traces cannot be exported") {
		t.Errorf("the log says %q", said)
	}
}

// A collector that takes for ever makes the queue run full: what does not fit is counted, and nothing waits.
func TestAFullQueueOfSpansIsCounted(t *testing.T) {
	hold, asked := make(chan struct{}), make(chan struct{}, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	tel := start(t, Options{Traces: Traces{Endpoint: s.URL}})
	r := tel.Loop(0)
	end(r, sampled(t, r), 200)
	<-asked // the exporter is busy from here on
	const more = recordsPerLoop + 100
	for range more {
		end(r, sampled(t, r), 200)
	}
	c := connection(1)
	if r.ConnOpened(c); c.Sampled {
		t.Error("requests would link to a connection whose span was lost")
	}
	m := scrape(t, tel)
	// The exporter may have had the first record back or not.
	if n := m.value("wasmgate_telemetry_spans_dropped_total", "reason", "queue_full"); n < 100 || n > 102 {
		t.Errorf("%v records dropped", n)
	}
	if n := m.value("wasmgate_requests_total", "class", "2xx"); n != more+1 {
		t.Errorf("%v requests counted, want %d", n, more+1)
	}
	close(hold)
	finish(t, tel)
	m = scrape(t, tel)
	if n := m.value("wasmgate_telemetry_spans_exported_total") + m.value("wasmgate_telemetry_spans_dropped_total", "reason", "queue_full"); n != more+2 {
		t.Errorf("%v spans exported or dropped, want %d", n, more+2)
	}
}

// A collector may take a batch but for some of it: only those are lost.
func TestWhatACollectorRefusesOfABatchIsCounted(t *testing.T) {
	for protocol, receive := range map[string]func(testing.TB) *collector{ProtocolHTTP: httpCollector, ProtocolGRPC: grpcCollector} {
		for rejected, lost := range map[int64]float64{0: 0, 3: 3, -7: 0, 1 << 40: 10} {
			got := receive(t)
			got.answer = &coltracepb.ExportTraceServiceResponse{PartialSuccess: &coltracepb.ExportTracePartialSuccess{
				RejectedSpans: rejected, ErrorMessage: "a rule (9 spans rejected)\n"}}
			var log messages
			tel := start(t, Options{Traces: Traces{Endpoint: got.url, Protocol: protocol}, Log: log.log()})
			r := tel.Loop(0)
			x := sampled(t, r) // one request, so that there is one batch
			for range 9 {
				x.Calls = append(x.Calls, exchange.PluginCall{Plugin: "tenant"})
			}
			end(r, x, 200)
			finish(t, tel)
			m := scrape(t, tel)
			exported, dropped := m.value("wasmgate_telemetry_spans_exported_total"), m.value("wasmgate_telemetry_spans_dropped_total", "reason", "export_failed")
			if dropped != lost || exported != 10-lost {
				t.Errorf("%s, %d rejected: %v exported, %v lost", protocol, rejected, exported, dropped)
			}
			if !strings.Contains(log.String(), "a rule") {
				t.Errorf("%s, %d rejected: the log says %q", protocol, rejected, log.String())
			}
		}
	}
}

// stuck is an output that takes nothing until it is let go.
type stuck struct {
	began, hold chan struct{}
	once        sync.Once
	mu          sync.Mutex
	got         []byte
}

func newStuck() *stuck { return &stuck{began: make(chan struct{}), hold: make(chan struct{})} }

func (s *stuck) Write(b []byte) (int, error) {
	s.once.Do(func() { close(s.began) })
	<-s.hold
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, b...)
	return len(b), nil
}

// A log that nobody reads loses lines, counted, and never makes a request wait; when it is read again, it goes on.
func TestASlowAccessLogNeverBlocks(t *testing.T) {
	out := newStuck()
	tel := start(t, Options{AccessLog: AccessLog{Writer: out}})
	r := tel.Loop(0)
	n := 1
	end(r, sampled(t, r), 200)
	<-out.began
	for ; r.cells.linesDropped.Load() < 10; n++ { // if a line waited, this would not end
		end(r, sampled(t, r), 200)
	}
	if m := scrape(t, tel); m.value("wasmgate_telemetry_log_lines_dropped_total", "reason", "queue_full") != 10 || m.value("wasmgate_requests_total", "class", "2xx") != float64(n) {
		t.Errorf("%v lines dropped of %v", m.value("wasmgate_telemetry_log_lines_dropped_total", "reason", "queue_full"), n)
	}
	close(out.hold)
	finish(t, tel)
	lines := logLinesOf(t, out.got)
	if len(lines) != n-10 {
		t.Errorf("%d lines written of %d, 10 dropped", len(lines), n)
	}
	if m := scrape(t, tel); m.value("wasmgate_telemetry_log_bytes_total") != float64(len(out.got)) {
		t.Errorf("%v bytes counted, %d written", m.value("wasmgate_telemetry_log_bytes_total"), len(out.got))
	}
}

// disk is a file whose disk is full at times.
type disk struct {
	file []byte
	room []int // of each write; -1 is enough
}

func (d *disk) Write(b []byte) (int, error) {
	room := -1
	if len(d.room) > 0 {
		room, d.room = d.room[0], d.room[1:]
	}
	if room < 0 || room >= len(b) {
		d.file = append(d.file, b...)
		return len(b), nil
	}
	d.file = append(d.file, b[:room]...)
	return room, errors.New("no space left on device")
}

// A line that is cut off by a full disk costs itself, not the line that comes after it.
func TestAFullDiskCostsWholeLines(t *testing.T) {
	var log messages
	w := newLineWriter(&stream{w: &disk{}}, log.log())
	d := w.out.(*stream).w.(*disk)
	three := func() *lineBuffer { return &lineBuffer{b: []byte("{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n"), lines: 3} }
	d.room = []int{12}
	w.write(three()) // the first whole, the second torn
	d.room = []int{0}
	w.write(three()) // not even the end of the torn line
	w.write(three())
	d.room = []int{8}
	w.write(three()) // one whole line, none torn
	w.write(three())
	want := "{\"a\":1}\n{\"a\"\n{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n{\"a\":1}\n{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n"
	if string(d.file) != want {
		t.Errorf("the file has %q", d.file)
	}
	if w.lost() != 2+3+2 {
		t.Errorf("%d lines are counted as lost, want 7", w.lost())
	}
	if strings.Count(log.String(), "\n") != 1 {
		t.Errorf("the log says %q", log.String())
	}
}

// The end is bounded by the time that is given for it, and what cannot be handed over is an error; an output that hangs
// takes nothing away from the traces.
func TestShutdownKeepsItsTime(t *testing.T) {
	got, out := httpCollector(t), newStuck()
	tel, err := New(Options{Loops: 1, Traces: Traces{Endpoint: got.url}, AccessLog: AccessLog{Writer: out}})
	if err != nil {
		t.Fatal(err)
	}
	end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
	<-out.began
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() { result <- tel.Shutdown(ctx) }()
	eventually(t, "the spans arrive while the log hangs", func() bool { return len(got.all()) == 1 })
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	close(out.hold)
	<-tel.lines.done
	if err := tel.Shutdown(context.Background()); err != nil {
		t.Errorf("again: %v", err)
	}

	hold := make(chan struct{})
	asked := make(chan struct{}, 8)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked <- struct{}{}; <-hold }))
	defer s.Close()
	defer close(hold)
	if tel, err = New(Options{Loops: 1, Traces: Traces{Endpoint: s.URL}}); err != nil {
		t.Fatal(err)
	}
	end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
	<-asked
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := tel.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown of traces that hang: %v", err)
	}
	if tel.export.lost() != 1 {
		t.Errorf("%d spans are counted as lost", tel.export.lost())
	}
}

// Nothing goes on after the end: no goroutine, no connection, no file.
func TestNothingIsLeftAfterShutdown(t *testing.T) {
	collectors := []*collector{httpCollector(t), grpcCollector(t)}
	before := runtime.NumGoroutine()
	for i, protocol := range []string{ProtocolHTTP, ProtocolGRPC} {
		file := filepath.Join(t.TempDir(), "access.log")
		tel, err := New(Options{Loops: 4, Traces: Traces{Endpoint: collectors[i].url, Protocol: protocol}, AccessLog: AccessLog{Output: file}})
		if err != nil {
			t.Fatal(err)
		}
		for loop := range 4 {
			end(tel.Loop(loop), sampled(t, tel.Loop(loop)), 200)
		}
		finish(t, tel)
		if n := len(collectors[i].all()); n != 4 {
			t.Errorf("%s: %d spans", protocol, n)
		}
		if b, err := os.ReadFile(file); err != nil || len(logLinesOf(t, b)) != 4 {
			t.Errorf("%s: %v, %q", protocol, err, b)
		}
		// Late facts are nobody's business any more, and do no harm.
		end(tel.Loop(0), sampled(t, tel.Loop(0)), 200)
	}
	eventually(t, "the goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}
