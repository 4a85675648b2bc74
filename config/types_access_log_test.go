package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestAccessLogParts(t *testing.T) {
	for text, want := range map[AccessLogFormat][]AccessLogPart{
		AccessLogJSON: nil,
		"$status":     {{Field: "status"}},
		"a$$b ${duration_us}us $request_header_X_Request_Id$response_header_etag$$": {
			{Text: "a$b "}, {Field: "duration_us"}, {Text: "us "}, {Request: "x-request-id"}, {Response: "etag"}, {Text: "$"},
		},
	} {
		if got, err := text.Parts(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	if got, _ := AccessLogCombined.Parts(); len(got) != 14 || got[13].Text != `"` {
		t.Errorf("combined has %d parts: %v", len(got), got)
	}
}

// FuzzAccessLogFormat feeds any text to the compiler of formats: what it takes can be written back and means the same, and
// what it does not take has a reason and a remedy.
func FuzzAccessLogFormat(f *testing.F) {
	for _, s := range []string{commonFormat, combinedFormat, "$", "$$", "${", "${}", "$request_header_", "$request_header_a-b", "${response_header_a b}", "\xff$status"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := AccessLogFormat(text).Parts()
		if wrong := (formatErrors{}); err != nil {
			if !errors.As(err, &wrong) || len(wrong) == 0 || wrong.Error() == "" || wrong[0].help == "" || !strings.Contains(text, wrong[0].at) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		written := ""
		for _, p := range parts {
			switch {
			case p.Field != "":
				written += "${" + p.Field + "}"
			case p.Request != "":
				written += "${" + requestHeader + p.Request + "}"
			case p.Response != "":
				written += "${" + responseHeader + p.Response + "}"
			case p.Text != "":
				written += strings.ReplaceAll(p.Text, "$", "$$")
			default:
				t.Fatalf("%q has an empty part", text)
			}
		}
		if again, err := AccessLogFormat(written).Parts(); parts != nil && (err != nil || !reflect.DeepEqual(again, parts)) {
			t.Fatalf("%q is %v; written as %q it is %v, %v", text, parts, written, again, err)
		}
	})
}

func TestSyslogServer(t *testing.T) {
	for output, want := range map[string][2]string{
		"syslog+unixgram:///dev/log":   {"unixgram", "/dev/log"},
		"syslog:unixgram:///dev/log":   {"unixgram", "/dev/log"},
		"syslog+udp://logs":            {"udp", "logs:514"},
		"syslog+tcp://logs":            {"tcp", "logs:601"},
		"syslog+tcp://[fd00::1]:6514/": {"tcp", "[fd00::1]:6514"},
		"/var/log/syslog+tcp/access":   {},
		"stdout":                       {},
		"syslog+unixgram://host/path":  {"error"},
		"syslog+unixgram:///":          {"error"},
		"syslog+tcp://user@logs:1":     {"error"},
		"syslog+tcp://logs/path":       {"error"},
		"syslog+tcp://logs:1?a":        {"error"},
		"syslog+udp://":                {"error"},
		"syslog+udp://:514":            {"error"},
		"syslog+tls://logs:6514":       {"error"},
		"syslog:/dev/log":              {"error"},
		"syslog+udp://logs:port":       {"error"},
		"syslog+udp://\x00":            {"error"},
	} {
		network, address, err := syslogServer(output)
		if err != nil {
			network = "error"
		}
		if network != want[0] || address != want[1] {
			t.Errorf("%s is %q %q, %v", output, network, address, err)
		}
	}
	for facility, code := range map[SyslogFacility]int{"kern": 0, "user": 1, "ftp": 11, "local0": 16, "local7": 23} {
		if facility.Code() != code {
			t.Errorf("%s is %d", facility, facility.Code())
		}
	}
	yes := true
	for query, a := range map[bool][]AccessLog{true: {{Format: AccessLogCommon}, {Format: AccessLogJSON, Query: &yes}}, false: {{Format: AccessLogJSON}, {Format: "$uri", Query: new(bool)}}} {
		for _, a := range a {
			if a.LogsQuery() != query {
				t.Errorf("%+v: queries are written: %v", a, !query)
			}
		}
	}
}
