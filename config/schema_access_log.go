package config

// AccessLog is where the lines about requests go, and what is in them.
type AccessLog struct {
	Output string          `koanf:"output" example:"/var/log/wasmgate/access.log" doc:"stdout, stderr, off, or the path of a file that is appended to; a relative one starts at the config file's folder. SIGUSR1 opens the file anew. For a syslog server: syslog+unixgram:///dev/log, syslog+udp://HOST:514 or syslog+tcp://HOST:601."`
	Format AccessLogFormat `koanf:"format" example:"$client $status $duration_s \"$request\" $request_header_x_request_id" doc:"json; common or combined, which Apache and nginx write and all tools read; or a text with $NAME for what it has to tell: see runtime/telemetry/README.md. $$ is a dollar sign."`
	Query  *bool           `koanf:"query" example:"true" doc:"Whether the queries of requests and of Referer fields are written. Default: false with json, true with any other format."`
	Sample Ratio           `koanf:"sample" example:"0.1" doc:"Part of the requests that have a line. Those that failed (a status of 500 or more, or an error) always have one."`
	Slow   Duration        `koanf:"slow" min:"0s" example:"1s" doc:"With sample less than 1: requests that took so long or longer always have a line. 0s: none for being slow."`
	Redact Redact          `koanf:"redact" doc:"What is written as ***."`
	Buffer Size            `koanf:"buffer" min:"128KiB" max:"256MiB" example:"16MiB" doc:"For each event loop: by how much the output may fall behind. Further lines are dropped and counted: requests never wait for the log."`
	Syslog Syslog          `koanf:"syslog" doc:"How messages to a syslog server look. While it cannot be reached lines are dropped and counted."`
}

// Redact is what is kept out of the access log.
type Redact struct {
	Headers []string `koanf:"headers" example:"[authorization, user-agent]" doc:"Header fields, in any case: of requests and of answers."`
	Query   []string `koanf:"query" example:"[token, password]" doc:"Parameters of queries, in any case: of requests, and of addresses in Referer and Location."`
}

// Syslog is how messages to a syslog server look.
type Syslog struct {
	Protocol SyslogProtocol `koanf:"protocol" enum:"rfc5424,rfc3164" example:"rfc3164" doc:"rfc5424, or the older rfc3164, which is what /dev/log of most systems expects."`
	Facility SyslogFacility `koanf:"facility" enum:"kern,user,mail,daemon,auth,syslog,lpr,news,uucp,cron,authpriv,ftp,local0,local1,local2,local3,local4,local5,local6,local7" example:"local0" doc:"The facility of each message. Its severity is info."`
	Tag      string         `koanf:"tag" example:"edge" doc:"Name of the program that messages carry: 1 to 32 letters, digits, '_', '-' and '.'."`
}
