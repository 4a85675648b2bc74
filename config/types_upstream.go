package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ListenerMode is what a listener does with the bytes of its clients.
type ListenerMode string

// The values of ListenerMode.
const (
	ModeHTTP ListenerMode = "http"
	ModeTCP  ListenerMode = "tcp"
)

// TargetState is which requests a target takes.
type TargetState string

// The values of TargetState.
const (
	TargetActive   TargetState = "active"
	TargetStandby  TargetState = "standby"
	TargetSpare    TargetState = "spare"
	TargetDrain    TargetState = "drain"
	TargetDisabled TargetState = "disabled"
)

// Ping is how an idle connection is tried before a request is spent on it.
type Ping string

// The values of Ping.
const (
	PingSocket         Ping = "socket"
	PingExpectContinue Ping = "expect_continue"
	PingOff            Ping = "off"
)

// CheckType is how an address is checked.
type CheckType string

// The values of CheckType.
const (
	CheckOff  CheckType = "off"
	CheckHTTP CheckType = "http"
	CheckTCP  CheckType = "tcp"
	CheckGRPC CheckType = "grpc"
)

// SameSite is the attribute of that name of a cookie.
type SameSite string

// The values of SameSite.
const (
	SameSiteLax    SameSite = "lax"
	SameSiteStrict SameSite = "strict"
	SameSiteNone   SameSite = "none"
)

// DNSFamily is which addresses of a name are used.
type DNSFamily string

// The values of DNSFamily.
const (
	FamilyAny  DNSFamily = "any"
	FamilyIPv4 DNSFamily = "ipv4"
	FamilyIPv6 DNSFamily = "ipv6"
)

// Protocol is what is spoken to an upstream.
type Protocol string

// The values of Protocol.
const (
	ProtocolHTTP11 Protocol = "http1.1"
	ProtocolHTTP10 Protocol = "http1.0"
	ProtocolHTTP2  Protocol = "http2"
)

// ProxyProtocol is the version of the PROXY protocol header that begins connections to an upstream.
type ProxyProtocol string

// The values of ProxyProtocol.
const (
	ProxyProtocolOff ProxyProtocol = "off"
	ProxyProtocolV1  ProxyProtocol = "v1"
	ProxyProtocolV2  ProxyProtocol = "v2"
)

// Algorithm is a way to choose one of several targets.
type Algorithm string

// The values of Algorithm.
const (
	RoundRobin    Algorithm = "round_robin"
	LeastRequests Algorithm = "least_requests"
	LeastBytes    Algorithm = "least_bytes"
	RandomTwo     Algorithm = "random_two"
	First         Algorithm = "first"
	Hash          Algorithm = "hash"
)

var algorithms = []string{string(RoundRobin), string(LeastRequests), string(LeastBytes), string(RandomTwo), string(First)}

// HashOn is the part of a request whose hash chooses a target.
type HashOn string

// The values of HashOn. The last three go with a name.
const (
	HashIP     HashOn = "ip"
	HashPath   HashOn = "path"
	HashQuery  HashOn = "query"
	HashHeader HashOn = "header"
	HashCookie HashOn = "cookie"
)

var hashForms = "hash(ip), hash(path), hash(query NAME), hash(header NAME), hash(cookie NAME)"

// Balance is how one of several targets is chosen. In a file it is the algorithm's name, or hash(...) with what is
// hashed: hash(ip), hash(header x-tenant).
type Balance struct {
	Algorithm Algorithm
	On        HashOn // of Hash; else empty
	Name      string // of a query parameter, a field (in lower case) or a cookie; else empty
}

// String writes b the way it is written in a file.
func (b Balance) String() string {
	switch {
	case b.Algorithm != Hash:
		return string(b.Algorithm)
	case b.Name == "":
		return "hash(" + string(b.On) + ")"
	}
	return "hash(" + string(b.On) + " " + b.Name + ")"
}

// MarshalText writes b as String does.
func (b Balance) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads an algorithm.
func (b *Balance) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	if slices.Contains(algorithms, s) {
		*b = Balance{Algorithm: Algorithm(s)}
		return nil
	}
	inner, isHash := strings.CutPrefix(s, "hash")
	inner = strings.TrimSpace(inner)
	if !isHash || !strings.HasPrefix(inner, "(") || !strings.HasSuffix(inner, ")") {
		help := "write one of " + strings.Join(algorithms, ", ") + ", " + hashForms
		if foreign := foreignValue("balance", s); foreign != "" {
			help = foreign
		} else if near := nearest(s, algorithms); near != "" {
			help = "did you mean `" + near + "`?"
		}
		return helped{quote(s) + " is no way to balance", help}
	}
	on, name, _ := strings.Cut(strings.TrimSpace(inner[1:len(inner)-1]), " ")
	name = strings.TrimSpace(name)
	switch HashOn(on) {
	case HashIP, HashPath:
		if name != "" {
			return helped{fmt.Sprintf("hash(%s) has no name", on), "write `hash(" + on + ")`"}
		}
	case HashHeader, HashCookie:
		if !isToken(name) {
			return helped{fmt.Sprintf("%s is not the name of a %s", quote(name), on), "write it as in hash(" + on + " x-tenant)"}
		}
		if HashOn(on) == HashHeader {
			name = strings.ToLower(name)
		}
	case HashQuery:
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("()&=#", r) }) {
			return helped{quote(name) + " is not the name of a query parameter", "write it as in hash(query user)"}
		}
	default:
		help := "write one of " + hashForms
		if foreign := foreignValue("hash", on); foreign != "" {
			help = foreign
		} else if near := nearest(on, []string{"path", "query", "header", "cookie"}); near != "" {
			help = "did you mean `" + near + "`?"
		}
		return helped{quote(on) + " cannot be hashed", help}
	}
	*b = Balance{Hash, HashOn(on), name}
	return nil
}

