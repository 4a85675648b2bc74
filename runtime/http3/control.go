package http3

import (
	"bufio"
	"context"
	"io"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

const (
	settingMaxFieldSection = 0x6
	maxSettings            = 4 << 10 // bytes
	maxUniStreams          = 16      // in a connection's life: a client has use for three
	maxStreamID            = 1<<62 - 4
	controlTimeout         = 10 * time.Second // for the peer to take what we say on the control stream
)

// openControl opens our control stream.
func (c *Conn) openControl() (err error) {
	if c.control, err = c.quic.OpenUniStream(); err != nil {
		return err
	}
	lim := c.settings().Limits
	var list []byte
	list = quicvarint.Append(list, settingMaxFieldSection)
	list = quicvarint.Append(list, uint64(lim.Head+overhead*(lim.Fields+pseudoFields))) //nolint:gosec // limits are positive
	out := quicvarint.Append(nil, streamControl)
	out = append(appendFrameHeader(out, frameSettings, uint64(len(list))), list...)
	_ = c.control.SetWriteDeadline(time.Now().Add(controlTimeout))
	_, err = c.control.Write(out)
	return err
}

// tell sends GOAWAY: streams from this number on are not served. Only part calls it.
func (c *Conn) tell(next quic.StreamID) {
	id := quicvarint.Append(nil, uint64(next)) //nolint:gosec // not negative
	_ = c.control.SetWriteDeadline(time.Now().Add(controlTimeout))
	_, _ = c.control.Write(append(appendFrameHeader(nil, frameGoAway, uint64(len(id))), id...)) // it fails if the connection has gone
}

// acceptUni accepts the client's unidirectional streams. What one counts against maxUniStreams is never given back.
func (c *Conn) acceptUni() {
	for {
		str, err := c.quic.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		go c.readUni(str)
	}
}

// readUni reads what there is to be read of a unidirectional stream.
func (c *Conn) readUni(str *quic.ReceiveStream) {
	_ = str.SetReadDeadline(time.Now().Add(controlTimeout))
	in := bufio.NewReaderSize(str, 64)
	kind, err := quicvarint.Read(in)
	switch {
	case err != nil: // one that ends before its type is no error
		str.CancelRead(errStreamCreation)
		return
	case kind == streamPush:
		c.fail(&connError{errStreamCreation, "a push stream of a client"})
		return
	case kind > streamDecoder:
		str.CancelRead(errStreamCreation)
		return
	case c.seen[kind].Swap(true):
		c.fail(&connError{errStreamCreation, "a second stream of a type of which there is one"})
		return
	case kind != streamControl:
		return // without a dynamic table there is nothing to be said on it
	}
	_ = str.SetReadDeadline(time.Time{})
	if err := c.readControl(in); err != nil {
		c.fail(err)
	}
}

// readControl reads the client's control stream to its end, which is an error.
func (c *Conn) readControl(in *bufio.Reader) *connError {
	for first := true; ; first = false {
		kind, err := quicvarint.Read(in)
		if err != nil {
			return &connError{errClosedCritical, "the control stream has ended"}
		}
		length, err := quicvarint.Read(in)
		if err != nil {
			return &connError{errClosedCritical, "the control stream has ended"}
		}
		if first != (kind == frameSettings) {
			if first {
				return &connError{errMissingSettings, "a control stream that does not begin with SETTINGS"}
			}
			return &connError{errFrameUnexpected, "a second SETTINGS"}
		}
		switch kind {
		case frameSettings:
			if err := readSettings(in, length); err != nil {
				return err
			}
			continue
		case frameCancelPush:
			return &connError{errID, "CANCEL_PUSH of what nobody has promised"}
		case frameData, frameHeaders, framePushPromise, 0x2, 0x6, 0x8, 0x9:
			return &connError{errFrameUnexpected, "a frame that does not belong on a control stream"}
		}
		if length > maxSettings {
			return &connError{errExcessiveLoad, "a frame on the control stream of more than 4 KiB"}
		}
		if _, err := io.CopyN(io.Discard, in, int64(length)); err != nil { //nolint:gosec // not more than maxSettings
			return &connError{errClosedCritical, "the control stream has ended"}
		}
		c.annoyed(1)
	}
}

// readSettings reads a SETTINGS frame. Nothing of what clients say there is of use here; what they must not say is refused.
func readSettings(in io.Reader, length uint64) *connError {
	if length > maxSettings {
		return &connError{errExcessiveLoad, "SETTINGS of more than 4 KiB"}
	}
	b := make([]byte, length)
	if _, err := io.ReadFull(in, b); err != nil {
		return &connError{errClosedCritical, "the control stream has ended"}
	}
	seen := map[uint64]bool{}
	for len(b) > 0 {
		id, _, n := frameHeader(b) // an identifier and its value are two numbers, as a frame's type and length are
		switch {
		case n == 0:
			return &connError{errFrame, "SETTINGS that end within a setting"}
		case seen[id]:
			return &connError{errSettings, "a setting that comes twice"}
		case id >= 0x2 && id <= 0x5:
			return &connError{errSettings, "a setting of HTTP/2"}
		}
		seen[id] = true
		b = b[n:]
	}
	return nil
}
