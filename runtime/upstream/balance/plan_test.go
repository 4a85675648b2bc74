package balance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestWhoMayBeChosen writes members as name, state and what befell them, tier by tier.
func TestWhoMayBeChosen(t *testing.T) {
	for name, c := range map[string]struct {
		tiers    []string // a member: its name, + standby, * spare, ~ drain, - disabled; then ! ejected, x failed checks, 0 no weight
		recover  bool
		want     string
		recovers bool
	}{
		"active ones":                             {tiers: []string{"a b"}, want: "ab"},
		"no drain, no disabled":                   {tiers: []string{"a b~ c-"}, want: "a"},
		"no standby while there is an active one": {tiers: []string{"a b! c+"}, want: "a"},
		"standbys when there is none":             {tiers: []string{"a! b- c+ d+"}, want: "cd"},
		"a spare for each that is not available":  {tiers: []string{"a b! c* d*"}, want: "ac"},
		"for drained and disabled ones too":       {tiers: []string{"a~ b- c d* e* f*"}, want: "cde"},
		"no spare without need":                   {tiers: []string{"a b c*"}, want: "ab"},
		"spares before standbys":                  {tiers: []string{"a! b+ c*"}, want: "c"},
		"an ejected spare is none":                {tiers: []string{"a! b+ c*!"}, want: "b"},
		"a missing standby needs no spare":        {tiers: []string{"a b+! c*"}, want: "a"},
		"spares without anybody to replace":       {tiers: []string{"a*", "b"}, want: "a"},
		"the lowest tier":                         {tiers: []string{"a", "b"}, want: "a"},
		"the next tier":                           {tiers: []string{"a! b-", "c d"}, want: "cd"},
		"standbys before the next tier":           {tiers: []string{"a! b+", "c"}, want: "b"},
		"the third":                               {tiers: []string{"a!", "b!", "c* d+"}, want: "d"},
		"no weight":                               {tiers: []string{"a b0"}, want: "a"},
		"nobody":                                  {tiers: []string{"a! b-"}},
		"ejected ones when there is nobody":       {tiers: []string{"a! b- c~ dx e!"}, recover: true, want: "ae", recovers: true},
		"not when there is a standby":             {tiers: []string{"a! b+"}, recover: true, want: "b"},
		"the lowest tier of them":                 {tiers: []string{"ax", "b!", "c!"}, recover: true, want: "b", recovers: true},
		"failed checks are not recovered":         {tiers: []string{"ax bx"}, recover: true},
		"a drained one is not recovered":          {tiers: []string{"a~!"}, recover: true, recovers: true},
	} {
		for a := RoundRobin; a <= First; a++ {
			list := written(c.tiers)
			s := NewSet(2, Options{Algorithm: a, RecoverAll: c.recover}, list)
			var tried []*Member
			got := ""
			for range c.want { // each of them once
				if m := s.Pick(1, 0, false, tried); m != nil {
					tried = append(tried, m)
					got += m.Name
				}
			}
			sorted := []byte(got)
			slices.Sort(sorted)
			if got = string(sorted); got != c.want || s.Recovered() != c.recovers || c.want == "" && (s.Available() != 0 || s.Pick(0, 0, true, nil) != nil) {
				t.Errorf("%s, %v: chosen are %q, not %q; recovered: %v", name, a, got, c.want, s.Recovered())
			}
			for range 100 {
				if m := s.Pick(0, rand.Uint64(), true, nil); m != nil && !strings.Contains(c.want, m.Name) {
					t.Errorf("%s, %v: %s was chosen", name, a, m.Name)
				}
			}
		}
	}
}

func written(tiers []string) []*Member {
	var list []*Member
	for tier, text := range tiers {
		for one := range strings.FieldsSeq(text) {
			m := &Member{Name: one[:1], Token: one[:1], Weight: 1, Tier: tier, Load: &Load{}}
			for _, mark := range one[1:] {
				switch mark {
				case '+':
					m.State = Standby
				case '*':
					m.State = Spare
				case '~':
					m.State = Drain
				case '-':
					m.State = Disabled
				case '0':
					m.Weight = 0
				case '!':
					m.Load.SetShare(0)
					m.Load.SetEjected(true)
				case 'x':
					m.Load.SetShare(0)
				}
			}
			list = append(list, m)
		}
	}
	return list
}

