package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"unicode"
)

// longestSocket is the longest path of a Unix socket that all systems take, in bytes: macOS has room for 104, with a zero.
const longestSocket = 103

// unixSocket reads unix:/path, http://unix:/path and https://unix:/path, and unix:///path, as others write it.
func unixSocket(s string) (o Origin, is bool, err error) {
	scheme, rest := HTTP, s
	if plain, ok := strings.CutPrefix(s, "http://"+unixScheme); ok {
		rest = unixScheme + plain
	} else if secure, ok := strings.CutPrefix(s, "https://"+unixScheme); ok {
		scheme, rest = HTTPS, unixScheme+secure
	}
	if path, haproxy := strings.CutPrefix(s, "unix@"); haproxy {
		return o, true, helped{fmt.Sprintf("%s is not how a Unix socket is written", quote(s)), "write `unix:" + path + "`"}
	}
	socket, is := strings.CutPrefix(rest, unixScheme)
	if !is || rest != s && !strings.HasPrefix(socket, "/") { // http://unix:80 is a host of that name
		return o, false, nil
	}
	if strings.HasPrefix(socket, "///") {
		socket = socket[2:]
	}
	switch at := strings.IndexAny(socket, ":|"); {
	case at > 0:
		return o, true, helped{fmt.Sprintf("%s has something behind the socket's path", quote(s)), "write `unix:" + socket[:at] + "`; what paths are rewritten to is for `rewrite` in the route"}
	case !strings.HasPrefix(socket, "/") || strings.HasPrefix(socket, "//") || socket == "/":
		return o, true, helped{fmt.Sprintf("%s has no absolute path", quote(s)), "write it as in unix:/run/app.sock"}
	case path.Clean(socket) != socket || strings.ContainsFunc(socket, unicode.IsControl):
		return o, true, helped{fmt.Sprintf("%s is not a plain path", quote(s)), "write it without `.`, `..`, `//` and a slash at its end"}
	case strings.Contains(socket, "$"):
		return o, true, helped{fmt.Sprintf("%s has a capture in it", quote(s)), "no request names a socket: write its path as it is"}
	case len(socket) > longestSocket:
		return o, true, helped{fmt.Sprintf("the path is %d bytes long", len(socket)), fmt.Sprintf("a Unix socket's has %d at most: put it, or a link to its folder, somewhere else", longestSocket)}
	}
	return Origin{Scheme: scheme, Host: socket}, true, nil
}

// otherSchemes are those that people bring along.
var otherSchemes = map[string]string{
	"h2c": sayCleartextHTTP2, "grpc": sayCleartextHTTP2, "h2": saySecureHTTP2, "grpcs": saySecureHTTP2, "http2": saySecureHTTP2,
	"ws": "write http://: a WebSocket begins as a request", "wss": "write https://: a WebSocket begins as a request",
	"tcp": "write http://; what passes untouched is said in the listener, by `mode: tcp`", "tls": "write https://", "ssl": "write https://",
	"http3": sayNoHTTP3, "h3": sayNoHTTP3, "quic": sayNoHTTP3,
	"http+unix": sayUnix, "https+unix": "write it as in https://unix:/run/app.sock", "unixs": sayUnix,
	"fcgi": sayOnlyHTTP, "uwsgi": sayOnlyHTTP, "ajp": sayOnlyHTTP, "scgi": sayOnlyHTTP,
}

const (
	sayCleartextHTTP2 = "write http://, and `protocol: http2` in the upstream"
	saySecureHTTP2    = "write https://, and `protocol: http2` in the upstream; without TLS it is http://"
	sayNoHTTP3        = "HTTP/3 is for clients; to targets there are http:// and https://, with `protocol: http2` too"
	sayUnix           = "write it as in unix:/run/app.sock"
	sayOnlyHTTP       = "only HTTP is spoken to targets: most application servers can, with http://"
)

