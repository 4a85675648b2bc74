package netloop

// Users counts who uses something that is to be replaced while it is used, as the configuration in force: on each loop
// without a lock. Enter and Leave run on the loop; Retire may be called from any goroutine.
type Users struct{ loops []users }

// users is a loop's part, on a cache line of its own.
type users struct {
	n       int
	retired func()
	_       [48]byte
}

// NewUsers returns a count of nobody, for a group of so many loops.
func NewUsers(loops int) Users { return Users{make([]users, loops)} }

// Enter counts a user.
func (u *Users) Enter(l *Loop) { u.loops[l.Index()].n++ }

// Leave is the end of a use that Enter began on the same loop.
func (u *Users) Leave(l *Loop) {
	a := &u.loops[l.Index()]
	if a.n--; a.n == 0 && a.retired != nil {
		a.retired()
		a.retired = nil
	}
}

// Retire calls done on each loop once nobody of that loop uses it any more. Nobody may begin to by then. It is called once.
func (u *Users) Retire(g *Group, done func()) {
	for _, l := range g.Loops() {
		l.Post(func() {
			if a := &u.loops[l.Index()]; a.n > 0 {
				a.retired = done
				return
			}
			done()
		})
	}
}
