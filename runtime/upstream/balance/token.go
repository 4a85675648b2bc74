package balance

// maxRedirects bounds how far a redirect is followed: redirects may go in a circle.
const maxRedirects = 8

// ByToken finds the member of a sticky session. A session of a member that is draining, or that cannot be used, goes to
// the one that Redirect names, if that one can be used; one that is draining and has no such successor keeps its
// sessions. usable says that the request can be given to m; otherwise m is the session's own member, for messages, or nil
// if there is none of this name. If several have the token, the first that can be used serves. The token may be anything
// that a client sends.
func (s *Set) ByToken(token []byte) (m *Member, usable bool) {
	own, ok := s.named(s.tokens[string(token)])
	if own == nil || ok && own.State != Drain {
		return own, ok
	}
	next := own
	for range maxRedirects {
		if next.Redirect == "" {
			break
		}
		to, can := s.named(s.tokens[next.Redirect])
		if to == nil {
			break
		}
		if can && to.State != Drain {
			return to, true
		}
		next = to
	}
	return own, ok
}

// named is who serves of those with one name: the first that can be used, rather one that is not draining; else the first.
func (s *Set) named(list []*Member) (m *Member, can bool) {
	recovered := s.plan.Load().recovered
	for _, one := range list {
		switch {
		case !usable(one, recovered):
		case one.State != Drain:
			return one, true
		case !can:
			m, can = one, true
		}
	}
	if m == nil && len(list) > 0 {
		m = list[0]
	}
	return m, can
}
