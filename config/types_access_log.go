package config

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// AccessLogFormat is how a line of the access log looks: json, common, combined, or a text with variables.
type AccessLogFormat string

// The values of AccessLogFormat that have names.
const (
	AccessLogJSON     AccessLogFormat = "json"
	AccessLogCommon   AccessLogFormat = "common"
	AccessLogCombined AccessLogFormat = "combined"
)

// What the names stand for.
const (
	commonFormat   = `$client - - [$time_clf] "$request" $status $bytes_out`
	combinedFormat = commonFormat + ` "$referer" "$user_agent"`
)

// AccessLogPart is one piece of a format: exactly one of its texts is set.
type AccessLogPart struct {
	Text     string // written as it is
	Field    string // one of AccessLogFields
	Request  string // name of a field of the request
	Response string // name of a field of the answer
}

// AccessLogFields are the variables that a format may have, besides request_header_NAME and response_header_NAME.
var AccessLogFields = strings.Fields(`attempt_why attempts bytes_in bytes_out bytes_plain client client_cert_fingerprint client_cert_subject client_connection client_ordinal client_port
	compressed connection_age_us connection_id connection_idle_us connection_ordinal duration_s duration_us error error_cause error_detail
	error_source first_byte_us grpc_status host listener method path plugin plugin_phase pool_wait_us protocol query referer request reused
	route scheme sni span_id status time time_clf time_unix tls_cipher
	tls_resumed tls_server_name tls_version trace_id tunnel tunnel_why_ended upstream upstream_address upstream_first_byte_us
	upstream_host upstream_status uri user_agent via why_closed why_ended why_new`)

// formatError is what is wrong with a format, and the part of it that is.
type formatError struct {
	helped
	at string // "": all of it
}

// formatErrors is everything that is wrong with a format.
type formatErrors []formatError

func (e formatErrors) Error() string { return e[0].message }

const (
	requestHeader  = "request_header_"
	responseHeader = "response_header_"
	mostParts      = 200
)

// Parts takes a format apart. It is nil for json. The formats of a Config that was loaded have no errors.
func (f AccessLogFormat) Parts() ([]AccessLogPart, error) {
	text := string(f)
	switch f {
	case AccessLogJSON:
		return nil, nil
	case AccessLogCommon:
		text = commonFormat
	case AccessLogCombined:
		text = combinedFormat
	}
	var parts []AccessLogPart
	var wrong formatErrors
	plain := ""
	for text != "" {
		before, rest, found := strings.Cut(text, "$")
		plain += before
		if !found {
			break
		}
		if strings.HasPrefix(rest, "$") {
			plain, text = plain+"$", rest[1:]
			continue
		}
		name, after, at, bad := variableOf(rest)
		if bad != nil {
			wrong = append(wrong, *bad)
			break // what follows may mean anything
		}
		p, bad := partOf(name, at)
		if bad != nil {
			wrong = append(wrong, *bad)
		}
		if plain != "" {
			parts = append(parts, AccessLogPart{Text: plain})
		}
		parts, plain, text = append(parts, p), "", after
	}
	if plain != "" {
		parts = append(parts, AccessLogPart{Text: plain})
	}
	if len(parts) > mostParts {
		wrong = append(wrong, formatError{helped{fmt.Sprintf("has %d parts, more than %d", len(parts), mostParts), "write a shorter one"}, ""})
	}
	if wrong != nil {
		return nil, wrong
	}
	return parts, nil
}

// variableOf reads NAME or {NAME}, what follows a dollar sign; at is how the format has it.
func variableOf(rest string) (name, after, at string, bad *formatError) {
	if inner, braced := strings.CutPrefix(rest, "{"); braced {
		name, after, braced = strings.Cut(inner, "}")
		if !braced {
			return "", "", "", &formatError{helped{"${ without }", "write $NAME, or $${NAME} where a letter follows"}, "${"}
		}
		return name, after, "${" + name + "}", nil
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) })
	if end < 0 {
		end = len(rest)
	}
	if end == 0 {
		return "", "", "", &formatError{helped{"a $ that no name follows", "write $NAME, or $$ for a dollar sign"}, "$"}
	}
	return rest[:end], rest[end:], "$" + rest[:end], nil
}

func partOf(name, at string) (AccessLogPart, *formatError) {
	if slices.Contains(AccessLogFields, name) {
		return AccessLogPart{Field: name}, nil
	}
	header, isRequest := strings.CutPrefix(name, requestHeader)
	if !isRequest {
		header, _ = strings.CutPrefix(name, responseHeader)
	}
	if header != name && header != "" && len(header) <= 128 && isToken(header) {
		header = strings.ReplaceAll(strings.ToLower(header), "_", "-")
		if isRequest {
			return AccessLogPart{Request: header}, nil
		}
		return AccessLogPart{Response: header}, nil
	}
	return AccessLogPart{}, &formatError{helped{"there is no variable " + quote(at), helpVariable(name)}, at}
}

