package config

// HTTP2 is how clients of a listener are spoken to in HTTP/2.
type HTTP2 struct {
	Enabled          bool     `koanf:"enabled" example:"false" doc:"Whether clients may speak HTTP/2: with prior knowledge, where a connection begins with its preface, and on TLS if they ask for h2 (ALPN)."`
	Only             bool     `koanf:"only" example:"true" doc:"Whether they must: a connection that begins with anything else is closed."`
	MaxStreams       int      `koanf:"max_streams" min:"1" max:"10000" example:"250" doc:"Requests of one connection at a time. One more is refused (REFUSED_STREAM)."`
	StreamWindow     Size     `koanf:"stream_window" min:"1KiB" max:"16MiB" example:"256KiB" doc:"How much of a request's body a client may send before it is passed on."`
	ConnectionWindow Size     `koanf:"connection_window" min:"64KiB" max:"256MiB" example:"4MiB" doc:"The same for all requests of a connection together."`
	ControlFrames    int      `koanf:"control_frames" min:"10" max:"1000000" example:"100" doc:"Frames of one connection in a second that move nothing forward: PING, SETTINGS, PRIORITY, empty DATA, windows of a few bytes, refused streams. A request that is taken back, or reset because it is malformed, counts for two. More end the connection (ENHANCE_YOUR_CALM)."`
	PingInterval     Duration `koanf:"ping_interval" min:"1s" example:"30s" doc:"Silence of a client with requests under way, after which it is asked whether it is there (PING)."`
	PingTimeout      Duration `koanf:"ping_timeout" min:"10ms" example:"5s" doc:"How long its answer may take before the connection is closed."`
}
