package http2

import (
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// Start makes a connection to a server, that has just been opened, ready for streams, which the server has to allow, until the loop
// time at most; 0: no limit. It parks. After an error the connection is closed.
func Start(t *netloop.Task, nc *netloop.Conn, below Transport, o Options, until int64) (*Conn, *fault.Error) {
	c := newConn(nc, below, o, &memory{})
	c.out = append(c.loop.Buffer()[:0], http2.ClientPreface...)
	c.writeSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.options.StreamWindow)}, //nolint:gosec // options are small
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(c.options.Table)},          //nolint:gosec // see above
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(c.options.HeaderList)},   //nolint:gosec // see above
	)
	if more := c.options.ConnWindow - firstWindow; more > 0 {
		c.writeWindowUpdate(0, more)
	}
	c.first, c.heard = t, c.loop.Now()
	c.flush()
	c.loop.Go(c.read)
	timer := c.waitUntil(t, until)
	for !c.ready() && c.err == nil && (until == 0 || c.loop.Now() < until) && !c.loop.Closing() {
		t.Park()
	}
	c.first = nil
	if timer != nil {
		timer.Stop()
	}
	switch {
	case c.loop.Closing():
		c.lose(fault.New(fault.ShuttingDown, fault.Gateway, 503, "the gateway is stopping"))
	case c.err == nil && c.settled && !c.ready():
		c.lose(&fault.Error{Kind: fault.ConnectTimeout, Source: fault.Upstream, Status: 504, Retryable: true, Detail: "the upstream has allowed no stream of HTTP/2 in time (SETTINGS_MAX_CONCURRENT_STREAMS is 0)"})
	case c.err == nil && !c.settled:
		c.lose(&fault.Error{Kind: fault.ConnectTimeout, Source: fault.Upstream, Status: 504, Retryable: true, Detail: "no SETTINGS of HTTP/2 in time: the upstream may speak HTTP/1.1 only (protocol)"})
	}
	if c.err == nil {
		return c, nil
	}
	e := *c.err
	if e.Kind != fault.ShuttingDown && e.Kind != fault.ConnectTimeout {
		e.Kind, e.Retryable = fault.Connect, true
		e.Detail = "it was to be spoken to in HTTP/2 (protocol: http2): " + e.Detail
	}
	return nil, &e
}

// ready says whether a stream can be opened: the peer's SETTINGS have come, and allow one.
func (c *Conn) ready() bool { return c.settled && c.peerStreams > 0 }

func (c *Conn) waitUntil(t *netloop.Task, until int64) *netloop.Timer {
	if until == 0 {
		return nil
	}
	return c.loop.AfterFunc(time.Duration(until-c.loop.Now()), t.Wake)
}

// Close ends a client's connection at once, without parking: streams that are open fail. The peer is told before (GOAWAY with
// NO_ERROR, or with what it did wrong), and TLS says that it ends (close_notify), as far as that needs no waiting. Ended is not
// called.
func (c *Conn) Close() {
	if c.net.Closed() {
		return
	}
	c.gone = true
	if (c.err == nil || c.code != 0) && !c.sending {
		if c.err == nil {
			c.tellGoAway(true, c.code)
		}
		c.writeGoAway(0, c.code, "") // no stream of the peer's was acted upon: there is none
		if b, ok := c.below.(interface{ CloseWith(last []byte) error }); ok {
			c.wrote(len(c.out))
			_ = b.CloseWith(c.out)
		}
		c.out = c.out[:0]
	}
	c.close()
}

// Outgoing says how a request is sent.
type Outgoing struct {
	Scheme   string        // http or https
	Framing  http1.Framing // of the body: with a length, that is announced
	Trailers bool          // TE: trailers is sent
	End      bool          // there is no body, and there are no trailers
	// Protocol makes the request an extended CONNECT (RFC 8441) for a tunnel of that protocol: see Conn.Extended and Stream.Tunnel. The
	// request's own method, and the key that only HTTP/1.1 has, stay behind.
	Protocol string
}

