package top

import (
	"strings"
	"unicode/utf8"
)

// column is one of a table. Where a table does not fit, the columns with the highest rank go first; the first column stays.
type column struct {
	title string
	right bool // aligned there, as numbers are
	rank  int
}

// table is what a view shows.
type table struct {
	columns []column
	rows    [][]string
}

const (
	gap       = 2 // between columns
	leastName = 8 // to which a column of text may be cut
)

// lines are the heading and the rows, none of them longer than width; 0: as long as they are. A terminal that is narrower
// than the narrowest table gets the left part of it.
func (t *table) lines(width int) []string {
	keep, widths := t.fit(width)
	out := make([]string, 0, len(t.rows)+1)
	titles := make([]string, len(t.columns))
	for i, c := range t.columns {
		titles[i] = c.title
	}
	for _, cells := range append([][]string{titles}, t.rows...) {
		var b strings.Builder
		for i, c := range keep {
			if i > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			text := cut(cells[c], widths[c])
			space := strings.Repeat(" ", widths[c]-utf8.RuneCountInString(text))
			if t.columns[c].right {
				text, space = space, text
			}
			b.WriteString(text + space)
		}
		out = append(out, b.String())
		if width > 0 {
			out[len(out)-1] = cut(out[len(out)-1], width)
		}
	}
	return out
}

// fit chooses the columns that there is room for, and how wide they are.
func (t *table) fit(width int) (keep, widths []int) {
	widths = make([]int, len(t.columns))
	for i, c := range t.columns {
		keep, widths[i] = append(keep, i), utf8.RuneCountInString(c.title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	if width == 0 {
		return keep, widths
	}
	for total(keep, widths) > width {
		if t.shrink(keep, widths, total(keep, widths)-width) {
			break
		}
		worst := -1
		for i, c := range keep {
			if i > 0 && (worst < 0 || t.columns[c].rank >= t.columns[keep[worst]].rank) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		keep = append(keep[:worst:worst], keep[worst+1:]...)
	}
	return keep, widths
}

// shrink cuts columns of text, the widest first, if they can give away as much as that.
func (t *table) shrink(keep, widths []int, much int) bool {
	can := 0
	for _, c := range keep {
		if !t.columns[c].right {
			can += max(0, widths[c]-max(leastName, utf8.RuneCountInString(t.columns[c].title)))
		}
	}
	if can < much {
		return false
	}
	for ; much > 0; much-- {
		widest := -1
		for _, c := range keep {
			least := max(leastName, utf8.RuneCountInString(t.columns[c].title))
			if !t.columns[c].right && widths[c] > least && (widest < 0 || widths[c] > widths[widest]) {
				widest = c
			}
		}
		widths[widest]--
	}
	return true
}

func total(keep, widths []int) int {
	n := gap * (len(keep) - 1)
	for _, c := range keep {
		n += widths[c]
	}
	return n
}

// cut is text in at most so many columns.
func cut(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	runes := []rune(text)
	if width < 1 {
		return ""
	}
	return string(runes[:width-1]) + "…"
}
