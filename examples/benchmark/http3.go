package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// http3Command makes this program the client of -http3: port, connections, streams of each, milliseconds, path.
const http3Command = "http3-load"

// clients is how many connections of HTTP/1.1 ask as much at a time as those of HTTP/3 with their streams.
func (o *options) clients() int {
	if o.http3 {
		return o.connections * o.streams
	}
	return o.connections
}

// newHTTP3 is a client of HTTP/3, with a connection of its own.
func newHTTP3() *http3.Transport {
	return &http3.Transport{TLSClientConfig: clientTLS(), QUICConfig: &quic.Config{}, DisableCompression: true}
}

// runHTTP3 sends requests of HTTP/3 for a while, over connections that stay open, each with so many streams at a time.
func runHTTP3(ctx context.Context, cpus string, o *options, port int, d time.Duration) (load, error) {
	self, err := os.Executable()
	if err != nil {
		return load{}, err
	}
	out, err := exec.CommandContext(ctx, "taskset", "-c", cpus, self, http3Command,
		strconv.Itoa(port), strconv.Itoa(o.connections), strconv.Itoa(o.streams), strconv.FormatInt(d.Milliseconds(), 10), o.path).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return load{}, fmt.Errorf("HTTP/3: %w", err)
	}
	return parseHTTP3(string(out), d)
}

// parseHTTP3 reads what http3Load prints.
func parseHTTP3(out string, d time.Duration) (load, error) {
	var l load
	if _, err := fmt.Sscan(out, &l.requests, &l.p50, &l.p99); err != nil {
		return l, fmt.Errorf("what the load says is not understood: %w: %s", err, out)
	}
	if l.perSec = float64(l.requests) / d.Seconds(); l.requests == 0 {
		l.bad = "no answers"
	}
	return l, nil
}

// http3Load is the client of runHTTP3; it prints how many answers there were, and the times of half and of 99 % of them in
// nanoseconds. A request that fails is an error.
func http3Load(ctx context.Context, args []string, stdout io.Writer) error {
	connections, err1 := strconv.Atoi(args[1])
	streams, err2 := strconv.Atoi(args[2])
	ms, err3 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	end := time.Now().Add(time.Duration(ms) * time.Millisecond)
	times, errs := make([][]time.Duration, connections*streams), make([]error, connections*streams)
	var all sync.WaitGroup
	for i := range connections {
		transport := newHTTP3()
		defer transport.Close()
		for j := i * streams; j < (i+1)*streams; j++ {
			all.Go(func() {
				buffer := make([]byte, 4<<10)
				for first := true; errs[j] == nil && (first || time.Now().Before(end)); first = false { // each asks once, however late it begins
					began := time.Now()
					errs[j] = askHTTP3(ctx, transport, "https://127.0.0.1:"+args[0]+args[4], buffer)
					times[j] = append(times[j], time.Since(began))
				}
			})
		}
	}
	all.Wait()
	sorted := slices.Concat(times...)
	slices.Sort(sorted)
	at := func(share float64) int64 { return int64(sorted[int(share*float64(len(sorted)-1))]) }
	_, err := fmt.Fprintln(stdout, len(sorted), at(0.5), at(0.99))
	return errors.Join(errors.Join(errs...), err)
}

// askHTTP3 sends a request, with the headers of every load, and reads the answer.
func askHTTP3(ctx context.Context, transport *http3.Transport, url string, buffer []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for _, h := range requestHeaders {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	resp, err := transport.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for err == nil {
		_, err = resp.Body.Read(buffer)
	}
	if !errors.Is(err, io.EOF) || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %w", resp.StatusCode, err)
	}
	return nil
}
