package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
)

const (
	recordsPerLoop = 2048                   // records a loop may be ahead of the exporter
	exportBatch    = 512                    // spans sent at once, more or less
	exportBytes    = 2 << 20                // and about how much of them: collectors refuse what is above their limit, 4 MiB as a rule
	exportPeriod   = 200 * time.Millisecond // how long a batch may gather
	exportTimeout  = 10 * time.Second       // for one batch, its repetitions included
)

// exporter turns the loops' records into spans and sends them, from a goroutine of its own. While the collector is
// slow or away the records stay where they are; when the loops have no more, theirs are dropped and counted there.
type exporter struct {
	to     otlptrace.Client
	closer func() // closes connections that to leaves idle
	from   origin
	maker  spanMaker
	queues []*recordQueue
	waker  waker
	log    zerolog.Logger
	notice notice

	batch []byte // spans, encoded
	spans int    // so many

	ctx    context.Context // ends what is being sent, when the time for stopping is up
	cancel context.CancelFunc
	stop   chan struct{}
	done   chan struct{}
	sent   atomic.Uint64
	failed atomic.Uint64
}

// origin is who made the spans.
type origin struct {
	resource *resourcepb.Resource
	schema   string
	scope    *commonpb.InstrumentationScope
}

func newExporter(to otlptrace.Client, closer func(), from origin, log zerolog.Logger) *exporter {
	e := &exporter{to: to, closer: closer, from: from, maker: spanMaker{ids: newIDs()}, log: log, waker: newWaker(), stop: make(chan struct{}), done: make(chan struct{})}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// queue returns the side of one more loop. All must be made before run begins.
func (e *exporter) queue(dropped func()) *recordQueue {
	q := newRecordQueue(recordsPerLoop, &e.waker, dropped)
	e.queues = append(e.queues, q)
	return q
}

// exported and lost may be asked of a nil exporter: traces are off.
func (e *exporter) exported() uint64 {
	if e == nil {
		return 0
	}
	return e.sent.Load()
}

func (e *exporter) lost() uint64 {
	if e == nil {
		return 0
	}
	return e.failed.Load()
}

func (e *exporter) run() {
	defer close(e.done)
	for {
		select {
		case <-e.stop:
			e.pass()
			return
		default:
		}
		if e.pass() {
			e.waker.rest(exportPeriod, e.stop)
		} else {
			e.waker.sleep(e.idle, e.stop)
		}
	}
}

// pass sends what the loops have handed over, and says whether there was anything. It goes round the loops in small
// portions, so that a busy one does not make the others lose theirs.
func (e *exporter) pass() (any bool) {
	const portion = 64
	for more := true; more; {
		more = false
		for _, q := range e.queues {
			for range portion {
				r := q.full.pop()
				if r == nil {
					break
				}
				any, more = true, true
				for _, s := range e.maker.make(r) {
					e.batch = appendSpan(e.batch, s)
					e.spans++
				}
				r.clear()
				q.free.push(r)
				if e.spans >= exportBatch || len(e.batch) >= exportBytes {
					e.flush()
				}
			}
		}
	}
	e.flush()
	return any
}

// flush sends the spans that were made. What cannot be sent is lost: to keep it would only lose later ones.
func (e *exporter) flush() {
	n := e.spans
	if n == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(e.ctx, exportTimeout)
	err := e.to.UploadTraces(ctx, batch(e.batch, e.from.resource, e.from.schema, e.from.scope))
	cancel()
	e.batch, e.spans = e.batch[:0], 0
	lost := lostSpans(n, err)
	e.sent.Add(uint64(n - lost))
	if err == nil {
		return
	}
	defer e.failed.Add(uint64(lost)) // after the line: who sees that spans were lost finds in the log why
	e.notice.say(func(times uint64) {
		if lost == 0 {
			e.log.Warn().Err(err).Msg("the collector of traces took them and has something to say")
			return
		}
		e.log.Warn().Err(err).Uint64("spans_lost", e.failed.Load()+uint64(lost)).Uint64("failures", times).
			Msg("traces cannot be exported: spans are being lost, requests are served as before")
	})
}

func (e *exporter) idle() bool {
	for _, q := range e.queues {
		if q.full.len() > 0 {
			return false
		}
	}
	return true
}

// shutdown sends what is left and ends the exporter's goroutine, within the time that ctx gives.
func (e *exporter) shutdown(ctx context.Context) error {
	close(e.stop)
	var late error
	select {
	case <-e.done:
	case <-ctx.Done():
		late = ctx.Err()
		e.cancel()
		<-e.done // exporters must honour their context, so this does not last
	}
	return errors.Join(late, e.end(ctx))
}

// end lets go of the collector.
func (e *exporter) end(ctx context.Context) error {
	e.cancel()
	err := e.to.Stop(ctx)
	e.closer()
	return err
}
