// Package unixaddr writes the path of a Unix socket as a netip.AddrPort, so that whatever keeps, compares or passes on the address of
// a server does the same for one on this machine: the unspecified IPv6 address whose zone is the path, with port 0. No interface's
// name has a slash in it, so no other address looks like that. It uses the standard library only.
package unixaddr

import (
	"net/netip"
	"strings"
)

// prefix is what a path has in texts.
const prefix = "unix:"

// Of is the address of the socket with an absolute path.
func Of(path string) netip.AddrPort {
	return netip.AddrPortFrom(netip.IPv6Unspecified().WithZone(path), 0)
}

// IsPath says whether the host of a target is the path of a socket.
func IsPath(host string) bool { return strings.HasPrefix(host, "/") }

// Path is the socket's path, if the address is that of one. It does not allocate.
func Path(a netip.Addr) (path string, ok bool) {
	path = a.Zone()
	return path, IsPath(path)
}

// Host is host:port of a target on a socket, as logs and the admin API have it: unix:/run/app.sock.
func Host(path string) string { return prefix + path }

// HostPath is the path in what Host has made.
func HostPath(host string) (path string, ok bool) {
	path, ok = strings.CutPrefix(host, prefix)
	return path, ok && IsPath(path)
}

// Append appends the address as people read it: unix:/run/app.sock, or what netip makes of one that has an IP address.
func Append(b []byte, a netip.AddrPort) []byte {
	if path, ok := Path(a.Addr()); ok {
		return append(append(b, prefix...), path...)
	}
	return a.AppendTo(b)
}

// Text is Append as a text.
func Text(a netip.AddrPort) string {
	if path, ok := Path(a.Addr()); ok {
		return prefix + path
	}
	return a.String()
}

// Parse reads what Text has written; ok is false for what is none of that.
func Parse(text string) (a netip.AddrPort, ok bool) {
	if path, ok := HostPath(text); ok {
		return Of(path), true
	}
	a, err := netip.ParseAddrPort(text)
	return a, err == nil
}
