package abi

import (
	"errors"
	"strconv"
)

// problem makes an error of strings and numbers; kinds of records are written in hexadecimal. It stands in for package
// fmt, which would bring package os and another 400 KB into every Go plugin.
func problem(parts ...any) error {
	var b []byte
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			b = append(b, v...)
		case []byte:
			b = strconv.AppendQuote(b, string(v))
		case error:
			b = append(b, v.Error()...)
		case int:
			b = strconv.AppendInt(b, int64(v), 10)
		case uint32:
			b = strconv.AppendUint(b, uint64(v), 10)
		case uint16:
			b = strconv.AppendUint(append(b, "0x"...), uint64(v), 16)
		}
	}
	return errors.New(string(b))
}
