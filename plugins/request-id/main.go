// request-id gives each request an identifier, and the services behind it baggage (W3C): see README.md.
package main

import (
	"encoding/binary"
	"errors"
	"strconv"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// The bounds of W3C Baggage, 3.3.2, and of what is taken over as an identifier.
const (
	maxMembers = 64
	maxBaggage = 8192
	maxValue   = 1024 // of ours
	maxID      = 128
)

// entry is a member of the baggage that we add.
type entry struct {
	key   string
	value kit.Template
}

var (
	header      string
	field       wasmgate.Header
	everybody   bool // is trusted
	trusted     kit.Networks
	entries     []entry
	baggage     = wasmgate.RequestHeader("baggage")
	bags        bool // the baggage is ours to say
	scratch     = make([]byte, 0, 2*kit.MaxText)
	list        = make([]byte, 0, 2*maxBaggage)
	identifiers uint64 // that this instance made
)

func init() {
	wasmgate.Configure(configure)
	wasmgate.Handle(request)
}

func configure(c *wasmgate.Config) error {
	header, everybody, trusted, entries, bags = "x-request-id", false, kit.Networks{}, nil, false
	answer := true
	err := kit.Read(c, kit.Keys{
		"header":  kit.EditedField(&header),
		"trust":   readTrust,
		"answer":  kit.Bool(&answer),
		"baggage": readBaggage,
	})
	field = wasmgate.RequestHeader(header)
	wasmgate.HandleResponse(nil)
	if answer {
		wasmgate.HandleResponse(response)
	}
	return err
}

func readTrust(v kit.Value) error {
	if everyone, err := v.Bool(); err == nil {
		everybody = everyone
		return nil
	}
	err := v.List(trusted.Add)
	trusted.Seal()
	return err
}

func readBaggage(v kit.Value) error {
	bags = true
	err := v.Map(func(key string, v kit.Value) error {
		if !kit.Token(key) {
			return errors.New(v.Path() + ": the key of baggage has letters, digits and signs such as - and _")
		}
		value, err := v.Template(false)
		entries = append(entries, entry{key, value})
		return err
	})
	if err == nil && len(entries) > maxMembers/2 {
		err = errors.New(v.Path() + ": there are " + strconv.Itoa(len(entries)) + ", and at most " + strconv.Itoa(maxMembers/2))
	}
	return err
}

func request(r *wasmgate.Request) wasmgate.Decision {
	trust := everybody
	if a, ok := kit.ParseClient(r.Client()); ok && !trust {
		trust = trusted.Contains(a)
	}
	var id string
	if r.HeaderCount(field) == 1 && trust && valid(r.Header(field)) {
		id = r.Header(field)
	} else {
		scratch = appendID(scratch[:0], r.Time(), r.Seed())
		id = kit.View(scratch)
		r.SetHeader(header, id)
	}
	if r.Sampled() {
		r.Attribute("request.id", id)
	}
	if bags {
		setBaggage(r, trust)
	}
	return wasmgate.Continue
}

// valid says whether something can be taken over: it goes to logs, and into what reads them.
func valid(id string) bool {
	for i := range len(id) {
		c := id[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '-' || c > ':') && c != '_' && c != '=' && c != '+' && c != '~' && c != '@' {
			return false
		}
	}
	return id != "" && len(id) <= maxID
}

// appendID appends a UUID of version 7 (RFC 9562): it begins with the time, so that identifiers can be sorted.
func appendID(dst []byte, milliseconds int64, seed uint64) []byte {
	identifiers++
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], uint64(milliseconds)<<16|0x7000|(seed>>52^identifiers)&0xfff) //nolint:gosec // after 1970
	binary.BigEndian.PutUint64(b[8:], 1<<63|seed&(1<<62-1))
	for i, c := range b {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, digits[c>>4], digits[c&15])
	}
	return dst
}

const digits = "0123456789abcdef"

// setBaggage replaces the baggage by our members, and those of others behind them if they are trusted.
func setBaggage(r *wasmgate.Request, trust bool) {
	list = list[:0]
	n := 0
	for i := range entries {
		e := &entries[i]
		var ok bool
		if scratch, ok = e.value.Append(scratch[:0], r); !ok || len(scratch) == 0 || len(scratch) > maxValue {
			continue
		}
		before := len(list)
		if n > 0 {
			list = append(list, ',')
		}
		list = append(append(list, e.key...), '=')
		if list = appendEncoded(list, scratch); len(list) > maxBaggage {
			list = list[:before]
			continue
		}
		n++
	}
	left := maxLooks
	for k := 0; trust && k < r.HeaderCount(baggage); k++ {
		n = appendMembers(r.HeaderAt(baggage, k), n, &left)
	}
	if n > 0 {
		r.SetHeader("baggage", kit.View(list))
	} else if r.HeaderCount(baggage) > 0 {
		r.RemoveHeader("baggage")
	}
}

// maxLooks bounds how many members are looked at, with those that are not taken over.
const maxLooks = 2 * maxMembers

// appendMembers takes over the members of a baggage header that are not ours, and returns how many there are now.
func appendMembers(s string, n int, left *int) int {
	for start := 0; start < len(s) && n < maxMembers && *left > 0; *left-- {
		end := start
		for end < len(s) && s[end] != ',' {
			end++
		}
		member := s[start:end]
		start = end + 1
		if len(list)+1+len(member) > maxBaggage || !foreign(member) {
			continue
		}
		if n > 0 {
			list = append(list, ',')
		}
		list = append(list, trim(member)...)
		n++
	}
	return n
}

// foreign says whether a member is well-formed, and not of a key that we set.
func foreign(member string) bool {
	member = trim(member)
	equals := 0
	for equals < len(member) && member[equals] != '=' {
		equals++
	}
	key := trim(member[:equals])
	if equals == len(member) || !kit.Token(key) {
		return false
	}
	for i := range entries {
		if entries[i].key == key {
			return false
		}
	}
	return true
}

func trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// appendEncoded appends a value of baggage, of at most maxValue bytes. The loop calls nothing: Go's calls are dear in a module.
func appendEncoded(dst, value []byte) []byte {
	const upper = "0123456789ABCDEF"
	n := len(dst)
	dst = dst[:cap(dst)]
	for _, c := range value {
		if n+3 > len(dst) {
			break
		}
		dst[n] = c
		if c <= ' ' || c >= 0x7f || c == '"' || c == ',' || c == ';' || c == '\\' || c == '%' {
			dst[n], dst[n+1], dst[n+2] = '%', upper[c>>4], upper[c&15]
			n += 2
		}
		n++
	}
	return dst[:n]
}

// response tells the client what the upstream was told.
func response(r *wasmgate.Response) wasmgate.Decision {
	if id := r.Header(field); id != "" {
		r.SetHeader(header, id)
	}
	return wasmgate.Continue
}

func main() {} // never called: everything is registered in init
