package tcp

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// clientHelloOf returns the first record that a real TLS client sends.
func clientHelloOf(t testing.TB, name string, protocols ...string) []byte {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = tls.Client(there, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols}).Handshake()
	}()
	head := make([]byte, recordHeader)
	if _, err := io.ReadFull(here, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(here, body); err != nil {
		t.Fatal(err)
	}
	here.Close()
	<-done
	there.Close()
	return slices.Concat(head, body)
}

func vector(lengthBytes int, parts ...[]byte) []byte {
	all := bytes.Join(parts, nil)
	b := make([]byte, 0, lengthBytes+len(all))
	for i := lengthBytes - 1; i >= 0; i-- {
		b = append(b, byte(len(all)>>(8*i)))
	}
	return append(b, all...)
}

func record(body []byte) []byte { return append([]byte{22, 3, 1}, vector(2, body)...) }

func handshake(kind byte, body ...[]byte) []byte { return append([]byte{kind}, vector(3, body...)...) }

func extension(kind byte, body []byte) []byte { return append([]byte{0, kind}, vector(2, body)...) }

func sni(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(append(list, 0), vector(2, []byte(n))...)
	}
	return extension(0, vector(2, list))
}

// fixedPart is what comes before a hello's extensions.
var fixedPart = bytes.Join([][]byte{{3, 3}, make([]byte, 32), vector(1, make([]byte, 32)), vector(2, []byte{0x13, 1}), vector(1, []byte{0})}, nil)

func helloWith(extensions ...[]byte) []byte { return handshake(1, fixedPart, vector(2, extensions...)) }

// split puts a message into records of n bytes.
func split(message []byte, n int) []byte {
	var b []byte
	for len(message) > 0 {
		k := min(n, len(message))
		b = append(b, record(message[:k])...)
		message = message[k:]
	}
	return b
}

func TestHellos(t *testing.T) {
	scratch := make([]byte, 16<<10)
	message := helloWith(extension(5, []byte("x")), sni("Shop.Example"), extension(21, make([]byte, 300)))
	for name, b := range map[string][]byte{
		"Shop.Example":    record(message),
		"real.example":    clientHelloOf(t, "real.example", "h2", "http/1.1"),
		"":                record(handshake(1, fixedPart)),
		"_x-1.a.b.c":      record(helloWith(sni("_x-1.a.b.c"))),
		"192.0.2.1":       record(helloWith(sni("192.0.2.1"))),
		"other.name.type": record(helloWith(extension(0, vector(2, []byte{7}, vector(2, []byte("?")), []byte{0}, vector(2, []byte("other.name.type")))))),
	} {
		got, g := readHello(append(bytes.Clone(b), "more"...), scratch)
		if g != hello || string(got) != name {
			t.Errorf("%q, %d; want %q", got, g, name)
		}
		for i := range b {
			if got, g := readHello(b[:i:i], scratch); g != unfinished || got != nil {
				t.Fatalf("%q: the first %d of %d bytes are %q, %d", name, i, len(b), got, g)
			}
		}
	}
	for _, n := range []int{1, 2, 3, 4, 5, 100, len(message) - 1} {
		b := split(message, n)
		if got, g := readHello(b, scratch); g != hello || string(got) != "Shop.Example" {
			t.Errorf("in records of %d bytes: %q, %d", n, got, g)
		}
		for i := range b {
			if _, g := readHello(b[:i:i], scratch); g != unfinished {
				t.Fatalf("in records of %d bytes, the first %d of them: %d", n, i, g)
			}
		}
	}
	if got, g := readHello(record(helloWith()), scratch); g != hello || got != nil {
		t.Errorf("no extensions: %q, %d", got, g)
	}
}

func TestWhatIsNotTLS(t *testing.T) {
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "SSH-2.0-x\r\n", "\x80\x2e\x01\x03\x01", "\x16\x02\x00", "\x15\x03\x01\x00\x02\x01\x00", "\x00"} {
		if _, g := readHello([]byte(text), nil); g != foreign {
			t.Errorf("%q: %d", text, g)
		}
	}
}

