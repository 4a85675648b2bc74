// Command protocols shows one gateway that speaks HTTP/1.1, HTTP/2, HTTP/3, gRPC and WebSocket over TLS, compresses, and
// redirects: it makes a certificate, starts what is behind the gateway, and asks in each of them. The clients are the
// well-kept libraries of each protocol: net/http, quic-go, grpc and coder/websocket.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rs/zerolog"

	"wasmgate/config"
	"wasmgate/runtime/gateway"
)

func main() {
	once := flag.Bool("once", false, "end after the table")
	secure := flag.Int("https", 8443, "port for TLS and HTTP/3 on 127.0.0.1; 0 is a free one")
	cleartext := flag.Int("http", 8080, "port for cleartext on 127.0.0.1; 0 is a free one")
	admin := flag.Int("admin", 9901, "port of the admin endpoint on 127.0.0.1; 0 is a free one")
	file := flag.String("config", filepath.Join("examples", "protocols", "wasmgate.yaml"), "config file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := show(ctx, os.Stdout, *file, *secure, *cleartext, *admin, *once); err != nil {
		fmt.Fprintln(os.Stderr, "protocols:", err)
		os.Exit(1)
	}
}

// show starts everything, prints what is answered in each protocol, and stays until ctx ends unless once is set.
func show(ctx context.Context, out io.Writer, file string, secure, cleartext, admin int, once bool) error {
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	trust, err := certificate(dir)
	if err != nil {
		return err
	}
	behind, err := startUpstreams(dir)
	if err != nil {
		return err
	}
	defer behind.close()
	env := []string{"RUN=" + dir, "CALLS=" + behind.calls}
	for name, port := range map[string]int{"HTTPS_PORT": secure, "HTTP_PORT": cleartext, "ADMIN_PORT": admin} {
		if port == 0 {
			if port, err = freePort(); err != nil {
				return err
			}
		}
		env = append(env, name+"="+strconv.Itoa(port))
	}
	c, report, err := config.Load(config.Source{File: file, Env: env})
	if err != nil {
		return err
	}
	if len(report.Warnings) > 0 {
		return errors.New(report.String())
	}
	c.Telemetry.AccessLog.Output = "off"
	log := zerolog.New(zerolog.ConsoleWriter{Out: out, NoColor: true, TimeFormat: time.TimeOnly}).Level(zerolog.WarnLevel)
	g, err := gateway.New(gateway.Options{Config: c, Log: log})
	if err != nil {
		return err
	}
	defer g.Close()
	if err := g.Start(); err != nil {
		return fmt.Errorf("%w: give other ports with -https, -http and -admin", err)
	}
	a := asker{ctx: ctx, trust: trust, secure: g.Addr("public").String(), clear: g.Addr("cleartext").String()}
	if err := a.table(out); err != nil || once {
		return err
	}
	fmt.Fprintf(out, invitation, filepath.Join(dir, "cert.pem"), a.secure, a.clear, g.AdminAddr())
	<-ctx.Done()
	return nil
}

const invitation = `
Try it; the gateway stays up until Ctrl-C:

  CERT=%[1]s
  curl --cacert $CERT --http1.1 https://%[2]s/
  curl --cacert $CERT --http2 -i --compressed https://%[2]s/big
  curl -i http://%[3]s/a?b=c                        # 308
  chromium --user-data-dir=/tmp/protocols --ignore-certificate-errors --origin-to-force-quic-on=%[2]s https://%[2]s/
  curl http://%[4]s/upstreams                       # and a page in a browser
`

// freePort is a port that nothing listens at, neither in TCP nor, as far as that goes, in UDP.
func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}
