package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"wasmgate/runtime/exchange"
)

// shown is the connection of a client that has shown a certificate, anonymous that of one that has not, and agreed on nothing.
var (
	shown = &exchange.TLS{
		Version: "1.3", Cipher: "TLS_AES_128_GCM_SHA256", ALPN: "h2", ServerName: "shop.example", Resumed: true,
		Peer: &exchange.Certificate{
			Subject: "CN=alice,O=Test\\, Inc.", Issuer: "CN=authority", Serial: "1f", SHA256: strings.Repeat("ab", 32),
			DNS: []string{"a.test", "b.test"}, URI: []string{"spiffe://test/alice"}, Email: []string{"alice@test"},
			IP:        []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
			NotBefore: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), NotAfter: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC),
		},
	}
	anonymous = &exchange.TLS{Version: "1.2", Cipher: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"}
)

// found is what lookups of this are to say: name, index and value in turn; "none" has no length.
func found(list ...string) (commands []string, want string) {
	want = "continue"
	for i := 0; i < len(list); i += 3 {
		commands = append(commands, "lookup 4 "+list[i+1]+" "+list[i])
		if v := list[i+2]; v == "none" {
			want += "\nfield x-lookup: none"
		} else {
			want += fmt.Sprintf("\nfield x-lookup: %d:%s", len(v), shorten(v))
		}
	}
	return commands, want
}

func tlsCase(name string, t *exchange.TLS, list ...string) testCase {
	commands, want := found(list...)
	return testCase{name: "1.2 " + name, tls: t, commands: commands, want: want}
}

var tlsCases = func() []testCase {
	seen := []string{"| scheme=4:http", "| scheme=5:https", "| sni=0:", "| sni=12:shop.example", "| certificate=0:", "| certificate=22:CN=alice,O=Test\\, Inc."}
	about := tlsCase("TLS about an answer", shown, "subject", "0", shown.Peer.Subject)
	about.answer, about.answerCommands, about.commands = "200 OK", about.commands, nil
	about.want = strings.ReplaceAll(about.want, "field x-lookup", "answer x-lookup")
	return []testCase{
		{name: "a client's TLS in the view", tls: shown, commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith(seen...)},
		tlsCase("what TLS has agreed on", shown, "version", "0", "1.3", "cipher", "0", shown.Cipher, "alpn", "0", "h2", "server-name", "0", "shop.example", "resumed", "0", "1"),
		tlsCase("who the client is", shown, "subject", "0", shown.Peer.Subject, "issuer", "0", "CN=authority", "serial", "0", "1f", "sha256", "0", shown.Peer.SHA256),
		tlsCase("names of a client", shown, "dns", "0", "a.test", "dns", "1", "b.test", "dns", "2", "none", "uri", "0", "spiffe://test/alice", "email", "0", "alice@test", "ip", "0", "192.0.2.1", "ip", "1", "2001:db8::1"),
		tlsCase("when a certificate is valid", shown, "not-before", "0", "2026-01-02T03:04:05Z", "not-after", "0", "2027-01-02T03:04:05Z"),
		tlsCase("TLS without a certificate", anonymous, "version", "0", "1.2", "resumed", "0", "0", "alpn", "0", "none", "server-name", "0", "none", "subject", "0", "none", "dns", "0", "none", "certificate", "0", "none"),
		tlsCase("names in any case, and unknown ones", shown, "Version", "0", "1.3", "version", "1", "none", "colour", "0", "none"),
		tlsCase("no TLS", nil, "version", "0", "none", "resumed", "0", "none", "certificate", "0", "none"),
		about,
	}
}()
