package config

// UpstreamTLS is how https targets are verified and what they are shown.
type UpstreamTLS struct {
	CA                 string     `koanf:"ca" file:"true" example:"certs/ca.pem" doc:"PEM file of the authorities that are trusted instead of the system's. Read at the start and at each reload; if it has changed then, new connections are made."`
	ServerName         string     `koanf:"server_name" example:"users.example.com" doc:"Name that is sent (SNI) and verified. Default: the target's host; localhost for a Unix socket. An IP address is verified and not sent."`
	Pin                []string   `koanf:"pin" scalar:"true" example:"[\"sha256/r/mIkG3eEpVdm+u/ko/cwxzOMo1bk4TyHIlByibiA5E=\"]" doc:"Public keys, as the SHA-256 of a certificate's SubjectPublicKeyInfo in base64: one certificate of the verified chain must have one of them, besides everything else that is verified. With insecure_skip_verify it is the server's own certificate, and nothing else is."`
	MinVersion         TLSVersion `koanf:"min_version" enum:"1.2,1.3" example:"\"1.3\"" doc:"Oldest version of TLS that is spoken."`
	InsecureSkipVerify bool       `koanf:"insecure_skip_verify" example:"true" doc:"Accept any certificate, or any with a pinned key. For tests; without pin, check warns about it."`
	Cert               string     `koanf:"cert" file:"true" example:"certs/client.pem" doc:"PEM file of the client certificate chain. It and its key are read again when they have changed, for connections that are opened from then on."`
	Key                string     `koanf:"key" file:"true" example:"certs/client.key" doc:"PEM file of the client certificate's key."`
}
