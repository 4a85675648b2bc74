package gateway_test

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// client is one keep-alive connection of a client that costs little. It is used by one goroutine.
type client struct {
	addr  string
	local string // the address that it comes from; empty: any
	conn  net.Conn
	buf   []byte
}

// answer is what a client got. It is valid until the next question.
type answer struct {
	status int
	head   []byte // with the status line
	body   []byte
}

// get is the value of a field.
func (a *answer) get(name string) string { return (&asked{head: a.head}).get(name) }

// ask sends a request and reads its answer. After an error the next one goes over a new connection.
func (c *client) ask(request []byte) (a answer, err error) {
	if c.conn == nil {
		d := net.Dialer{}
		if c.local != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(c.local)}
		}
		if c.conn, err = d.Dial("tcp", c.addr); err != nil {
			c.conn = nil
			return a, err
		}
		c.buf = make([]byte, 4096)
	}
	if _, err = c.conn.Write(request); err == nil {
		a, err = c.read()
	}
	if err != nil || bytes.Contains(a.head, []byte("\r\nConnection: close")) {
		c.close()
	}
	return a, err
}

func (c *client) read() (a answer, err error) {
	for have, end := 0, 0; ; {
		if end == 0 {
			if n := bytes.Index(c.buf[:have], []byte("\r\n\r\n")); n > 0 {
				a.head = c.buf[:n]
				a.status, _ = strconv.Atoi(string(a.head[9:12]))
				length, ok := strconv.Atoi(a.get("Content-Length"))
				if ok != nil {
					return a, fmt.Errorf("an answer without a length: %q", a.head)
				}
				end = n + 4 + length
				if end > len(c.buf) {
					c.buf = append(c.buf, make([]byte, end-len(c.buf))...)
				}
				a.head, a.body = c.buf[:n], c.buf[n+4:end]
			}
		}
		if end > 0 && have >= end {
			return a, nil
		}
		n, err := c.conn.Read(c.buf[have:])
		if err != nil {
			return a, err
		}
		have += n
	}
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// ask asks once over a connection of its own.
func (p *plant) ask(method, path string, fields ...string) answer {
	p.Helper()
	c := client{addr: p.addr.String()}
	defer c.close()
	a, err := c.ask(request(method, path, fields...))
	if err != nil {
		p.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// request is the bytes of one; a method other than GET comes with two bytes of a body.
func request(method, path string, fields ...string) []byte {
	head := method + " " + path + " HTTP/1.1\r\nHost: load.test\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	if method == "GET" || method == "HEAD" {
		return []byte(head + "\r\n")
	}
	return []byte(head + "Content-Length: 2\r\n\r\nhi")
}

// generator sends requests over keep-alive connections at a rate, whether answers come or not, as far as its connections
// allow: each request has its time, and its latency counts from that.
type generator struct {
	addr    string
	clients int
	rate    float64 // per second; 0: as fast as answers come
	make    func(n int, b []byte) []byte
	each    func(n int, a answer, err error) // may be nil; called by many at once

	sent  atomic.Int64
	mu    sync.Mutex
	times []time.Duration
}

// run sends for so long, or until so many are sent; 0: no such limit. It returns how long it took.
func (g *generator) run(t testing.TB, length time.Duration, count int) time.Duration {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range g.clients {
		wg.Go(func() {
			c := client{addr: g.addr}
			defer c.close()
			var b []byte
			var times []time.Duration
			for {
				n := int(next.Add(1) - 1)
				due := time.Now()
				if g.rate > 0 {
					due = start.Add(time.Duration(float64(n) / g.rate * float64(time.Second)))
				}
				if count > 0 && n >= count || length > 0 && due.Sub(start) > length {
					break
				}
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				b = g.make(n, b[:0])
				g.sent.Add(1)
				a, err := c.ask(b)
				times = append(times, time.Since(due))
				if g.each != nil {
					g.each(n, a, err)
				}
			}
			g.mu.Lock()
			g.times = append(g.times, times...)
			g.mu.Unlock()
		})
	}
	wg.Wait()
	return time.Since(start)
}

// percentile is the latency that so many of a hundred requests do not exceed.
func (g *generator) percentile(p float64) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.times) == 0 {
		return 0
	}
	slices.Sort(g.times)
	return g.times[min(int(math.Ceil(float64(len(g.times))*p/100)), len(g.times))-1].Round(100 * time.Microsecond)
}

// gets makes a generator's requests: one and the same GET.
func gets(path string) func(int, []byte) []byte {
	one := request("GET", path)
	return func(_ int, b []byte) []byte { return append(b, one...) }
}

// mustAnswer is an each that expects 200.
func mustAnswer(t testing.TB) func(int, answer, error) {
	var said atomic.Int64
	return func(n int, a answer, err error) {
		if (err != nil || a.status != 200) && said.Add(1) < 10 {
			t.Errorf("request %d: %d %s %v", n, a.status, strings.TrimSpace(string(a.body)), err)
		}
	}
}
