package kit

import (
	"errors"
	"sort"
	"strconv"
	"strings"
	"time"

	wasmgate "wasmgate/sdk/go"
)

// Value is a value of the plugin's configuration, which knows where it stands.
type Value struct {
	raw   JSON
	in    *Value // the object or array that it is in
	key   string // there, or its name if it is in none
	index int    // in an array
}

// Keys are what an object may have, each with what reads it.
type Keys map[string]func(Value) error

// Read gives each key of the configuration to its reader. A key that is unknown, or there twice, is an error. No
// configuration at all is an empty one.
func Read(c *wasmgate.Config, keys Keys) error {
	searches = 0
	text := c.Raw()
	if text == "" {
		return nil
	}
	raw, err := ParseJSON([]byte(text))
	if err != nil {
		return errors.New("config: the configuration is " + err.Error())
	}
	return Value{raw: raw, key: "config"}.Object(keys)
}

// NewValue is a value that stands at a path, of a default for instance.
func NewValue(path string, raw JSON) Value { return Value{raw: raw, key: path} }

// Path is where the value stands, such as config.rules[3].to.
func (v Value) Path() string {
	switch {
	case v.in == nil:
		return v.key
	case v.in.raw.Kind() == '[':
		return v.in.Path() + "[" + strconv.Itoa(v.index) + "]"
	}
	return v.in.Path() + "." + v.key
}

// Wrong is an error about the value: its key, it, and text.
func (v Value) Wrong(text string) error {
	return errors.New(v.Path() + ": " + quote(v.raw) + " " + text)
}

// Missing is an error about a key that an object must have.
func (v Value) Missing(key, text string) error {
	return errors.New(v.Path() + "." + key + " is missing: " + text)
}

// quote is a value as it is written, but for its middle if it is long.
func quote(raw JSON) string {
	const most = 100
	if len(raw) > most {
		return strings.ToValidUTF8(string(raw[:most]), "") + "…"
	}
	return string(raw)
}

// Object gives each key of the value to its reader.
func (v Value) Object(keys Keys) error {
	return v.Map(func(name string, each Value) error {
		read := keys[name]
		if read == nil {
			names := make([]string, 0, len(keys))
			for k := range keys {
				names = append(names, k)
			}
			sort.Strings(names)
			return errors.New(each.Path() + ": there is no such key; the keys are " + strings.Join(names, ", "))
		}
		return read(each)
	})
}

// Map gives each member of an object to fn, by its name.
func (v Value) Map(fn func(name string, v Value) error) error {
	if v.raw.Kind() != '{' {
		return v.Wrong("is not an object, of keys and values")
	}
	var first [8]string // most objects are small, and there may be ten thousand of them
	var seen map[string]bool
	m := v.raw.Members()
	for n := 0; ; n++ {
		raw, value, ok := m.Next()
		if !ok {
			return nil
		}
		name := raw.String()
		each := Value{raw: value, in: &v, key: name}
		again := seen[name]
		for i := range min(n, len(first)) {
			again = again || first[i] == name
		}
		switch {
		case again:
			return errors.New(each.Path() + ": the key is there twice")
		case n < len(first):
			first[n] = name
		case seen == nil:
			seen = map[string]bool{name: true}
		default:
			seen[name] = true
		}
		if err := fn(name, each); err != nil {
			return err
		}
	}
}

// List gives each element of an array to fn. Any other value is an array of one.
func (v Value) List(fn func(Value) error) error {
	if v.raw.Kind() != '[' {
		return fn(v)
	}
	m := v.raw.Elements()
	for i := 0; ; i++ {
		_, value, ok := m.Next()
		if !ok {
			return nil
		}
		if err := fn(Value{raw: value, in: &v, index: i}); err != nil {
			return err
		}
	}
}

// IsObject says whether the value is an object.
func (v Value) IsObject() bool { return v.raw.Kind() == '{' }

// JSON is the value as it is written.
func (v Value) JSON() JSON { return v.raw }

