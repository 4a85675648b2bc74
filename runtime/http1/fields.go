package http1

import "encoding/binary"

// FieldID stands for a known field name, so that fields are found without comparing names.
type FieldID uint8

// The known field names. FieldUnknown is any other.
const (
	FieldUnknown FieldID = iota
	FieldAccept
	FieldAcceptEncoding
	FieldAge
	FieldAuthorization
	FieldB3
	FieldBaggage
	FieldCacheControl
	FieldConnection
	FieldContentEncoding
	FieldContentLength
	FieldContentRange
	FieldContentType
	FieldCookie
	FieldDate
	FieldETag
	FieldExpect
	FieldExpires
	FieldForwarded
	FieldHTTP2Settings
	FieldHost
	FieldIfModifiedSince
	FieldIfNoneMatch
	FieldKeepAlive
	FieldLastModified
	FieldLocation
	FieldMaxForwards
	FieldOrigin
	FieldPragma
	FieldProxyAuthenticate
	FieldProxyAuthenticationInfo
	FieldProxyAuthorization
	FieldProxyConnection
	FieldRange
	FieldReferer
	FieldRetryAfter
	FieldServer
	FieldSetCookie
	FieldTE
	FieldTraceparent
	FieldTracestate
	FieldTrailer
	FieldTransferEncoding
	FieldUpgrade
	FieldUserAgent
	FieldVary
	FieldVia
	FieldWWWAuthenticate
	FieldXB3Flags
	FieldXB3ParentSpanID
	FieldXB3Sampled
	FieldXB3SpanID
	FieldXB3TraceID
	FieldXForwardedFor
	FieldXForwardedHost
	FieldXForwardedPort
	FieldXForwardedPrefix
	FieldXForwardedProto
	FieldXRealIP
	FieldXRequestID

	fieldIDs // at most 63: sets of them are bits of a word, and one is for listedField
)

var names = [fieldIDs]string{
	FieldAccept: "Accept", FieldAcceptEncoding: "Accept-Encoding", FieldAge: "Age", FieldAuthorization: "Authorization",
	FieldB3: "b3", FieldBaggage: "baggage", FieldCacheControl: "Cache-Control", FieldConnection: "Connection",
	FieldContentEncoding: "Content-Encoding", FieldContentLength: "Content-Length", FieldContentRange: "Content-Range",
	FieldContentType: "Content-Type", FieldCookie: "Cookie", FieldDate: "Date", FieldETag: "ETag", FieldExpect: "Expect",
	FieldExpires: "Expires", FieldForwarded: "Forwarded", FieldHTTP2Settings: "HTTP2-Settings", FieldHost: "Host",
	FieldIfModifiedSince: "If-Modified-Since", FieldIfNoneMatch: "If-None-Match", FieldKeepAlive: "Keep-Alive",
	FieldLastModified: "Last-Modified", FieldLocation: "Location", FieldMaxForwards: "Max-Forwards", FieldOrigin: "Origin",
	FieldPragma: "Pragma", FieldProxyAuthenticate: "Proxy-Authenticate",
	FieldProxyAuthenticationInfo: "Proxy-Authentication-Info", FieldProxyAuthorization: "Proxy-Authorization",
	FieldProxyConnection: "Proxy-Connection", FieldRange: "Range", FieldReferer: "Referer", FieldRetryAfter: "Retry-After",
	FieldServer: "Server", FieldSetCookie: "Set-Cookie", FieldTE: "TE", FieldTraceparent: "traceparent",
	FieldTracestate: "tracestate", FieldTrailer: "Trailer", FieldTransferEncoding: "Transfer-Encoding",
	FieldUpgrade: "Upgrade", FieldUserAgent: "User-Agent", FieldVary: "Vary", FieldVia: "Via",
	FieldWWWAuthenticate: "WWW-Authenticate", FieldXB3Flags: "X-B3-Flags", FieldXB3ParentSpanID: "X-B3-ParentSpanId",
	FieldXB3Sampled: "X-B3-Sampled", FieldXB3SpanID: "X-B3-SpanId", FieldXB3TraceID: "X-B3-TraceId", FieldXForwardedFor: "X-Forwarded-For", FieldXForwardedHost: "X-Forwarded-Host",
	FieldXForwardedPort: "X-Forwarded-Port", FieldXForwardedPrefix: "X-Forwarded-Prefix",
	FieldXForwardedProto: "X-Forwarded-Proto", FieldXRealIP: "X-Real-IP", FieldXRequestID: "X-Request-ID",
}

// String returns the name in its usual spelling, or "" for FieldUnknown.
func (id FieldID) String() string { return names[id] }

// Known says whether the id is that of a known name.
func (id FieldID) Known() bool { return id > FieldUnknown && id < fieldIDs }

// set is a set of known fields.
type set uint64

func setOf(ids ...FieldID) (s set) {
	for _, id := range ids {
		s |= 1 << id
	}
	return s
}

