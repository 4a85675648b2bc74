package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"wasmgate/runtime/explain"
)

const (
	maxQuestion = 1 << 20 // bytes of a request's body
	// explainTime is how long an explanation may take: plugins may wait for what they call.
	explainTime = 25 * time.Second
)

// explain says what would come of the request that the body has, as explain.Request: nothing of it is sent, and nothing of the
// gateway changes. With calls plugins send theirs, so that is for who may change something.
func (a *api) explain(w http.ResponseWriter, r *http.Request) {
	if !a.may(w, r) {
		return
	}
	if a.Explain == nil {
		http.Error(w, "there is nobody to explain", http.StatusNotImplemented)
		return
	}
	var asked explain.Request
	if err := read(http.MaxBytesReader(w, r.Body, maxQuestion), &asked, `{"method": "GET", "url": "http://example.org/"}`); err != nil {
		status := http.StatusBadRequest
		if long := (*http.MaxBytesError)(nil); errors.As(err, &long) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, err.Error(), status)
		return
	}
	if asked.Calls && !a.Address.Addr().IsLoopback() {
		http.Error(w, "calls are sent for who asks on a loopback address only; see admin.address", http.StatusForbidden)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), explainTime)
	defer cancel()
	e, err := a.Explain(ctx, asked)
	var mistake explain.Mistake
	switch {
	case err == nil:
		answer(w, http.StatusOK, e)
	case errors.As(err, &mistake):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case errors.Is(err, context.DeadlineExceeded):
		http.Error(w, "the explanation is not there yet: a plugin waits, or another explanation is being made", http.StatusGatewayTimeout)
	default:
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	}
}
