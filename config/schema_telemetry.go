package config

// Telemetry is what the gateway tells about itself.
type Telemetry struct {
	ServiceName string    `koanf:"service_name" example:"edge" doc:"service.name of everything that is exported. Default: what OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say, else wasmgate."`
	Traces      Traces    `koanf:"traces" doc:"Spans of requests and of upstream connections, over OTLP."`
	Metrics     Metrics   `koanf:"metrics" doc:"Metrics, which are read at the admin endpoint's /metrics, sent over OTLP as well."`
	AccessLog   AccessLog `koanf:"access_log" doc:"A line for each request, and for each session of TCP mode."`
	Log         Log       `koanf:"log" doc:"The gateway's own log, to standard error."`
}

// Traces is the export of spans.
type Traces struct {
	Endpoint    string            `koanf:"endpoint" example:"http://localhost:4318" doc:"OTLP receiver; https means TLS. Default: what OTEL_EXPORTER_OTLP_ENDPOINT says, else no traces."`
	Protocol    TraceProtocol     `koanf:"protocol" enum:"http,grpc" example:"grpc" doc:"OTLP over HTTP (port 4318 as a rule) or gRPC (4317). An endpoint of the environment comes with the environment's protocol."`
	Headers     map[string]string `koanf:"headers" key:"field" secret:"true" example:"{ authorization: \"Bearer ${OTLP_TOKEN}\" }" doc:"Fields sent with every export. Default: OTEL_EXPORTER_OTLP_HEADERS."`
	TLS         TLS               `koanf:"tls" doc:"For an https endpoint. Default: OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY."`
	Sample      *Ratio            `koanf:"sample" example:"0.01" doc:"Part of the requests without a caller's decision that are traced; a caller's decision is followed. Default: what OTEL_TRACES_SAMPLER says, else 1."`
	Segment     Duration          `koanf:"segment" min:"100ms" example:"10s" doc:"How often an upstream connection in use is told of while it lives; one that is not, ten times as seldom."`
	KeepErrors  bool              `koanf:"keep_errors" example:"false" doc:"Keep the trace of a request that was not sampled if it failed: its status is 500 or more, or an error ended it."`
	Slow        Duration          `koanf:"slow" min:"0s" example:"1s" doc:"Keep the trace of a request that was not sampled if it took longer than this; upgraded connections apart. 0s keeps none for that."`
	KeepRate    int               `koanf:"keep_rate" min:"0" max:"100000" unit:"traces/s" example:"10" doc:"Most traces that are kept for keep_errors and slow in a second; further ones are counted. 0 turns both off: then a request that is not sampled goes on with the trace fields that it came with."`
	Propagation []Propagation     `koanf:"propagation" enum:"w3c,b3,b3multi" scalar:"true" example:"[w3c, b3]" doc:"How the trace of a request is told: w3c by traceparent and tracestate, b3 by one field b3, b3multi by the X-B3 fields. Of those that a request brings the first of the list counts; upstreams are sent all of them."`
	Baggage     []string          `koanf:"baggage" scalar:"true" example:"[tenant.id]" doc:"Members of the field baggage that become attributes wasmgate.baggage.NAME of a request's span. The field itself always goes on as it came."`
	Answers     bool              `koanf:"answers" example:"true" doc:"Name the trace, in a field traceparent, in answers that the gateway makes itself. It tells clients ids of the operator's traces."`
}

// Metrics is the export of metrics.
type Metrics struct {
	Endpoint string            `koanf:"endpoint" example:"http://localhost:4318" doc:"OTLP receiver; https means TLS. Default: what OTEL_EXPORTER_OTLP_METRICS_ENDPOINT says, or OTEL_EXPORTER_OTLP_ENDPOINT where OTEL_METRICS_EXPORTER is otlp; else none are sent."`
	Protocol TraceProtocol     `koanf:"protocol" enum:"http,grpc" example:"grpc" doc:"OTLP over HTTP (port 4318 as a rule) or gRPC (4317). An endpoint of the environment comes with the environment's protocol."`
	Headers  map[string]string `koanf:"headers" key:"field" example:"{ authorization: \"Bearer ${OTLP_TOKEN}\" }" doc:"Fields sent with every export. Default: OTEL_EXPORTER_OTLP_HEADERS."`
	TLS      TLS               `koanf:"tls" doc:"For an https endpoint. Default: OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE and _CLIENT_KEY."`
	Interval Duration          `koanf:"interval" min:"0s" example:"15s" doc:"Time between two exports. 0s: what OTEL_METRIC_EXPORT_INTERVAL says, else 1m."`
	Forget   Duration          `koanf:"forget" min:"1ms" example:"1h" doc:"How long counters of listeners, routes and upstreams that have left the config are still told, so that their last values arrive."`
}

// Log is the gateway's own log.
type Log struct {
	Level  LogLevel  `koanf:"level" enum:"trace,debug,info,warn,error,off" example:"debug" doc:"Least level that is written."`
	Format LogFormat `koanf:"format" enum:"json,console" example:"console" doc:"json for machines, console for people."`
}
