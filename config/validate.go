package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// validator checks what a type alone cannot say: forms of texts, references, and what keys mean together. It skips what
// the decoder has reported already.
type validator struct {
	*collector
	config *Config
	source Source
	files  []string
	used   map[string]bool // paths of upstreams and plugins that something refers to
	http   map[string]bool // names of upstreams of requests, once they were asked for
}

func (v *validator) run() {
	v.used = map[string]bool{}
	v.listeners()
	v.upstreams()
	v.plugins()
	v.routes()
	v.telemetry()
	v.admin()
	v.acme()
	if dir := v.config.PluginCache.Dir; dir != "" && dir != "off" {
		v.config.PluginCache.Dir = v.source.resolve(dir)
	}
	v.pluginSources()
	slices.Sort(v.files)
	v.files = slices.Compact(v.files)
}

// listen checks an address to bind.
func (v *validator) listen(p keyPath, address string) {
	if v.ok(p) {
		if err := checkListen(address); err != nil {
			v.failErr(p, err)
		}
	}
}

// given says whether a key was set, to whatever value.
func (v *validator) given(p keyPath) bool {
	_, is := v.marks[p.String()]
	return is
}

// idle warns about keys below p that were set and have no effect, and says why. An error below p may be the reason, and
// then it says nothing.
func (v *validator) idle(p keyPath, help, because string, keys ...string) {
	if v.hurt[p.String()] {
		return
	}
	for _, key := range keys {
		if q := p.key(key); v.given(q) {
			v.warn(q, help, "has no effect: %s", because)
		}
	}
}

// label checks a name that people gave, and that appears in logs and metrics.
func (v *validator) label(p keyPath, s string) {
	if len(s) > 128 {
		v.fail(p, "write a shorter one", "a name of %d bytes, more than 128", len(s))
	}
	v.printable(p, s)
}

func (v *validator) printable(p keyPath, s string) {
	if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 }) {
		v.fail(p, "write it in one line of visible characters", "has a control character in it")
	}
}

// name checks the name of an upstream or a plugin.
func (v *validator) name(p keyPath, s string) {
	bad := strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	})
	if s == "" || len(s) > 64 || bad {
		v.add(v.keyAt(p), p, quote(s)+" is not a name", "a name is 1 to 64 letters, digits, _ and -")
	}
}

// references checks a list of names.
func (v *validator) references(p keyPath, names []string, section string, declared any, wildcard bool) {
	if !v.ok(p) {
		return
	}
	seen := map[string]bool{}
	for i, n := range names {
		q := p.index(i)
		if seen[n] {
			v.warn(q, "", "%s is in the list already", quote(n))
		}
		seen[n] = true
		if n == "*" && wildcard {
			v.used[section+".*"] = true
			continue
		}
		v.reference(q, n, section, declared)
	}
}

// reference checks that a name is declared, and returns whether it is.
func (v *validator) reference(p keyPath, name, section string, declared any) bool {
	v.used[section+"."+name] = true
	if reflect.ValueOf(declared).MapIndex(reflect.ValueOf(name)).IsValid() {
		return true
	}
	if v.failed[section] || !v.ok(p) || v.full() {
		return false // the section could not be read, or there is too much wrong already
	}
	keys := mapKeys(declared)
	kind := strings.TrimSuffix(section, "s")
	help := fmt.Sprintf("there are no %s; declare it below `%s`", section, section)
	if near := nearest(name, keys); near != "" {
		help = "did you mean `" + near + "`?"
	} else if len(keys) > 0 {
		help = "declared are " + strings.Join(keys[:min(len(keys), 10)], ", ")
	}
	v.fail(p, help, "no %s is called %s", kind, quote(name))
	return false
}

func mapKeys(m any) []string {
	var keys []string
	for _, k := range reflect.ValueOf(m).MapKeys() {
		keys = append(keys, k.String())
	}
	slices.Sort(keys)
	return keys
}

// existingFile checks that a file is there, and makes its path relative to the process.
func (v *validator) existingFile(p keyPath, path *string) {
	if *path == "" || !v.ok(p) {
		return
	}
	resolved := v.source.resolve(*path)
	if err := v.source.Stat(resolved); err != nil {
		help := ""
		if v.source.File != "" && !filepath.IsAbs(*path) {
			help = "a relative path starts at the folder of " + v.source.File + ": it is " + absolute(resolved)
		}
		v.fail(p, help, "cannot use the file: %v", err)
	}
	v.files = append(v.files, resolved)
	*path = resolved
}

// absolute is a path as it is from anywhere, for people; the path itself where that cannot be known.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}

// fieldMap checks fields that are sent: names, values, and that no name is there twice in another case.
func (v *validator) fieldMap(p keyPath, fields map[string]string, forbidden map[string]string) {
	seen := map[string]string{}
	for _, name := range mapKeys(fields) {
		q := p.key(name)
		v.fieldName(q, name, forbidden)
		if first, twice := seen[strings.ToLower(name)]; twice {
			v.add(v.keyAt(q), q, fmt.Sprintf("is the same field as %s", quote(first)), "field names have no case")
		}
		seen[strings.ToLower(name)] = name
		value := fields[name]
		bad := strings.IndexFunc(value, func(r rune) bool { return (r < ' ' && r != '\t') || r == 0x7f })
		if bad >= 0 || strings.Trim(value, " \t") != value {
			v.fail(q, "a value is one line without white space around it", "not a value of a field")
		}
	}
}

// fieldName checks one name of a field at the place of its key.
func (v *validator) fieldName(p keyPath, name string, forbidden map[string]string) {
	if !isToken(name) {
		v.add(v.keyAt(p), p, quote(name)+" is not the name of a field", "a name is letters, digits and -")
		return
	}
	if help, ok := forbidden[strings.ToLower(name)]; ok {
		v.add(v.keyAt(p), p, quote(name)+" cannot be changed", help)
	}
}

// isToken says whether s is a token of RFC 9110.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}
