package config

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Duration is a length of time, written as a number with a unit: 250ms, 60s, 1m30s, 12h. A bare 0 is allowed.
type Duration time.Duration

// Std returns d as the standard library's type.
func (d Duration) Std() time.Duration { return time.Duration(d) }

// String writes d the way it is written in a file: 1m30s, 250ms, 0s, without zero parts.
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes d as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads a duration.
func (d *Duration) UnmarshalText(b []byte) error {
	s := strings.ReplaceAll(string(b), "_", "")
	v, err := time.ParseDuration(s)
	if err != nil {
		if n, numErr := strconv.ParseFloat(s, 64); numErr == nil && n != 0 {
			return helped{fmt.Sprintf("%s has no unit", s), fmt.Sprintf("a duration needs one: %ss or %sms", s, s)}
		}
		return helped{fmt.Sprintf("%s is not a duration", quote(string(b))), "write a number and a unit (ns, us, ms, s, m, h), as in 250ms, 60s or 1h30m"}
	}
	if v < 0 {
		return helped{fmt.Sprintf("%s is negative", quote(string(b))), "a duration is 0s or more"}
	}
	*d = Duration(v)
	return nil
}

// Size is a number of bytes, written as a number with a unit (16MiB, 64KiB, 10MB) or without one.
type Size int64

// The binary units of a Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
)

var sizeUnits = []struct {
	name string
	n    Size
}{
	{"TiB", 1 << 40}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
}

// String writes s with the largest binary unit that divides it.
func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	for _, u := range sizeUnits[:4] {
		if s%u.n == 0 {
			return strconv.FormatInt(int64(s/u.n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10) + "B"
}

// MarshalText writes s as String does.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads a size. Units: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024).
func (s *Size) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	digits, unit := text, Size(1)
	for _, u := range sizeUnits {
		if strings.HasSuffix(text, u.name) {
			digits, unit = strings.TrimSpace(strings.TrimSuffix(text, u.name)), u.n
			break
		}
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(digits, "_", ""), 64)
	bytes := n * float64(unit)
	switch {
	case err != nil || strings.ContainsAny(digits, "xXpPiInN+eE"):
		help := "write a number of bytes or a number and a unit, as in 64KiB, 16MiB or 10MB"
		if guess, ok := guessSize(text); ok {
			help = "did you mean `" + guess + "`? Units: B, kB, MB, GB (powers of 1000), KiB, MiB, GiB (powers of 1024)"
		}
		return helped{fmt.Sprintf("%s is not a size", quote(string(b))), help}
	case bytes < 0:
		return helped{fmt.Sprintf("%s is negative", quote(string(b))), "a size is 0 or more"}
	case bytes >= math.MaxInt64:
		return helped{fmt.Sprintf("%s is too large", quote(string(b))), "a size fits in 63 bits"}
	case bytes != math.Trunc(bytes):
		return helped{fmt.Sprintf("%s is not a whole number of bytes", quote(string(b))), "use a smaller unit"}
	}
	*s = Size(bytes)
	return nil
}

// guessSize names the unit that nginx's 16m, Apache's 16M or a JVM's 16mb may stand for.
func guessSize(text string) (string, bool) {
	digits := strings.TrimRight(text, "kKmMgGtTiIbB")
	unit := strings.ToLower(strings.TrimPrefix(text, digits))
	names := map[string]string{"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB", "kb": "KiB", "mb": "MiB", "gb": "GiB",
		"tb": "TiB", "ki": "KiB", "mi": "MiB", "gi": "GiB", "ti": "TiB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB"}
	if _, err := strconv.ParseUint(digits, 10, 63); err != nil || names[unit] == "" {
		return "", false
	}
	return digits + names[unit], true
}

// Ratio is a part of a whole, from 0 to 1.
type Ratio float64

// UnmarshalText reads a ratio; 25% is the same as 0.25.
func (r *Ratio) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(strings.ReplaceAll(number, "_", ""), 64)
	if percent {
		v /= 100
	}
	if err != nil || math.IsNaN(v) {
		return helped{fmt.Sprintf("%s is not a ratio", quote(text)), "write a number from 0 to 1, as in 0.25, or a percentage, as in 25%"}
	}
	if v < 0 || v > 1 {
		help := "a ratio is from 0 to 1"
		if v > 1 && v <= 100 {
			help += fmt.Sprintf("; did you mean `%s%%`?", number)
		}
		return helped{fmt.Sprintf("%s is not between 0 and 1", quote(text)), help}
	}
	*r = Ratio(v)
	return nil
}