func TestHostileHellos(t *testing.T) {
	scratch := make([]byte, 16<<10)
	long := strings.Repeat("a", 256)
	for name, b := range map[string][]byte{
		"an empty record":               {22, 3, 1, 0, 0},
		"a record over 16 KiB":          {22, 3, 1, 0x40, 1},
		"another handshake message":     record(handshake(2, fixedPart)),
		"an alert in the middle":        append(record(helloWith(sni("a"))[:50]), 21, 3, 1, 0, 2, 1, 0),
		"TLS 2 in the middle":           append(record(helloWith(sni("a"))[:50]), 22, 2),
		"no ciphers":                    record(handshake(1, fixedPart[:2+32+33], vector(2), vector(1, []byte{0}))),
		"an odd length of ciphers":      record(handshake(1, fixedPart[:2+32+33], vector(2, []byte{1, 2, 3}), vector(1, []byte{0}))),
		"a session id of 33":            record(handshake(1, fixedPart[:34], vector(1, make([]byte, 33)), vector(2, []byte{1, 2}), vector(1, []byte{0}))),
		"no compression":                record(handshake(1, fixedPart[:2+32+33], vector(2, []byte{1, 2}), vector(1))),
		"a short random":                record(handshake(1, fixedPart[:20])),
		"extensions too short":          record(handshake(1, fixedPart, vector(2, sni("a")), []byte{0})),
		"extensions too long":           record(handshake(1, fixedPart, []byte{0, 9}, sni("a"))),
		"an extension cut off":          record(helloWith([]byte{0, 0, 0, 9, 1})),
		"two server names":              record(helloWith(sni("a.example", "b.example"))),
		"two extensions with a name":    record(helloWith(sni("a.example"), sni("b.example"))),
		"an empty list of names":        record(helloWith(extension(0, vector(2)))),
		"an empty extension":            record(helloWith(extension(0, nil))),
		"an empty name":                 record(helloWith(sni(""))),
		"bytes after the list":          record(helloWith(extension(0, append(vector(2, []byte{0}, vector(2, []byte("a"))), 0)))),
		"a name over the list's end":    record(helloWith(extension(0, vector(2, []byte{0, 0, 9, 'a'})))),
		"a name with a zero byte":       record(helloWith(sni("a.example\x00.evil"))),
		"a name with a slash":           record(helloWith(sni("../../etc"))),
		"a name with a space":           record(helloWith(sni("a b"))),
		"a name that ends with a dot":   record(helloWith(sni("a.example."))),
		"a name that begins with a dot": record(helloWith(sni(".example"))),
		"a name with an empty label":    record(helloWith(sni("a..b"))),
		"a name of 256 bytes":           record(helloWith(sni(long))),
		"a name that is not ASCII":      record(helloWith(sni("b\u00fccher.example"))),
		"an IPv6 address":               record(helloWith(sni("2001:db8::1"))),
		"a wildcard":                    record(helloWith(sni("*.example"))),
	} {
		if got, g := readHello(b, scratch); g != malformed || got != nil {
			t.Errorf("%s: %q, %d", name, got, g)
		}
	}
}

func TestNames(t *testing.T) {
	ups := map[string]*backend{}
	var routes []Route
	for _, host := range []string{"a.example", "*.a.example", "*.Example", "x.y.example", "*.b.a.example"} {
		ups[host] = &backend{name: host}
		routes = append(routes, Route{Hosts: []string{host}, Upstream: ups[host]})
	}
	n, err := NewNames(routes)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a.example": "a.example", "q.a.example": "*.a.example", "q.r.a.example": "*.a.example", "q.b.a.example": "*.b.a.example",
		"b.a.example": "*.a.example", "z.example": "*.Example", "x.y.example": "x.y.example", "y.example": "*.Example",
		"example": "", "aexample": "", "": "", "a.example.org": "", "xa.example": "*.Example",
	} {
		got := ""
		if u := n.find([]byte(name)); u != nil {
			got = u.Name()
		}
		if got != want {
			t.Errorf("%q goes to %q, want %q", name, got, want)
		}
	}
	for _, hosts := range [][]string{{""}, {"*."}, {"*"}, {"a.*.example"}, {"a b"}, {"a", "A"}, {"*.a", "*.A"}, {"a."}} {
		if _, err := NewNames([]Route{{Hosts: hosts, Upstream: ups["a.example"]}}); err == nil {
			t.Errorf("%q is taken for host names", hosts)
		}
	}
	name := []byte("q.r.s.a.example")
	if allocs := testing.AllocsPerRun(100, func() { n.find(name) }); allocs != 0 {
		t.Errorf("finding a name allocates %v times", allocs)
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(clientHelloOf(f, "real.example", "h2"))
	f.Add(split(helloWith(sni("a.example")), 7))
	f.Add(record(handshake(1, fixedPart)))
	f.Add(record(helloWith(sni("a.example", "b.example"))))
	scratch := make([]byte, 16<<10)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > len(scratch) {
			b = b[:len(scratch)]
		}
		before := bytes.Clone(b)
		name, g := readHello(b, scratch)
		if !bytes.Equal(b, before) {
			t.Fatal("the bytes that go to the upstream were changed")
		}
		if name != nil && (g != hello || !validName(name)) {
			t.Fatalf("%q, %d", name, g)
		}
		if g == unfinished {
			return
		}
		text := string(name)
		// More bytes change nothing, and in other records the message says the same.
		if again, h := readHello(append(bytes.Clone(b), 1, 2, 3), scratch); len(b) < len(scratch)-3 && (h != g || string(again) != text) {
			t.Fatalf("%q, %d; with more bytes %q, %d", text, g, again, h)
		}
		if message, _ := joinRecords(b, scratch); g == hello && len(message) < 2000 {
			if again, h := readHello(split(bytes.Clone(message), 3), make([]byte, 16<<10)); h != hello || string(again) != text {
				t.Fatalf("%q; in other records %q, %d", text, again, h)
			}
		}
	})
}
