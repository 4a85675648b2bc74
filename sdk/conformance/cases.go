package main

import (
	"fmt"
	"strings"

	"wasmgate/runtime/exchange"
	"wasmgate/runtime/filter"
)

// testCase is a request that the plugin is asked about, in the request phase and, if there is an answer, in the response
// phase; want is what the host does then, see host.outcome.
type testCase struct {
	name     string
	config   string
	role     filter.Role
	line     string   // of the request; default "GET /app?q=1"
	host     string   // default example.com
	fields   []string // of the request, each "Name: value"
	commands []string // values of X-Cmd
	sampled  bool

	answer         string // status and reason; "": no response phase
	answerFields   []string
	answerCommands []string
	local          bool // the answer is the gateway's own

	body, answerBody []string // in pieces; nil: there is none
	ticks            bool     // no request: some ticks are waited for

	tls *exchange.TLS // of the client; nil: it speaks none

	want string
}

const (
	bothUpstreams = "upstream users\nupstream orders\n"
	declaring     = "request-header x-one\nrequest-header x-many\nrequest-header x-none\nresponse-header x-answer\n" + bothUpstreams
)

// echoed is what echo says of the default request before its headers.
const echoed = `| role=0
| response=0
| sampled=0
| local=0
| time=now
| seed=random
| context=0
| status=0
| has_query=1
| method=3:GET
| scheme=4:http
| authority=11:example.com
| host=11:example.com
| path=4:/app
| query=3:q=1
| client=9:192.0.2.7
| sni=0:
| certificate=0:
| route=10:everything
`

// echoWith is echoed with other lines instead: old, new, old, new.
func echoWith(lines ...string) string { return strings.NewReplacer(lines...).Replace(echoed) }

var cases = concat(decisionCases, editCases, readingCases, sizeCases, responseCases, configCases, moreCases)

func concat(lists ...[]testCase) (all []testCase) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

var decisionCases = []testCase{
	{name: "no command", want: "continue"},
	{name: "continue", commands: []string{"continue"}, want: "continue"},
	{name: "no match", role: filter.Match, commands: []string{"no-match"}, want: "no match"},
	{name: "no match drops edits", role: filter.Match, commands: []string{"path /x", "no-match"}, want: "no match"},
	{name: "a match with an edit", role: filter.Match, commands: []string{"path /x"}, want: "continue\nrequest GET example.com /x?q=1"},
	{name: "no match where none is asked for", commands: []string{"no-match"}, want: "failed plugin_answer"},
	{name: "route to the first", config: bothUpstreams, commands: []string{"route 0"}, want: "continue\nupstream 4"},
	{name: "route to the second", config: bothUpstreams, commands: []string{"route 1"}, want: "continue\nupstream 7"},
	{name: "route with an edit", config: bothUpstreams, commands: []string{"set x-a 1", "route 1"}, want: "continue\nfield x-a: 1\nupstream 7"},
	{name: "route to an upstream that is not declared", config: bothUpstreams, commands: []string{"route 2"}, want: "failed plugin_answer"},
	{name: "deny", commands: []string{"deny 429"}, want: "respond\nstatus 429"},
	{name: "deny, default status", commands: []string{"deny 0"}, want: "respond\nstatus 403"},
	{name: "deny with an edit", sampled: true, commands: []string{"attribute why quota", "deny 0"}, want: "respond\nstatus 403\nattribute why: quota"},
	{name: "deny with a status that lets pass", commands: []string{"deny 200"}, want: "failed plugin_answer"},
	{name: "respond", commands: []string{"respond 418 I am a teapot"}, want: "respond\nstatus 418\nbody I am a teapot\nanswer x-conformance: yes\nanswer x-empty:"},
	{name: "respond without a body", commands: []string{"respond 204"}, want: "respond\nstatus 204\nanswer x-conformance: yes\nanswer x-empty:"},
	{name: "respond with an edit", sampled: true, commands: []string{"attribute a b", "respond 200 x"},
		want: "respond\nstatus 200\nbody x\nanswer x-conformance: yes\nanswer x-empty:\nattribute a: b"},
	{name: "an error", commands: []string{"fail no tenants"}, want: "error no tenants"},
	{name: "an error drops edits", commands: []string{"set x-a 1", "fail no tenants"}, want: "error no tenants"},
	{name: "an error without a text", commands: []string{"fail"}, want: "error"},
	{name: "an error text of 5000 bytes is cut", commands: []string{"fail " + strings.Repeat("z", 5000)}, want: "error <4096 × z>"},
	{name: "a trap", commands: []string{"set x-a 1", "trap"}, want: "failed plugin_trap"},
	{name: "after a trap", commands: []string{"set x-a 1"}, want: "continue\nfield x-a: 1"},
	{name: "an unknown command", commands: []string{"nonsense"}, want: "error unknown command"},
}

