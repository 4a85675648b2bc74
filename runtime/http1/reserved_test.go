package http1

import (
	"slices"
	"strings"
	"testing"
)

func TestReservedAndTrailing(t *testing.T) {
	reserved := []string{
		"Content-Length", "transfer-encoding", "CONNECTION", "Host", "keep-alive", "proxy-connection", "te", "Trailer", "upgrade",
		"http2-settings", "expect", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization",
	}
	headOnly := []string{"Cookie", "set-cookie", "Authorization", "X-Forwarded-For", "x-forwarded-anything", "Location", "Content-Type"}
	free := []string{"X-Sum", "grpc-status", "Server-Timing", "content", "x", "x-forwarded", strings.Repeat("host-", 20)}
	for _, name := range slices.Concat(reserved, headOnly, free) {
		for _, s := range []string{name, strings.ReplaceAll(name, "-", "_"), strings.ToUpper(name)} {
			if got, want := Reserved([]byte(s)), slices.Contains(reserved, name); got != want {
				t.Errorf("Reserved(%q) is %v", s, got)
			}
			if got, want := MayTrail([]byte(s)), slices.Contains(free, name); got != want {
				t.Errorf("MayTrail(%q) is %v", s, got)
			}
		}
	}
}
