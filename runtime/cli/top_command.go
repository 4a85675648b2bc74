package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"wasmgate/runtime/cli/top"
)

// leastInterval keeps top from asking more than it shows.
const leastInterval = 100 * time.Millisecond

func newTop(p *Process) *cobra.Command {
	o := top.Options{}
	var tokenFile string
	c := &cobra.Command{
		Use:   "top [--admin ADDRESS]",
		Short: "Watch the upstreams, connections, plugins and event loops of a running gateway",
		Long: `Shows what a running gateway does, by its admin endpoint: requests and answers of each upstream, with its
connections and how many are reused; each connection; calls and fuel of plugins; how busy event loops are. Rates are
those between the last two readings.

Keys: u, c, p and l, tab and the arrows choose what is shown, s what it is sorted by, up and down scroll, q leaves.

With --once, or where standard output is not a terminal, all tables are written once, as plain text, after one interval.

An endpoint with a token wants --token-file: a file like admin.token_file, of which the first line counts. Over TLS, say
https:// in ADDRESS; SSL_CERT_FILE names the authorities if they are not the system's.`,
		Example: `  wasmgate top
  wasmgate top --admin 10.0.0.5:9901 --token-file /run/secrets/admin
  wasmgate top --once --interval 10s > figures.txt`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.Interval < leastInterval {
				return fmt.Errorf("--interval %s is too short: at least %s", o.Interval, leastInterval)
			}
			if tokenFile != "" {
				var err error
				if o.Token, err = readToken(tokenFile); err != nil {
					return failure{err}
				}
			}
			o.In, o.Out, o.Stop = p.Stdin, p.Stdout, p.Signals()
			if err := top.Run(context.Background(), o); err != nil {
				return failure{err}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&o.Admin, "admin", "127.0.0.1:9901", "`address` of the gateway's admin endpoint")
	f.StringVar(&tokenFile, "token-file", "", "`file` with the token that the endpoint wants")
	f.BoolVar(&o.Once, "once", false, "write all tables once, as plain text")
	f.DurationVar(&o.Interval, "interval", 2*time.Second, "`time` between two readings")
	return c
}

// readToken reads the first token of a file: a line is a token, or a name, a space and a token.
func readToken(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	for line := range bytes.Lines(b) {
		if words := bytes.Fields(line); len(words) > 0 {
			return string(words[len(words)-1]), nil
		}
	}
	return "", errors.New("--token-file " + file + ": there is no token in it")
}
