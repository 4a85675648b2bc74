// Package telemetry turns the facts that the data path leaves behind into spans, metrics and access log lines, and is
// the only package that knows who reads them.
//
// Each loop has a Recorder. It counts into cells that no other loop writes, appends log lines to a buffer, and copies
// what a sampled request leaves into a record that a goroutine of the exporter turns into spans: nothing on a loop
// waits, locks, or, in the steady state, allocates. A request that was not sampled may be kept when it has ended: what an
// exchange knows by then is enough for a trace. Where a reader is slower than the gateway, or gone, what it
// misses is dropped and counted.
//
//	loop:  Begin (sample?) … StartAttempt … End ─┬─ cells ─────────────── collected by MetricsHandler; pusher ── OTLP
//	                                              ├─ line buffer ═ ring ══ writer goroutine ── stdout, stderr, file, syslog
//	       Session (TCP mode) ────────────────────┤
//	       ConnOpened … ConnSegment … ConnClosed ─┴─ record ══════ ring ══ export goroutine ── OTLP
//
// OpenTelemetry's SDK supplies the exporters and the resource, because collectors differ in more than the protocol's
// text; its tracer is not used, because spans are made here after the fact, with ids and times that were chosen
// before. Its exporters of metrics are given what the metrics endpoint tells, for the same reason. zerolog writes the log
// lines, because it does so without allocating. Prometheus's own model and encoders write the formats that its readers
// negotiate; its client library is not used, because its counters are for all loops to share.
package telemetry
