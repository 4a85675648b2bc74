package http2

import (
	"errors"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
)

// readFrame reads a frame and does what it says.
func (c *Conn) readFrame() error {
	framer := c.reader.framer
	h, err := framer.ReadFrameHeader()
	if err != nil {
		return c.readError(err)
	}
	if h.Type == http2.FrameHeaders && !c.block.open {
		c.block.open, c.block.since = true, c.loop.Now()
	}
	f, err := framer.ReadFrameForHeader(h)
	c.heard = c.loop.Now()
	switch {
	case err != nil:
		if id, ok := windowOfNothing(h, err); ok {
			return c.streamBreach(id, http2.ErrCodeProtocol, "a window update of 0")
		}
		return c.readError(err)
	case !c.settled:
		if s, ok := f.(*http2.SettingsFrame); !ok || s.IsAck() {
			return broken(http2.ErrCodeProtocol, "the first frame is not SETTINGS")
		}
	}
	return c.frame(f)
}

// windowOfNothing says whether an error is about a window update by nothing, which harms that stream only.
func windowOfNothing(h http2.FrameHeader, err error) (id uint32, ok bool) {
	var one http2.StreamError
	return h.StreamID, errors.As(err, &one) && h.Type == http2.FrameWindowUpdate
}

// readError says what a failure of the Framer means.
func (c *Conn) readError(err error) error {
	var code http2.ConnectionError
	var one http2.StreamError
	detail := "a frame that cannot be read"
	if d := c.reader.framer.ErrorDetail(); d != nil {
		detail = d.Error()
	}
	switch {
	case errors.Is(err, http2.ErrFrameTooLarge) && !c.settled, !c.settled && strings.Contains(err.Error(), "HTTP/1"):
		return broken(http2.ErrCodeProtocol, "the answer to HTTP/2's preface is none of HTTP/2: the peer speaks something else, as HTTP/1.1")
	case errors.Is(err, http2.ErrFrameTooLarge):
		return broken(http2.ErrCodeFrameSize, "a frame of more than 16 KiB")
	case errors.As(err, &code):
		return broken(http2.ErrCode(code), detail)
	case errors.As(err, &one):
		return broken(one.Code, detail)
	}
	return err
}

// frame does what a frame says.
func (c *Conn) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.data(f)
	case *http2.HeadersFrame:
		return c.beginBlock(f)
	case *http2.ContinuationFrame:
		return c.continueBlock(f)
	case *http2.RSTStreamFrame:
		return c.resetByPeer(f)
	case *http2.SettingsFrame:
		return c.settings(f)
	case *http2.PingFrame:
		return c.ping(f)
	case *http2.GoAwayFrame:
		return c.goingAway(f)
	case *http2.WindowUpdateFrame:
		return c.windowUpdate(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return broken(http2.ErrCodeProtocol, "a stream that depends on itself")
		}
	case *http2.PushPromiseFrame:
		return broken(http2.ErrCodeProtocol, "PUSH_PROMISE, which was not allowed")
	}
	return c.annoyed() // PRIORITY, and what nobody knows
}

// annoyed counts a frame that moves nothing forward.
func (c *Conn) annoyed() error { return c.annoyedBy(1) }

func (c *Conn) annoyedBy(weight int) error {
	now := c.loop.Now()
	if now-c.nuisanceSince >= int64(time.Second) || c.nuisance < 0 {
		c.nuisance, c.nuisanceSince = 0, now
	}
	if c.nuisance += weight; c.nuisance > c.options.Nuisance {
		return broken(http2.ErrCodeEnhanceYourCalm, "too many frames that move nothing forward")
	}
	return nil
}

// idle says whether nothing can be said about a stream yet, since it has not begun.
func (c *Conn) idle(id uint32) bool { return id%2 == 0 || id >= c.nextID }

// streamBreach ends a stream over what the peer did in it.
func (c *Conn) streamBreach(id uint32, code http2.ErrCode, what string) error {
	if c.idle(id) {
		return broken(http2.ErrCodeProtocol, what+", for a stream that has not begun")
	}
	s := c.streams[id]
	if s == nil {
		return c.annoyed()
	}
	if !s.reset {
		s.reset = true
		c.reset(id, code)
	}
	fe := c.fault(fault.Malformed, 502, "HTTP/2: "+what+" ("+code.String()+")")
	s.fail(fe)
	if c.server == nil {
		return nil
	}
	return c.annoyedBy(resetWeight) // to have us reset is to take the request back by another way (CVE-2025-8671)
}

