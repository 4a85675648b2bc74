package config

// ContentCoding is a coding of a body (RFC 9110 section 8.4.1).
type ContentCoding string

// The values of ContentCoding.
const (
	CodingZstd   ContentCoding = "zstd"
	CodingBrotli ContentCoding = "br"
	CodingGzip   ContentCoding = "gzip"
)

// CompressionLevel is how much work is spent on compressing.
type CompressionLevel string

// The values of CompressionLevel.
const (
	CompressFast    CompressionLevel = "fast"
	CompressDefault CompressionLevel = "default"
	CompressBest    CompressionLevel = "best"
)

// Compression says which answers are compressed for clients that take it.
type Compression struct {
	Encodings []ContentCoding  `koanf:"encodings" enum:"zstd,br,gzip" scalar:"true" example:"[br, gzip]" doc:"What may be used. Of those that a client takes equally gladly (Accept-Encoding) it is the first."`
	Level     CompressionLevel `koanf:"level" enum:"fast,default,best" example:"fast" doc:"How much work is spent. It is done on the event loops: runtime/compress/README.md says what a MiB costs."`
	MinLength Size             `koanf:"min_length" min:"1B" max:"1GiB" example:"512B" doc:"An answer that is known to be shorter is left alone; one whose length is not known is compressed."`
	Types     []string         `koanf:"types" scalar:"true" example:"[text/html, application/json]" doc:"Media types that are compressed: type/subtype, type/*, */*+suffix, or */* for all. Those of gRPC never are."`
}

// Decompress says which bodies plugins see without their content coding.
type Decompress struct {
	Requests  bool `koanf:"requests" example:"true" doc:"The route's plugins see the bodies of requests without their coding, and upstreams get those that a plugin asked for so. Plugins of the listener come before, and see what the client sent."`
	Responses bool `koanf:"responses" example:"true" doc:"Plugins see the bodies of upstreams' answers without their coding. What a plugin asked for goes to the client as it then is, or compressed anew by compression; what none did, untouched."`
	MaxSize   Size `koanf:"max_size" min:"1KiB" example:"4MiB" doc:"Most bytes that may come out of one body. A request over it is answered 413, an upstream's answer is replaced by 502 or cut off."`
	MaxRatio  int  `koanf:"max_ratio" min:"2" max:"100000" unit:"times" example:"1000" doc:"How many times as large as it came a body may become, once it is over 1 MiB; else as with max_size."`
}

// DefaultCompression is compression about which nothing was said but that it shall be.
func DefaultCompression() Compression {
	return Compression{
		Encodings: []ContentCoding{CodingZstd, CodingBrotli, CodingGzip}, Level: CompressDefault, MinLength: KiB,
		Types: []string{
			"text/*", "application/json", "application/javascript", "application/xml", "application/x-ndjson", "application/wasm",
			"*/*+json", "*/*+xml",
		},
	}
}

func defaultDecompress() Decompress { return Decompress{MaxSize: 64 * MiB, MaxRatio: 100} }