// Factor is how many times as much something may be: a number from 1 on.
type Factor float64

// UnmarshalText reads a factor.
func (f *Factor) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	v, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64)
	switch {
	case err != nil || math.IsNaN(v):
		return helped{quote(text) + " is not a number", "write a number from 1 to 100, as in 1.25"}
	case v < 1 || v > 100:
		return helped{quote(text) + " is not between 1 and 100", "1 is the average itself, 1.25 a quarter above it"}
	}
	*f = Factor(v)
	return nil
}

// MarshalText writes f as a number.
func (f Factor) MarshalText() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(f), 'g', -1, 64), nil
}

// StatusRange is the status codes from First to Last, both included. In a file it is a code (503) or two (500-599).
type StatusRange struct{ First, Last int }

// Contains says whether a status code is one of r.
func (r StatusRange) Contains(status int) bool { return r.First <= status && status <= r.Last }

// String writes r the way it is written in a file.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return strconv.Itoa(r.First) + "-" + strconv.Itoa(r.Last)
}

// MarshalText writes r as String does.
func (r StatusRange) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a code or a range.
func (r *StatusRange) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, err := strconv.Atoi(strings.TrimSpace(from))
	last, err2 := strconv.Atoi(strings.TrimSpace(to))
	switch {
	case err != nil || err2 != nil:
		help := "write a code as in 503, or a range as in 500-599"
		if len(text) == 3 && strings.EqualFold(text[1:], "xx") && text[0] >= '1' && text[0] <= '5' {
			help = fmt.Sprintf("write `%c00-%c99`", text[0], text[0])
		}
		return helped{quote(text) + " is not a status code", help}
	case first < 100 || last > 599:
		return helped{quote(text) + " is not a status code", "status codes are from 100 to 599"}
	case first > last:
		return helped{quote(text) + " is empty", fmt.Sprintf("write `%d-%d`", last, first)}
	}
	*r = StatusRange{first, last}
	return nil
}

// RetryOn is a kind of RetryCondition.
type RetryOn string

// The values of RetryOn.
const (
	RetryConnect RetryOn = "connect"
	RetryReset   RetryOn = "reset"
	RetryTimeout RetryOn = "timeout"
	RetryStatus  RetryOn = "status"
)

// grpcStatuses are the statuses of gRPC but OK, each at the place of its number, as RetryOn has them.
var grpcStatuses = [...]RetryOn{
	1: "grpc-cancelled", "grpc-unknown", "grpc-invalid-argument", "grpc-deadline-exceeded", "grpc-not-found", "grpc-already-exists",
	"grpc-permission-denied", "grpc-resource-exhausted", "grpc-failed-precondition", "grpc-aborted", "grpc-out-of-range",
	"grpc-unimplemented", "grpc-internal", "grpc-unavailable", "grpc-data-loss", "grpc-unauthenticated",
}

var retryWords = func() []string {
	words := []string{string(RetryConnect), string(RetryReset), string(RetryTimeout)}
	for _, s := range grpcStatuses[1:] {
		words = append(words, string(s))
	}
	return words
}()

// RetryCondition is what lets a request be sent again. In a file it is connect, reset or timeout, a StatusRange, or a status
// of gRPC as in grpc-unavailable.
type RetryCondition struct {
	On     RetryOn
	Status StatusRange // of RetryStatus; else zero
}

// String writes c the way it is written in a file.
func (c RetryCondition) String() string {
	if c.On == RetryStatus {
		return c.Status.String()
	}
	return string(c.On)
}

// GRPC is the number of the status of gRPC that c is; not ok if it is none.
func (c RetryCondition) GRPC() (code int, ok bool) {
	code = slices.Index(grpcStatuses[1:], c.On) + 1
	return code, code > 0
}

// MarshalText writes c as String does.
func (c RetryCondition) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a condition.
func (c *RetryCondition) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if slices.Contains(retryWords, s) {
		*c = RetryCondition{On: RetryOn(s)}
		return nil
	}
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		var r StatusRange
		if err := r.UnmarshalText(b); err != nil {
			return err
		}
		if r.First < 400 {
			return helped{quote(s) + " is an answer that is none to try again for", "write codes from 400 to 599"}
		}
		*c = RetryCondition{RetryStatus, r}
		return nil
	}
	help := "write connect, reset, timeout, a status code (503), a range (502-504) or a status of gRPC (grpc-unavailable)"
	if slices.Contains(retryWords, "grpc-"+strings.ReplaceAll(strings.ToLower(s), "_", "-")) {
		help = "say `grpc-" + strings.ReplaceAll(strings.ToLower(s), "_", "-") + "`: statuses of gRPC begin with grpc-"
	}
	if foreign := foreignValue("on", s); foreign != "" {
		help = foreign
	} else if near := nearest(s, retryWords); near != "" {
		help = "did you mean `" + near + "`?"
	}
	return helped{quote(s) + " is nothing to try again on", help}
}
