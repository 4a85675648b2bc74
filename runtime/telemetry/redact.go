package telemetry

import "bytes"

// redaction says what of queries is written.
type redaction struct {
	query bool     // false: nothing
	names []string // of parameters whose values are not, in lower case
	agent bool     // the User-Agent is not written, only that there was one
	host  bool     // nor is the host
}

// appendURL appends an address, or a path with its query, without what its query shall not show.
func (d *redaction) appendURL(b, url []byte) []byte {
	i := bytes.IndexByte(url, '?')
	if i < 0 {
		return append(b, url...)
	}
	b = append(b, url[:i]...)
	if !d.query {
		return b
	}
	return d.appendQuery(append(b, '?'), url[i+1:])
}

// appendQuery appends a query with *** for the values of the parameters that were named. A name counts in any case and
// however it is encoded, and behind a ';' too, because some servers read it so, and behind a '?', for an address within a
// value; what is hidden goes on to the next '&'.
func (d *redaction) appendQuery(b, query []byte) []byte {
	if len(d.names) == 0 {
		return append(b, query...)
	}
	for len(query) > 0 {
		end := bytes.IndexAny(query, "&;?=")
		if end < 0 {
			return append(b, query...)
		}
		name, sign := query[:end], query[end]
		b, query = append(b, query[:end+1]...), query[end+1:]
		if sign != '=' {
			continue
		}
		stop := bytes.IndexAny(query, "&;?")
		if d.named(name) {
			b = append(b, hiddenText...)
			stop = bytes.IndexByte(query, '&')
		} else {
			b = append(b, query[:until(stop, len(query))]...)
		}
		query = query[until(stop, len(query)):]
		if len(query) > 0 {
			b, query = append(b, query[0]), query[1:]
		}
	}
	return b
}

func until(i, otherwise int) int {
	if i < 0 {
		return otherwise
	}
	return i
}

func (d *redaction) named(name []byte) bool {
	for _, n := range d.names {
		if sameName(name, n) {
			return true
		}
	}
	return false
}

// sameName compares the name of a parameter, as it came, with one in lower case.
func sameName(raw []byte, name string) bool {
	at := 0
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%' && i+2 < len(raw):
			if hi, lo := hexValue[lower(raw[i+1])], hexValue[lower(raw[i+2])]; hi|lo <= 15 {
				c, i = hi<<4|lo, i+2
			}
		}
		if at == len(name) || name[at] != lower(c) {
			return false
		}
		at++
	}
	return at == len(name)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
