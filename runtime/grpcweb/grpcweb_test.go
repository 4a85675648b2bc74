package grpcweb

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"wasmgate/runtime/grpc"
	"wasmgate/runtime/http1"
)

// decoded gives a body to a Request in pieces of so many bytes.
func decoded(t testing.TB, text string, size int) (out string, ok bool) {
	t.Helper()
	r, whole := Request{Text: true}, []byte(nil)
	for data := []byte(text); ; {
		n := min(max(size, 1), len(data))
		last := n == len(data)
		piece, err := r.Chunk(nil, nil, data[:n], last, nil)
		if err != nil {
			if err.Status != 400 {
				t.Errorf("%v", err)
			}
			return "", false
		}
		if whole = append(whole, piece...); last {
			return string(whole), true
		}
		data = data[n:]
	}
}

// reference decodes four characters at a time.
func reference(text string) (out string, ok bool) {
	var whole []byte
	for ; len(text) >= 4; text = text[4:] {
		b, err := base64.StdEncoding.DecodeString(text[:4])
		if err != nil || strings.ContainsAny(text[:4], "\r\n") {
			return "", false
		}
		whole = append(whole, b...)
	}
	return string(whole), text == ""
}

func TestText(t *testing.T) {
	enc := base64.StdEncoding.EncodeToString
	long := strings.Repeat("0123456789", 10_000)
	for text, want := range map[string]string{
		"": "", enc([]byte("a")): "a", enc([]byte("ab")) + enc([]byte("c")) + enc([]byte("def")): "abcdef", enc([]byte(long)): long,
		enc([]byte("\x00\x00\x00\x00\x02hi")) + enc([]byte("\x00\x00\x00\x00\x00")): "\x00\x00\x00\x00\x02hi\x00\x00\x00\x00\x00",
	} {
		for _, size := range []int{1, 2, 3, 4, 5, 7, 64, 1 << 20} {
			if got, ok := decoded(t, text, size); !ok || got != want {
				t.Errorf("%.40q in pieces of %d: %.40q %t", text, size, got, ok)
			}
		}
	}
	for _, text := range []string{"a", "ab", "abc", "abcde", "a===", "====", "ab=c", "ab==c", "ab c", "abc\n", "abcd\r\n\r\n", "ab-_", "\x00\x00\x00\x00"} {
		for _, size := range []int{1, 3, 4, 100} {
			if got, ok := decoded(t, text, size); ok {
				t.Errorf("%q in pieces of %d is %q", text, size, got)
			}
		}
	}
}

// FuzzText: what comes out does not depend on the pieces that come in.
func FuzzText(f *testing.F) {
	f.Add("YQ==YWI=YWJj", 3)
	f.Add("AAAAAAA=\n", 5)
	f.Fuzz(func(t *testing.T, text string, size int) {
		got, ok := decoded(t, text, size&0xff)
		if want, good := reference(text); ok != good || ok && got != want {
			t.Errorf("%q in pieces of %d: %q %t, want %q %t", text, size&0xff, got, ok, want, good)
		}
	})
}

func TestWhatIsBinaryPasses(t *testing.T) {
	var r Request
	out, err := r.Chunk(nil, nil, []byte("\x00\x00\x00\x00\x01="), true, nil)
	if string(out) != "\x00\x00\x00\x00\x01=" || err != nil || !r.Measured() {
		t.Errorf("%q %v", out, err)
	}
}

