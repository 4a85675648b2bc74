package certs

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Pair is a certificate with its key, in files of PEM.
type Pair struct {
	Cert, Key string
	Names     []string // that it is for: exact, or *. for one label; none: those in the certificate
	Default   bool     // it is for everything else too
}

// Error says which file of a set is of no use, and why.
type Error struct {
	Pair int    // its place in Options.Pairs; -1: ClientCA
	Key  string // "cert", "key" or "client_ca"
	File string
	Help string // what to do; may be empty
	Err  error
}

// Error names the file and says what is wrong.
func (e *Error) Error() string { return fmt.Sprintf("cannot use %s: %v", e.File, e.Err) }

// Unwrap is the error below.
func (e *Error) Unwrap() error { return e.Err }

// pair is a Pair that was read.
type pair struct {
	from    Pair
	certPEM []byte
	keyPEM  []byte
	cert    *tls.Certificate
	names   []string
	staple  staple
}

func (p *pair) isRSA() bool {
	_, is := p.cert.Leaf.PublicKey.(*rsa.PublicKey)
	return is
}

// load reads a pair. If the files have what old was made of, it is old.
func load(n int, from Pair, old *pair) (*pair, error) {
	wrong := func(key, file string, err error, help string) (*pair, error) {
		return nil, &Error{Pair: n, Key: key, File: file, Err: err, Help: help}
	}
	certPEM, err := os.ReadFile(from.Cert)
	if err != nil {
		return wrong("cert", from.Cert, plain(err), "")
	}
	keyPEM, err := os.ReadFile(from.Key)
	if err != nil {
		return wrong("key", from.Key, plain(err), "")
	}
	if old != nil && bytes.Equal(certPEM, old.certPEM) && bytes.Equal(keyPEM, old.keyPEM) {
		return old, nil
	}
	if !bytes.Contains(certPEM, []byte("-----BEGIN CERTIFICATE-----")) {
		return wrong("cert", from.Cert, errors.New("there is no certificate in PEM in it"), "a certificate begins with -----BEGIN CERTIFICATE-----; `openssl x509 -inform der` turns a binary one into that")
	}
	if help, err := checkKey(keyPEM); err != nil {
		return wrong("key", from.Key, err, help)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return misfit(wrong, from, certPEM, err)
	}
	p := &pair{from: from, certPEM: certPEM, keyPEM: keyPEM, cert: &cert, names: from.Names}
	if len(p.names) == 0 {
		p.names = namesOf(cert.Leaf)
	}
	if len(p.names) == 0 && !from.Default {
		return wrong("cert", from.Cert, errors.New("it is for no name: it has no subject alternative names"), "list `names`, or say `default: true`; a common name counts for nothing with today's clients")
	}
	return p, nil
}

// misfit tells which file of two is to blame that do not make a pair.
func misfit(wrong func(string, string, error, string) (*pair, error), from Pair, certPEM []byte, err error) (*pair, error) {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	if strings.Contains(text, "does not match") {
		return wrong("key", from.Key, errors.New("it is not the key of the first certificate in "+from.Cert), "the first certificate is the server's own, those of its authorities follow")
	}
	block, _ := pem.Decode(certPEM)
	if block == nil {
		return wrong("cert", from.Cert, errors.New("its PEM is not whole"), "")
	}
	if _, e := x509.ParseCertificate(block.Bytes); e != nil {
		return wrong("cert", from.Cert, e, "")
	}
	return wrong("key", from.Key, errors.New(text), "")
}

// checkKey says what is wrong with the file of a key that can be told without the certificate.
func checkKey(keyPEM []byte) (help string, err error) {
	for rest := keyPEM; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return "a key begins with -----BEGIN PRIVATE KEY-----", errors.New("there is no key in PEM in it")
		}
		switch {
		case strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return "write it without a password, readable for the gateway's user alone: `openssl pkey -in FILE -out NEW`", errors.New("the key is encrypted, and there is nobody to ask for its password")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return "", nil
		}
	}
}

// namesOf are the names and addresses in a certificate, in lower case.
func namesOf(c *x509.Certificate) []string {
	var names []string
	for _, n := range c.DNSNames {
		names = append(names, strings.ToLower(n))
	}
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// plain is an error of the operating system without the file's name, which the message around it has.
func plain(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
