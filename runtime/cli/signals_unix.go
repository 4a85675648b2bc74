//go:build unix

package cli

import (
	"os"
	"syscall"
)

// reopenSignals ask for log files to be opened anew, as nginx's and HAProxy's users know it.
var reopenSignals = []os.Signal{syscall.SIGUSR1}