func TestAnswers(t *testing.T) {
	for _, text := range []bool{false, true} {
		a, trailers := Answer{Text: text}, &http1.Head{}
		trailers.Add("Grpc-Status", "5")
		trailers.Add("grpc-message", "no such %25")
		trailers.Add("x-a-bin", "AAE")
		var out []byte
		for _, piece := range []string{"\x00\x00\x00", "\x00\x02hi", ""} {
			b, fe := a.Chunk(nil, nil, []byte(piece), piece == "", trailers)
			if fe != nil {
				t.Fatal(fe)
			}
			if text { // each piece can be read by itself
				whole, ok := decoded(t, string(b), 1<<20)
				if b = []byte(whole); !ok {
					t.Errorf("%q cannot be read", b)
				}
			}
			out = append(out, b...)
		}
		const block = "grpc-status: 5\r\ngrpc-message: no such %25\r\nx-a-bin: AAE\r\n"
		if want := "\x00\x00\x00\x00\x02hi\x80\x00\x00\x00" + string(rune(len(block))) + block; string(out) != want {
			t.Errorf("%q, want %q", out, want)
		}
		if trailers.Len() > 0 {
			t.Error("trailers are left")
		}
	}
	out, err := (&Answer{}).Chunk(nil, nil, []byte("x"), true, &http1.Head{})
	if string(out) != "x" || err != nil {
		t.Errorf("an answer without trailers became %q %v", out, err)
	}
}

func request(t *testing.T, fields string) *http1.Request {
	t.Helper()
	r := &http1.Request{}
	if _, err := r.Parse([]byte("POST /a.B/C HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"+fields+"\r\n"), nil); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTranslate(t *testing.T) {
	for name, c := range map[string]struct {
		fields       string
		kind, wanted grpc.Kind
		became       string
	}{
		"binary":          {"Content-Type: application/grpc-web+proto\r\nX-Grpc-Web: 1\r\nAccept: application/grpc-web+proto\r\n", grpc.Web, grpc.Web, "application/grpc+proto"},
		"text":            {"Content-Type: application/grpc-web-text\r\nAccept: application/grpc-web-text\r\n", grpc.WebText, grpc.WebText, "application/grpc"},
		"text, no Accept": {"Content-Type: application/grpc-web-text+proto\r\n", grpc.WebText, grpc.WebText, "application/grpc+proto"},
		"any":             {"Content-Type: application/grpc-web\r\nAccept: */*\r\n", grpc.Web, grpc.Web, "application/grpc"},
		"binary for text": {"Content-Type: application/grpc-web\r\nAccept: application/grpc-web-text\r\n", grpc.Web, grpc.WebText, "application/grpc"},
		"text for binary": {"Content-Type: application/grpc-web-text\r\nAccept: application/grpc-web\r\n", grpc.WebText, grpc.Web, "application/grpc"},
	} {
		r := request(t, c.fields)
		if wanted := Wanted(&r.Head, c.kind); wanted != c.wanted {
			t.Errorf("%s: the answer is to be %s", name, wanted.ContentType())
		}
		kind := Translate(r)
		v, _ := r.GetID(http1.FieldContentType)
		_, accepts := r.GetID(http1.FieldAccept)
		_, marked := r.Get("x-grpc-web")
		if kind != c.kind || string(v) != c.became || accepts || marked || !r.TETrailers {
			t.Errorf("%s: %d %q %t %t %t", name, kind, v, accepts, marked, r.TETrailers)
		}
	}
	for _, other := range []string{"application/grpc", "application/json"} {
		r := request(t, "Content-Type: "+other+"\r\nAccept: x/y\r\n")
		Translate(r)
		if v, _ := r.GetID(http1.FieldContentType); string(v) != other || r.TETrailers {
			t.Errorf("%s became %s", other, v)
		}
	}
}

func TestAnswered(t *testing.T) {
	for was, want := range map[string]string{"application/grpc": "application/grpc-web-text", "application/grpc+proto": "application/grpc-web-text+proto", "text/html": "text/html", "": ""} {
		var h http1.Head
		if was != "" {
			h.Add("Content-Type", was)
		}
		ok := Answered(&h, grpc.WebText)
		if v, _ := h.GetID(http1.FieldContentType); string(v) != want || ok != strings.HasPrefix(was, "application/grpc") {
			t.Errorf("%q became %q", was, v)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	text := []byte(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("x"), 3000)))
	r, a := Request{Text: true}, Answer{Text: true}
	in, out := make([]byte, 0, 1<<13), make([]byte, 0, 1<<13)
	if n := testing.AllocsPerRun(100, func() {
		in, _ = r.Chunk(nil, in[:0], text, false, nil)
		out, _ = a.Chunk(nil, out[:0], in, false, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
