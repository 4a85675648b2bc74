package body

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"wasmgate/runtime/fault"
	"wasmgate/runtime/http1"
	"wasmgate/runtime/netloop"
)

// pieces is a Source of so many pieces, of which the first few are at hand.
type pieces struct {
	list     []string
	atHand   int
	err      error // instead of the end
	trailers http1.Head
	read     int
}

func (p *pieces) Done() bool            { return p.err == nil && p.read == len(p.list) }
func (p *pieces) Trailers() *http1.Head { return &p.trailers }

func (p *pieces) Next(*netloop.Task) ([]byte, error) {
	if p.read == len(p.list) {
		if p.err != nil {
			return nil, p.err
		}
		return nil, io.EOF
	}
	p.read++
	return []byte(p.list[p.read-1]), nil
}

func (p *pieces) Ready() ([]byte, error) {
	if p.read >= p.atHand {
		return nil, nil
	}
	return p.Next(nil)
}

func body(list ...string) (*Body, *pieces) {
	p := &pieces{list: list}
	n := 0
	for _, s := range list {
		n += len(s)
	}
	b := &Body{}
	b.Init(nil, p, http1.Framing{Kind: http1.Length, Length: int64(n)}, false)
	return b, p
}

// sent is what whoever sends the body gets, a | between pieces, and how it is framed.
func sent(b *Body) string {
	framing := b.Framing()
	var list []string
	for {
		data, err := b.Ready()
		if err == nil && len(data) == 0 {
			data, err = b.Next(nil)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return "error: " + err.Error()
		}
		list = append(list, string(data))
	}
	if !b.Done() {
		return "it is not done at the end"
	}
	end := ""
	for t, i := b.Trailers(), 0; i < t.Len(); i++ {
		end += fmt.Sprintf(" %s=%s", t.Name(i), t.Value(i))
	}
	return fmt.Sprintf("%s%s %d %d", strings.Join(list, "|"), end, framing.Kind, framing.Length)
}

// upper is a stage that holds back until it has four bytes, and puts a mark at the end.
type upper struct {
	mark string
	kept []byte
	fail bool
}

func (u *upper) Chunk(_ *netloop.Task, dst, data []byte, last bool, trailers *http1.Head) ([]byte, *fault.Error) {
	if u.fail {
		return dst, fault.New(fault.PluginTrap, fault.Plugin, 503, "no")
	}
	u.kept = append(u.kept, data...)
	if last {
		trailers.Add("x-stage", u.mark)
		return append(append(dst, strings.ToUpper(string(u.kept))...), u.mark...), nil
	}
	if len(u.kept) < 4 {
		return dst, nil
	}
	dst = append(dst, strings.ToUpper(string(u.kept))...)
	u.kept = u.kept[:0]
	return dst, nil
}

func TestWhatFiltersDoIsSent(t *testing.T) {
	const length, chunked = 1, 2
	for name, c := range map[string]struct {
		do   func(*Body)
		want string
	}{
		"nothing":                 {func(*Body) {}, fmt.Sprintf("ab|cd|ef %d 6", length)},
		"held in part":            {func(b *Body) { b.Hold(1) }, fmt.Sprintf("ab|cd|ef %d 6", length)},
		"held whole":              {func(b *Body) { b.Hold(6) }, fmt.Sprintf("abcdef %d 6", length)},
		"held twice":              {func(b *Body) { b.Hold(1); b.Hold(3) }, fmt.Sprintf("abcd|ef %d 6", length)},
		"replaced whole":          {func(b *Body) { b.Hold(99); b.Replace([]byte("xyz")) }, fmt.Sprintf("xyz %d 3", length)},
		"replaced by nothing":     {func(b *Body) { b.Hold(99); b.Replace(nil) }, fmt.Sprintf(" %d 0", length)},
		"replaced in part":        {func(b *Body) { b.Hold(1); b.Replace([]byte("xyz")) }, fmt.Sprintf("xyz|cd|ef %d 0", chunked)},
		"replaced unread":         {func(b *Body) { b.Replace([]byte("xyz")) }, fmt.Sprintf("xyz|ab|cd|ef %d 0", chunked)},
		"with trailers":           {func(b *Body) { b.Hold(99); b.Trailers().Add("x-sum", "1") }, fmt.Sprintf("abcdef x-sum=1 %d 0", chunked)},
		"a stage":                 {func(b *Body) { b.Stage(&upper{mark: "!"}) }, fmt.Sprintf("ABCD|EF! x-stage=! %d 0", chunked)},
		"a stage of what is held": {func(b *Body) { b.Hold(99); b.Stage(&upper{mark: "!"}) }, fmt.Sprintf("ABCDEF! x-stage=! %d 0", chunked)},
		"two stages": {func(b *Body) { b.Stage(&upper{mark: "!"}); b.Stage(&upper{mark: "?"}) },
			fmt.Sprintf("ABCD|EF!? x-stage=! x-stage=? %d 0", chunked)},
		"a filter holds what an earlier one's stage makes": {func(b *Body) { b.Stage(&upper{mark: "!"}); b.Hold(99) }, fmt.Sprintf("ABCDEF! x-stage=! %d 0", chunked)},
		"and a part of it": {func(b *Body) { b.Stage(&upper{mark: "!"}); b.Hold(1); b.Stage(&upper{mark: "?"}) },
			fmt.Sprintf("ABCD|EF!? x-stage=! x-stage=? %d 0", chunked)},
		"and replaces it":    {func(b *Body) { b.Stage(&upper{}); b.Hold(99); b.Replace([]byte("x")) }, fmt.Sprintf("x x-stage= %d 0", chunked)},
		"held, staged, held": {func(b *Body) { b.Hold(1); b.Stage(&upper{mark: "!"}); b.Hold(3); b.Hold(99) }, fmt.Sprintf("ABCDEF! x-stage=! %d 0", chunked)},
		"a stage that fails": {func(b *Body) { b.Stage(&upper{fail: true}) }, "error"},
	} {
		t.Run(name, func(t *testing.T) {
			for atHand := range 4 {
				b, p := body("ab", "cd", "ef")
				p.atHand = atHand
				c.do(b)
				if got := sent(b); got != c.want && (c.want != "error" || !strings.HasPrefix(got, "error")) {
					t.Errorf("%d at hand: sent %q, want %q", atHand, got, c.want)
				}
				if b.Touched() != (name != "nothing") {
					t.Errorf("touched %v", b.Touched())
				}
			}
		})
	}
}