// UnmarshalText reads scheme://host:port, or unix:/path.
func (o *Origin) UnmarshalText(b []byte) error {
	s := string(b)
	if socket, is, err := unixSocket(s); is {
		if err == nil {
			*o = socket
		}
		return err
	}
	if !strings.Contains(s, "://") {
		return helped{fmt.Sprintf("%s has no scheme", quote(s)), "write `http://" + s + "` or `https://" + s + "`"}
	}
	u, err := url.Parse(s)
	if err != nil {
		return helped{fmt.Sprintf("%s is not an origin", quote(s)), "write it as in http://users.internal:8080"}
	}
	scheme := Scheme(strings.ToLower(u.Scheme))
	switch {
	case scheme != HTTP && scheme != HTTPS:
		return helped{fmt.Sprintf("the scheme %s is not known", quote(u.Scheme)), cmp.Or(otherSchemes[string(scheme)], "write http:// or https://")}
	case u.User != nil:
		return helped{"an origin has no user and password", "set a field with `request_headers` instead"}
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return helped{fmt.Sprintf("%s has a path", quote(s)), "a target is an origin; say `rewrite.add_prefix: " + u.EscapedPath() + "` in the route"}
	case strings.Contains(u.Host, "$"):
		return helped{fmt.Sprintf("%s has a capture in it", quote(s)), "say `dynamic.allow` in the upstream and `authority` in the route, or write the origin into the route's `upstream`"}
	}
	host, port, err := splitAuthority(u.Host)
	if err != nil {
		return err
	}
	out := Origin{scheme, host, port}
	switch {
	case out.SRV() && port != 0:
		return helped{fmt.Sprintf("%s has a port, and SRV says it", quote(s)), "a name that begins with _ is looked up as SRV: write `" + Origin{scheme, host, 0}.String() + "`"}
	case !out.SRV() && port == 0:
		out.Port = scheme.Port()
	}
	*o = out
	return nil
}

// MarshalText writes o as String does.
func (o Origin) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText reads host, host:port, host:port,port or host:*, where the host may begin with "*.".
func (p *HostPattern) UnmarshalText(b []byte) error {
	s := string(b)
	if strings.Contains(s, "://") {
		return helped{fmt.Sprintf("%s has a scheme", quote(s)), "an allowed address is host:port; the scheme is `dynamic.scheme`"}
	}
	host, ports := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.Contains(s[i:], "]") && (s[0] == '[' || strings.Count(s, ":") == 1) {
		host, ports = s[:i], s[i+1:]
		if ports == "" {
			return helped{fmt.Sprintf("%s has no port after the colon", quote(s)), "write `" + host + "` for the scheme's own port, or `" + host + ":*` for any"}
		}
	}
	out := HostPattern{}
	if ports == "*" {
		out.AnyPort = true
	} else if ports != "" {
		for text := range strings.SplitSeq(ports, ",") {
			port, err := parsePort(strings.TrimSpace(text))
			if err != nil {
				return err
			}
			out.Ports = append(out.Ports, port)
		}
	}
	if host == "*" || host == "*." {
		return helped{"`*` would let requests choose any address", "an open relay is not possible: name hosts or suffixes, as in *.internal:8080"}
	}
	if suffix, ok := strings.CutPrefix(host, "*."); ok {
		out.Suffix, host = true, suffix
		if _, err := netip.ParseAddr(host); err == nil {
			return helped{fmt.Sprintf("%s has a wildcard in front of an address", quote(s)), "wildcards are for names"}
		}
	}
	host, port, err := splitAuthority(host)
	if err != nil {
		return err
	}
	if port != 0 {
		return helped{fmt.Sprintf("%s is not host:port", quote(s)), "write it as in users.internal:8080 or *.internal:8080,8081"}
	}
	out.Host = strings.TrimSuffix(host, ".")
	*p = out
	return nil
}

