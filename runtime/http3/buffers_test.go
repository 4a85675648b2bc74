//go:build unix

package http3

import (
	"bytes"
	"log"
	"os"
	"strings"
	"testing"
)

// What the kernel grants is told by the listener, and by nobody else.
func TestBuffers(t *testing.T) {
	var said bytes.Buffer
	log.SetOutput(&said)
	defer log.SetOutput(os.Stderr)
	b := newBench(t, Options{}, echo)
	if got := b.ln.Buffers(); got.Receive == 0 || got.Send == 0 || got.Small() != (min(got.Receive, got.Send) < got.Wanted) {
		t.Errorf("%+v", got)
	}
	if strings.Contains(said.String(), "buffer") {
		t.Errorf("quic-go says %s", &said)
	}
	if err := b.ln.socket.SetReadBuffer(100_000); err != nil {
		t.Fatal(err)
	}
	if got := b.ln.Buffers(); got.Receive > 400_000 || !got.Small() {
		t.Errorf("%+v is not small", got)
	}
	if (Buffers{Wanted: 1}).Small() {
		t.Error("what is not known is small")
	}
}
