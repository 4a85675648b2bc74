package main

import (
	"strings"

	"wasmgate/runtime/filter"
)

const (
	calling = "call auth\ncall other\n"
	storing = "store sessions\nstore counts\n"
	// held is a configuration that has bodies of requests buffered, demanded one that has both on demand.
	held      = "request-body 1 0 100\n"
	heldLong  = "request-body 1 0 900000\nresponse-body 1 0 900000\n"
	inPart    = "request-body 1 2 4\nresponse-body 1 2 4\n"
	demanded  = "request-body 1 1 100\nresponse-body 1 1 100\n"
	streamed  = "request-body 2 0 0\nresponse-body 2 0 0\n"
	wanted    = "request-body 2 1 0\nresponse-body 2 1 0\n"
	calledYes = " timeout 5s x-conformance=yes"
	answered  = "field x-call: 200 yes done 26:a-short-text-which-g"
)

var abc = []string{"abc", "defg", "h"}

// moreCases are those of minor versions 1 and 2.
var moreCases = concat(callCases, storeCases, bodyCases, pieceCases, metricCases, tlsCases)

var callCases = []testCase{
	{name: "1.1 call", config: calling, commands: []string{"call 0 GET /check?a=b", "call 1 DELETE /x"},
		want: "continue\n" + answered + "\n" + answered + "\ncalled 21 GET /check?a=b" + calledYes + "\ncalled 22 DELETE /x" + calledYes},
	{name: "1.1 call with a body", config: calling, commands: []string{"call-body 1 60"}, want: "continue\n" + answered + "\ncalled 22 POST / timeout 250ms authority kit.example body <60 × z>"},
	{name: "1.1 call with a long body", config: calling, commands: []string{"call-body 0 1048576"}, want: "continue\n" + answered + "\ncalled 21 POST / timeout 250ms authority kit.example body <1048576 × z>"},
	{name: "1.1 call with a body that is too long", config: calling, commands: []string{"call-body 0 1048577"}, want: "continue\nfield x-call: error 5"},
	{name: "1.1 an answer that is no success", config: calling, commands: []string{"call 0 GET /status/503"}, want: "continue\nfield x-call: 503 - - 0:\ncalled 21 GET /status/503" + calledYes},
	{name: "1.1 a long answer", config: calling, commands: []string{"call 0 GET /long/300000", "call 0 GET /long/3"},
		want: "continue\nfield x-call: 200 - - 300000:llllllllllllllllllll\nfield x-call: 200 - - 3:lll\ncalled 21 GET /long/300000" + calledYes + "\ncalled 21 GET /long/3" + calledYes},
	{name: "1.1 calls that fail", config: calling, commands: []string{"call 0 GET /fails/timeout", "call 0 GET /fails/connect", "call 0 GET /fails/large", "call 0 GET /fails/closed", "call 0 CONNECT /"},
		want: "continue\nfield x-call: error 1\nfield x-call: error 2\nfield x-call: error 4\nfield x-call: error 6\nfield x-call: error 5\ncalled 21 GET /fails/timeout" + calledYes +
			"\ncalled 21 GET /fails/connect" + calledYes + "\ncalled 21 GET /fails/large" + calledYes + "\ncalled 21 GET /fails/closed" + calledYes},
	{name: "1.1 too many calls", config: calling, commands: repeat("call 0 GET /status/204", 33),
		want: "continue\n" + strings.Repeat("field x-call: 204 - - 0:\n", 32) + "field x-call: error 7\n" + strings.TrimSuffix(strings.Repeat("called 21 GET /status/204"+calledYes+"\n", 32), "\n")},
	{name: "1.1 call about an answer", config: calling, answer: "200 OK", answerCommands: []string{"call 0 GET /check"}, want: "continue\nanswer x-call: 200 yes done 26:a-short-text-which-g\ncalled 21 GET /check" + calledYes},
	{name: "1.1 call as a matcher", config: calling, role: filter.Match, commands: []string{"call 0 GET /check", "no-match"}, want: "no match\ncalled 21 GET /check" + calledYes},
	{name: "1.1 an upstream to call that is not granted", config: "call nowhere\n", want: "refused: it wants to call upstreams that it is not granted: nowhere (grant them in the plugin's calls)"},
	{name: "1.1 ticks", config: "call auth\nstore counts\ntick 20\n", ticks: true, want: "log tick 1 kit: tick 204\ncounted true"},
}

func repeat(s string, n int) (list []string) {
	for range n {
		list = append(list, s)
	}
	return list
}