var editCases = []testCase{
	{name: "set a header", fields: []string{"X-A: 1", "X-B: 2", "x-a: 3"}, commands: []string{"set x-a 4 5"}, want: "continue\nfield x-a: 4 5\nfield x-b: 2"},
	{name: "set a header to nothing", fields: []string{"X-A: 1"}, commands: []string{"set x-a"}, want: "continue\nfield x-a:"},
	{name: "append a header", fields: []string{"X-A: 1"}, commands: []string{"append x-a 2"}, want: "continue\nfield x-a: 1\nfield x-a: 2"},
	{name: "remove a header", fields: []string{"X-A: 1", "X-B: 2", "x-a: 3"}, commands: []string{"remove X-A"}, want: "continue\nfield x-b: 2"},
	{name: "bytes that are not UTF-8", commands: []string{"set x-a \xff\x80\xc3("}, want: "continue\nfield x-a: \xff\x80\xc3("},
	{name: "method", commands: []string{"method PUT"}, want: "continue\nrequest PUT example.com /app?q=1"},
	{name: "authority", commands: []string{"authority b.example:81"}, want: "continue\nrequest GET b.example:81 /app?q=1"},
	{name: "path", commands: []string{"path /v2/%2F"}, want: "continue\nrequest GET example.com /v2/%2F?q=1"},
	{name: "query", commands: []string{"query a=b&c"}, want: "continue\nrequest GET example.com /app?a=b&c"},
	{name: "no query", commands: []string{"query"}, want: "continue\nrequest GET example.com /app"},
	{name: "address", commands: []string{"address " + allowedAddress}, want: "continue\nupstream 9\naddress " + allowedAddress},
	{name: "an address that is not allowed", commands: []string{"address 10.0.0.8:80"}, want: "failed plugin_answer"},
	{name: "timeout", commands: []string{"timeout 250"}, want: "continue\ntimeout 250ms"},
	{name: "hash key", commands: []string{"hash 18446744073709551615"}, want: "continue\nhash key 18446744073709551615"},
	{name: "context word", commands: []string{"context 9223372036854775809"}, want: "continue\nword 9223372036854775809"},
	{name: "rematch", commands: []string{"path /b", "rematch"}, want: "rematch\nrequest GET example.com /b?q=1"},
	{name: "attribute", sampled: true, commands: []string{"attribute tenant.id acme inc"}, want: "continue\nattribute tenant.id: acme inc"},
	{name: "log", commands: []string{"log 0 kit: debug", "log 3 kit: error"}, want: "continue\nlog request 0 kit: debug\nlog request 3 kit: error"},
	{name: "log at once", commands: []string{"log-now 1 kit: now", "log-now 2 kit: warn"}, want: "continue\nlog request 1 kit: now\nlog request 2 kit: warn"},
	{name: "a line is written at once, the others are dropped with an error", commands: []string{"log 1 kit: late", "log-now 1 kit: now", "fail x"}, want: "error x\nlog request 1 kit: now"},
	{name: "a header that a plugin must not set", commands: []string{"set x-fine 1", "set content-length 7"}, want: "failed plugin_answer"},
	{name: "everything at once", config: bothUpstreams, sampled: true, commands: []string{
		"method PUT", "authority b", "path /p", "query q", "timeout 5", "hash 7", "set a 1", "append a 2", "remove b", "attribute k v",
		"log 1 kit: x", "context 9", "rematch", "route 0",
	}, want: "rematch\nrequest PUT b /p?q\nfield a: 1\nfield a: 2\nupstream 4\ntimeout 5ms\nhash key 7\nword 9\nattribute k: v\nlog request 1 kit: x"},
}

