package http1

import (
	"errors"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
)

// readBody reads a body of which step more bytes arrive at a time (0: all at once), each piece at another address, and
// returns its data, and what is behind it.
func readBody(r *BodyReader, in []byte, step int) (data, rest string, err error) {
	if step == 0 {
		step = max(1, len(in))
	}
	var got []byte
	rest = string(in)
	for i := 0; i < len(in) && !r.Done(); {
		end := min(len(in), i+step)
		for i < end && !r.Done() {
			d, n, err := r.Next(append([]byte(nil), in[i:end]...))
			if err != nil {
				return string(got), "", err
			}
			if n == 0 {
				return string(got), "", errors.New("nothing consumed")
			}
			got = append(got, d...)
			i += n
		}
		rest = string(in[i:])
	}
	if !r.Done() {
		err = r.EOF()
	}
	return string(got), rest, err
}

func TestBody(t *testing.T) {
	chunked := Framing{Kind: Chunked}
	for _, c := range []struct {
		name          string
		framing       Framing
		in            string
		data, trailer string
		rest          string
	}{
		{"no body", Framing{Kind: NoBody, Length: -1}, "GET", "", "", "GET"},
		{"length", Framing{Length, 3}, "abcGET", "abc", "", "GET"},
		{"length 0", Framing{Kind: Length}, "GET", "", "", "GET"},
		{"until close", Framing{Kind: UntilClose}, "abc", "abc", "", ""},
		{"one chunk", chunked, "3\r\nabc\r\n0\r\n\r\nGET", "abc", "", "GET"},
		{"three chunks", chunked, "1\r\na\r\n2\r\nbc\r\n1\r\nd\r\n0\r\n\r\n", "abcd", "", ""},
		{"empty", chunked, "0\r\n\r\nGET", "", "", "GET"},
		{"upper and lower hex", chunked, "A\r\n0123456789\r\nb\r\n0123456789a\r\n00\r\n\r\n", "01234567890123456789a", "", ""},
		{"leading zeros", chunked, "0000000000000001\r\na\r\n0\r\n\r\n", "a", "", ""},
		{"extension", chunked, "1;a\r\na\r\n1;a=b;c=\"d e\"\r\nb\r\n0;x\r\n\r\n", "ab", "", ""},
		{"extension after bad white space", chunked, "1 \t;a=b\r\na\r\n0\r\n\r\n", "a", "", ""},
		{"data that looks like framing", chunked, "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n", "", ""},
		{"trailers", chunked, "1\r\na\r\n0\r\nX-A: b\r\nX-C:d\r\n\r\nGET", "a", "X-A=b|X-C=d|", "GET"},
		{"trailers that do not belong there", chunked, "0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: x\r\n" +
			"Authorization: a\r\nset-cookie: b\r\nConnection: close\r\nX_Forwarded_For: 1\r\nx-forwarded-client-cert: 2\r\nOk: yes\r\n" +
			"TE: trailers\r\nContent_Length: 1\r\n\r\n", "", "Ok=yes|", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r BodyReader
			for step := range 4 {
				r.Init(c.framing, nil, fault.Client)
				data, rest, err := readBody(&r, []byte(c.in), step)
				if err != nil || data != c.data || rest != c.rest || fields(r.Trailers()) != c.trailer {
					t.Errorf("step %d: %q, trailers %s, rest %q, %v", step, data, fields(r.Trailers()), rest, err)
				}
			}
		})
	}
}