var storeCases = []testCase{
	{name: "1.1 set and get", config: storing, commands: []string{"kv-get 0 a", "kv-set 0 a 0 some text", "kv-get 0 a", "kv-get 1 a"},
		want: "continue\nfield x-kv: none\nfield x-kv: ok\nfield x-kv: 9:some text\nfield x-kv: none\nstored sessions a \"some text\""},
	{name: "1.1 an empty value", config: storing, commands: []string{"kv-set 0 a 60000", "kv-get 0 a"}, want: "continue\nfield x-kv: ok\nfield x-kv: 0:\nstored sessions a \"\""},
	{name: "1.1 a long value", config: storing, commands: []string{"kv-set 0 a 0 " + strings.Repeat("v", 1000), "kv-get 0 a"},
		want: "continue\nfield x-kv: ok\nfield x-kv: 1000:<1000 × v>\nstored sessions a \"<1000 × v>\""},
	{name: "1.1 what is too large", config: storing, commands: []string{"kv-set 0 a 0 " + strings.Repeat("v", 1001), "kv-set 0 " + strings.Repeat("k", 1025) + " 0 v"},
		want: "continue\nfield x-kv: error 4\nfield x-kv: error 4"},
	{name: "1.1 set what is not there", config: storing, commands: []string{"kv-new 0 a 1", "kv-new 0 a 2"}, want: "continue\nfield x-kv: ok\nfield x-kv: error 8\nstored sessions a \"1\""},
	{name: "1.1 compare and swap", config: storing, commands: []string{"kv-swap 0 a 1", "kv-swap 0 a 2", "kv-late 0 a 3"},
		want: "continue\nfield x-kv: ok\nfield x-kv: ok\nfield x-kv: error 8\nstored sessions a \"early\""},
	{name: "1.1 delete", config: storing, commands: []string{"kv-set 1 a 0 1", "kv-delete 1 a", "kv-delete 1 a"}, want: "continue\nfield x-kv: ok\nfield x-kv: ok\nfield x-kv: error 10"},
	{name: "1.1 count", config: storing, commands: []string{"kv-add 1 n 5 0", "kv-add 1 n -7 0", "kv-add 1 m 9223372036854775807 1000", "kv-get 1 n"},
		want: "continue\nfield x-kv: 5\nfield x-kv: -2\nfield x-kv: 9223372036854775807\nfield x-kv: 8:\xfe\xff\xff\xff\xff\xff\xff\xff\n" +
			`stored counts m "\xff\xff\xff\xff\xff\xff\xff\x7f"` + "\n" + `stored counts n "\xfe\xff\xff\xff\xff\xff\xff\xff"`},
	{name: "1.1 what is no counter", config: storing, commands: []string{"kv-set 1 n 0 text", "kv-add 1 n 1 0"}, want: "continue\nfield x-kv: ok\nfield x-kv: error 8\nstored counts n \"text\""},
	{name: "1.1 what was stored stays after an error", config: storing, commands: []string{"kv-set 0 a 0 1", "fail x"}, want: "error x\nstored sessions a \"1\""},
	{name: "1.1 a store that is not granted", config: "store nowhere\n", want: "refused: it wants to use stores that it is not granted: nowhere (grant them in the plugin's state)"},
}

var bodyCases = []testCase{
	{name: "1.1 a body that is held", config: held, body: abc, commands: []string{"show-body"}, want: "continue\nfield x-body: whole 8:abcdefgh\nsent abcdefgh"},
	{name: "1.1 an empty body", config: held, body: []string{}, commands: []string{"show-body"}, want: "continue\nfield x-body: whole 0:"},
	{name: "1.1 no body", config: held, commands: []string{"show-body"}, want: "continue\nfield x-body: whole 0:"},
	{name: "1.1 a body that nobody holds", body: abc, commands: []string{"show-body"}, want: "continue\nfield x-body: none\nsent abc|defg|h"},
	{name: "1.1 a body that is too long", config: held, body: []string{strings.Repeat("x", 101)}, commands: []string{"show-body"}, want: "refused body_too_large 413"},
	{name: "1.1 a long body", config: heldLong, body: repeat(strings.Repeat("x", 100_000), 9), commands: []string{"show-body"},
		want: "continue\nfield x-body: whole 900000:" + strings.Repeat("x", 40) + "\nsent <900000 × x>"},
	{name: "1.1 a part of a body", config: inPart, body: abc, commands: []string{"show-body"}, want: "continue\nfield x-body: part 4:abcd\nsent abcdefg|h"},
	{name: "1.1 a part that is all", config: inPart, body: abc[1:2], commands: []string{"show-body"}, want: "continue\nfield x-body: whole 4:defg\nsent defg"},
	{name: "1.1 set a body", config: held, body: abc, commands: []string{"set-body {\"a\": 1}"}, want: "continue\nsent {\"a\": 1}"},
	{name: "1.1 set a body to nothing", config: held, body: abc, commands: []string{"set-body"}, want: "continue"},
	{name: "1.1 set a body where there was none", config: held, commands: []string{"set-body new"}, want: "continue\nsent new"},
	{name: "1.1 set a long body", config: heldLong, body: abc, commands: []string{"fill-body 900000"}, want: "continue\nsent <900000 × b>"},
	{name: "1.1 set a body of which there is a part", config: inPart, body: abc, commands: []string{"set-body x"}, want: "failed plugin_answer"},
	{name: "1.1 set a body that nobody holds", body: abc, commands: []string{"set-body x"}, want: "failed plugin_answer"},
	{name: "1.1 an answer's body", config: heldLong, answer: "200 OK", answerBody: abc, answerCommands: []string{"show-body", "set-body new"}, want: "continue\nanswer x-body: whole 8:abcdefgh\nsent new"},
	{name: "1.1 trailers", config: held, body: abc, commands: []string{"lookup 2 0 x-end", "lookup 2 0 none"}, want: "continue\nfield x-lookup: 4:done\nfield x-lookup: none\nsent abcdefgh"},
	{name: "1.1 on demand", config: demanded, body: abc, commands: []string{"want-body", "show-body"}, want: "continue\nfield x-body: none\nfield x-body: whole 8:abcdefgh\nsent abcdefgh"},
	{name: "1.1 on demand, not wanted", config: demanded, body: abc, commands: []string{"show-body"}, want: "continue\nfield x-body: none\nsent abc|defg|h"},
	{name: "1.1 on demand, an answer's", config: demanded, answer: "200 OK", answerBody: abc, answerCommands: []string{"want-body", "show-body", "respond 200 instead"},
		want: "respond\nstatus 200\nbody instead\nanswer x-conformance: yes\nanswer x-empty:"},
	{name: "1.1 wanted, and not declared", body: abc, commands: []string{"want-body"}, want: "failed plugin_answer"},
	{name: "1.1 wanted, and matched again", config: demanded, body: abc, commands: []string{"want-body", "rematch"}, want: "failed plugin_answer"},
	{name: "1.1 a body that is not granted", config: "request-body 1 0 900001\n", want: "refused: it wants to hold bodies of requests of 900001 bytes; its limit is 900000 (the plugin's limits.body)"},
}

