package telemetry

// Hits are how many requests there were since the process started, by the names of listeners and of routes. Names beyond the
// bound on series are counted under "other", and those that are not in force any more are forgotten. It may be called from any goroutine; the loops only have their counters read.
func (t *Telemetry) Hits() (listeners, routes map[string]uint64) {
	listeners, routes = map[string]uint64{}, map[string]uint64{}
	for _, r := range t.recorders {
		for _, s := range *r.cells.requestList.Load() {
			n := s.count()
			listeners[s.listener] += n
			routes[s.route] += n
		}
		for _, s := range *r.cells.sessionList.Load() {
			listeners[s.listener] += s.count()
		}
	}
	return listeners, routes
}
