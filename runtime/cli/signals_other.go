//go:build !unix

package cli

import "os"

// reopenSignals is empty: there are no such signals here.
var reopenSignals []os.Signal
