package compress

import (
	"regexp"
	"strconv"
	"strings"
)

var member = regexp.MustCompile(`^[ \t]*([^;]+?)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?$`)

// slowChoose is Accepts and Choose among zstd, br and gzip, as one would write them if speed did not matter.
func slowChoose(field string) Coding {
	quality := map[string]float64{}
	for _, s := range strings.Split(field, ",") {
		m := member.FindStringSubmatch(s)
		if m == nil || strings.Trim(m[1], " \t") == "" {
			continue
		}
		name, q := strings.Map(lower, m[1]), 1.0
		if name == "x-gzip" {
			name = "gzip"
		}
		if m[2] != "" {
			q, _ = strconv.ParseFloat(m[2], 64)
		}
		if _, twice := quality[name]; !twice {
			quality[name] = q
		}
	}
	best, most := Identity, 0.0
	for _, c := range []Coding{Zstd, Brotli, Gzip} {
		q, named := quality[c.String()]
		if !named {
			q = quality["*"]
		}
		if q > most {
			best, most = c, q
		}
	}
	if q, named := quality["identity"]; named && q > most {
		return Identity
	}
	return best
}

func lower(r rune) rune {
	if r >= 'A' && r <= 'Z' {
		return r + 'a' - 'A'
	}
	return r
}
