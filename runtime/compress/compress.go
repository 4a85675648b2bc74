// Package compress gives bodies a content coding and takes one off them: gzip, br and zstd, negotiated as in RFC 9110
// section 12.5.3.
//
// Rules say which answers of a route are compressed. What a client takes is read once into an Accepted; Rules.Answer then
// decides, and makes the head fit; an Encoder is the answer's body from there on. A Decoder is a body without the coding
// that it came with, within Limits, for plugins that look at it. Encoders and decoders are memory: Pools lends it, loop by
// loop, up to a bound.
//
// Everything runs on a loop, in slices after which others have their turn. No coder starts a goroutine.
//
// github.com/klauspost/compress is there for gzip and zstd: the standard library has no zstd, and its gzip takes two to
// three times as long. github.com/andybalholm/brotli is the one encoder of brotli in Go that can flush.
package compress

import "wasmgate/runtime/http1"

// Coding is a content coding.
type Coding uint8

// The codings.
const (
	Identity Coding = iota // none
	Gzip
	Brotli
	Zstd
	Deflate // only decoded: what is sent under this name is zlib's format as often as not

	codings
)

var names = [codings]string{Identity: "identity", Gzip: "gzip", Brotli: "br", Zstd: "zstd", Deflate: "deflate"}

func (c Coding) String() string { return names[c] }

// Token is the coding's name as facts have it: nothing for Identity.
func (c Coding) Token() string {
	if c == Identity {
		return ""
	}
	return names[c]
}

// Named returns the coding that a name stands for, in any case, and whether there is one.
func Named[T string | []byte](name T) (Coding, bool) {
	for c, n := range names {
		if http1.EqualFold(name, n) {
			return Coding(c), true
		}
	}
	if http1.EqualFold(name, "x-gzip") { // RFC 9110 section 8.4.1.3
		return Gzip, true
	}
	return Identity, false
}

// Level is how much work is spent on compressing.
type Level uint8

// The levels. What each costs is in the README.
const (
	Fast Level = iota
	Default
	Best

	levels
)

// Rules say which answers are compressed, and how. They are immutable and shared by all loops.
type Rules struct {
	Encodings []Coding // of those that a client takes equally gladly the first is used
	Level     Level
	MinLength int64    // bytes; an answer that is known to be shorter is left alone
	Types     []string // media types: type/subtype, type/*, */*, or */*+suffix, in lower case
	Pools     *Pools
}

// Limits bound what comes out of a Decoder.
type Limits struct {
	Size  int64 // bytes of one body
	Ratio int64 // how many times as large as what it came in, once it is over ratioFree
	Pools *Pools
}

// ratioFree is how many bytes of a body may come out, however few there were: a page of blanks is no attack.
const ratioFree = 1 << 20

// slice is how many bytes are coded before others of the loop have their turn.
const slice = 64 << 10
