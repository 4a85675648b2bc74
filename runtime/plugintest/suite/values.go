package suite

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"wasmgate/config"
)

// Values is a text or a list of texts.
type Values []string

// ReadValue is config.ValueReader's.
func (v *Values) ReadValue(from any) error {
	list, ok := texts(from)
	if !ok {
		return config.Mistake("wants a text, or a list of texts", `put numbers and true in quotes: "1"`)
	}
	*v = list
	return nil
}

// texts reads a text or a list of them.
func texts(from any) ([]string, bool) {
	switch v := from.(type) {
	case string:
		return []string{v}, true
	case []any:
		list := make([]string, 0, len(v))
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return nil, false
			}
			list = append(list, s)
		}
		return list, true
	}
	return nil, false
}

// Match says what values may be: these, or what an expression matches, or anything, or nothing.
type Match struct {
	set     bool
	exact   []string
	regex   *regexp.Regexp
	within  string // has this in it
	present bool
	absent  bool
}

// ReadValue is config.ValueReader's.
func (m *Match) ReadValue(from any) error {
	const help = `write a text in quotes, a list of texts, or one of { regex: "^a" }, { contains: text }, { present: true }, { absent: true }; a counter of state is "counter 1"`
	m.set = true
	if list, ok := texts(from); ok {
		m.exact = list
		return nil
	}
	object, ok := from.(map[string]any)
	if !ok || len(object) != 1 {
		return config.Mistake(fmt.Sprintf("%v is not something that a text can be compared with", from), help)
	}
	for key, value := range object {
		text, isText := value.(string)
		is, isBool := value.(bool)
		var err error
		switch {
		case key == "regex" && isText:
			if m.regex, err = regexp.Compile(text); err != nil {
				return config.Mistake(err.Error(), "write an expression as https://pkg.go.dev/regexp/syntax has them")
			}
		case key == "contains" && isText:
			m.within = text
		case key == "present" && isBool && is:
			m.present = true
		case key == "absent" && isBool && is:
			m.absent = true
		default:
			return config.Mistake(strconv.Quote(key)+" is not a way to compare, or has no value that it can have", help)
		}
	}
	return nil
}

// takes says whether values are what is wanted. Of a text that is not there, there is none.
func (m *Match) takes(values []string) bool {
	switch {
	case m.absent:
		return len(values) == 0
	case m.present:
		return len(values) > 0
	case m.regex != nil:
		return slices.ContainsFunc(values, m.regex.MatchString)
	case m.within != "":
		return slices.ContainsFunc(values, func(s string) bool { return strings.Contains(s, m.within) })
	}
	return slices.Equal(m.exact, values)
}

// String writes what is wanted.
func (m *Match) String() string {
	switch {
	case m.absent:
		return "nothing"
	case m.present:
		return "something"
	case m.regex != nil:
		return "something like /" + m.regex.String() + "/"
	case m.within != "":
		return "something with " + strconv.Quote(m.within) + " in it"
	}
	return show(m.exact)
}

// show writes values so that they can be told apart.
func show(values []string) string {
	switch len(values) {
	case 0:
		return "nothing"
	case 1:
		return strconv.Quote(values[0])
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = strconv.Quote(v)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