// Open begins a request: its head is on its way when it returns. Fields about the connection, Host and Expect are left out;
// what Connection lists must be gone (StripHopByHop). The caller must Close the stream. It does not park.
func (c *Conn) Open(r *http1.Request, o Outgoing) (*Stream, *fault.Error) {
	if !c.Room(len(c.streams)) || c.err != nil {
		return nil, &fault.Error{Kind: fault.UpstreamClosed, Source: fault.Upstream, Status: 502, Retryable: true, Detail: "the connection takes no further stream"}
	}
	if c.listSize(r) > c.peerHeaderList {
		return nil, fault.New(fault.HeadTooLarge, fault.Gateway, 502, "the request's head is over the %d bytes that the upstream takes (SETTINGS_MAX_HEADER_LIST_SIZE)", c.peerHeaderList)
	}
	c.encodeRequest(r, &o)
	s := c.newStream(c.nextID)
	c.nextID += 2
	s.noBody, s.connect = string(r.Method) == "HEAD", o.Protocol != ""
	s.ended = o.End
	c.headers(s, o.End)
	c.flush()
	c.keep()
	if c.nextID >= maxStreamID {
		c.leave(Exhausted)
	}
	return s, nil
}

// listSize is the head as the peer counts it, a little more at most.
func (c *Conn) listSize(r *http1.Request) uint64 {
	const overhead, pseudo = 32, 5*(32+10) + 2*(32+20)
	n := pseudo + len(r.Method) + len(r.Authority) + len(r.Path) + len(r.Query())
	for i := range r.Len() {
		n += len(r.Name(i)) + len(r.Value(i)) + overhead
	}
	return uint64(n) //nolint:gosec // not negative
}

func (c *Conn) encodeRequest(r *http1.Request, o *Outgoing) {
	c.encode(":method", o.method(r))
	if o.Protocol != "" {
		c.encode(":protocol", o.Protocol)
	}
	c.encode(":scheme", o.Scheme)
	if len(r.Authority) > 0 {
		c.encode(":authority", c.memory.strings.string(r.Authority))
	}
	c.encode(":path", target(r))
	for i := range r.Len() {
		id := r.ID(i)
		if !o.carries(id, r.Name(i)) {
			continue
		}
		c.encodeField(id, r.Name(i), r.Value(i))
	}
	if o.Framing.Kind == http1.Length {
		c.encode("content-length", c.number(o.Framing.Length))
	}
	if o.Trailers {
		c.encode("te", "trailers")
	}
}

// carries says whether a field of a request goes on.
func (o *Outgoing) carries(id http1.FieldID, name []byte) bool {
	if http1.IsHopByHop(id) || http1.IsFraming(id) || id == http1.FieldHost || id == http1.FieldExpect {
		return false
	}
	return o.Protocol == "" || !http1.EqualFold(name, "Sec-WebSocket-Key")
}

// AppendText appends the head that Open sends as people would write it: the request line, and a line for each field.
func AppendText(dst []byte, r *http1.Request, o Outgoing) []byte {
	line := func(name, value string) { dst = append(dst, name+": "+value+"\r\n"...) }
	dst = append(dst, o.method(r)+" "+target(r)+" HTTP/2\r\n"...)
	if o.Protocol != "" {
		line(":protocol", o.Protocol)
	}
	line(":scheme", o.Scheme)
	if len(r.Authority) > 0 {
		line(":authority", string(r.Authority))
	}
	for i := range r.Len() {
		if id := r.ID(i); o.carries(id, r.Name(i)) {
			line(lowerName(id, r.Name(i)), string(r.Value(i)))
		}
	}
	if o.Framing.Kind == http1.Length {
		line("content-length", strconv.FormatInt(o.Framing.Length, 10))
	}
	if o.Trailers {
		line("te", "trailers")
	}
	return append(dst, "\r\n"...)
}

// target is :path.
func target(r *http1.Request) string {
	path := string(r.Path)
	if path == "" {
		path = "/"
	}
	if r.HasQuery() {
		path += "?" + string(r.Query())
	}
	return path
}

// method is :method.
func (o *Outgoing) method(r *http1.Request) string {
	if o.Protocol != "" {
		return "CONNECT"
	}
	return method(r.Method)
}

// method is m without an allocation where it is one that everybody uses.
func method(m []byte) string {
	for _, known := range [...]string{"GET", "POST", "PUT", "HEAD", "DELETE", "PATCH", "OPTIONS"} {
		if string(m) == known {
			return known
		}
	}
	return string(m)
}

// End ends the request with trailers. Fields that do not belong there are left out.
func (s *Stream) End(trailers *http1.Head) error {
	c := s.conn
	if s.writeBy = 0; s.stopped || s.ended || s.err != nil {
		return s.writable()
	}
	s.writeEnd(trailers)
	c.flush()
	return nil
}
