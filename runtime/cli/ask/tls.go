package ask

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
)

// Files are the PEM files that a connection to an admin endpoint is made with. "": there is none.
type Files struct {
	Cert, Key string // the certificate that is shown, and its key; a file may have both
	CA        string // the authorities that the endpoint's certificate may be of, instead of the system's
}

// Client is a client with these files; nil: there are none, and any client will do.
func (f Files) Client() (*http.Client, error) {
	if f == (Files{}) {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		text, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("--cacert " + f.CA + ": there is no certificate in it (PEM)")
		}
	}
	switch key := f.Key; {
	case f.Cert == "" && key != "":
		return nil, errors.New("--key " + key + " is of no use without --cert")
	case f.Cert != "":
		if key == "" {
			key = f.Cert
		}
		pair, err := tls.LoadX509KeyPair(f.Cert, key)
		if err != nil {
			return nil, fmt.Errorf("--cert %s and --key %s: %w", f.Cert, key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg, Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}}, nil
}
