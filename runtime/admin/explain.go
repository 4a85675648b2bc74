package admin

import (
	"context"
	"errors"
	"net/http"
	"time"

	"wasmgate/runtime/explain"
)

var explainOperations = []operation{{
	method: "POST", path: "/explain", id: "explain", group: groupTraffic, serve: (*api).explain, largest: maxQuestion,
	summary: "What would come of a request, without sending it.",
	text: "Listener, every route that is tried, each plugin's decision (run for real, with instances of its own), the upstream and its candidates, " +
		"and the request as it would be sent. With `calls` plugins send requests of their own.",
	body: explain.Request{},
	answers: []reply{
		ok(explain.Explanation{}, "The explanation."), said400, {413, asText, nil, "The body is longer than 1 MiB."}, said501, said503,
		{504, asText, nil, "A plugin waits, or another explanation is being made."},
	},
}}

const (
	maxQuestion = 1 << 20 // bytes of a request's body
	// explainTime is how long an explanation may take: plugins may wait for what they call.
	explainTime = 25 * time.Second
)

// explain says what would come of the request that the body has, as explain.Request: nothing of it is sent, and nothing of the
// gateway changes. With calls plugins send theirs.
func (a *api) explain(w http.ResponseWriter, r *http.Request) {
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
