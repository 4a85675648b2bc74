package gateway

import (
	"fmt"
	"strings"

	"wasmgate/config"
	"wasmgate/runtime/compress"
	"wasmgate/runtime/explain"
	"wasmgate/runtime/server"
)

// compression is which answers of a route are compressed; nil: none.
func (g *Gateway) compression(c *config.Compression) *compress.Rules {
	if c == nil {
		return nil
	}
	r := &compress.Rules{Level: levels[c.Level], MinLength: int64(c.MinLength), Types: c.Types, Pools: g.codings}
	for _, name := range c.Encodings {
		if one, ok := compress.Named(string(name)); ok {
			r.Encodings = append(r.Encodings, one)
		}
	}
	return r
}

var levels = map[config.CompressionLevel]compress.Level{
	config.CompressFast: compress.Fast, config.CompressDefault: compress.Default, config.CompressBest: compress.Best,
}

// decompress is which bodies the plugins of a route see without their coding.
func (g *Gateway) decompress(c *config.Decompress) (d server.Decompress) {
	limits := &compress.Limits{Size: int64(c.MaxSize), Ratio: int64(c.MaxRatio), Pools: g.codings}
	if c.Requests {
		d.Requests = limits
	}
	if c.Responses {
		d.Responses = limits
	}
	return d
}

// compresses says whether any route does.
func compresses(c *config.Config) bool {
	for i := range c.Routes {
		if c.Routes[i].Compression != nil {
			return true
		}
	}
	return false
}

// codingRules are what an explanation says of the content codings of a request that goes to an upstream.
func codingRules(c *config.Route, r *server.Rehearsal) (list []explain.Rule) {
	if c == nil {
		return nil
	}
	if k := c.Compression; k != nil {
		var among []compress.Coding
		for _, name := range k.Encodings {
			if one, ok := compress.Named(string(name)); ok {
				among = append(among, one)
			}
		}
		value := "none: the client takes nothing of what there is (Accept-Encoding)"
		if chosen := r.Accepts.Choose(among); chosen != compress.Identity {
			value = fmt.Sprintf("%s (level: %s), of an answer of %s or more, without a coding of its own, of a type in %s", chosen, k.Level, k.MinLength, strings.Join(k.Types, ", "))
		}
		list = append(list, explain.Rule{Key: "compression", Value: value})
	}
	if d := &c.Decompress; d.Requests || d.Responses {
		whose := "requests and responses"
		if !d.Requests {
			whose = "responses"
		} else if !d.Responses {
			whose = "requests"
		}
		value := fmt.Sprintf("bodies of %s, for plugins that ask for them: up to %s each, and %d times what came", whose, d.MaxSize, d.MaxRatio)
		list = append(list, explain.Rule{Key: "decompress", Value: value})
	}
	return list
}
