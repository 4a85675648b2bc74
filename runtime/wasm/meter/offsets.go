package meter

import "slices"

// Offsets leads from the rewritten code back to the code as it was. All offsets are from the beginning of the content of
// the code section, which is how compilers and debugging information count.
type Offsets struct {
	// places are where the distance between the two changes, in order of the rewritten code. Code that was added has the
	// place that it was added at.
	places []place
	end    uint32 // of the rewritten code
}

// place is where a piece of the rewritten code begins.
type place struct {
	rewritten uint32
	original  uint32
	added     bool // the piece is not in the original
}

// Original returns where an instruction of the rewritten code comes from; false if that is not code.
func (o *Offsets) Original(rewritten uint32) (uint32, bool) {
	i, exact := slices.BinarySearchFunc(o.places, rewritten, func(p place, at uint32) int {
		switch {
		case p.rewritten < at:
			return -1
		case p.rewritten > at:
			return 1
		}
		return 0
	})
	if !exact {
		i--
	}
	if i < 0 || rewritten >= o.end {
		return 0, false
	}
	p := o.places[i]
	if p.added {
		return p.original, true
	}
	return p.original + rewritten - p.rewritten, true
}

// End is the length of the rewritten code section's content.
func (o *Offsets) End() uint32 { return o.end }

// note says that the code written from here on comes from a place of the original. Offsets of a function are relative to
// its beginning until place is called.
func (o *Offsets) note(rewritten, original int, added bool) {
	if o == nil {
		return
	}
	p := place{uint32(rewritten), uint32(original), added} //nolint:gosec // a module has less than 4 GiB
	if n := len(o.places); n > 0 && o.places[n-1].rewritten == p.rewritten {
		o.places[n-1] = p // nothing was written in between
		return
	}
	o.places = append(o.places, p)
}

// move adds to the places from first on, when it is known where their function begins.
func (o *Offsets) move(first, by int) {
	if o == nil {
		return
	}
	for i := range o.places[first:] {
		o.places[first+i].rewritten += uint32(by) //nolint:gosec // see note
	}
}

func (o *Offsets) count() int {
	if o == nil {
		return 0
	}
	return len(o.places)
}

// debugSections are the sections that tell which source line an instruction is of. There are others, for variables.
var debugSections = map[string]bool{
	".debug_abbrev": true, ".debug_info": true, ".debug_line": true, ".debug_str": true, ".debug_ranges": true, // DWARF 4
	".debug_addr": true, ".debug_line_str": true, ".debug_rnglists": true, ".debug_str_offsets": true, // DWARF 5
}

// debug keeps a section of debugging information.
func (w *rewriter) debug(name string, content []byte) {
	if !w.options.Debug || !debugSections[name] || w.debugged[name] != nil {
		return
	}
	if w.debugged == nil {
		w.debugged = map[string][]byte{}
	}
	w.debugged[name] = content
}

// debugInfo returns copies of the sections, or nil if lines cannot be told by them.
func (w *rewriter) debugInfo() map[string][]byte {
	if len(w.debugged[".debug_info"]) == 0 || len(w.debugged[".debug_line"]) == 0 || len(w.debugged[".debug_abbrev"]) == 0 {
		return nil
	}
	for name, content := range w.debugged {
		w.debugged[name] = slices.Clone(content)
	}
	return w.debugged
}

// appendPointer writes debugging information of the rewrite's own: one unit with one line, all over the code. For a frame
// of a trap's stack that has a line, wazero says the offset of the instruction too, and nothing but that is wanted of it:
// the line is looked up in the module's own information, by the offset that the instruction had.
func appendPointer(out []byte, end uint32) []byte {
	section := func(name string, content []byte) {
		out = append(out, secCustom)
		out = appendU32(out, uint32(len(content)+len(name)+1)) //nolint:gosec // short
		out = append(appendName(out, name), content...)
	}
	u16 := func(b []byte, v uint16) []byte { return append(b, byte(v), byte(v>>8)) }
	u32 := func(b []byte, v uint32) []byte { return append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	sized := func(b []byte) []byte { return append(u32(nil, uint32(len(b))), b...) } //nolint:gosec // short

	// Abbreviation 1: a compile unit without children: low_pc addr, high_pc data4, stmt_list sec_offset.
	section(".debug_abbrev", []byte{1, 0x11, 0, 0x11, 0x01, 0x12, 0x06, 0x10, 0x17, 0, 0, 0})
	info := append(u32(u16(nil, 4), 0), 4, 1) // version 4, abbreviations at 0, addresses of 4 bytes; abbreviation 1
	info = u32(u32(u32(info, 1), end), 0)     // from 1: address 0 is taken for code that was removed
	section(".debug_info", sized(info))

	header := []byte{1, 1, 1, 1, 1, 10}                                       // instructions of 1 byte, 1 in each, is_stmt, line_base, line_range, opcode_base
	header = append(header, 0, 1, 1, 1, 1, 0, 0, 0, 1, 0, '.', 0, 0, 0, 0, 0) // operands of the opcodes, no folders, the file "."
	line := append(u32(u16(nil, 4), uint32(len(header))), header...)          //nolint:gosec // short
	line = u32(append(line, 0, 5, 2), 1)                                      // set_address 1
	line = append(appendU32(append(line, 1, 2), end), 0, 1, 1)                // copy, advance_pc, end_sequence
	section(".debug_line", sized(line))
	return out
}