func (s set) has(id FieldID) bool { return s>>id&1 != 0 }

var (
	// framing fields say where a message ends. They are written anew, never forwarded.
	framingFields = setOf(FieldContentLength, FieldTransferEncoding)

	// hopByHop fields are about one connection (RFC 9110 section 7.6.1); proxy authentication is about one hop too.
	hopByHop = setOf(FieldConnection, FieldKeepAlive, FieldProxyConnection, FieldProxyAuthenticate,
		FieldProxyAuthenticationInfo, FieldProxyAuthorization, FieldTE, FieldTransferEncoding, FieldUpgrade, FieldHTTP2Settings)

	// notInTrailers are fields about framing, routing, authentication, and what was decided before the content came (RFC
	// 9110 section 6.5.1).
	notInTrailers = hopByHop | framingFields | setOf(FieldHost, FieldTrailer, FieldExpect, FieldMaxForwards, FieldRange,
		FieldAuthorization, FieldWWWAuthenticate, FieldCookie, FieldSetCookie, FieldCacheControl, FieldPragma, FieldAge,
		FieldExpires, FieldDate, FieldLocation, FieldRetryAfter, FieldVary, FieldContentEncoding, FieldContentType,
		FieldContentRange, FieldIfModifiedSince, FieldIfNoneMatch, FieldForwarded, FieldVia, FieldXForwardedFor,
		FieldXForwardedHost, FieldXForwardedPort, FieldXForwardedPrefix, FieldXForwardedProto, FieldXRealIP,
		FieldOrigin, FieldReferer, FieldTraceparent, FieldTracestate, FieldXRequestID,
		FieldB3, FieldXB3Flags, FieldXB3ParentSpanID, FieldXB3Sampled, FieldXB3SpanID, FieldXB3TraceID)
)

// IsHopByHop says whether a field is about one connection only, and never crosses the gateway.
func IsHopByHop(id FieldID) bool { return hopByHop.has(id) }

// IsFraming says whether a field says where a message ends: Content-Length and Transfer-Encoding.
func IsFraming(id FieldID) bool { return framingFields.has(id) }

// known is a name by which lookups compare: its first and last eight bytes, or all of it twice if it is shorter. The
// masks have the bit of each letter that makes it lower case, and nothing of other bytes, so that a comparison holds for
// the name in any case and for nothing else.
type known struct {
	first, last         uint64
	firstMask, lastMask uint64
	name                string
	id                  FieldID
}

// byLength has the known names of each length.
var byLength = func() (t [32][]known) {
	for id := FieldUnknown + 1; id < fieldIDs; id++ {
		name, mask := []byte(names[id]), make([]byte, len(names[id]))
		for i, c := range name {
			if name[i] = lower(c); lower(c) >= 'a' && lower(c) <= 'z' {
				mask[i] = 0x20
			}
		}
		k := known{name: names[id], id: id}
		k.first, k.last = ends(name)
		k.firstMask, k.lastMask = ends(mask)
		t[len(name)] = append(t[len(name)], k)
	}
	return t
}()

// ends returns the first and the last eight bytes of a name, or all of it twice if it is shorter.
func ends(n []byte) (first, last uint64) {
	if len(n) >= 8 {
		return binary.LittleEndian.Uint64(n), binary.LittleEndian.Uint64(n[len(n)-8:])
	}
	if cap(n) >= 8 { // what lies behind it in the buffer is read, and cut off
		first = binary.LittleEndian.Uint64(n[:8]) & (1<<(8*len(n)) - 1)
		return first, first
	}
	for i := len(n) - 1; i >= 0; i-- {
		first = first<<8 | uint64(n[i])
	}
	return first, first
}

// lookup returns the id of a name, or FieldUnknown. A name that has an id is a token.
func lookup(n []byte) FieldID {
	if len(n) >= len(byLength) {
		return FieldUnknown
	}
	bucket := byLength[len(n)]
	if len(bucket) == 0 {
		return FieldUnknown
	}
	first, last := ends(n)
	for i := range bucket {
		k := &bucket[i]
		if first|k.firstMask == k.first && last|k.lastMask == k.last && (len(n) <= 16 || EqualFold(n[8:len(n)-8], k.name[8:len(n)-8])) {
			return k.id
		}
	}
	return FieldUnknown
}

// LookupField returns the id of a field name in any case, or FieldUnknown. Keep it where a name is looked up often.
func LookupField(name string) FieldID {
	if len(name) >= len(byLength) || len(byLength[len(name)]) == 0 {
		return FieldUnknown
	}
	for _, k := range byLength[len(name)] {
		if EqualFold(name, k.name) {
			return k.id
		}
	}
	return FieldUnknown
}

// LookupFieldBytes is LookupField for a name that is at hand as bytes.
func LookupFieldBytes(name []byte) FieldID { return lookup(name) }
