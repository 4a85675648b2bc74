package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/upstream/facts"
)

// metric is one family of the page. The list of them is what README.md documents.
type metric struct{ name, kind, help string }

var (
	mRequests      = metric{"wasmgate_requests_total", counter, "Requests answered or given up."}
	mDuration      = metric{"wasmgate_request_duration_seconds", histo, "From the first byte of a request to the end of its answer."}
	mRequestBytes  = metric{"wasmgate_request_body_bytes_total", counter, "Bytes of request bodies received from clients."}
	mResponseBytes = metric{"wasmgate_response_body_bytes_total", counter, "Bytes of response bodies sent to clients."}
	mErrors        = metric{"wasmgate_errors_total", counter, "Requests and sessions that ended with an error, by what failed and whose doing it was."}

	mUpRequests  = metric{"wasmgate_upstream_requests_total", counter, "Attempts that got a connection, and why it was a new one."}
	mUpErrors    = metric{"wasmgate_upstream_errors_total", counter, "Attempts that failed, and sessions."}
	mUpRetries   = metric{"wasmgate_upstream_retries_total", counter, "Attempts after a request's first, by why they were made."}
	mUpRefused   = metric{"wasmgate_upstream_retries_refused_total", counter, "Attempts that failed and after which there was no other, by why not."}
	mUpFirstByte = metric{"wasmgate_upstream_first_byte_seconds", histo, "From the request's head being sent to the head of the answer."}
	mPoolWait    = metric{"wasmgate_pool_wait_seconds", histo, "Time until an attempt had a connection, dialling included."}
	mOpened      = metric{"wasmgate_upstream_connections_opened_total", counter, "Upstream connections opened, or tried to open, by reason."}
	mClosed      = metric{"wasmgate_upstream_connections_closed_total", counter, "Upstream connections closed, or not opened (connect_failed), by reason."}
	mQueueWait   = metric{"wasmgate_pool_queue_wait_seconds", histo, "Time in the queue for a connection, or for a member that can be used, of attempts that were in it."}
	mDNSAge      = metric{"wasmgate_upstream_dns_age_seconds", histo, "Age of the DNS answer by which an upstream connection was dialled."}
	mSetup       = metric{"wasmgate_upstream_connection_setup_seconds", histo, "Time in each phase of opening an upstream connection."}

	mSessions        = metric{"wasmgate_sessions_total", counter, "Sessions of listeners in TCP mode that have ended, by why."}
	mSessionBytesIn  = metric{"wasmgate_session_received_bytes_total", counter, "Bytes of sessions that have ended, from clients to upstreams."}
	mSessionBytesOut = metric{"wasmgate_session_sent_bytes_total", counter, "Bytes of sessions that have ended, from upstreams to clients."}

	mPushes       = metric{"wasmgate_telemetry_metric_exports_total", counter, "Exports of metrics to a collector, by what became of them."}
	mSpans        = metric{"wasmgate_telemetry_spans_exported_total", counter, "Spans that the collector took."}
	mSpansDropped = metric{"wasmgate_telemetry_spans_dropped_total", counter, "Spans, or records of which spans would have been made, that were lost."}
	mKept         = metric{"wasmgate_telemetry_requests_kept_total", counter, "Requests that were not sampled and whose traces were kept at their end, by why."}
	mLines        = metric{"wasmgate_telemetry_log_bytes_total", counter, "Bytes of access log written."}
	mLinesDropped = metric{"wasmgate_telemetry_log_lines_dropped_total", counter, "Access log lines that were lost."}
)

// MetricsHandler returns the handler of the metrics endpoint: the Prometheus text format, and OpenMetrics or protobuf, which
// alone has native histograms, for who asks for them. It may be called by several clients at once, and takes nothing from the
// loops but the reading of their counters.
func (t *Telemetry) MetricsHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "metrics can only be read", http.StatusMethodNotAllowed)
			return
		}
		format := expfmt.NegotiateIncludingOpenMetrics(r.Header)
		var body bytes.Buffer
		if err := write(&body, t.metrics(), format); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", string(format))
		w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
		w.Write(body.Bytes()) // the client going away is not our error
	})
}

// write writes families in a format.
func write(to io.Writer, families []*dto.MetricFamily, format expfmt.Format) error {
	e := expfmt.NewEncoder(to, format)
	for _, f := range families {
		if err := e.Encode(f); err != nil {
			return fmt.Errorf("metrics: %s: %w", f.GetName(), err)
		}
	}
	if c, ok := e.(expfmt.Closer); ok { // OpenMetrics has an end
		return c.Close()
	}
	return nil
}

