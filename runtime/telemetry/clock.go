package telemetry

import "time"

// lineClock writes times, in UTC. It keeps the parts down to the second, which the lines of a second share.
type lineClock struct {
	second int64
	text   [len(`"2006-01-02T15:04:05.000000Z"`)]byte
	clf    [len("02/Jan/2006:15:04:05 +0000")]byte
}

// json returns the time as RFC 3339 with microseconds, quoted. It is valid until the next call.
func (c *lineClock) json(ns int64) []byte {
	c.turn(ns / 1e9)
	micro := ns % 1e9 / 1e3
	for i := len(c.text) - 3; i > len(c.text)-9; i-- {
		c.text[i] = '0' + byte(micro%10)
		micro /= 10
	}
	return c.text[:]
}

// append appends it without the quotes.
func (c *lineClock) append(b []byte, ns int64) []byte {
	t := c.json(ns)
	return append(b, t[1:len(t)-1]...)
}

// appendCLF appends the time as the common log format has it, without the brackets.
func (c *lineClock) appendCLF(b []byte, ns int64) []byte {
	c.turn(ns / 1e9)
	return append(b, c.clf[:]...)
}

func (c *lineClock) turn(second int64) {
	if second == c.second && c.text[0] != 0 {
		return
	}
	var room [2 * len(c.text)]byte // AppendFormat writes all nine digits of a second before it cuts them
	t := time.Unix(second, 0).UTC()
	copy(c.text[:], t.AppendFormat(room[:0], `"2006-01-02T15:04:05.000000Z"`))
	copy(c.clf[:], t.AppendFormat(room[:0], "02/Jan/2006:15:04:05 -0700"))
	c.second = second
}
