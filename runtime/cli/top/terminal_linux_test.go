package top

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wasmgate/runtime/internal/testkit"
)

// terminal is one without a window: what a program writes to it is kept.
type terminal struct {
	user, program *os.File

	mu   sync.Mutex
	text strings.Builder
}

func startTerminal(t *testing.T, columns, rows uint16) *terminal {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(user.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{user: user, program: program}
	term.resize(t, columns, rows)
	t.Cleanup(func() { _ = errors.Join(program.Close(), user.Close()) })
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := user.Read(b)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.text.Write(b[:n])
			term.mu.Unlock()
		}
	}()
	return term
}

func (term *terminal) resize(t *testing.T, columns, rows uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(int(term.user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
}

// last is the last frame that is whole.
func (term *terminal) last() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	frames := strings.Split(term.text.String(), begin)
	for i := len(frames) - 1; i > 0; i-- {
		if strings.Contains(frames[i], end) {
			return frames[i]
		}
	}
	return ""
}

func (term *terminal) all() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.text.String()
}

// TestInATerminal: figures come anew, keys choose what is shown, its size is followed, an endpoint that goes and comes back is
// told of; and the terminal is left as it was.
func TestInATerminal(t *testing.T) {
	e, term := startEndpoint(t), startTerminal(t, 100, 20)
	before, err := unix.IoctlGetTermios(int(term.program.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	o := e.options(term.program)
	o.Once, o.In, o.Interval = false, term.program, 20*time.Millisecond
	done := make(chan error, 1)
	go func() { done <- Run(context.Background(), o) }()
	shows := func(what, text string) {
		t.Helper()
		testkit.Eventually(t, what, func() bool { return strings.Contains(term.last(), text) })
	}
	press := func(keys string) {
		t.Helper()
		if _, err := term.user.WriteString(keys); err != nil {
			t.Fatal(err)
		}
	}
	shows("upstreams", "5.00ms")
	if raw, err := unix.IoctlGetTermios(int(term.program.Fd()), unix.TCGETS); err != nil || raw.Lflag&(unix.ICANON|unix.ECHO) != 0 {
		t.Errorf("keys are not passed on as they are pressed: %v, %v", raw, err)
	}
	press("c")
	shows("connections", "#103")
	press("s")
	shows("the oldest first", "by oldest")
	press("\x1b[C")
	shows("plugins", "tenant")
	press("l")
	shows("loops", "LAG")
	term.resize(t, 30, 8)
	shows("it follows the size", "wasmgate 1.2.3, up 1d02h: "[:25])
	testkit.Eventually(t, "a frame has as many lines as the screen", func() bool { return strings.Count(term.last(), "\r\n") == 7 })
	term.resize(t, 100, 20)
	e.gone.Store(true)
	shows("it is told that the endpoint is gone", "cannot be reached")
	e.gone.Store(false)
	testkit.Eventually(t, "it is back", func() bool { return !strings.Contains(term.last(), "cannot be reached") })
	press("q")
	if err := <-done; err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, "the screen is as it was", func() bool { return strings.HasSuffix(term.all(), leave) })
	after, err := unix.IoctlGetTermios(int(term.program.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was %+v and is %+v: %v", before, after, err)
	}
}
