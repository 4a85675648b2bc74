package tcp

// What a client's first bytes are.
type greeting uint8

const (
	unfinished greeting = iota // the beginning of a ClientHello
	foreign                    // not TLS
	malformed                  // TLS, and not a ClientHello that a server would accept
	hello
)

const (
	recordHeader    = 5
	handshakeHeader = 4
	recordHandshake = 22
	clientHello     = 1
	maxRecord       = 16 << 10 // bytes of plaintext (RFC 8446 section 5.1)
	maxName         = 255
)

// readHello looks for a ClientHello (RFC 8446 section 4.1.2) at the beginning of b and returns its server name, a view
// of b or of scratch; nil if it has none. scratch, as long as b, is used for a hello that is split over records.
func readHello(b, scratch []byte) ([]byte, greeting) {
	message, g := joinRecords(b, scratch)
	if g != hello {
		return nil, g
	}
	r := reader{message[handshakeHeader:], true}
	r.take(2 + 32)             // version, random
	id := r.vector(1)          // session
	suites := r.vector(2)      // ciphers
	compression := r.vector(1) // methods
	if !r.ok || len(id) > 32 || len(suites) < 2 || len(suites)%2 != 0 || len(compression) == 0 {
		return nil, malformed
	}
	if len(r.b) == 0 {
		return nil, hello // before extensions were invented
	}
	extensions := reader{r.vector(2), r.ok}
	if !r.ok || len(r.b) != 0 {
		return nil, malformed
	}
	return serverName(extensions)
}

// joinRecords returns the whole handshake message that the records in b carry, once it is there.
func joinRecords(b, scratch []byte) ([]byte, greeting) {
	joined, records := scratch[:0], 0
	for rest := b; ; records++ {
		if len(rest) > 0 && rest[0] != recordHandshake || len(rest) > 1 && rest[1] != 3 {
			if records == 0 {
				return nil, foreign
			}
			return nil, malformed
		}
		if len(rest) < recordHeader {
			return nil, unfinished
		}
		size := int(rest[3])<<8 | int(rest[4])
		if size == 0 || size > maxRecord {
			return nil, malformed
		}
		fragment := rest[recordHeader:min(len(rest), recordHeader+size)]
		message := fragment
		if records > 0 || len(fragment) < messageSize(fragment) {
			joined = append(joined, fragment...)
			message = joined
		}
		if len(message) > 0 && message[0] != clientHello {
			return nil, malformed
		}
		if n := messageSize(message); n <= len(message) {
			return message[:n], hello
		}
		if len(fragment) < size {
			return nil, unfinished
		}
		rest = rest[recordHeader+size:]
	}
}

// messageSize is how long the handshake message that begins with b is, or will at least be.
func messageSize(b []byte) int {
	if len(b) < handshakeHeader {
		return handshakeHeader + 1
	}
	return handshakeHeader + int(b[1])<<16 + int(b[2])<<8 + int(b[3])
}

// serverName finds the host name in a hello's extensions (RFC 6066 section 3).
func serverName(extensions reader) (name []byte, g greeting) {
	found := false
	for len(extensions.b) > 0 {
		kind, body := extensions.take(2), reader{extensions.vector(2), extensions.ok}
		if !extensions.ok {
			return nil, malformed
		}
		if kind[0] != 0 || kind[1] != 0 {
			continue
		}
		list := reader{body.vector(2), body.ok}
		if found || !body.ok || len(body.b) != 0 || len(list.b) == 0 {
			return nil, malformed
		}
		found = true
		for len(list.b) > 0 {
			kind, value := list.take(1), list.vector(2)
			if !list.ok || kind[0] == 0 && (name != nil || !validName(value)) {
				return nil, malformed
			}
			if kind[0] == 0 {
				name = value
			}
		}
	}
	return name, hello
}

// validName says whether b can be a host name: labels of letters, digits, - and _ with dots between them.
func validName(b []byte) bool {
	if len(b) == 0 || len(b) > maxName {
		return false
	}
	label := 0
	for _, c := range b {
		switch {
		case c == '.' && label > 0:
			label = 0
		case c|0x20 >= 'a' && c|0x20 <= 'z', c >= '0' && c <= '9', c == '-', c == '_':
			label++
		default:
			return false
		}
	}
	return label > 0
}

// reader takes bytes off the front of b; after it has run out of them, ok is false and nothing more is taken.
type reader struct {
	b  []byte
	ok bool
}

func (r *reader) take(n int) []byte {
	if !r.ok || n > len(r.b) {
		r.ok = false
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// vector takes a length of so many bytes, and as many bytes as it says.
func (r *reader) vector(lengthBytes int) []byte {
	n := 0
	for _, c := range r.take(lengthBytes) {
		n = n<<8 | int(c)
	}
	return r.take(n)
}