// nginxVariables are what those of nginx are called here. Those with nothing beside them have no counterpart.
var nginxVariables = map[string]string{
	"remote_addr": "client", "remote_port": "client_port", "binary_remote_addr": "client", "realip_remote_addr": "client",
	"proxy_protocol_addr": "client", "time_local": "time_clf", "time_iso8601": "time", "msec": "time_unix",
	"request_uri": "uri", "document_uri": "path", "request_method": "method", "args": "query", "query_string": "query",
	"server_protocol": "protocol", "http_host": "host", "server_name": "listener", "body_bytes_sent": "bytes_out", "bytes_sent": "bytes_out",
	"request_length": "bytes_in", "bytes_received": "bytes_in", "request_time": "duration_s", "session_time": "duration_s",
	"http_referer": "referer", "http_referrer": "referer", "referrer": "referer", "http_user_agent": "user_agent",
	"upstream_addr": "upstream_address", "upstream_response_time": "upstream_first_byte_us", "upstream_header_time": "upstream_first_byte_us",
	"upstream_connect_time": "pool_wait_us", "connection": "client_connection", "connection_requests": "client_ordinal",
	"proxy_host": "upstream", "ssl_preread_server_name": "sni", "ssl_server_name": "sni", "remote_host": "client",
	"bytes": "bytes_out", "duration": "duration_us", "size": "bytes_out", "ip": "client", "url": "uri", "verb": "method",
}

// helpVariable says what an unknown variable may have been meant to be.
func helpVariable(name string) string {
	folded := strings.ToLower(name)
	if ours := nginxVariables[folded]; ours != "" {
		return "say `$" + ours + "`"
	}
	switch {
	case folded == "remote_user" || folded == "user":
		return "the gateway knows no users; write `-`"
	case strings.HasPrefix(folded, "upstream_http_"), strings.HasPrefix(folded, "sent_http_"):
		_, header, _ := strings.Cut(folded, "http_")
		return "say `$" + responseHeader + header + "`"
	case strings.HasPrefix(folded, "http_"):
		return "say `$" + requestHeader + folded[len("http_"):] + "`"
	}
	if near := nearest(folded, AccessLogFields); near != "" {
		return "did you mean `$" + near + "`?"
	}
	return "it is a field of the access log, as in $client, $request, $status, $duration_s; or $request_header_NAME or $response_header_NAME"
}

// SyslogProtocol is how messages to a syslog server look.
type SyslogProtocol string

// The values of SyslogProtocol.
const (
	SyslogRFC5424 SyslogProtocol = "rfc5424"
	SyslogRFC3164 SyslogProtocol = "rfc3164"
)

// SyslogFacility is the name of a facility.
type SyslogFacility string

var facilities = []SyslogFacility{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"}

// Code is the facility's number in a message.
func (f SyslogFacility) Code() int {
	if local, ok := strings.CutPrefix(string(f), "local"); ok && len(local) == 1 {
		return 16 + int(local[0]-'0')
	}
	return max(0, slices.Index(facilities, f))
}

// LogsQuery says whether queries are written.
func (a *AccessLog) LogsQuery() bool {
	if a.Query != nil {
		return *a.Query
	}
	return a.Format != AccessLogJSON
}

// SyslogServer returns where the syslog server is that is the output: the network is unixgram, with a path, or udp or tcp,
// with host:port. It is empty if the output is no syslog server.
func (a *AccessLog) SyslogServer() (network, address string) {
	network, address, _ = syslogServer(a.Output)
	return network, address
}

const syslogHelp = "write syslog+unixgram:///dev/log, syslog+udp://HOST:514 or syslog+tcp://HOST:601"

func syslogServer(output string) (network, address string, err error) {
	scheme, found := strings.CutPrefix(output, "syslog+")
	if !found {
		if scheme, found = strings.CutPrefix(output, "syslog:"); !found {
			return "", "", nil
		}
	}
	wrong := helped{quote(output) + " is not a syslog server", syslogHelp}
	u, parseErr := url.Parse(scheme)
	if parseErr != nil || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", wrong
	}
	ports := map[string]string{"udp": "514", "tcp": "601"}
	port, isNet := ports[u.Scheme]
	switch {
	case u.Scheme == "unixgram" && u.Host == "" && len(u.Path) > 1:
		return "unixgram", u.Path, nil
	case !isNet || u.Hostname() == "" || strings.Trim(u.Path, "/") != "":
		return "", "", wrong
	case u.Port() != "":
		port = u.Port()
	}
	return u.Scheme, net.JoinHostPort(u.Hostname(), port), nil
}