// MarshalText writes r as a number.
func (r Ratio) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(r), 'g', -1, 64), nil
}

// ForwardedHeaders is which fields tell an upstream about the client.
type ForwardedHeaders string

// The values of ForwardedHeaders.
const (
	ForwardedX    ForwardedHeaders = "x_forwarded"
	ForwardedRFC  ForwardedHeaders = "forwarded"
	ForwardedBoth ForwardedHeaders = "both"
	ForwardedNone ForwardedHeaders = "none"
)

// Scheme is how an upstream is spoken to.
type Scheme string

// The values of Scheme.
const (
	HTTP  Scheme = "http"
	HTTPS Scheme = "https"
)

// Port is the port that a scheme stands for.
func (s Scheme) Port() uint16 {
	if s == HTTPS {
		return 443
	}
	return 80
}

// Reuse is which requests may use a pooled connection.
type Reuse string

// The values of Reuse.
const (
	ReuseAlways Reuse = "always"
	ReuseSafe   Reuse = "safe"
	ReuseNever  Reuse = "never"
)

// OnError is what becomes of a request whose plugin failed.
type OnError string

// The values of OnError.
const (
	FailClosed OnError = "fail_closed"
	FailOpen   OnError = "fail_open"
)

// LogLevel is the least level of log lines that are kept.
type LogLevel string

// The values of LogLevel.
const (
	LevelTrace LogLevel = "trace"
	LevelDebug LogLevel = "debug"
	LevelInfo  LogLevel = "info"
	LevelWarn  LogLevel = "warn"
	LevelError LogLevel = "error"
	LevelOff   LogLevel = "off"
)

// LogFormat is how log lines look.
type LogFormat string

// The values of LogFormat.
const (
	FormatJSON    LogFormat = "json"
	FormatConsole LogFormat = "console"
)

// TraceProtocol is the transport of OTLP.
type TraceProtocol string

// The values of TraceProtocol.
const (
	TraceHTTP TraceProtocol = "http"
	TraceGRPC TraceProtocol = "grpc"
)

// Propagation is a way in which a request names its trace.
type Propagation string

// The values of Propagation.
const (
	PropagateW3C     Propagation = "w3c"
	PropagateB3      Propagation = "b3"
	PropagateB3Multi Propagation = "b3multi"
)

// HostPolicy is the Host field that an upstream sees: HostPreserve, HostUpstream, or the field's text itself. On a
// route the empty one means the upstream's.
type HostPolicy string

// The values of HostPolicy that are not texts of their own.
const (
	HostPreserve HostPolicy = "preserve"
	HostUpstream HostPolicy = "upstream"
)

// PluginConfig is what a plugin gets at its start: the bytes of a string as it was written, or JSON for anything else,
// with the keys of objects in alphabetical order. It is nil if nothing was given.
type PluginConfig []byte

// Origin is where a target is.
type Origin struct {
	Scheme Scheme
	Host   string // lower-case name, or an IP address without brackets, or the path of a Unix socket
	Port   uint16 // 0 if SRV says it, or there is none
}

// Unix says whether it is a Unix socket, whose path Host is.
func (o Origin) Unix() bool { return strings.HasPrefix(o.Host, "/") }

// SRV says whether hosts and ports are looked up as SRV: the first label of such a name begins with "_".
func (o Origin) SRV() bool { return strings.HasPrefix(o.Host, "_") }

// String writes o as scheme://host:port, scheme://host if SRV says the port, unix:/path, or https://unix:/path.
func (o Origin) String() string {
	switch {
	case o.Unix() && o.Scheme == HTTPS:
		return string(HTTPS) + "://" + unixScheme + o.Host
	case o.Unix():
		return unixScheme + o.Host
	}
	return string(o.Scheme) + "://" + o.Authority()
}

