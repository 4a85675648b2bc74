package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// origin is what a candidate's URLs begin with.
func origin(secure bool, port int) string {
	if secure {
		return "https://" + address(port)
	}
	return "http://" + address(port)
}

// clientTLS is how clients speak TLS: 1.3, with the key exchange that every candidate has (X25519). The certificate vouches for
// itself, and wrk looks at none either.
func clientTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519}} //nolint:gosec // its own
}

// issue writes a certificate for an ECDSA key on P-256.
func (s *setup) issue() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(s.certificate(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o644),
		os.WriteFile(s.key(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600),
	)
}

// shakeCommand makes this program the client of -handshakes: port, clients, milliseconds, kind, path.
const shakeCommand = "handshake-load"

// runShakes opens connections for a while, each with a handshake and one small request.
func runShakes(ctx context.Context, cpus string, o *options, port int, d time.Duration) (load, error) {
	self, err := os.Executable()
	if err != nil {
		return load{}, err
	}
	out, err := exec.CommandContext(ctx, "taskset", "-c", cpus, self, shakeCommand,
		strconv.Itoa(port), strconv.Itoa(o.connections), strconv.FormatInt(d.Milliseconds(), 10), o.handshakes, "/handshake").CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("handshakes: %w: %s", err, strings.TrimSpace(string(out)))
	}
	l := load{p50: unknown, p99: unknown}
	if l.requests, err = strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64); err != nil {
		return l, err
	}
	if l.perSec = float64(l.requests) / d.Seconds(); l.requests == 0 {
		l.bad = "no handshakes"
	}
	return l, nil
}

// shakeLoad is the client of runShakes; it prints how many handshakes there were. Any that fails, or is not of its kind, is an error.
func shakeLoad(args []string, stdout io.Writer) error {
	clients, err1 := strconv.Atoi(args[1])
	ms, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	counts, errs := make([]int, clients), make([]error, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			cfg := clientTLS()
			if args[3] == "resumed" {
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				if _, errs[i] = shake(args[0], args[4], cfg); errs[i] != nil {
					return
				}
			}
			for time.Now().Before(end) {
				resumed, err := shake(args[0], args[4], cfg)
				if err == nil && resumed != (args[3] == "resumed") {
					err = fmt.Errorf("a handshake is not %s", args[3])
				}
				if errs[i] = err; err != nil {
					return
				}
				counts[i]++
			}
		})
	}
	all.Wait()
	sum := 0
	for _, n := range counts {
		sum += n
	}
	_, err := fmt.Fprintln(stdout, sum)
	return errors.Join(errors.Join(errs...), err)
}

// shake is a connection with a handshake, a request and its answer.
func shake(port, path string, cfg *tls.Config) (resumed bool, err error) {
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("status %d, %w", resp.StatusCode, err)
	}
	return c.ConnectionState().DidResume, nil
}