var readingCases = []testCase{
	{name: "echo", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoed},
	{name: "echo as a matcher, sampled", role: filter.Match, sampled: true, commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("role=0", "role=1", "sampled=0", "sampled=1")},
	{name: "echo on a listener", role: filter.Listener, commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("role=0", "role=2")},
	{name: "no query to read", line: "DELETE /", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("has_query=1", "has_query=0", "3:GET", "6:DELETE", "4:/app", "1:/", "3:q=1", "0:")},
	{name: "an empty query", line: "GET /?", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("4:/app", "1:/", "3:q=1", "0:")},
	{name: "authority with a port", host: "example.com:8080", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("authority=11:example.com", "authority=16:example.com:8080")},
	{name: "authority of IPv6", host: "[2001:db8::1]", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("11:example.com", "13:[2001:db8::1]")},
	{name: "authority of IPv6 with a port", host: "[::1]:80", commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoWith("authority=11:example.com", "authority=8:[::1]:80", "host=11:example.com", "host=5:[::1]")},
	{name: "declared headers", config: declaring, fields: []string{"x-many: a", "X-ONE: 1", "X-Many:", "x-other: o", "X-many: c d"}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=1:1\n| header=3\n| value=1:a\n| value=0:\n| value=3:c d\n| header=0\n| header=0"},
	{name: "a header that is there and empty", config: declaring, fields: []string{"X-One:"}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=0:\n| header=0\n| header=0\n| header=0"},
	{name: "a header declared twice", config: "request-header x-one\nrequest-header x-one\nrequest-header x-cmd\n", fields: []string{"X-One: \xfe"}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=1:\xfe\n| header=1\n| value=1:\xfe\n| header=1\n| value=4:echo"},
	{name: "look up a header", fields: []string{"X-A: 1", "X-B: 2", "x-a: three"}, commands: []string{"lookup 0 0 x-a", "lookup 0 1 X-A", "lookup 0 2 x-a", "lookup 0 0 x-none"},
		want: "continue\nfield x-a: 1\nfield x-b: 2\nfield x-a: three\nfield x-lookup: 1:1\nfield x-lookup: 5:three\nfield x-lookup: none\nfield x-lookup: none"},
	{name: "look up an empty header", fields: []string{"X-A:"}, commands: []string{"lookup 0 0 x-a"}, want: "continue\nfield x-a:\nfield x-lookup: 0:"},
	{name: "look up a long header", fields: []string{"X-A: " + strings.Repeat("l", 16000)}, commands: []string{"lookup 0 0 x-a"},
		want: "continue\nfield x-a: <16000 × l>\nfield x-lookup: 16000:<16000 × l>"},
	{name: "look up the answer before there is one", commands: []string{"lookup 1 0 server"}, want: "continue\nfield x-lookup: none"},
}

// many is a configuration that declares as many headers as there may be, x-cmd included.
var many = func() (s string) {
	for i := range 127 {
		s += fmt.Sprintf("request-header h-%d\nresponse-header r-%d\n", i, i)
	}
	return s
}()

// sizeCases make views and answers outgrow their arenas, again and again in one instance.
var sizeCases = []testCase{
	{name: "a long value", commands: []string{"fill 16384"}, want: "continue\nfield x-fill: <16384 × x>"},
	{name: "a value that is too long", commands: []string{"fill 16385"}, want: "failed plugin_answer"},
	{name: "an answer that outgrows its arena", commands: []string{"body 200000"}, want: "respond\nstatus 200\nbody <200000 × y>"},
	{name: "a longer one", commands: []string{"body 1000000"}, want: "respond\nstatus 200\nbody <1000000 × y>"},
	{name: "a short one after that", commands: []string{"respond 200 short"}, want: "respond\nstatus 200\nbody short\nanswer x-conformance: yes\nanswer x-empty:"},
	{name: "a plain decision after that", commands: []string{"deny 404"}, want: "respond\nstatus 404"},
	{name: "an answer that is too long", commands: []string{"body 1048576"}, want: "failed plugin_answer"},
	{name: "a view that outgrows its arena", config: declaring, fields: []string{"X-One: " + strings.Repeat("v", 200000)}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=200000:<200000 × v>\n| header=0\n| header=0\n| header=0"},
	{name: "a longer one of that", config: declaring, fields: []string{"X-One: " + strings.Repeat("v", 500000)}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=500000:<500000 × v>\n| header=0\n| header=0\n| header=0"},
	{name: "a short view after that", config: declaring, commands: []string{"echo"}, want: "respond\nstatus 200\n" + echoed + "| header=0\n| header=0\n| header=0\n| header=0"},
	{name: "a list of 200 values", config: "request-header x-many\n", fields: strings.Split(strings.Repeat("X-Many: v,", 199)+"X-Many: last", ","), commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=200\n" + strings.Repeat("| value=1:v\n", 199) + "| value=4:last"},
	{name: "128 headers of each message", config: many, fields: []string{"H-0: first", "H-126: last"}, commands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoed + "| header=1\n| value=5:first\n" + strings.Repeat("| header=0\n", 251) + "| header=1\n| value=4:last\n| header=0"},
}

var responseCases = []testCase{
	{name: "an answer goes on", config: declaring, answer: "200 OK", want: "continue"},
	{name: "echo of an answer", config: declaring, fields: []string{"X-One: 1"}, commands: []string{"context 42"}, answer: "503 Service Unavailable",
		answerFields: []string{"X-Answer: a", "x-answer: b", "X-One: not this"}, answerCommands: []string{"echo"},
		want: "respond\nword 42\nstatus 200\n" + echoWith("response=0", "response=1", "context=0", "context=42", "status=0", "status=503") +
			"| header=1\n| value=1:1\n| header=0\n| header=0\n| header=2\n| value=1:a\n| value=1:b\n"},
	{name: "echo of an answer of the gateway's own", local: true, answer: "502 Bad Gateway", answerCommands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoWith("response=0", "response=1", "local=0", "local=1", "status=0", "status=502")},
	{name: "the request is seen as it was sent on", commands: []string{"path /new", "authority b"}, answer: "200 OK", answerCommands: []string{"echo"},
		want: "respond\nstatus 200\n" + echoWith("response=0", "response=1", "status=0", "status=200", "4:/app", "4:/new", "11:example.com", "1:b")},
	{name: "edits of an answer", answer: "200 OK", answerFields: []string{"Server: x", "X-A: 1", "Set-Cookie: a=1"},
		answerCommands: []string{"set server y", "remove x-a", "append set-cookie b=2", "log 2 kit: seen"},
		want:           "continue\nanswer server: y\nanswer set-cookie: a=1\nanswer set-cookie: b=2\nlog response 2 kit: seen"},
	{name: "another answer", answer: "200 OK", answerFields: []string{"Server: x"}, answerCommands: []string{"set x-gone 1", "respond 503 later", "set x-kept 1"},
		want: "respond\nstatus 503\nbody later\nanswer x-conformance: yes\nanswer x-empty:\nanswer x-kept: 1"},
	{name: "deny an answer", answer: "200 OK", answerFields: []string{"Server: x"}, answerCommands: []string{"deny 0"}, want: "respond\nstatus 403"},
	{name: "look up headers of both messages", fields: []string{"X-A: 1"}, answer: "200 OK", answerFields: []string{"X-A: 2"}, answerCommands: []string{"lookup 0 0 x-a", "lookup 1 0 x-a", "lookup 1 1 x-a"},
		want: "continue\nanswer x-a: 2\nanswer x-lookup: 1:1\nanswer x-lookup: 1:2\nanswer x-lookup: none"},
	{name: "an error about an answer", answer: "200 OK", answerCommands: []string{"fail x"}, want: "error x"},
	{name: "a trap about an answer", answer: "200 OK", answerCommands: []string{"trap"}, want: "failed plugin_trap"},
	{name: "a route in the response phase", config: bothUpstreams, answer: "200 OK", answerCommands: []string{"route 0"}, want: "failed plugin_answer"},
}

// longConfig is longer than any arena is at the start.
var longConfig = func() (s string) {
	for i := range manyUpstreams {
		s += "upstream " + upstreamName(i) + "\n"
	}
	return s
}()

const refused = "refused: the plugin refuses its configuration: "

var configCases = []testCase{
	{name: "a configuration that is refused", config: "fail\n", want: refused + "as the configuration says"},
	{name: "a configuration that is not understood", config: "request-header x-one\nnonsense\n", want: refused + "unknown line"},
	{name: "an upstream that is not granted", config: "upstream nowhere\n", want: "refused: it wants to choose upstreams that it is not granted: nowhere (grant them in the plugin's upstreams)"},
	{name: "a long configuration", config: longConfig, commands: []string{"route 699"}, want: "continue\nupstream 799"},
	{name: "an upstream that is declared twice", config: "upstream users\nupstream users\nupstream orders\n", commands: []string{"route 1"}, want: "continue\nupstream 7"},
}
