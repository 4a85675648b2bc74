// Package acme has the certificates of listeners that an issuer gives by ACME (RFC 8555). A Manager obtains them for a set
// of names, keeps them in a folder, renews them in the background, and knows the answers to the issuer's challenges
// (HTTP-01, and TLS-ALPN-01 of RFC 8737), which the gateway's own listeners give: nothing here opens a port.
//
// Names come from the configuration, and never from what a client asks for. A name whose certificate is not there yet has
// none: its handshakes fail until it is. What is stored is served from the first moment on, whether the issuer can be
// reached or not.
//
// Libraries: certmagic, which Caddy is built on, because when to renew (ARI, RFC 9773), what to staple and how several
// processes share one folder is learned from outages that others had. Its own issuer opens ports 80 and 443 as soon as a
// challenge begins, and starts goroutines that never end, so the issuer here is one of our own over acmez, the ACME client
// that certmagic has below it. zap is here because certmagic logs by it.
package acme