// metrics gathers all there is.
func (t *Telemetry) metrics() []*dto.MetricFamily {
	p := &page{}
	t.requestMetrics(p)
	t.codingMetrics(p)
	t.sessionMetrics(p)
	t.tunnelMetrics(p)
	t.errorMetrics(p)
	t.upstreamMetrics(p)
	t.memberMetrics(p)
	t.liveMetrics(p)
	t.ownMetrics(p)
	processMetrics(p, t.build)
	return p.full()
}

type requestTotals struct {
	durations         [len(classes)]totals
	bytesIn, bytesOut uint64
}

func (t *Telemetry) requestMetrics(p *page) {
	sums := map[requestKey]*requestTotals{}
	for _, r := range t.recorders {
		for _, s := range *r.cells.requestList.Load() {
			sum := sums[s.requestKey]
			if sum == nil {
				sum = new(requestTotals)
				sums[s.requestKey] = sum
			}
			for i := range s.durations {
				sum.durations[i].add(s.durations[i].Load())
			}
			sum.bytesIn += s.bytesIn.Load()
			sum.bytesOut += s.bytesOut.Load()
		}
	}
	keys := make([]requestKey, 0, len(sums))
	for k := range sums {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b requestKey) int {
		return strings.Compare(a.listener+"\x00"+a.route+"\x00"+a.upstream, b.listener+"\x00"+b.route+"\x00"+b.upstream)
	})
	each := func(m metric, write func(k requestKey, sum *requestTotals, labels []string)) {
		p.head(m)
		for _, k := range keys {
			write(k, sums[k], []string{"listener", k.listener, "route", k.route, "upstream", k.upstream})
		}
	}
	each(mRequests, func(_ requestKey, sum *requestTotals, labels []string) {
		for i := range sum.durations {
			if n := sum.durations[i].count(); n > 0 {
				p.count(n, append(labels, "class", classes[i])...)
			}
		}
	})
	each(mDuration, func(_ requestKey, sum *requestTotals, labels []string) {
		for i := range sum.durations {
			if sum.durations[i].count() > 0 {
				p.histogram(&sum.durations[i], append(labels, "class", classes[i])...)
			}
		}
	})
	each(mRequestBytes, func(_ requestKey, sum *requestTotals, labels []string) {
		p.count(sum.bytesIn, labels...)
	})
	each(mResponseBytes, func(_ requestKey, sum *requestTotals, labels []string) {
		p.count(sum.bytesOut, labels...)
	})
}

func (t *Telemetry) errorMetrics(p *page) {
	p.head(mErrors)
	for kind := range fault.Kinds {
		for source := range 4 {
			var n uint64
			for _, r := range t.recorders {
				n += r.cells.errors[kind][source].Load()
			}
			if n > 0 {
				p.count(n, "kind", fault.Kind(kind).String(), "source", fault.Source(source).String())
			}
		}
	}
}

type upstreamTotals struct {
	reused                                            uint64
	refused                                           [len(refusedWhy)]uint64
	again                                             [len(againWhy)]uint64
	fresh, opened, closed                             [reasonSlots]uint64
	errors                                            [fault.Kinds]uint64
	firstByte, wait, queue, dnsAge, dns, connect, tls totals
}

func (u *upstreamTotals) add(s *upstreamSeries) {
	u.reused += s.reused.Load()
	for i := range u.again {
		u.again[i] += s.again[i].Load()
	}
	for i := range u.refused {
		u.refused[i] += s.refused[i].Load()
	}
	for i := range reasonSlots {
		u.fresh[i] += s.fresh[i].Load()
		u.opened[i] += s.opened[i].Load()
		u.closed[i] += s.closed[i].Load()
	}
	for i := range u.errors {
		u.errors[i] += s.errors[i].Load()
	}
	u.firstByte.add(&s.firstByte)
	u.wait.add(&s.wait)
	u.queue.add(&s.queue)
	u.dnsAge.add(&s.dnsAge)
	u.dns.add(&s.dns)
	u.connect.add(&s.connect)
	u.tls.add(&s.tls)
}

// upstreamTotals adds up what the loops have counted, by upstream.
func (t *Telemetry) upstreamTotals() map[string]*upstreamTotals {
	sums := map[string]*upstreamTotals{}
	for _, r := range t.recorders {
		for _, s := range *r.cells.upstreamList.Load() {
			if sums[s.name] == nil {
				sums[s.name] = new(upstreamTotals)
			}
			sums[s.name].add(s)
		}
	}
	return sums
}

// Connections counts what became of requests and connections of one upstream, by the reasons of package facts.
type Connections struct {
	Reused uint64            // requests that a pooled connection carried
	New    map[string]uint64 // requests for which one was opened
	Opened map[string]uint64
	Closed map[string]uint64
}

