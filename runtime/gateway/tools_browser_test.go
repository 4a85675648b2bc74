package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	js "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"wasmgate/runtime/internal/testkit"
)

// tab is a page in a real browser. chromedp drives it: it needs nothing but the browser, and has no other dependencies that
// come with it.
type tab struct {
	*testing.T
	ctx context.Context

	mu       sync.Mutex
	problems []string // errors and warnings of the console, but for answers that are errors
	failures []string // requests that failed, or were answered with an error, as the console says it
	answers  []string // "403 POST http://..."
	methods  map[network.RequestID]string
	spoken   map[string]int // answers, by the protocol that they came by
}

// patienceOfUsers is how long a page may take to do something.
const patienceOfUsers = 15 * time.Second

// startBrowser starts a Chromium with nothing of its own but more flags, and opens an empty page. It ends whole before what was started
// before it does, so that the plant that it looks at counts its goroutines too.
func startBrowser(t *testing.T, more ...chromedp.ExecAllocatorOption) *tab {
	t.Helper()
	if raceEnabled || portableLoops {
		t.Skip("the page is looked at on Linux's event loops, and without the race detector: a browser knows neither")
	}
	program, dir := need(t, "chromium"), t.TempDir()
	t.Setenv("TMPDIR", dir) // where the profile is put, and taken away by who has put it there
	options := []chromedp.ExecAllocatorOption{chromedp.ExecPath(program), chromedp.Flag("headless", "new"), chromedp.Flag("force-color-profile", "srgb")}
	for _, flag := range []string{
		"no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "no-default-browser-check", "disable-background-networking", "disable-component-update",
		"disable-sync", "disable-default-apps", "disable-extensions", "disable-breakpad", "disable-dev-shm-usage", "hide-scrollbars",
	} {
		options = append(options, chromedp.Flag(flag, true))
	}
	all, end := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	ctx, _ := chromedp.NewContext(all)
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("the browser does not end: %v", err)
		}
		end()
		testkit.Eventually(t, "no process of the browser is left over", func() bool { return len(processesOf(dir)) == 0 })
	})
	b := &tab{T: t, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil { // the browser ends with the context of the first call, so it has no deadline
		t.Fatalf("%s does not start: %v", program, err)
	}
	b.listen()
	return b
}

// another opens another page of the same browser.
func (b *tab) another() *tab {
	b.Helper()
	ctx, _ := chromedp.NewContext(b.ctx)
	b.Cleanup(func() { _ = chromedp.Cancel(ctx) })
	one := &tab{T: b.T, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		b.Fatal(err)
	}
	one.listen()
	return one
}

// processesOf are the processes whose command line names a folder. Where there is no /proc, there are none.
func processesOf(dir string) (list []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil && bytes.Contains(line, []byte(dir)) {
			list = append(list, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return list
}

// listen writes down what a user with open eyes would see in the browser's console.
func (b *tab) listen() {
	b.Helper()
	b.methods, b.spoken = map[network.RequestID]string{}, map[string]int{}
	err := chromedp.Listen(b.ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *js.EventExceptionThrown:
			b.problems = append(b.problems, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
		case *js.EventConsoleAPICalled:
			if e.Type == js.ConsoleAPICalledTypeError || e.Type == js.ConsoleAPICalledTypeWarning || e.Type == js.ConsoleAPICalledTypeAssert {
				for _, a := range e.Args {
					b.problems = append(b.problems, fmt.Sprintf("console: %s %s", a.Value, a.Description))
				}
			}
		case *log.EventEntryAdded:
			text := fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
			if e.Entry.Source == log.EntrySourceNetwork {
				b.failures = append(b.failures, text)
			} else if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
				b.problems = append(b.problems, text)
			}
		case *network.EventRequestWillBeSent:
			b.methods[e.RequestID] = e.Request.Method
		case *network.EventResponseReceived:
			b.spoken[e.Response.Protocol]++
			b.answers = append(b.answers, fmt.Sprintf("%d %s %s", e.Response.Status, b.methods[e.RequestID], e.Response.URL))
		}
	})
	if err != nil {
		b.Fatal(err)
	}
}

// quiet fails if the console had anything to say but that these requests failed; one with each of these texts may have.
func (b *tab) quiet(failures ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.problems {
		b.Errorf("in the browser's console: %s", p)
	}
	for _, f := range b.failures {
		i := slices.IndexFunc(failures, func(text string) bool { return strings.Contains(f, text) })
		if i < 0 {
			b.Errorf("in the browser's console: %s", f)
		}
	}
	b.problems, b.failures = nil, nil
}

