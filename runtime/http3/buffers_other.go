//go:build !unix

package http3

// buffers are the sizes of the socket's buffers; here nobody tells.
func (ln *Listener) buffers() (receive, send int) { return 0, 0 }