// Connections returns the counts of each upstream by its name. It reads what the metrics read.
func (t *Telemetry) Connections() map[string]Connections {
	byReason := func(counts []uint64, list []string) map[string]uint64 {
		m := map[string]uint64{}
		for i, n := range counts {
			if n > 0 {
				m[reasonAt(list, i)] += n
			}
		}
		return m
	}
	all := map[string]Connections{}
	for name, u := range t.upstreamTotals() {
		all[name] = Connections{Reused: u.reused, New: byReason(u.fresh[:], facts.OpenReasons), Opened: byReason(u.opened[:], facts.OpenReasons), Closed: byReason(u.closed[:], facts.CloseReasons)}
	}
	return all
}

func (t *Telemetry) upstreamMetrics(p *page) {
	sums := t.upstreamTotals()
	names := sortedKeys(sums)
	p.head(mUpRequests)
	for _, name := range names {
		if n := sums[name].reused; n > 0 {
			p.count(n, "upstream", name, "connection", "reused", "reason", "")
		}
		p.reasons(sums[name].fresh[:], facts.OpenReasons, "upstream", name, "connection", "new")
	}
	p.head(mUpErrors)
	for _, name := range names {
		for kind, n := range sums[name].errors {
			if n > 0 {
				p.count(n, "upstream", name, "kind", fault.Kind(kind).String())
			}
		}
	}
	p.head(mUpRetries)
	for _, name := range names {
		for i, why := range againWhy {
			p.count(sums[name].again[i], "upstream", name, "why", why)
		}
	}
	p.head(mUpRefused)
	for _, name := range names {
		for i, why := range refusedWhy {
			p.count(sums[name].refused[i], "upstream", name, "why", why)
		}
	}
	p.head(mUpFirstByte)
	for _, name := range names {
		p.histogram(&sums[name].firstByte, "upstream", name)
	}
	p.head(mPoolWait)
	for _, name := range names {
		u := sums[name]
		got := u.reused
		for _, n := range u.fresh {
			got += n
		}
		// The counters are read one after another while loops go on, so a wait may be seen before its acquisition.
		u.wait.atOnce(got - min(got, u.wait.count()))
		p.histogram(&u.wait, "upstream", name)
	}
	p.head(mQueueWait)
	for _, name := range names {
		p.histogram(&sums[name].queue, "upstream", name)
	}
	p.head(mOpened)
	for _, name := range names {
		p.reasons(sums[name].opened[:], facts.OpenReasons, "upstream", name)
	}
	p.head(mClosed)
	for _, name := range names {
		p.reasons(sums[name].closed[:], facts.CloseReasons, "upstream", name)
	}
	p.head(mDNSAge)
	for _, name := range names {
		if sums[name].dnsAge.count() > 0 {
			p.histogram(&sums[name].dnsAge, "upstream", name)
		}
	}
	p.head(mSetup)
	for _, name := range names {
		for _, phase := range []struct {
			name string
			t    *totals
		}{{"dns", &sums[name].dns}, {"connect", &sums[name].connect}, {"tls", &sums[name].tls}} {
			if phase.t.count() > 0 {
				p.histogram(phase.t, "upstream", name, "phase", phase.name)
			}
		}
	}
}

// reasons writes the counters of a list of reasons that are not zero.
func (p *page) reasons(counts []uint64, list []string, labels ...string) {
	for i, n := range counts {
		if n > 0 {
			p.count(n, append(labels, "reason", reasonAt(list, i))...)
		}
	}
}

// ownMetrics tells what was lost on the way to those who read.
func (t *Telemetry) ownMetrics(p *page) {
	var spans, limited, lines uint64
	var kept [len(keptReasons)]uint64
	for _, r := range t.recorders {
		spans += r.cells.spansDropped.Load()
		limited += r.cells.spansLimited.Load()
		for i := range kept {
			kept[i] += r.cells.kept[i].Load()
		}
		lines += r.cells.linesDropped.Load()
	}
	p.head(mSpans)
	p.count(t.export.exported())
	p.head(mSpansDropped)
	p.count(spans, "reason", "queue_full")
	p.count(t.export.lost(), "reason", "export_failed")
	p.count(limited, "reason", "rate")
	sent, failed := t.push.exports()
	p.head(mPushes)
	p.count(sent, "result", "done")
	p.count(failed, "result", "failed")
	p.head(mKept)
	for i, why := range keptReasons {
		p.count(kept[i], "why", why)
	}
	p.head(mLines)
	p.count(t.lines.written())
	p.head(mLinesDropped)
	p.count(lines, "reason", "queue_full")
	p.count(t.lines.lost(), "reason", "write_failed")
}