// data takes a piece of a body. A client gives the connection's window back at once: only the stream waits for its reader. A
// server does when it was read, so that all streams together hold no more than that.
func (c *Conn) data(f *http2.DataFrame) error {
	n, body := int(f.Length), f.Data()
	if c.idle(f.StreamID) {
		return broken(http2.ErrCodeProtocol, "DATA for a stream that has not begun")
	}
	if !c.received.take(n) {
		return broken(http2.ErrCodeFlowControl, "more DATA than the connection's window allows")
	}
	s := c.streams[f.StreamID]
	switch {
	case c.server == nil:
		c.credit(n)
	case s == nil || s.reset:
		c.credit(n)
		if s == nil && c.wasReset(f.StreamID) == nil || s != nil && s.byPeer {
			c.reset(f.StreamID, http2.ErrCodeStreamClosed)
		}
	default:
		c.credit(n - len(body))
	}
	switch {
	case s == nil || s.reset:
		return c.lateData(f.StreamID, len(body))
	case s.peerEnded:
		return broken(http2.ErrCodeStreamClosed, "DATA behind the end of its stream")
	case !s.headDone:
		return c.streamBreach(s.id, http2.ErrCodeProtocol, "DATA before a head")
	case !s.received.take(n):
		return c.streamBreach(s.id, http2.ErrCodeFlowControl, "more DATA than the stream's window allows")
	}
	if len(body) == 0 && !f.StreamEnded() {
		if err := c.annoyed(); err != nil {
			return err
		}
	}
	s.got += int64(len(body))
	if s.length >= 0 && s.got > s.length || s.noBody && len(body) > 0 {
		return c.streamBreach(s.id, http2.ErrCodeProtocol, "more DATA than content-length says")
	}
	s.recv = append(s.recv, body...)
	if pad := s.received.give(n - len(body)); pad > 0 && !f.StreamEnded() {
		c.writeWindowUpdate(s.id, pad)
		c.flush()
	}
	if f.StreamEnded() {
		return c.endOf(s)
	}
	s.wakeReader()
	return nil
}

// endOf is the end of an answer.
func (c *Conn) endOf(s *Stream) error {
	if s.length >= 0 && s.got != s.length && !s.noBody {
		return c.streamBreach(s.id, http2.ErrCodeProtocol, "less DATA than content-length says")
	}
	s.peerEnded = true
	s.wakeReader()
	s.wakeWriter()
	return nil
}

