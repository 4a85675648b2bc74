package http2

import (
	"bytes"

	"golang.org/x/net/http2"

	"wasmgate/runtime/netloop"
)

// memory is what connections of a loop use one after the other: a connection that waits has none of it.
type memory struct {
	streams []*Stream
	readers []*reader
	encoded bytes.Buffer // the header block that is being written
	strings intern
}

// What is kept of it.
const (
	keepStreams = 512
	keepReaders = 64
)

// reader reads the frames of a connection while something may come.
type reader struct {
	framer *http2.Framer
	source source
}

// attach gives the connection a reader.
func (c *Conn) attach(t *netloop.Task) {
	m := c.memory
	if n := len(m.readers); n > 0 {
		c.reader = m.readers[n-1]
		m.readers = m.readers[:n-1]
	} else {
		r := &reader{}
		r.framer = http2.NewFramer(nil, &r.source)
		r.framer.SetReuseFrames()
		r.framer.SetMaxReadFrameSize(frameSize)
		c.reader = r
	}
	c.reader.source = source{conn: c, task: t}
}

// detach gives it back. After a failure it is not used again.
func (c *Conn) detach(again bool) {
	r := c.reader
	if r == nil {
		return
	}
	c.reader = nil
	if r.source.buf != nil {
		c.loop.Recycle(r.source.buf)
	}
	r.source = source{}
	if again && len(c.memory.readers) < keepReaders {
		c.memory.readers = append(c.memory.readers, r)
	}
}

// intern remembers strings, so that what is said in every answer is allocated once. What is long, or no other string is like, is not worth it.
type intern struct{ table *[512]string }

const longestKept = 64

func (in *intern) string(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > longestKept {
		return string(b)
	}
	if in.table == nil {
		in.table = new([512]string)
	}
	h := uint32(2166136261)
	for _, c := range b {
		h = (h ^ uint32(c)) * 16777619
	}
	at := &in.table[(h^h>>16)%uint32(len(in.table))]
	if *at != string(b) {
		*at = string(b)
	}
	return *at
}
