package config

import (
	"reflect"
	"strings"
)

// suggest says what an unknown key below p may have been meant to be.
func suggest(p keyPath, key string, t reflect.Type) string {
	var names []string
	for _, f := range fieldsOf(t) {
		names = append(names, f.name)
		if fold(f.name) == fold(key) {
			return "did you mean `" + f.name + "`?"
		}
	}
	if help := foreignKey(p, key); help != "" {
		return help
	}
	if near := nearest(key, names); near != "" {
		return "did you mean `" + near + "`?"
	}
	if places := elsewhere(fold(key)); places != "" {
		return "it belongs elsewhere: " + places
	}
	return "known here: " + strings.Join(names, ", ")
}

// fold makes spellings alike: keep_alive, keep-alive, KeepAlive.
func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "", ".", "").Replace(strings.ToLower(s))
}

// elsewhere names the places of the schema that have a key of this folded name.
func elsewhere(folded string) string {
	var found []string
	var walk func(t reflect.Type, at string, depth int)
	walk = func(t reflect.Type, at string, depth int) {
		t = elem(t)
		switch shapeOf(t) {
		case listShape:
			walk(t.Elem(), at+"[]", depth)
		case mapShape:
			walk(t.Elem(), at+".NAME", depth)
		case structShape:
			for _, f := range fieldsOf(t) {
				name := strings.TrimPrefix(at+"."+f.name, ".")
				if fold(f.name) == folded && len(found) < 3 {
					found = append(found, "`"+name+"`")
				}
				if depth < 5 {
					walk(f.typ, name, depth+1)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config](), "", 0)
	return strings.Join(found, ", ")
}

// nearest returns the word that a mistyped one most likely is, or "".
func nearest(s string, words []string) string {
	best, least := "", 3
	if n := len(s); n < 4 {
		least = 2
	} else if n > 64 {
		return ""
	}
	for _, w := range words {
		if d := distance(strings.ToLower(s), w); d < least {
			best, least = w, d
		}
	}
	if best == "" {
		for _, w := range words { // idle for idle_timeout, connections for max_connections
			if len(s) >= 4 && (strings.HasPrefix(w, strings.ToLower(s)+"_") || strings.HasSuffix(w, "_"+strings.ToLower(s))) {
				return w
			}
		}
	}
	return best
}

// distance counts the letters to insert, delete, replace or swap with a neighbour to make b of a.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