var pieceCases = []testCase{
	{name: "1.1 pieces", config: streamed, body: abc, want: "continue\nsent abc|defg|h"},
	{name: "1.1 pieces, upper", config: streamed + "pieces upper\n", body: abc, want: "continue\nsent ABC|DEFG|H"},
	{name: "1.1 pieces, long", config: streamed + "pieces upper\n", body: []string{strings.Repeat("x", 100_000)}, want: "continue\nsent <100000 × X>"},
	{name: "1.1 pieces, drop", config: streamed + "pieces drop\n", body: abc, want: "continue"},
	{name: "1.1 pieces, keep", config: streamed + "pieces keep\n", body: abc, want: "continue\nsent a|bcde|fgh"},
	{name: "1.1 pieces, keep much", config: streamed + "pieces keep\n", body: []string{"a", "b", "c", "d"}, want: "continue\nsent a|bcd"},
	{name: "1.1 pieces, count", config: streamed + "pieces count\n", body: abc, commands: []string{"context 40"}, want: "continue\nword 40\nsent [0 40 0 3 0]|[0 41 3 4 0]|[0 42 7 1 1]"},
	{name: "1.1 pieces, trailer", config: streamed + "pieces trailer\n", body: abc, want: "continue\nsent abc|defg|done"},
	{name: "1.1 pieces, deny", config: streamed + "pieces deny\n", body: abc, want: "continue\nends denied 422"},
	{name: "1.1 pieces, fail", config: streamed + "pieces fail\n", body: abc, want: "continue\nends plugin_answer 503"},
	{name: "1.1 pieces, trap", config: streamed + "pieces trap\n", body: abc, want: "continue\nends plugin_trap 503"},
	{name: "1.1 pieces of an answer", config: streamed + "pieces count\n", commands: []string{"context 7"}, answer: "200 OK", answerBody: abc, want: "continue\nword 7\nsent [1 7 0 3 0]|[1 8 3 4 0]|[1 9 7 1 1]"},
	{name: "1.1 pieces of an answer, and a word for them", config: streamed + "pieces trailer\n", answer: "200 OK", answerBody: abc[:1], want: "continue\nsent done"},
	{name: "1.1 pieces of an answer that is denied", config: streamed + "pieces deny\n", answer: "200 OK", answerBody: abc, want: "continue\nends plugin_answer 503"},
	{name: "1.1 pieces of no body", config: streamed + "pieces count\n", want: "continue"},
	{name: "1.1 pieces that are wanted", config: wanted + "pieces upper\n", body: abc, commands: []string{"want-body"}, want: "continue\nsent ABC|DEFG|H"},
	{name: "1.1 pieces that are not wanted", config: wanted + "pieces upper\n", body: abc, want: "continue\nsent abc|defg|h"},
}

var metricCases = []testCase{
	{name: "1.1 metrics", config: "metric 0 asked\nmetric 1 load\nmetric 2 took\nmetric 3 open\n",
		commands: []string{"metric 0 4", "metric 0 2", "metric 1 6", "metric 1 -10", "metric 2 1000", "metric 2 1", "metric 3 -3"},
		want:     "continue\nmetric asked 1.5\nmetric load -2.5\nmetric took 250.25 of 2\nmetric open -0.75"},
	{name: "1.1 a metric that nobody declared twice", config: "metric 0 asked\nmetric 3 open\n", answer: "200 OK", answerCommands: []string{"metric 1 1"}, want: "continue\nmetric asked 0\nmetric open 0.25"},
}