func TestBodyRefused(t *testing.T) {
	for _, c := range []struct {
		name, in string
		status   int
	}{
		{"no size", "\r\nabc", 400},
		{"extension without a size", ";a\r\n", 400},
		{"not hex", "g\r\n", 400},
		{"0x", "0x1\r\na\r\n0\r\n\r\n", 400},
		{"plus sign", "+1\r\na\r\n0\r\n\r\n", 400},
		{"minus sign", "-1\r\na\r\n0\r\n\r\n", 400},
		{"underscore", "1_0\r\n", 400},
		{"space before the size", " 1\r\na\r\n0\r\n\r\n", 400},
		{"space after the size", "1 \r\na\r\n0\r\n\r\n", 400},
		{"space in the size", "1 0\r\n", 400},
		{"beyond 63 bits", "8000000000000000\r\n", 400},
		{"beyond 64 bits", "10000000000000001\r\n", 400},
		{"seventeen digits", "00000000000000001\r\na\r\n", 400},
		{"bare LF after the size", "1\na\r\n0\r\n\r\n", 400},
		{"bare CR after the size", "1\ra\r\n0\r\n\r\n", 400},
		{"CR CR LF after the size", "1\r\r\na\r\n", 400},
		{"bare LF in an extension", "1;a\na\r\n0\r\n\r\n", 400},
		{"bare CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n", 400},
		{"control in an extension", "1;a\x00b\r\n", 400},
		{"long extension", "1;" + strings.Repeat("a", 4<<10) + "\r\n", 400},
		{"extensions that outweigh the data", strings.Repeat("1;"+strings.Repeat("a", 1000)+"\r\na\r\n", 20), 400},
		{"data without its end", "1\r\nab\r\n", 400},
		{"data with bare LF at its end", "1\r\na\n0\r\n\r\n", 400},
		{"data with bare CR at its end", "1\r\na\rb", 400},
		{"bare LF instead of the empty line", "0\r\n\n", 400},
		{"bare LF in a trailer", "0\r\nA: b\n\r\n", 400},
		{"bare CR in a trailer", "0\r\nA: b\rc\r\n\r\n", 400},
		{"obs-fold in a trailer", "0\r\nA: b\r\n c\r\n\r\n", 400},
		{"trailer without a colon", "0\r\nAbc\r\n\r\n", 400},
		{"trailer with a space before the colon", "0\r\nA : b\r\n\r\n", 400},
		{"large trailers", "0\r\nA: " + strings.Repeat("b", 8<<10) + "\r\n\r\n", 431},
		{"many trailers", "0\r\n" + strings.Repeat("A:b\r\n", 101) + "\r\n", 431},
		{"cut off in the size", "1", 400},
		{"cut off in the data", "2\r\na", 400},
		{"cut off after the last chunk", "0\r\n", 400},
		{"cut off in the trailers", "0\r\nA: b\r\n", 400},
	} {
		t.Run(c.name, func(t *testing.T) {
			for step := range 3 {
				var r BodyReader
				r.Init(Framing{Kind: Chunked}, nil, fault.Client)
				data, _, err := readBody(&r, []byte(c.in), step)
				var fe *fault.Error
				if !errors.As(err, &fe) || fe.Status != c.status || fe.Source != fault.Client {
					t.Errorf("step %d: %q, %v", step, data, err)
				}
				r.Init(Framing{Kind: Chunked}, nil, fault.Upstream)
				if _, _, err := readBody(&r, []byte(c.in), step); !errors.As(err, &fe) || fe.Status != 502 || fe.Source != fault.Upstream {
					t.Errorf("step %d: from an upstream: %v", step, err)
				}
			}
		})
	}
}

func TestBodyCutOff(t *testing.T) {
	var r BodyReader
	r.Init(Framing{Length, 3}, nil, fault.Upstream)
	if _, _, err := r.Next([]byte("ab")); err != nil || r.Remaining() != 1 {
		t.Fatal(err, r.Remaining())
	}
	var fe *fault.Error
	if err := r.EOF(); !errors.As(err, &fe) || fe.Kind != fault.UpstreamClosed || fe.Status != 502 {
		t.Error(err)
	}
}

func TestBodyInOneCall(t *testing.T) {
	var r BodyReader
	r.Init(Framing{Kind: Chunked}, nil, fault.Client)
	in := []byte("3\r\nabc\r\n0\r\n\r\nGET")
	if data, n, err := r.Next(in); string(data) != "abc" || n != len(in)-3 || err != nil || !r.Done() {
		t.Errorf("%q, %d, %v, done %t", data, n, err, r.Done())
	}
}

func BenchmarkChunkedBody(b *testing.B) {
	in := []byte(strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 16) + "0\r\n\r\n")
	b.SetBytes(int64(len(in)))
	var r BodyReader
	for b.Loop() {
		r.Init(Framing{Kind: Chunked}, nil, fault.Client)
		for rest := in; !r.Done(); {
			_, n, err := r.Next(rest)
			if err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
	}
}
