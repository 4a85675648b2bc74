package wasm

import (
	"debug/dwarf"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"

	"wasmgate/runtime/wasm/meter"
)

// Bounds of what a trap's lines may cost: debugging information is as hostile as everything else of a module, and it is
// read where requests wait.
const (
	maxEntries  = 100_000 // of debugging information, that are looked at for one frame
	maxLookups  = 1_000   // frames that are looked up and remembered, for one module; then only names are told
	maxInlined  = 4       // functions that were inlined into one frame, and are told
	maxLineText = 200     // bytes of a place
)

// symbols finds the source lines of a module's instructions. It may be used from any goroutine.
type symbols struct {
	offsets *meter.Offsets

	mu     sync.Mutex
	debug  map[string][]byte
	data   *dwarf.Data // nil: not read yet, or of no use
	broken bool
	known  map[uint32][]frame
}

// frame is a function in a trap's stack.
type frame struct {
	function string
	place    string // file:line; "" if it is not known
}

func (f frame) String() string {
	if f.place == "" {
		return f.function
	}
	return f.function + " (" + f.place + ")"
}

// newSymbols returns nil for a module that says nothing about its lines.
func newSymbols(m *meter.Module) *symbols {
	if m.Debug == nil {
		return nil
	}
	return &symbols{offsets: m.Offsets, debug: m.Debug, known: map[uint32][]frame{}}
}

