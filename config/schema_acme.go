package config

import "slices"

// ACME is how certificates of listeners are obtained.
type ACME struct {
	Agree           bool            `koanf:"agree" example:"true" doc:"true says that you have read the issuer's terms of service and agree to them. Nothing is obtained without it. Let's Encrypt's are at https://letsencrypt.org/repository/."`
	Email           string          `koanf:"email" example:"ops@example.com" doc:"Where the issuer may write to about the account. Some want one."`
	Directory       string          `koanf:"directory" example:"https://acme-staging-v02.api.letsencrypt.org/directory" doc:"The issuer, by the URL of its ACME directory. The default is Let's Encrypt; the example is its staging issuer, whose limits are wide and whose certificates nobody trusts: try with that one first."`
	CA              string          `koanf:"ca" file:"true" example:"certs/issuer-ca.pem" doc:"PEM file of the authorities that are trusted, instead of the system's, when the issuer is asked: for one of your own."`
	Storage         string          `koanf:"storage" example:"/var/lib/wasmgate/acme" doc:"Folder for keys, certificates and the account with the issuer, which only the gateway's user may read; it is made. Gateways that share it, on a file system with locks, share the certificates. Default: wasmgate/acme in $XDG_DATA_HOME, or in .local/share in the home folder."`
	KeyType         ACMEKeyType     `koanf:"key_type" enum:"p256,p384,rsa2048,rsa4096" example:"rsa2048" doc:"Keys of certificates: ECDSA on P-256 or P-384, or RSA. Each certificate has one of its own."`
	Challenges      []ACMEChallenge `koanf:"challenges" enum:"http-01,tls-alpn-01" scalar:"true" example:"[http-01]" doc:"How the issuer may see that a name is this gateway's: it connects to port 80 of the name (http-01), or to port 443 (tls-alpn-01). Default: those for whose port there is a listener, or both if there is none for either, as where other ports are forwarded to."`
	CheckInterval   Duration        `koanf:"check_interval" min:"100ms" max:"24h" example:"1m" doc:"How often it is looked whether a certificate is to be renewed. One that ends within five times this is."`
	RenewWindow     Ratio           `koanf:"renew_window" example:"0.5" doc:"The part of a certificate's life, at its end, in which it is renewed. Issuers that suggest a time (RFC 9773) are followed before that."`
	ExternalAccount ExternalAccount `koanf:"external_account" doc:"An account with the issuer that was made by other means, where it demands one."`
}

// ExternalAccount binds the ACME account to another one of the issuer's.
type ExternalAccount struct {
	KeyID  string `koanf:"key_id" example:"kid-1" doc:"Name of the key that the issuer gave."`
	MACKey string `koanf:"mac_key" secret:"true" example:"\"${ACME_MAC_KEY}\"" doc:"The key, in base64url as the issuer gave it."`
}

// ACMEKeyType is what keys of certificates are.
type ACMEKeyType string

// The values of ACMEKeyType.
const (
	KeyP256    ACMEKeyType = "p256"
	KeyP384    ACMEKeyType = "p384"
	KeyRSA2048 ACMEKeyType = "rsa2048"
	KeyRSA4096 ACMEKeyType = "rsa4096"
)

// ACMEChallenge is a way in which an issuer sees whose a name is.
type ACMEChallenge string

// The values of ACMEChallenge.
const (
	ChallengeHTTP01    ACMEChallenge = "http-01"
	ChallengeTLSALPN01 ACMEChallenge = "tls-alpn-01"
)

// LetsEncrypt is the default of ACME.Directory.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// ACMENames are the names that certificates are obtained for, over all listeners.
func (c *Config) ACMENames() (names []string) {
	for i := range c.Listeners {
		if t := c.Listeners[i].TLS; t != nil {
			names = append(names, t.ACME...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
