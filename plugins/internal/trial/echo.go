package trial

import (
	"fmt"
	"net/http"
	"sort"
	"strings"
)

// Echo is an upstream that answers with its name, what it was asked, and the fields of the request: a line each, such as
// "x-user: ann", in order. The request's X-Answer fields, such as "vary: accept", are fields of the answer.
func Echo(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, field := range r.Header.Values("X-Answer") {
			k, v, _ := strings.Cut(field, ": ")
			w.Header().Add(k, v)
		}
		lines := []string{}
		for k, list := range r.Header {
			for _, v := range list {
				lines = append(lines, strings.ToLower(k)+": "+v)
			}
		}
		sort.Strings(lines)
		fmt.Fprintf(w, "%s: %s %s%s\n%s\n", name, r.Method, r.Host, r.RequestURI, strings.Join(lines, "\n"))
	})
}

// Has says whether a line is among those of an answer.
func (a Answer) Has(line string) bool { return strings.Contains("\n"+a.Text, "\n"+line+"\n") }

// Field is the one value of a field that an upstream saw; "" if there is none, all of them if there are several.
func (a Answer) Field(name string) string {
	var values []string
	for _, line := range strings.Split(a.Text, "\n") {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			values = append(values, v)
		}
	}
	return strings.Join(values, " | ")
}