// MarshalText writes p as String does.
func (p HostPattern) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// splitAuthority reads host or host:port into a lower-case host without brackets and a port, 0 if there is none.
func splitAuthority(s string) (string, uint16, error) {
	var host, text string
	var hasPort bool
	if strings.Contains(s, "://") {
		return "", 0, helped{fmt.Sprintf("%s has a scheme", quote(s)), "write the host, and the port if there is one"}
	}
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, helped{fmt.Sprintf("%s has no closing bracket", quote(s)), "write it as in [::1]:8080"}
		}
		address, err := netip.ParseAddr(s[1:end])
		if err != nil || !address.Is6() || address.Zone() != "" {
			return "", 0, helped{fmt.Sprintf("%s is not an IPv6 address", quote(s[:end+1])), "brackets are for IPv6 addresses, as in [::1]:8080"}
		}
		host = address.String()
		rest := s[end+1:]
		text, hasPort = strings.CutPrefix(rest, ":")
		if !hasPort && rest != "" {
			return "", 0, helped{fmt.Sprintf("%s is not host:port", quote(s)), "write it as in [::1]:8080"}
		}
	} else {
		if strings.Count(s, ":") > 1 {
			return "", 0, helped{fmt.Sprintf("%s is not host:port", quote(s)), "put an IPv6 address in brackets, as in [::1]:8080"}
		}
		host, text, hasPort = strings.Cut(s, ":")
		if err := checkHost(host); err != nil {
			return "", 0, err
		}
		host = strings.ToLower(host)
	}
	if !hasPort {
		return host, 0, nil
	}
	port, err := parsePort(text)
	return host, port, err
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strings.HasPrefix(s, "+") {
		return 0, helped{fmt.Sprintf("%s is not a port", quote(s)), "a port is a number from 1 to 65535"}
	}
	return uint16(n), nil
}

// checkHost accepts DNS names, with underscores because service names have them, and IPv4 addresses.
func checkHost(s string) error {
	bad := helped{fmt.Sprintf("%s is not a host name", quote(s)), "a name is labels of letters, digits, - and _ with dots between them"}
	switch {
	case s == "":
		return helped{"the host is missing", "write it as in users.internal"}
	case len(s) > 253:
		return helped{"a host name of more than 253 letters", "names in DNS are not longer"}
	case strings.ContainsAny(s, "*"):
		return helped{fmt.Sprintf("%s has a wildcard in the middle", quote(s)), "a wildcard is the whole first label, as in *.example.com"}
	}
	numeric := true
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return bad
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
				if r >= 0x80 {
					bad.help = "write an international name in its ASCII form, as in xn--bcher-kva.example"
				}
				return bad
			}
			numeric = numeric && r >= '0' && r <= '9'
		}
	}
	if numeric {
		if _, err := netip.ParseAddr(s); err != nil {
			return helped{fmt.Sprintf("%s is not an IP address", quote(s)), "write four numbers from 0 to 255, or a name"}
		}
	}
	return nil
}

// checkListen accepts what a listener can bind: [host]:port, where the host is an IP address, localhost or empty.
func checkListen(s string) error {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		if _, err := strconv.ParseUint(s, 10, 16); err == nil {
			return helped{fmt.Sprintf("%s is not host:port", quote(s)), "write `\":" + s + "\"`"}
		}
		return helped{fmt.Sprintf("%s has no port", quote(s)), "write `" + s + ":8080`"}
	}
	host, text := s[:i], s[i+1:]
	if n, err := strconv.ParseUint(text, 10, 16); err != nil || n > 65535 {
		return helped{fmt.Sprintf("%s is not a port", quote(text)), "a port is a number from 0 to 65535; 0 takes a free one"}
	}
	if host == "" || host == "localhost" {
		return nil
	}
	bare, bracketed := strings.CutPrefix(host, "[")
	bare = strings.TrimSuffix(bare, "]")
	a, err := netip.ParseAddr(bare)
	switch {
	case host == "*":
		return helped{"`*` is not an address", "write `:" + text + "` for every address of the machine"}
	case err != nil:
		return helped{fmt.Sprintf("%s is not an IP address", quote(host)), "a listener binds an address of this machine: an IP address, localhost, or nothing for all; names of hosts are for `match.host`"}
	case a.Is6() && !bracketed:
		return helped{fmt.Sprintf("%s is not host:port", quote(s)), "write `[" + bare + "]:" + text + "`"}
	}
	return nil
}

func parsesAsAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}
