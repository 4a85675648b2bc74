//go:build unix

package http3

import "syscall"

// buffers are the sizes of the socket's buffers as the kernel has them, in bytes; 0: not known.
func (ln *Listener) buffers() (receive, send int) {
	raw, err := ln.socket.SyscallConn()
	if err != nil {
		return 0, 0
	}
	_ = raw.Control(func(fd uintptr) { // it fails for a closed socket, whose buffers do not matter
		receive, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF)
		send, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	})
	return receive, send
}
