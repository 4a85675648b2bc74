package server

import (
	"time"

	"wasmgate/runtime/http1"
)

// Upgrades are the protocols that requests of a route may switch to (RFC 9110 section 7.8). For others a request goes on
// as if it had not asked.
type Upgrades struct {
	Any       bool
	Protocols []string
}

// allow says whether all of the protocols that a client would switch to may be.
func (u *Upgrades) allow(list []byte) bool {
	return u.Any || http1.AllTokens(list, func(m []byte) bool {
		for _, p := range u.Protocols {
			if http1.EqualFold(m, p) {
				return true
			}
		}
		return false
	})
}

// Tunnels is how the tunnels of a listener end, when it, the gateway, or what they lead to does.
type Tunnels struct {
	Grace time.Duration // within which each is told, at a moment of its own
	Drain time.Duration // after which it is cut
}
