package abi

// String is the operation's name, as abi.md has it in its texts. One that is not known is its number.
func (k Kind) String() string {
	switch k {
	case OpUpstream:
		return "upstream"
	case OpAddress:
		return "address"
	case OpTimeout:
		return "timeout"
	case OpHashKey:
		return "hash_key"
	case OpMethod:
		return "method"
	case OpAuthority:
		return "authority"
	case OpPath:
		return "path"
	case OpQuery:
		return "query"
	case OpSetHeader:
		return "set_header"
	case OpAppendHeader:
		return "append_header"
	case OpRemoveHeader:
		return "remove_header"
	case OpRespond:
		return "respond"
	case OpAttribute:
		return "attribute"
	case OpLog:
		return "log"
	case OpContext:
		return "context"
	case OpRematch:
		return "rematch"
	case OpSetBody:
		return "set_body"
	case OpWantBody:
		return "want_body"
	case OpKeep:
		return "keep"
	case OpMetric:
		return "metric"
	}
	const digits = "0123456789abcdef"
	return "0x" + string([]byte{digits[k>>12&15], digits[k>>8&15], digits[k>>4&15], digits[k&15]})
}
