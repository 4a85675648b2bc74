package top

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"wasmgate/runtime/cli/ask"
)

// Control sequences of ECMA-48, and of xterm where that has none. A frame is written at once and over the last one, line by
// line, so that nothing flickers; terminals that know the last two show nothing until it is whole.
const (
	enter   = "\x1b[?1049h\x1b[?25l" // the other screen, without a cursor
	leave   = "\x1b[?25h\x1b[?1049l"
	home    = "\x1b[H"
	eraseTo = "\x1b[K" // to the end of the line
	erase   = "\x1b[J" // to the end of the screen
	bold    = "\x1b[1m"
	reverse = "\x1b[7m"
	plain   = "\x1b[0m"
	begin   = "\x1b[?2026h"
	end     = "\x1b[?2026l"
)

// screen is a terminal that shows one of the views.
type screen struct {
	options       Options
	source        *source
	out           *os.File
	before, now   *reading
	trouble       error // why the last reading was not to be had
	view, offset  int
	sort          [8]int // of each view
	width, height int
	shown         string // the last frame
}

func newScreen(o Options, s *source, out *os.File, first *reading) *screen {
	return &screen{options: o, source: s, out: out, before: first, now: first}
}

// outcome is one reading, or why there is none.
type outcome struct {
	reading *reading
	err     error
}

func (s *screen) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make(chan []byte)
	if in, ok := s.options.In.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		old, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("the terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), old) }()
		go listen(ctx, in, keys)
	}
	if _, err := io.WriteString(s.out, enter); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(s.out, leave) }()

	readings := make(chan outcome)
	go s.keepReading(ctx, readings)
	resized := time.NewTicker(200 * time.Millisecond)
	defer resized.Stop()
	for {
		s.draw()
		select {
		case r := <-readings:
			s.take(r)
		case k := <-keys:
			if !s.press(k) {
				return nil
			}
		case <-resized.C:
		case <-s.options.Stop:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// listen passes on what is typed. It ends with the input, or stays in its last Read until the process ends.
func listen(ctx context.Context, in io.Reader, keys chan<- []byte) {
	for {
		b := make([]byte, 64)
		n, err := in.Read(b)
		if err != nil {
			b, n = []byte("q"), 1 // nobody is there any more
		}
		select {
		case keys <- b[:n]:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *screen) keepReading(ctx context.Context, to chan<- outcome) {
	next := time.NewTicker(s.options.Interval)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-ctx.Done():
			return
		}
		r, err := s.source.read(ctx, all)
		select {
		case to <- outcome{r, err}:
		case <-ctx.Done():
			return
		}
	}
}

func (s *screen) take(r outcome) {
	s.trouble = r.err
	if r.err == nil {
		s.before, s.now = s.now, r.reading
	}
}

// press does what keys say. It returns false if somebody wants to leave.
func (s *screen) press(keys []byte) bool {
	text := string(keys)
	for text != "" {
		switch {
		case take(&text, "\x1b[C"), take(&text, "\x1bOC"), take(&text, "\t"):
			s.to((s.view + 1) % len(views))
		case take(&text, "\x1b[D"), take(&text, "\x1bOD"), take(&text, "\x1b[Z"): // the last one is shift and tab
			s.to((s.view + len(views) - 1) % len(views))
		case take(&text, "\x1b[A"), take(&text, "\x1bOA"), take(&text, "k"):
			s.offset = max(0, s.offset-1)
		case take(&text, "\x1b[B"), take(&text, "\x1bOB"), take(&text, "j"):
			s.offset++ // draw sees to the end
		case take(&text, "s"):
			s.sort[s.view] = (s.sort[s.view] + 1) % len(views[s.view].sorts)
			s.offset = 0
		case take(&text, "q"), take(&text, "\x03"), text == "\x1b": // Ctrl-C, Escape
			return false
		default:
			for i, v := range views {
				if v.key == text[0] {
					s.to(i)
				}
			}
			text = text[1:]
		}
	}
	return true
}

func take(text *string, key string) bool {
	rest, ok := strings.CutPrefix(*text, key)
	if ok {
		*text = rest
	}
	return ok
}

func (s *screen) to(view int) { s.view, s.offset = view, 0 }

// draw writes a frame, if it is another one.
func (s *screen) draw() {
	if w, h, err := term.GetSize(int(s.out.Fd())); err == nil && w > 0 && h > 0 {
		s.width, s.height = w, h
	} else if s.width == 0 {
		s.width, s.height = 80, 24
	}
	if frame := s.frame(); frame != s.shown {
		_, _ = io.WriteString(s.out, frame)
		s.shown = frame
	}
}

// frame is what the screen is to show, with what makes a terminal show it.
func (s *screen) frame() string {
	lines := []string{cut(summary(s.before, s.now), s.width), s.tabs(), ""}
	if s.trouble != nil {
		lines[2] = reverse + cut(fmt.Sprintf(" %s ago. %s ", span(time.Since(s.now.at)), ask.Printable(s.trouble.Error())), s.width) + plain
	}
	v := views[s.view]
	t := v.table(s.before, s.now, s.sort[s.view])
	room := max(1, s.height-len(lines)-2) // the table's heading, and the last line
	s.offset = max(0, min(s.offset, len(t.rows)-room))
	below := max(0, len(t.rows)-s.offset-room)
	body := t.lines(s.width)
	if len(t.rows) == 0 {
		body = []string{"", cut(v.none(s.now), s.width)}
	} else {
		body = append(body[:1:1], body[1+s.offset:1+s.offset+min(room, len(t.rows)-s.offset)]...)
	}
	body[0] = bold + body[0] + plain
	lines = append(lines, body...)
	for len(lines) < s.height-1 {
		lines = append(lines, "")
	}
	lines = append(lines[:max(0, s.height-1)], s.help(below))
	return begin + home + strings.Join(lines, eraseTo+"\r\n") + eraseTo + erase + end
}

// tabs names the views.
func (s *screen) tabs() string {
	var b strings.Builder
	used := 0
	for i, v := range views {
		text := " " + v.title + " "
		if used += len(text) + 1; used > s.width {
			break
		}
		if i == s.view {
			text = reverse + text + plain
		}
		b.WriteString(text + " ")
	}
	return b.String()
}

func (s *screen) help(below int) string {
	v := views[s.view]
	text := fmt.Sprintf("by %s   s sort   tab, u c p l view   q quit", v.sorts[s.sort[s.view]])
	if below > 0 || s.offset > 0 {
		text = fmt.Sprintf("%d more below   ↑↓ scroll   ", below) + text
	}
	return cut(text, s.width)
}