// Text is a string that is not empty. Numbers and booleans are taken for what they look like.
func (v Value) Text() (string, error) {
	switch v.raw.Kind() {
	case '{', '[', 'n':
		return "", v.Wrong("is not a text")
	}
	s := v.raw.String()
	if s == "" {
		return "", v.Wrong("is empty")
	}
	return s, nil
}

// Int is a whole number from least to most.
func (v Value) Int(least, most int64) (int64, error) {
	n, ok := v.raw.Int()
	if !ok || n < least || n > most {
		return 0, v.Wrong("is not a whole number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10))
	}
	return n, nil
}

// Bool is true or false.
func (v Value) Bool() (bool, error) {
	switch v.raw.Kind() {
	case 't', 'f':
		return v.raw[0] == 't', nil
	}
	return false, v.Wrong("is neither true nor false")
}

// Duration is a text such as 250ms, 10s, 1h30m or 7d.
func (v Value) Duration(least, most time.Duration) (time.Duration, error) {
	s := v.raw.String()
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil && (n < 0 || n > 36500) {
			err = ErrJSON
		}
		d = time.Duration(n) * 24 * time.Hour
	}
	if err != nil {
		return 0, v.Wrong("is not a duration such as 10s, 5m or 1d")
	}
	if d < least || d > most {
		return 0, v.Wrong("is not from " + least.String() + " to " + most.String())
	}
	return d, nil
}

// FieldName is the name of a header field, in lower case.
func (v Value) FieldName() (string, error) {
	s, err := v.Text()
	if err != nil {
		return "", err
	}
	if s = Lower(s); !Token(s) {
		return "", v.Wrong("is not the name of a header")
	}
	return s, nil
}

// EditedField is the name of a header field that a plugin may change.
func (v Value) EditedField() (string, error) {
	s, err := v.FieldName()
	if err != nil {
		return "", err
	}
	return s, v.Editable(s)
}

// Editable says why a plugin must not change a header field; nil: it may.
func (v Value) Editable(name string) error {
	switch name := strings.ReplaceAll(Lower(name), "_", "-"); {
	case !Token(name):
		return errors.New(v.Path() + ": " + strconv.Quote(name) + " is not the name of a header")
	case forbidden[name]:
		return errors.New(v.Path() + ": " + name + " is the gateway's own and cannot be changed by a plugin")
	}
	return nil
}

// forbidden are the fields that the ABI keeps from plugins (sdk/abi.md, Operations).
var forbidden = map[string]bool{
	"host": true, "content-length": true, "transfer-encoding": true, "connection": true, "keep-alive": true,
	"proxy-connection": true, "te": true, "trailer": true, "upgrade": true, "http2-settings": true, "expect": true,
	"proxy-authenticate": true, "proxy-authentication-info": true, "proxy-authorization": true,
}

// Token says whether s is a token (RFC 9110, 5.6.2) of at most 256 bytes.
func Token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != "" && len(s) <= 256
}

// FieldValue says whether s can be the value of a header field as it is.
func FieldValue(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return len(s) <= MaxText && strings.Trim(s, " \t") == s
}

// The readers of simple keys, for Keys.

// Text reads a text.
func Text(to *string) func(Value) error {
	return func(v Value) (err error) { *to, err = v.Text(); return err }
}

// Int reads a whole number.
func Int(to *int, least, most int64) func(Value) error {
	return func(v Value) error {
		n, err := v.Int(least, most)
		*to = int(n)
		return err
	}
}

// Bool reads true or false.
func Bool(to *bool) func(Value) error {
	return func(v Value) (err error) { *to, err = v.Bool(); return err }
}

// Duration reads a duration.
func Duration(to *time.Duration, least, most time.Duration) func(Value) error {
	return func(v Value) (err error) { *to, err = v.Duration(least, most); return err }
}

// EditedField reads the name of a header that the plugin changes.
func EditedField(to *string) func(Value) error {
	return func(v Value) (err error) { *to, err = v.EditedField(); return err }
}
