package compress

import "wasmgate/runtime/http1"

// Accepted is what a client takes, by its Accept-Encoding fields. The zero value is that of a client that sent none: it
// would take anything (RFC 9110 section 12.5.3), but one that can decode says so.
type Accepted struct {
	quality [codings]uint16 // in thousandths
	named   [codings]bool
	others  uint16 // of what is not named: that of "*"
}

// Accepts reads a request's Accept-Encoding fields. A member that is not as it should be is as if it were not there, and of
// several for one coding the first counts.
func Accepts(h *http1.Head) (a Accepted) {
	others := false
	for i := h.FindID(0, http1.FieldAcceptEncoding); i >= 0; i = h.FindID(i+1, http1.FieldAcceptEncoding) {
		for list, more := h.Value(i), true; more; {
			var member []byte
			member, list, more = next(list)
			name, quality, ok := weighted(member)
			if !ok {
				continue
			}
			if len(name) == 1 && name[0] == '*' {
				if !others {
					others, a.others = true, quality
				}
				continue
			}
			if c, known := Named(name); known && !a.named[c] {
				a.named[c], a.quality[c] = true, quality
			}
		}
	}
	return a
}

// Choose returns which of some codings a client wants most; of those that it wants equally, the first. Identity is what it
// takes in any case, unless another one is wanted at least as much. A client that refuses everything gets Identity too.
func (a *Accepted) Choose(among []Coding) Coding {
	best, quality := Identity, uint16(0)
	for _, c := range among {
		if q := a.of(c); q > quality {
			best, quality = c, q
		}
	}
	if a.named[Identity] && a.quality[Identity] > quality {
		return Identity
	}
	return best
}

func (a *Accepted) of(c Coding) uint16 {
	if a.named[c] {
		return a.quality[c]
	}
	return a.others
}

// next cuts the first member off a list.
func next(list []byte) (member, rest []byte, more bool) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:], true
		}
	}
	return trim(list), nil, false
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// weighted reads a member of a list: a name, and perhaps ;q= and a quality (RFC 9110 section 12.4.2).
func weighted(member []byte) (name []byte, quality uint16, ok bool) {
	for i, c := range member {
		if c == ';' {
			name, quality, ok = trim(member[:i]), 0, false
			if q := trim(member[i+1:]); len(q) > 2 && q[0]|0x20 == 'q' && q[1] == '=' {
				quality, ok = thousandths(q[2:])
			}
			return name, quality, ok && len(name) > 0
		}
	}
	return member, 1000, len(member) > 0
}

// thousandths reads a qvalue: 0 or 1, and up to three digits behind the point.
func thousandths(q []byte) (n uint16, ok bool) {
	if len(q) > 5 || q[0] != '0' && q[0] != '1' || len(q) > 1 && q[1] != '.' {
		return 0, false
	}
	n = 1000 * uint16(q[0]-'0')
	for i, worth := 2, uint16(100); i < len(q); i, worth = i+1, worth/10 {
		if q[i] < '0' || q[i] > '9' {
			return 0, false
		}
		n += worth * uint16(q[i]-'0')
	}
	return n, n <= 1000
}
