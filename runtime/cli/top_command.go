package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"wasmgate/runtime/cli/ask"
	"wasmgate/runtime/cli/top"
)

// leastInterval keeps top from asking more than it shows.
const leastInterval = 100 * time.Millisecond

func newTop(p *Process) *cobra.Command {
	o := top.Options{}
	var read func() error
	c := &cobra.Command{
		Use:   "top [--admin ADDRESS]",
		Short: "Watch the upstreams, connections, plugins and event loops of a running gateway",
		Long: `Shows what a running gateway does, by its admin endpoint: requests and answers of each upstream, with its
connections and how many are reused; each connection; calls and fuel of plugins; how busy event loops are. Rates are
those between the last two readings.

Keys: u, c, p and l, tab and the arrows choose what is shown, s what it is sorted by, up and down scroll, q leaves.

With --once, or where standard output is not a terminal, all tables are written once, as plain text, after one interval.

An endpoint with a token wants --token-file: a file like admin.token_file, of which the first line counts. Over TLS, say
https:// in ADDRESS, or one of --cacert, --cert and --key: the authority, if it is not one of the system's, and the certificate
that admin.tls.client_ca takes, with its key.`,
		Example: `  wasmgate top
  wasmgate top --admin 10.0.0.5:9901 --token-file /run/secrets/admin
  wasmgate top --admin 10.0.0.5:9901 --cacert admin-ca.pem --cert me.pem --key me.key
  wasmgate top --once --interval 10s > figures.txt`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.Interval < leastInterval {
				return fmt.Errorf("--interval %s is too short: at least %s", o.Interval, leastInterval)
			}
			if err := read(); err != nil {
				return err
			}
			o.In, o.Out, o.Stop = p.Stdin, p.Stdout, p.Signals()
			if err := top.Run(context.Background(), o); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	read = adminFlags(c, &o.Endpoint, "127.0.0.1:9901", "`address` of the gateway's admin endpoint")
	f := c.Flags()
	f.BoolVar(&o.Once, "once", false, "write all tables once, as plain text")
	f.DurationVar(&o.Interval, "interval", 2*time.Second, "`time` between two readings")
	return c
}

// adminFlags are those of a command that asks a gateway. Call read before the endpoint is used.
func adminFlags(c *cobra.Command, e *ask.Endpoint, address, usage string) (read func() error) {
	var tokenFile string
	var files ask.Files
	f := c.Flags()
	f.StringVar(&e.Admin, "admin", address, usage)
	f.StringVar(&tokenFile, "token-file", "", "`file` with the token that the admin endpoint wants")
	f.StringVar(&files.CA, "cacert", "", "PEM `file` of the authorities of the admin endpoint's certificate")
	f.StringVar(&files.Cert, "cert", "", "PEM `file` of the certificate to show to the admin endpoint")
	f.StringVar(&files.Key, "key", "", "PEM `file` of its key (default: the one of --cert)")
	return func() (err error) {
		if tokenFile != "" {
			if e.Token, err = ask.Token(tokenFile); err != nil {
				return failed(err)
			}
		}
		e.Client, err = files.Client()
		e.Secure = e.Client != nil
		return failed(err)
	}
}