// beginBlock begins a header block: HPACK wants each of them read, also where nobody does.
func (c *Conn) beginBlock(f *http2.HeadersFrame) error {
	s := c.streams[f.StreamID]
	switch {
	case c.server != nil && f.HasPriority() && f.Priority.StreamDep == f.StreamID:
		return broken(http2.ErrCodeProtocol, "a stream that depends on itself")
	case c.idle(f.StreamID):
		if c.server == nil || f.StreamID%2 == 0 {
			return broken(http2.ErrCodeProtocol, "HEADERS for a stream that has not begun")
		}
		if err := c.beginStream(f.StreamID, f.StreamEnded()); err != nil {
			return err
		}
	case s == nil && c.server != nil && c.wasReset(f.StreamID) == nil:
		return broken(http2.ErrCodeStreamClosed, "HEADERS for a stream that is over")
	case s == nil || s.reset:
		if s != nil && s.byPeer {
			c.reset(s.id, http2.ErrCodeStreamClosed)
		}
		if err := c.annoyed(); err != nil {
			return err
		}
		c.block.begin(f.StreamID, f.StreamEnded(), nil, false)
	case s.peerEnded:
		return broken(http2.ErrCodeStreamClosed, "HEADERS behind the end of their stream")
	case s.tunnel: // RFC 9113 section 8.5
		if err := c.streamBreach(s.id, http2.ErrCodeProtocol, "HEADERS in a tunnel"); err != nil {
			return err
		}
		c.block.begin(f.StreamID, f.StreamEnded(), nil, false)
	case s.headDone:
		c.block.begin(f.StreamID, f.StreamEnded(), &s.trailers, true)
	default:
		c.block.begin(f.StreamID, f.StreamEnded(), &s.head, false)
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

func (c *Conn) continueBlock(f *http2.ContinuationFrame) error {
	if c.block.frames++; c.block.frames > maxContinuations {
		return broken(http2.ErrCodeEnhanceYourCalm, "a header block of too many frames")
	}
	return c.fragment(f.HeaderBlockFragment(), f.HeadersEnded())
}

func (c *Conn) fragment(b []byte, last bool) error {
	h := &c.block
	if h.bytes += len(b); h.bytes > 2*c.options.HeaderList {
		return broken(http2.ErrCodeEnhanceYourCalm, "a header block that is far too long")
	}
	if _, err := c.decoder.Write(b); err != nil {
		return broken(http2.ErrCodeCompression, err.Error())
	}
	if !last {
		return nil
	}
	h.open = false
	if err := c.decoder.Close(); err != nil {
		return broken(http2.ErrCodeCompression, err.Error())
	}
	s := c.streams[h.id]
	if s == nil || s.reset || h.to == nil {
		return nil
	}
	if c.server != nil && !h.trailer {
		return c.requested(s)
	}
	if what := h.complete(); what != "" {
		return c.streamBreach(h.id, http2.ErrCodeProtocol, what)
	}
	return c.answered(s)
}

// answered takes a head, or trailers.
func (c *Conn) answered(s *Stream) error {
	h := &c.block
	switch {
	case h.trailer:
		return c.endOf(s)
	case h.status < 200:
		s.status, s.fresh = h.status, true
		s.wakeReader()
		return c.annoyed()
	}
	s.status, s.fresh, s.headDone = h.status, true, true
	if s.tunnel = s.connect && h.status < 300; s.tunnel { // what it says of a length counts for nothing (RFC 9110 section 9.3.6)
		s.noBody = false
	} else if s.noBody = s.noBody || h.status == 204 || h.status == 304; h.status != 204 {
		s.length = h.length
	}
	if h.end {
		return c.endOf(s)
	}
	s.wakeReader()
	return nil
}

// resetByPeer is RST_STREAM.
func (c *Conn) resetByPeer(f *http2.RSTStreamFrame) error {
	if c.idle(f.StreamID) {
		return broken(http2.ErrCodeProtocol, "RST_STREAM for a stream that has not begun")
	}
	s := c.streams[f.StreamID]
	if s == nil || s.reset {
		return c.annoyed()
	}
	s.reset, s.byPeer, s.heard = true, true, f.ErrCode.String()
	if c.server != nil {
		answered := s.ended || s.served.held
		s.fail(c.fault(fault.ClientClosed, 0, "the client has reset the stream: "+f.ErrCode.String()))
		if answered {
			return c.annoyed()
		}
		return c.annoyedBy(resetWeight)
	}
	if s.peerEnded { // the answer is whole: only the rest of the request is not wanted
		s.Stop()
		return nil
	}
	s.refused = f.ErrCode == http2.ErrCodeRefusedStream && !s.headDone
	s.fail(&fault.Error{
		Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Retryable: !s.headDone,
		Detail: "the upstream has reset the stream: " + f.ErrCode.String(), Reset: true, ResetCode: uint32(f.ErrCode),
	})
	return nil
}

// resetWeight is how many frames that move nothing forward a request counts for that is taken back, or is malformed.
const resetWeight = 2

// settings is what the peer allows.
func (c *Conn) settings(f *http2.SettingsFrame) error {
	if err := c.annoyed(); err != nil {
		return err
	}
	if f.IsAck() {
		if c.server != nil {
			c.server.acked = true
		}
		return nil
	}
	if f.NumSettings() > 100 {
		return broken(http2.ErrCodeEnhanceYourCalm, "a SETTINGS frame with more than 100 settings")
	}
	most, was := c.peerStreams, c.peerWindow
	if err := f.ForeachSetting(c.setting); err != nil {
		return err
	}
	if err := c.moveWindows(c.peerWindow - was); err != nil {
		return err
	}
	c.settled = true
	if c.first != nil {
		c.first.Wake()
	}
	c.writeSettingsAck()
	c.next()
	if c.peerStreams != most && c.first == nil && c.options.Limited != nil {
		c.options.Limited()
	}
	return c.control()
}

func (c *Conn) setting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return c.readError(err)
	}
	switch s.ID {
	case http2.SettingHeaderTableSize:
		c.encoder.SetMaxDynamicTableSize(s.Val) // within the limit
	case http2.SettingEnablePush:
		if s.Val != 0 && c.server == nil {
			return broken(http2.ErrCodeProtocol, "a server that allows PUSH_PROMISE")
		}
	case http2.SettingMaxConcurrentStreams:
		c.peerStreams = s.Val
	case http2.SettingInitialWindowSize:
		c.peerWindow = int64(s.Val) // the last one in a frame is what counts
	case http2.SettingMaxFrameSize:
		c.peerFrame = int(min(s.Val, frameSize))
	case http2.SettingMaxHeaderListSize:
		c.peerHeaderList = uint64(s.Val)
	case http2.SettingEnableConnectProtocol:
		if c.extended && s.Val == 0 && c.server == nil {
			return broken(http2.ErrCodeProtocol, "a server that takes back that it takes extended CONNECT")
		}
		c.extended = s.Val == 1
	}
	return nil
}