func TestHoldSaysWhetherItIsAll(t *testing.T) {
	b, _ := body("ab", "cd")
	if b.Trailers() != nil || b.Ended() {
		t.Error("it is whole before it was read")
	}
	for _, c := range []struct {
		most  int
		held  string
		whole bool
	}{{1, "ab", false}, {1, "ab", false}, {3, "abcd", true}, {0, "abcd", true}} {
		if held, whole, err := b.Hold(c.most); string(held) != c.held || whole != c.whole || err != nil {
			t.Errorf("Hold(%d) has %q, %v, %v", c.most, held, whole, err)
		}
	}
	if !b.Ended() {
		t.Error("it is not whole")
	}
	cut, p := body("ab")
	p.err = errors.New("cut off")
	if _, whole, err := cut.Hold(99); whole || err == nil || !strings.Contains(err.Error(), "cut off") {
		t.Errorf("%v, %v", whole, err)
	}
}

// TestMessagesWithoutABody: a request gets one if a filter says so, an answer to HEAD never.
func TestMessagesWithoutABody(t *testing.T) {
	for _, bare := range []bool{false, true} {
		b := &Body{}
		b.Init(nil, &pieces{}, http1.Framing{Kind: http1.NoBody, Length: 7}, bare)
		if held, whole, err := b.Hold(9); len(held) > 0 || !whole || err != nil || b.Touched() {
			t.Errorf("%q, %v, %v", held, whole, err)
		}
		b.Stage(&upper{})
		b.Replace([]byte("new"))
		want := "new 1 3"
		if bare {
			want = " 0 7"
		}
		if got := sent(b); got != want {
			t.Errorf("bare %v: sent %q, want %q", bare, got, want)
		}
	}
}

func TestABodyIsUsedAgain(t *testing.T) {
	b, _ := body("ab")
	b.Stage(&upper{mark: "!"})
	_ = sent(b)
	b.InitHeld(nil, []byte("held"), http1.NoBody)
	if got := sent(b); got != "held 1 4" {
		t.Errorf("%q", got)
	}
	b.Init(nil, &pieces{list: []string{"cd"}}, http1.Framing{Kind: http1.Chunked}, false)
	if got := sent(b); got != "cd 2 0" || b.Touched() {
		t.Errorf("%q", got)
	}
	p := &pieces{list: []string{"cd"}, atHand: 1}
	if n := testing.AllocsPerRun(100, func() {
		p.read = 0
		b.Init(nil, p, http1.Framing{Kind: http1.Length, Length: 2}, false)
		_, _ = b.Ready()
	}); n > 1 { // the piece's own
		t.Errorf("%v allocations", n)
	}
}

// looks is a stage that says whether it keeps lengths.
type looks struct{ keeps, promised bool }

func (s *looks) Measured() bool { return s.keeps }
func (s *looks) Promise()       { s.promised = true }
func (s *looks) Chunk(_ *netloop.Task, dst, data []byte, _ bool, _ *http1.Head) ([]byte, *fault.Error) {
	return append(dst, data...), nil
}

// TestALengthIsAnnouncedThatAllKeep: only if each stage keeps the length is it announced, and only then is one held to it.
func TestALengthIsAnnouncedThatAllKeep(t *testing.T) {
	for _, c := range []struct {
		keep []bool
		with func(*Body)
		want string
	}{
		{[]bool{true}, nil, "ab|cd 1 4"},
		{[]bool{true, true}, nil, "ab|cd 1 4"},
		{[]bool{true, false}, nil, "ab|cd 2 0"},
		{[]bool{false, true}, nil, "ab|cd 2 0"},
		{[]bool{true}, func(b *Body) { _, _, _ = b.Hold(1) }, "ab|cd 1 4"},
		{[]bool{true}, func(b *Body) { _, _, _ = b.Hold(9) }, "abcd 1 4"},
		{[]bool{true}, func(b *Body) { b.Replace([]byte("x")) }, "x|ab|cd 2 0"},
	} {
		b, _ := body("ab", "cd")
		if c.with != nil {
			c.with(b)
		}
		var stages []*looks
		all := strings.HasSuffix(c.want, "1 4")
		for _, keeps := range c.keep {
			s := &looks{keeps: keeps}
			stages = append(stages, s)
			b.Stage(s)
		}
		if got := sent(b); got != c.want {
			t.Errorf("%v: %q, want %q", c.keep, got, c.want)
		}
		for _, s := range stages {
			if s.promised != all {
				t.Errorf("%v: held to a length: %v", c.keep, s.promised)
			}
		}
	}
}