// unixScheme is before the path of a socket.
const unixScheme = "unix:"

// Authority writes host:port, with brackets around an IPv6 address, or the host alone if SRV says the port. A Unix socket is
// localhost.
func (o Origin) Authority() string {
	switch {
	case o.Unix():
		return "localhost"
	case o.Port == 0:
		return o.Host
	case strings.Contains(o.Host, ":"):
		return "[" + o.Host + "]:" + strconv.Itoa(int(o.Port))
	}
	return o.Host + ":" + strconv.Itoa(int(o.Port))
}

// HostPattern is one entry of an allow list for addresses.
type HostPattern struct {
	Host    string   // lower-case name without the "*.", or an IP address without brackets
	Suffix  bool     // true: one or more labels must stand in front of Host
	AnyPort bool     // true: Ports does not count
	Ports   []uint16 // empty: only the scheme's own port
}

// Match says whether an address may be used. The host must be lower-case and without brackets; scheme is the one that
// will be spoken. It does not allocate.
func (p *HostPattern) Match(scheme Scheme, host string, port uint16) bool {
	if p.Suffix {
		cut := len(host) - len(p.Host)
		if cut < 2 || host[cut-1] != '.' || host[0] == '.' || host[cut:] != p.Host {
			return false
		}
	} else if host != p.Host {
		return false
	}
	if p.AnyPort {
		return true
	}
	if len(p.Ports) == 0 {
		return port == scheme.Port()
	}
	for _, q := range p.Ports {
		if q == port {
			return true
		}
	}
	return false
}

// String writes p the way it is written in a file.
func (p HostPattern) String() string {
	var b strings.Builder
	if p.Suffix {
		b.WriteString("*.")
	}
	if strings.Contains(p.Host, ":") {
		b.WriteString("[" + p.Host + "]")
	} else {
		b.WriteString(p.Host)
	}
	if p.AnyPort {
		b.WriteString(":*")
	}
	for i, port := range p.Ports {
		b.WriteByte(":,"[min(i, 1)])
		b.WriteString(strconv.Itoa(int(port)))
	}
	return b.String()
}

// MatchKind is how a ValueMatch compares.
type MatchKind string

// The values of MatchKind, which are the keys in the file.
const (
	MatchExact   MatchKind = "exact"
	MatchRegex   MatchKind = "regex"
	MatchPresent MatchKind = "present"
	MatchAbsent  MatchKind = "absent"
)

// ValueMatch is a condition on the value of a field or of a query parameter. In a file it is a string (exact), or one
// of {exact: text}, {regex: expression}, {present: true}, {absent: true}.
type ValueMatch struct {
	Kind  MatchKind
	Value string // text or expression; empty for MatchPresent and MatchAbsent
}

// helped is an error that also says what to write instead.
type helped struct{ message, help string }

func (h helped) Error() string { return h.message }

// quote shows a value in a message, shortened.
func quote(s string) string {
	if len(s) > 60 {
		s = s[:57] + "..."
	}
	return strconv.Quote(s)
}

// parsePrefix reads a network, or an address as the network of itself.
func parsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Masked() != p {
			return p, helped{fmt.Sprintf("%s has bits set beyond its length", quote(s)), "write `" + p.Masked().String() + "`, or the address alone"}
		}
		return p, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	return netip.Prefix{}, helped{fmt.Sprintf("%s is not an address or a network", quote(s)), "write one as in 10.0.0.0/8, 192.0.2.7 or fd00::/8"}
}

// NonUTF8 is what a Proxy-Wasm plugin sees of a header value that is no UTF-8.
type NonUTF8 string

// The values of proxy_wasm.non_utf8.
const (
	NonUTF8Replace NonUTF8 = "replace"
	NonUTF8Drop    NonUTF8 = "drop"
	NonUTF8Pass    NonUTF8 = "pass"
)

// StopIteration is what a Proxy-Wasm plugin means that pauses a message at its head.
type StopIteration string

// The values of proxy_wasm.stop_iteration.
const (
	StopAuto    StopIteration = "auto"
	StopAll     StopIteration = "all"
	StopHeaders StopIteration = "headers"
)