// moveWindows is what another initial window means for the streams that there are: work for each of them, so that many make such a frame a
// larger nuisance.
func (c *Conn) moveWindows(by int64) error {
	if by == 0 {
		return nil
	}
	for _, s := range c.streams {
		if s.window += by; s.window > maxWindow {
			return broken(http2.ErrCodeFlowControl, "an initial window that makes one of more than 2^31-1")
		}
		if by > 0 {
			s.wakeWriter()
		}
	}
	return c.annoyedBy(min(len(c.streams)/streamsForOne, c.options.Nuisance/10))
}

// streamsForOne is how many streams whose windows are moved count for a frame that moves nothing forward.
const streamsForOne = 10

func (c *Conn) ping(f *http2.PingFrame) error {
	if f.IsAck() {
		c.asked = 0
		if c.server != nil && f.Data == drainPing {
			c.lastCall()
		}
		return c.annoyed()
	}
	if err := c.annoyed(); err != nil {
		return err
	}
	c.writePing(true, f.Data)
	return c.control()
}

// goingAway is GOAWAY: streams above the last one were not acted upon.
func (c *Conn) goingAway(f *http2.GoAwayFrame) error {
	if err := c.annoyed(); err != nil {
		return err
	}
	if c.server != nil { // which opens no streams: it is the end of the client's
		c.Drain()
		c.lastCall()
		return nil
	}
	if c.goAway && f.LastStreamID > c.lastID {
		return broken(http2.ErrCodeProtocol, "GOAWAY with a higher number than before")
	}
	c.goAway, c.lastID, c.theirs = true, f.LastStreamID, f.ErrCode
	c.tellGoAway(false, f.ErrCode)
	for id, s := range c.streams {
		if id > c.lastID && !s.peerEnded && s.err == nil {
			s.refused, s.reset = true, true
			s.fail(&fault.Error{
				Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Retryable: true,
				Detail: "the upstream is going away (GOAWAY " + f.ErrCode.String() + "), and has not acted upon the request",
			})
		}
	}
	c.leave(PeerClosed)
	return nil
}

// smallUpdate is the size of a window update that is not worth its frame, in bytes.
const smallUpdate = 1 << 10

func (c *Conn) windowUpdate(f *http2.WindowUpdateFrame) error {
	if f.Increment < smallUpdate {
		if err := c.annoyed(); err != nil {
			return err
		}
	}
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > maxWindow {
			return broken(http2.ErrCodeFlowControl, "a window of more than 2^31-1")
		}
		c.next()
		return nil
	}
	if c.idle(f.StreamID) {
		return broken(http2.ErrCodeProtocol, "WINDOW_UPDATE for a stream that has not begun")
	}
	s := c.streams[f.StreamID]
	if s == nil || s.reset {
		return c.annoyed()
	}
	if s.window += int64(f.Increment); s.window > maxWindow {
		return c.streamBreach(s.id, http2.ErrCodeFlowControl, "a window of more than 2^31-1")
	}
	s.wakeWriter()
	return nil
}
