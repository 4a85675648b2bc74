package http2

import "time"

// Options bound a connection. Zero values are the defaults.
type Options struct {
	MaxStreams   int           // open at a time, whatever the peer allows, or, of a server, that the peer may open; default 100
	HeaderList   int           // bytes of a head or trailers as RFC 9113 section 6.5.2 counts them, and of a field; default 32 KiB
	Fields       int           // of a head or trailers; default 100
	Table        int           // bytes of each of the two tables of HPACK; default 4096
	StreamWindow int           // bytes of a stream that its user has not read; default 256 KiB, of a server 64 KiB
	ConnWindow   int           // bytes on their way to us in all streams, and, of a server, not read; default 1 MiB
	Nuisance     int           // frames in a second that move nothing forward; default 1000
	KeepAlive    time.Duration // of silence while streams are open, after which the peer is asked whether it is there; default 6 min
	PingTimeout  time.Duration // for its answer; default 20 s
	WriteTimeout time.Duration // for the peer to take what is written; default 30 s

	// Of a server's connection.
	HeadTimeout     time.Duration // for the head of a request, and for the first to begin; default 10 s
	IdleTimeout     time.Duration // without a request; default 60 s
	SettingsTimeout time.Duration // for the peer to say that it has our SETTINGS; default 10 s
	ExtendedConnect bool          // CONNECT with :protocol is taken (RFC 8441)

	// In and Out, if not nil, are added the bytes to that were read and written.
	In, Out *uint64
	// Ended is called once, on the loop, when the connection takes no further stream: the peer says so, or it has failed. It
	// must not park. May be nil.
	Ended func(Why)
	// Limited is called on the loop when the peer has changed how many streams it takes at a time, but for the first time. It must
	// not park. May be nil.
	Limited func()
	// GoAway is called on the loop for each GOAWAY with RFC 9113's name of its code, before Ended where that follows from it:
	// the peer's, and ours. It must not park. May be nil.
	GoAway func(ours bool, code string)
}

// Why says why a connection takes no further stream.
type Why uint8

// The reasons.
const (
	PeerClosed Why = iota // the peer has closed it, or said GOAWAY
	Failed                // reading or writing failed, or PING was not answered
	Protocol              // the peer did what it must not
	Exhausted             // it has no stream numbers left
	Idle                  // nothing was asked for too long, or it was told to end
)

// Of keep-alive: grpc-go's server takes more than one PING in five minutes, on a connection that is silent otherwise, for an
// attack.
const defaultKeepAlive = 6 * time.Minute

func (o Options) withDefaults() Options {
	for _, d := range [...]struct {
		at    *int
		value int
	}{{&o.MaxStreams, 100}, {&o.HeaderList, 32 << 10}, {&o.Fields, 100}, {&o.Table, 4096}, {&o.StreamWindow, 256 << 10}, {&o.ConnWindow, 1 << 20}, {&o.Nuisance, 1000}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	for _, d := range [...]struct {
		at    *time.Duration
		value time.Duration
	}{{&o.KeepAlive, defaultKeepAlive}, {&o.PingTimeout, 20 * time.Second}, {&o.WriteTimeout, 30 * time.Second}, {&o.HeadTimeout, 10 * time.Second}, {&o.IdleTimeout, time.Minute}, {&o.SettingsTimeout, 10 * time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	return o
}

// Bounds that are no options.
const (
	maxContinuations = 64
	frameSize        = 16 << 10 // of what is sent and taken: the least that RFC 9113 allows
	firstWindow      = 64<<10 - 1
	maxWindow        = 1<<31 - 1
	maxStreamID      = 1<<31 - 1
	backlog          = 64 << 10 // bytes that wait to be written, above which streams wait
	maxBacklog       = 1 << 20  // and above which a peer that does not read what it makes us write is given up
	keepBuffer       = 64 << 10 // of a stream's memory that is kept for the next one
	readsInRow       = 16       // of a buffer each, before others of the loop get their turn
	collected        = 16 << 10 // bytes of an answer that wait for a window, beyond which there is no room for more
	discarded        = 8 << 20  // bytes of a request that nobody wants which are taken still, since there are clients that see no answer before
	discarding       = 2 * time.Second
	lull             = time.Second
	drainGrace       = time.Second // from the announcement that a connection ends, for what is on its way (RFC 9113 section 6.8)
)