// TestTriedByAllGoesOn: a request that failed everywhere goes to who would be next, and to each only once.
func TestTriedByAllGoesOn(t *testing.T) {
	s := NewSet(1, Options{}, written([]string{"a b! c* d+ e*", "f g+"}))
	var tried []*Member
	got := ""
	for m := s.Pick(0, 0, false, nil); m != nil; m = s.Pick(0, 0, false, tried) {
		tried = append(tried, m)
		got += m.Name
	}
	if got != "acdefg" && got != "cadefg" {
		t.Errorf("tried are %s", got)
	}
}

func TestTokens(t *testing.T) {
	list := written([]string{"a b! c~ d- e~ f! g! h", "h~"})
	redirect := map[string]string{"d": "a", "e": "b", "c": "h", "f": "g", "g": "f"}
	for _, m := range list {
		m.Redirect = redirect[m.Name]
	}
	list[1].Redirect = "c" // which is draining, and has its own redirected to h
	s := NewSet(1, Options{RecoverAll: true}, list)
	for token, want := range map[string]string{
		"a": "a true", "b": "h true", "c": "h true", "d": "a true", "e": "h true", "f": "f false", "g": "g false", "h": "h true",
	} {
		if m, ok := s.ByToken([]byte(token)); m == nil || fmt.Sprint(m.Name, " ", ok) != want || ok && m.State == Drain {
			t.Errorf("%s: %v %v, not %s", token, m, ok, want)
		}
	}
	for _, token := range []string{"", "x", strings.Repeat("a", 1<<20)} {
		if m, ok := s.ByToken([]byte(token)); m != nil || ok {
			t.Errorf("%.10q: %v", token, m)
		}
	}
	only := NewSet(1, Options{}, written([]string{"a~ b"}))
	if m, ok := only.ByToken([]byte("a")); !ok || m.Name != "a" {
		t.Error("one that drains does not keep its sessions")
	}
	all := NewSet(1, Options{RecoverAll: true}, written([]string{"a! b!"}))
	if m, ok := all.ByToken([]byte("a")); !ok || m.Name != "a" || !m.Load.Usable() {
		t.Error("one that is recovered does not serve its sessions")
	}
}

// TestServesAgreesWithPick: whom Pick may choose serves, and nobody else, whoever was tried before.
func TestServesAgreesWithPick(t *testing.T) {
	list := written([]string{"a b c+ d* e~ f- g!", "h i+"})
	s := NewSet(1, Options{Algorithm: RandomTwo}, list)
	var tried []*Member
	for len(tried) < 10 {
		chosen := map[*Member]bool{}
		for range 200 {
			if m := s.Pick(0, 0, false, tried); m != nil {
				chosen[m] = true
			}
		}
		for _, m := range list {
			if s.Serves(m, tried) != chosen[m] {
				t.Errorf("after %d were tried: %s serves: %v; chosen: %v", len(tried), m.Name, s.Serves(m, tried), chosen[m])
			}
		}
		if len(chosen) == 0 {
			break
		}
		for m := range chosen {
			tried = append(tried, m)
			break
		}
	}
	if len(tried) != 6 {
		t.Errorf("%d were tried", len(tried))
	}
}

// TestARouteIsATokenOfSeveral: the first of them that can be used serves; each has its own token beside.
func TestARouteIsATokenOfSeveral(t *testing.T) {
	list := []*Member{
		{Name: "a", Token: "x1", Route: "x", Weight: 1, Load: &Load{}}, {Name: "b", Token: "x2", Route: "x", Weight: 1, Load: &Load{}},
		{Name: "c", Token: "y", Route: "y", Redirect: "x", State: Drain, Weight: 1, Load: &Load{}},
	}
	s := NewSet(1, Options{}, list)
	for token, want := range map[string]string{"x": "a", "x1": "a", "x2": "b", "y": "a"} {
		if m, ok := s.ByToken([]byte(token)); !ok || m.Name != want {
			t.Errorf("%s: %v, %v", token, m, ok)
		}
	}
	list[0].Load.SetShare(0)
	s.Refresh()
	for _, token := range []string{"x", "y"} {
		if m, ok := s.ByToken([]byte(token)); !ok || m.Name != "b" {
			t.Errorf("%s: %v, %v", token, m, ok)
		}
	}
}