// answered says how many answers begin with this text.
func (b *tab) answered(begin string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.answers {
		if strings.HasPrefix(a, begin) {
			n++
		}
	}
	return n
}

// do has the browser do something.
func (b *tab) do(what string, steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patienceOfUsers)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}

// helpers are functions for expressions: all finds what is shown by a selector and its text or label, one the first of
// them; in an open dialog if there is one. row is the rows of a target, cell what one of its cells says.
const helpers = `
const shown = e => e.checkVisibility({ visibilityProperty: true });
const called = e => e.getAttribute('aria-label') ?? e.innerText.trim();
const dialog = () => document.querySelector('dialog[open]');
const all = (selector, text) => [...(dialog() ?? document).querySelectorAll(selector)].filter(e => shown(e) && (text === undefined || called(e) === text));
const one = (selector, text) => all(selector, text)[0];
const field = label => document.querySelector('#' + one('label', label).htmlFor);
const row = target => [...document.querySelectorAll('tbody')].find(e => e.querySelector('.name').textContent === target);
const cell = (target, is) => row(target)?.querySelector('.' + is).innerText ?? '';
`

// eval evaluates an expression in the page.
func eval[T any](b *tab, expression string) T {
	b.Helper()
	v, err := try[T](b, expression)
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return v
}

func try[T any](b *tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patienceOfUsers)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T]("(async () => {"+helpers+"return "+expression+"})()", chromedp.EvalAwaitPromise))
}

// until waits until an expression is true; the browser looks again and again. A page that is loaded anew meanwhile is
// looked at once more.
func (b *tab) until(what, expression string) {
	b.Helper()
	look := fmt.Sprintf(`await new Promise(done => {
		const end = Date.now() + 10000;
		const look = () => { if (%s) done(true); else if (Date.now() > end) done(false); else setTimeout(look, 10); };
		look();
	})`, expression)
	came, err := try[bool](b, look)
	if err != nil && strings.Contains(err.Error(), "navigated") {
		came, err = try[bool](b, look)
	}
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
	if !came {
		b.Fatalf("waited in vain: %s\n%s", what, eval[string](b, "document.body.innerText"))
	}
}

// click clicks on a button by its label, where a user would.
func (b *tab) click(label string) {
	b.Helper()
	b.until("there is a button "+label, fmt.Sprintf("one('button', %q)", label))
	at := eval[[]float64](b, fmt.Sprintf(`(e => {
		e.scrollIntoView({ block: 'center' });
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return document.elementFromPoint(x, y) === e ? [x, y] : [];
	})(one('button', %q))`, label))
	if len(at) != 2 {
		b.Fatalf("something is in front of the button %s", label)
	}
	b.do("click on "+label, chromedp.MouseClickXY(at[0], at[1]))
}

// write replaces what is in a field, which is found by its label.
func (b *tab) write(label, text string) {
	b.Helper()
	eval[bool](b, fmt.Sprintf(`(e => { e.focus(); e.select(); return true; })(field(%q))`, label))
	b.do("write "+text, chromedp.KeyEvent(text))
}

// fits fails if something is wider than the screen.
func (b *tab) fits(what string) {
	b.Helper()
	wide := eval[[]string](b, "[...document.querySelectorAll('main *, dialog *')].filter(e => shown(e) && !e.closest('thead') && !e.ownerSVGElement && e.getBoundingClientRect().right > innerWidth).slice(0, 3).map(e => e.outerHTML.slice(0, 200))")
	if width, most := eval[int](b, "document.scrollingElement.scrollWidth"), eval[int](b, "innerWidth"); width > most || len(wide) > 0 {
		b.Errorf("%s is %d wide, and the screen %d: %q", what, width, most, wide)
	}
}

// size makes the page as large as a screen.
func (b *tab) size(width, height int64, scale float64) {
	b.Helper()
	b.do("size", chromedp.EmulateViewport(width, height, chromedp.EmulateScale(scale)))
}

// scheme is what the user prefers: light or dark.
func (b *tab) scheme(which string) {
	b.Helper()
	b.do("scheme", chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: which}}})
		return err
	}))
}

// picture saves what is seen, if WASMGATE_SCREENSHOTS names a folder.
func (b *tab) picture(name string) {
	b.Helper()
	dir := os.Getenv("WASMGATE_SCREENSHOTS")
	if dir == "" {
		return
	}
	image, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), image, 0o600)
	}
	if err != nil {
		b.Fatal(err)
	}
}
