package acme

import (
	"context"
	"log/slog"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// told are lines of the libraries whose matter is said by a line of our own.
var told = map[string]bool{
	"could not get certificate from issuer": true, "job failed": true, "challenge failed": true, "validating authorization": true,
	"HTTP request failed; retrying": true,
}

// zapTo is certmagic's log, in ours. What it informs of is for those who look for a fault.
func zapTo(log zerolog.Logger) *zap.Logger {
	return zap.New(core{log: log.With().Str("library", "certmagic").Logger()})
}

// core implements zapcore.Core.
type core struct {
	log    zerolog.Logger
	fields []zapcore.Field
}

func level(l zapcore.Level) zerolog.Level {
	switch {
	case l >= zapcore.WarnLevel:
		return zerolog.WarnLevel
	case l == zapcore.InfoLevel:
		return zerolog.DebugLevel
	}
	return zerolog.TraceLevel
}

// Enabled implements zapcore.Core.
func (c core) Enabled(l zapcore.Level) bool {
	return level(l) >= max(c.log.GetLevel(), zerolog.GlobalLevel())
}

// With implements zapcore.Core.
func (c core) With(fields []zapcore.Field) zapcore.Core {
	c.fields = append(c.fields[:len(c.fields):len(c.fields)], fields...)
	return c
}

// Check implements zapcore.Core.
func (c core) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write implements zapcore.Core.
func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l := level(e.Level)
	if told[e.Message] {
		l = zerolog.DebugLevel
	}
	all := zapcore.NewMapObjectEncoder()
	for _, f := range c.fields {
		f.AddTo(all)
	}
	for _, f := range fields {
		f.AddTo(all)
	}
	delete(all.Fields, "library")
	c.log.WithLevel(l).Fields(all.Fields).Msg(e.Message)
	return nil
}

// Sync implements zapcore.Core.
func (c core) Sync() error { return nil }

// slogTo is acmez's log, in ours, by the same levels.
func slogTo(log zerolog.Logger) *slog.Logger {
	return slog.New(quiet{zerolog.NewSlogHandler(log.With().Str("library", "acmez").Logger())})
}

// quiet is a handler of lines that are one level less urgent.
type quiet struct{ slog.Handler }

func less(l slog.Level) slog.Level {
	if l >= slog.LevelWarn {
		return slog.LevelWarn
	}
	return l - (slog.LevelInfo - slog.LevelDebug)
}

// Enabled implements slog.Handler.
func (q quiet) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, less(l))
}

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = less(r.Level); told[r.Message] {
		if r.Level = slog.LevelDebug; !q.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	r.Time = time.Time{} // the line has one
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }
