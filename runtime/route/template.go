package route

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"wasmgate/runtime/http1"
)

// Template is a text with captures: $1, ${1}, $name, ${name}; $$ is a dollar sign. As in regexp.Expand a name is as long
// as possible. It is immutable.
type Template struct {
	pieces []piece
}

// piece is a literal text, or a capture if text is "".
type piece struct {
	text    string
	capture int
}

var reference = regexp.MustCompile(`\$(?:\$|(\w+)|\{(\w+)\})`)

// NewTemplate parses a template for the captures of an expression. A reference to a capture that it lacks is an error.
func NewTemplate(text, expr string) (*Template, error) {
	names := []string{""}
	if expr != "" {
		re, err := regexp.Compile(expr)
		if err != nil {
			return nil, err
		}
		names = re.SubexpNames()
	}
	t := &Template{}
	for text != "" {
		at := reference.FindStringSubmatchIndex(text)
		if at == nil {
			t.literal(text)
			break
		}
		t.literal(text[:at[0]])
		if name := text[max(at[2], at[4], 0):max(at[3], at[5], 0)]; name == "" {
			t.literal("$")
		} else {
			n, err := capture(names, name)
			if err != nil {
				return nil, err
			}
			t.pieces = append(t.pieces, piece{capture: n})
		}
		text = text[at[1]:]
	}
	return t, nil
}

func (t *Template) literal(s string) {
	if s != "" {
		t.pieces = append(t.pieces, piece{text: s})
	}
}

func capture(names []string, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < len(names) {
			return n, nil
		}
		return 0, fmt.Errorf("there is no capture $%s; the expression has %d", name, len(names)-1)
	}
	for i, have := range names {
		if have == name {
			return i, nil
		}
	}
	return 0, fmt.Errorf("there is no capture named %q; the expression has %s", name, strings.Join(names, " "))
}

// Append appends the text with the captures of m.
func (t *Template) Append(dst []byte, m *Match) []byte {
	for i := range t.pieces {
		if p := &t.pieces[i]; p.text != "" {
			dst = append(dst, p.text...)
		} else {
			dst = append(dst, m.Capture(p.capture)...)
		}
	}
	return dst
}

// maxAuthority is the longest authority that a template may make: a name of 253 bytes and a port.
const maxAuthority = 260

// AppendAuthority is Append for a template that makes host:port. Captures may bring in what a host name is made of and
// nothing else: no port, no user, no brackets, no percent-encoding; so what leads elsewhere is the template's doing.
func (t *Template) AppendAuthority(dst []byte, m *Match) ([]byte, error) {
	begin := len(dst)
	for i := range t.pieces {
		p := &t.pieces[i]
		if p.text != "" {
			dst = append(dst, p.text...)
			continue
		}
		c := m.Capture(p.capture)
		for _, b := range c {
			if !(b|0x20 >= 'a' && b|0x20 <= 'z' || b >= '0' && b <= '9' || b == '-' || b == '.' || b == '_') {
				return dst[:begin], fmt.Errorf("%q cannot be a part of a host name", c)
			}
		}
		if len(c) == 0 {
			return dst[:begin], fmt.Errorf("the capture that would be a part of the host name is empty")
		}
		dst = append(dst, c...)
	}
	if a := dst[begin:]; len(a) > maxAuthority || !http1.ValidAuthority(a) {
		return dst[:begin], fmt.Errorf("%q is not an authority", a)
	}
	return dst, nil
}
