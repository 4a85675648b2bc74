package health

import "strconv"

// Outcome is how a request went that a member was given.
type Outcome int32

// Outcomes beside Status. Others, such as a client that went away, say nothing of the member and are not to be reported.
const (
	Success       Outcome = 0  // an answer, whatever its status
	ConnectFailed Outcome = -1 // no connection, or none in time
	Reset         Outcome = -2 // the connection ended before the answer did
	Timeout       Outcome = -3 // no answer in time
)

// Status is an answer with this status.
func Status(code int) Outcome { return Outcome(max(code, 0)) }

// Good says that it went well by itself, whatever Options make of it: an answer with a status below 500.
func (o Outcome) Good() bool { return o >= 0 && o < 500 }

// String is the outcome in words that go on after "the last: ".
func (o Outcome) String() string {
	switch o {
	case Success:
		return "it answered"
	case ConnectFailed:
		return "it could not be connected to"
	case Reset:
		return "it ended the connection before its answer"
	case Timeout:
		return "no answer in time"
	}
	return "it answered " + strconv.Itoa(int(o))
}

// StatusRange is statuses from First to Last, both included.
type StatusRange struct{ First, Last int }

// Ranges is any of several.
type Ranges []StatusRange

// Has says whether a status is in one of them.
func (r Ranges) Has(status int) bool {
	for _, one := range r {
		if one.First <= status && status <= one.Last {
			return true
		}
	}
	return false
}