// frames are the frame of a function at an offset of the rewritten code, and what was inlined there, innermost first.
func (s *symbols) frames(function string, offset uint32) []frame {
	only := []frame{{function: function}}
	if s == nil {
		return only
	}
	at, ok := s.offsets.Original(offset)
	if !ok {
		return only
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.known[at]
	if !ok {
		if len(s.known) >= maxLookups {
			return only
		}
		found = s.lookup(uint64(at))
		s.known[at] = found
	}
	if len(found) == 0 {
		return only
	}
	list := append([]frame(nil), found...)
	list[len(list)-1].function = function
	return list
}

// lookup reads the debugging information for one offset. The last frame has no name.
func (s *symbols) lookup(pc uint64) (found []frame) {
	defer func() {
		if recover() != nil { // a stranger's work, and one that the library's author did not think of
			s.broken, s.data, found = true, nil, nil
		}
	}()
	if s.data == nil {
		if s.broken {
			return nil
		}
		if s.data = readDWARF(s.debug); s.data == nil {
			s.broken = true
			return nil
		}
		s.debug = nil // it has what it needs of them
	}
	r := s.data.Reader()
	unit, err := r.SeekPC(pc)
	if err != nil {
		return nil
	}
	place, files := s.line(unit, pc)
	if place == "" {
		return nil
	}
	for _, e := range s.inlined(r, pc) {
		found = append(found, frame{s.name(e, 0), place})
		place = callPlace(e, files)
	}
	return append(found, frame{"", place})
}

func readDWARF(sections map[string][]byte) *dwarf.Data {
	get := func(name string) []byte { return sections[".debug_"+name] }
	d, err := dwarf.New(get("abbrev"), nil, nil, get("info"), get("line"), nil, get("ranges"), get("str"))
	if err != nil {
		return nil
	}
	for _, name := range []string{"addr", "line_str", "rnglists", "str_offsets"} {
		if b := get(name); b != nil && d.AddSection(".debug_"+name, b) != nil {
			return nil
		}
	}
	return d
}

// line finds the line of an instruction, and the unit's files. The rows of a sequence are in order, but those of a unit
// need not be (Zig's are not), so that all are looked at. Line 0 is that of code of several lines, or of none: it is the
// line around it if that is the same before and behind.
func (s *symbols) line(unit *dwarf.Entry, pc uint64) (string, []*dwarf.LineFile) {
	r, err := s.data.LineReader(unit)
	if err != nil || r == nil {
		return "", nil
	}
	var row dwarf.LineEntry
	var file *dwarf.LineFile // of the row before; nil: there is none in this sequence
	var from uint64          // its address
	line, said, found := 0, 0, false
	for range 10 * maxEntries {
		if r.Next(&row) != nil {
			break
		}
		if file != nil && !found && from <= pc && pc < row.Address {
			if line != 0 {
				return placeOf(file, line), r.Files()
			}
			found = true
		}
		switch {
		case found && !row.EndSequence && row.Line == said && said != 0:
			return placeOf(file, said), r.Files()
		case found && (row.EndSequence || row.Line != 0):
			return placeOf(file, 0), r.Files()
		case row.EndSequence:
			file, said = nil, 0
			continue
		case row.Line != 0:
			said = row.Line
		}
		if !found {
			file = row.File
		}
		from, line = row.Address, row.Line
	}
	return "", nil
}

// inlined are the entries of the functions that were inlined at an instruction, innermost first. r stands behind the
// unit's own entry.
func (s *symbols) inlined(r *dwarf.Reader, pc uint64) (list []*dwarf.Entry) {
	for range maxEntries {
		e, err := r.Next()
		if err != nil || e == nil || e.Tag == dwarf.TagCompileUnit {
			break
		}
		switch e.Tag {
		case dwarf.TagSubprogram, dwarf.TagInlinedSubroutine, dwarf.TagLexDwarfBlock:
			if !s.covers(e, pc) {
				if e.Children {
					r.SkipChildren()
				}
				continue
			}
			if e.Tag == dwarf.TagInlinedSubroutine {
				list = append([]*dwarf.Entry{e}, list...)
			}
			if !e.Children {
				return capped(list)
			}
		case dwarf.TagNamespace, dwarf.TagStructType, dwarf.TagClassType, 0:
			if e.Tag == 0 && len(list) > 0 {
				return capped(list) // the end of the innermost one
			}
		default:
			if e.Children {
				r.SkipChildren()
			}
		}
	}
	return capped(list)
}

func capped(list []*dwarf.Entry) []*dwarf.Entry { return list[:min(len(list), maxInlined)] }

func (s *symbols) covers(e *dwarf.Entry, pc uint64) bool {
	ranges, err := s.data.Ranges(e)
	if err != nil {
		return false
	}
	for _, r := range ranges {
		if r[0] <= pc && pc < r[1] && r[0] != 0 {
			return true
		}
	}
	return false
}

// name is the name of an inlined function: that of the function that it is a copy of.
func (s *symbols) name(e *dwarf.Entry, depth int) string {
	if name, ok := e.Val(dwarf.AttrName).(string); ok {
		return oneLine(name)
	}
	for _, attr := range [...]dwarf.Attr{dwarf.AttrAbstractOrigin, dwarf.AttrSpecification} {
		if at, ok := e.Val(attr).(dwarf.Offset); ok && depth < 4 {
			r := s.data.Reader()
			r.Seek(at)
			if origin, err := r.Next(); err == nil && origin != nil {
				return s.name(origin, depth+1)
			}
		}
	}
	return "?"
}

// callPlace is where an inlined function was called.
func callPlace(e *dwarf.Entry, files []*dwarf.LineFile) string {
	file, _ := e.Val(dwarf.AttrCallFile).(int64)
	line, _ := e.Val(dwarf.AttrCallLine).(int64)
	if file < 0 || file >= int64(len(files)) || files[file] == nil {
		return ""
	}
	return placeOf(files[file], int(line))
}

// placeOf writes a file and a line. Of a long path only the end is told: who knows the program finds the file by it. A folder
// src, which every package of some languages has, does not tell whose it is, and the one above does.
func placeOf(f *dwarf.LineFile, line int) string {
	name := path.Clean(strings.ReplaceAll(f.Name, `\`, "/"))
	if path.IsAbs(name) || strings.HasPrefix(name, "../") {
		dir, base := path.Split(name)
		folder := path.Base(dir)
		if above := path.Base(path.Dir(path.Clean(dir))); folder == "src" && above != "/" && above != "." && above != ".." {
			folder = path.Join(above, folder)
		}
		name = path.Join(folder, base)
	}
	if line == 0 {
		return oneLine(name)
	}
	return oneLine(name) + ":" + strconv.Itoa(line)
}

// oneLine is a text as it may stand in a log.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxLineText {
		s = strings.ToValidUTF8(s[:maxLineText], "") + "…"
	}
	return s
}

// function is how a message calls a function that wazero names: one without a name by its number in the module as it was
// written.
func (u *unit) function(name string) string {
	number, ok := strings.CutPrefix(name, "$")
	if !ok {
		return name
	}
	i, err := strconv.Atoi(number)
	if err != nil {
		return name
	}
	return fmt.Sprintf("function %d", u.module.Original(i))
}
