package config

import "net/netip"

// Listener is one address on which clients connect.
type Listener struct {
	Name               string         `koanf:"name" example:"public" doc:"What logs and traces call it. Default: the address."`
	Address            string         `koanf:"address" example:"127.0.0.1:8080" doc:"Host and port; an empty host means every address of the machine, port 0 a free one."`
	Mode               ListenerMode   `koanf:"mode" enum:"http,tcp" example:"tcp" doc:"http: requests are read, and routes say where each goes. tcp: bytes pass untouched to the upstream that sni or upstream names, whatever protocol they are."`
	Upstream           string         `koanf:"upstream" ref:"upstreams" example:"database" doc:"Mode tcp: where connections go that no entry of sni takes. Without it they are closed."`
	SNI                []SNIRoute     `koanf:"sni" doc:"Mode tcp: where TLS connections go, by the server name that the client asks for. TLS is not terminated. An exact name counts before a suffix, and a longer suffix before a shorter one."`
	IdleTimeout        Duration       `koanf:"idle_timeout" min:"1ms" example:"10m" doc:"Mode tcp: silence in both directions that ends a session. Mode http has keep_alive.idle_timeout."`
	ProxyProtocol      []netip.Prefix `koanf:"proxy_protocol" example:"[10.0.0.0/8]" doc:"Peers whose connections must begin with a PROXY protocol header (version 1 or 2), as those of a network load balancer do: the client's address is the one in it. From anyone else it is not read."`
	TLS                *ListenerTLS   `koanf:"tls" doc:"Speak TLS with the clients. Without it the listener speaks cleartext."`
	RedirectHTTPS      bool           `koanf:"redirect_https" example:"true" doc:"Answer every request with 308 to the same authority, path and query by https, on redirect_port. A request that a trusted proxy says to have come by https (X-Forwarded-Proto) is served."`
	RedirectPort       int            `koanf:"redirect_port" min:"0" max:"65535" example:"443" doc:"Port that redirect_https leads to. 0: 443 if a listener with TLS has it, or the port of the only one."`
	KeepAlive          KeepAlive      `koanf:"keep_alive" doc:"Reuse of client connections. It has nothing to do with the reuse of upstream connections, which is upstreams.*.pool."`
	AdvertiseKeepAlive bool           `koanf:"advertise_keep_alive" example:"true" doc:"Adds Connection: keep-alive and Keep-Alive: timeout=N, max=N to answers on connections that stay open, in HTTP/1.1 too, where it goes without saying. HTTP/1.0 clients that ask for keep-alive are always told."`
	HTTP2              HTTP2          `koanf:"http2" doc:"HTTP/2 on this listener. Clients of HTTP/1.1 are served as well."`
	TrustedProxies     []netip.Prefix `koanf:"trusted_proxies" example:"[10.0.0.0/8]" doc:"Peers whose Forwarded and X-Forwarded-* fields are believed and extended. From anyone else they are removed and written anew."`
	Forwarded          Forwarded      `koanf:"forwarded" doc:"What upstreams are told about the client."`
	Plugins            []string       `koanf:"plugins" ref:"plugins" example:"[auth]" doc:"Plugins that see every request of this listener, in this order, before the route's own. Mode tcp: plugins of Proxy-Wasm with callbacks for connections, through which all bytes pass; those sessions are copied, not spliced."`
	HTTP3              HTTP3          `koanf:"http3" doc:"HTTP/3 to clients, beside what they speak over TCP."`
}

// SNIRoute sends the TLS connections for some server names to an upstream.
type SNIRoute struct {
	Host     []string `koanf:"host" scalar:"true" required:"true" example:"\"*.example.com\"" doc:"One or several server names, without regard to case: exact, or *. for one or more labels in front."`
	Upstream string   `koanf:"upstream" ref:"upstreams" required:"true" example:"secure" doc:"Name of the upstream."`
}

// KeepAlive is the reuse of client connections.
type KeepAlive struct {
	Enabled     bool     `koanf:"enabled" example:"false" doc:"Whether a client connection may carry more than one request."`
	IdleTimeout Duration `koanf:"idle_timeout" min:"1ms" example:"15s" doc:"How long a connection may wait for its next request."`
	MaxRequests int      `koanf:"max_requests" min:"0" example:"1000" doc:"Requests on one connection before it is closed. 0 means no limit."`
	MaxAge      Duration `koanf:"max_age" min:"0s" example:"1h" doc:"Age at which a connection is closed after the request under way, whose answer says so. 0s means no limit."`
}

// Forwarded chooses the fields that tell upstreams about the client.
type Forwarded struct {
	Headers ForwardedHeaders `koanf:"headers" enum:"x_forwarded,forwarded,both,none" example:"forwarded" doc:"x_forwarded: X-Forwarded-For, -Proto and -Host. forwarded: the Forwarded field of RFC 7239. Those not chosen are removed unless the peer is trusted."`
	Except  []netip.Prefix   `koanf:"except" example:"[127.0.0.0/8]" doc:"Clients in these networks are not added to X-Forwarded-For and Forwarded, as health checks of one's own."`
}
