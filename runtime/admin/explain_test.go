package admin

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/rs/zerolog"

	"wasmgate/runtime/explain"
)

// TestExplain: what is asked is passed on, and errors have the status of the one to blame.
func TestExplain(t *testing.T) {
	f := setUp(t, "127.0.0.1:9090")
	var asked explain.Request
	var fails error
	var access Access
	endpoint := func(address string) {
		f.handler = Handler(Options{
			Access: access, Gateway: f.gateway,
			Explain: func(_ context.Context, r explain.Request) (*explain.Explanation, error) {
				asked = r
				return &explain.Explanation{Outcome: explain.Closed}, fails
			},
			Log: zerolog.Nop(), Address: netip.MustParseAddrPort(address),
		})
	}
	f.want(f.ask("POST", "/explain", `{"url": "/"}`), 501)
	endpoint("127.0.0.1:9090")
	f.want(f.ask("POST", "/explain", `{"method": "PUT", "url": "/x", "body": "b", "client": "192.0.2.1", "calls": true, "fields": [{"name": "a", "value": "b"}]}`), 200, `"outcome": "closed"`)
	if asked.Method != "PUT" || asked.URL != "/x" || asked.Body != "b" || asked.Client != "192.0.2.1" || !asked.Calls || len(asked.Fields) != 1 {
		t.Errorf("%+v", asked)
	}
	asked = explain.Request{}
	f.want(f.ask("POST", "/explain", `{"url": "/"}`, "Host: evil.test"), 403, "loopback")
	f.want(f.ask("POST", "/explain", `{"url": "/"}`, "Origin: http://evil.test"), 403)
	f.want(f.ask("POST", "/explain", `{"url": "/"`), 400)
	f.want(f.ask("GET", "/explain", ""), 405)
	if asked.URL != "" {
		t.Errorf("it was asked for who must not: %+v", asked)
	}
	for status, err := range map[int]error{400: explain.Mistake("no"), 504: context.DeadlineExceeded, 503: errors.New("stopping")} {
		fails = err
		f.want(f.ask("POST", "/explain", `{"url": "/"}`), status)
	}
	fails, asked = nil, explain.Request{}
	endpoint("192.0.2.1:9090")
	f.want(f.ask("POST", "/explain", `{"url": "/"}`, "Host: 192.0.2.1:9090"), 403)
	access.Tokens = []Token{NewToken("ann", secret)}
	endpoint("192.0.2.1:9090")
	f.want(f.ask("POST", "/explain", `{"url": "/"}`, "Host: 192.0.2.1:9090"), 401)
	if asked.URL != "" {
		t.Errorf("it was asked for who has no token: %+v", asked)
	}
	f.want(f.ask("POST", "/explain", `{"url": "/", "calls": true}`, "Authorization: Bearer "+secret), 200)
}
