package secure

// HeaderLength is how long the header of a TLS record is, in bytes.
const HeaderLength = 5

// records follows the records in what is read from a connection, by their headers, which are never encrypted: to know
// when crypto/tls cannot hold anything without asking it, which costs an allocation.
type records struct {
	header [HeaderLength]byte
	have   int // bytes of the header that have come
	rest   int // bytes of the record that have not
	whole  int // records that have come to their end since crypto/tls asked for more, which it does when it holds none
}

func (r *records) saw(b []byte) {
	for len(b) > 0 {
		if r.rest == 0 {
			n := copy(r.header[r.have:], b)
			r.have, b = r.have+n, b[n:]
			if r.have < HeaderLength {
				return
			}
			r.have, r.rest = 0, int(r.header[3])<<8|int(r.header[4])
		}
		n := min(r.rest, len(b))
		b = b[n:]
		if r.rest -= n; r.rest == 0 {
			r.whole++
		}
	}
}

// justOne says whether one record has come, and nothing behind it.
func (r *records) justOne() bool { return r.whole == 1 && r.rest == 0 && r.have == 0 }

// HelloRest is how many bytes are missing to the end of the record that begins with b, which a client's hello is as a
// rule: a server need not begin before, whatever time the client takes. It is 1 while the header is not whole, and at
// most 16 KiB: what claims to be longer is left to the handshake to refuse.
func HelloRest(b []byte) int {
	if len(b) < HeaderLength {
		return 1
	}
	length := int(b[3])<<8 | int(b[4])
	if length > mostRecord {
		return 0
	}
	return max(0, HeaderLength+length-len(b))
}
