package config

// HTTP3 is HTTP/3 to clients, beside what they speak over TCP.
type HTTP3 struct {
	Enabled          bool     `koanf:"enabled" example:"true" doc:"Whether the listener takes HTTP/3 too, on the UDP port of the same number as its TCP port. It needs tls, whose certificates and client certificates hold here too, and speaks TLS 1.3 whatever is said there. Limits, plugins and routes are those of the listener. Early data (0-RTT) is not taken."`
	AltSvcMaxAge     Duration `koanf:"alt_svc_max_age" min:"0s" example:"1h" doc:"Clients of HTTP/1.1 and HTTP/2 are told of HTTP/3 by an Alt-Svc field, and that they may remember it for so long. 0s: they are not told. Fields of that name in answers of upstreams are removed, and an upstream's own HTTP/3 is its own business."`
	AltSvcPort       int      `koanf:"alt_svc_port" min:"0" max:"65535" example:"443" doc:"Port that clients are told, where it is not the listener's, as behind something that maps ports. 0 means the listener's."`
	MaxStreams       int      `koanf:"max_streams" min:"1" max:"10000" example:"250" doc:"Requests of one connection that are under way at a time. One that the client has given up counts until it has ended here."`
	StreamWindow     Size     `koanf:"stream_window" min:"16KiB" max:"64MiB" example:"1MiB" doc:"Bytes of a request's body that may be on their way to us, or wait here for the upstream. A client far away needs more to send quickly: the product of bandwidth and round-trip time."`
	ConnectionWindow Size     `koanf:"connection_window" min:"64KiB" max:"256MiB" example:"8MiB" doc:"The same for all bodies of a connection together."`
}

// DefaultHTTP3 is HTTP/3 about which nothing was said.
func DefaultHTTP3() HTTP3 {
	return HTTP3{AltSvcMaxAge: 24 * 3600 * sec, MaxStreams: 100, StreamWindow: 256 * KiB, ConnectionWindow: MiB}
}
