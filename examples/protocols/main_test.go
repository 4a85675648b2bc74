package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"wasmgate/config"
)

// TestEveryProtocolIsAnswered runs the example as `go run ./examples/protocols -once` does, on free ports.
func TestEveryProtocolIsAnswered(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := show(ctx, &out, "wasmgate.yaml", 0, 0, 0, true); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		"http → https  308 Permanent Redirect to https://127.0.0.1:",
		"HTTP/1.1      HTTP/1.1 200 OK, the upstream says: asked by HTTP/1.1, from 127.0.0.1, https of 127.0.0.1:",
		"HTTP/2        HTTP/2.0 200 OK, the upstream says: asked by HTTP/1.1",
		"HTTP/3        HTTP/3.0 200 OK, the upstream says: asked by HTTP/1.1",
		"; Alt-Svc: h3=", "zstd          HTTP/2.0 200 OK, 38000 bytes in ", "br            HTTP/2.0 200", "gzip          HTTP/2.0 200",
		"gRPC          grpc.health.v1.Health/Check: SERVING", `WebSocket     101 Switching Protocols, and "hello" came back`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, out.String())
		}
	}
}

// TestTheConfigIsOneByItself: its variables have defaults, for those who start the gateway and the rest themselves.
func TestTheConfigIsOneByItself(t *testing.T) {
	text, err := os.ReadFile("wasmgate.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, report, err := config.Load(config.Source{File: "wasmgate.yaml", Data: text, Stat: func(string) error { return nil }})
	if err != nil || len(report.Warnings) > 0 {
		t.Errorf("%v %v", err, report)
	}
}
