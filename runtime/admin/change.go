package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"wasmgate/runtime/upstream"
	"wasmgate/runtime/upstream/balance"
)

// amend has fn change targets of the upstream that the request names. An error of fn's is answered with the status that says
// whose it is.
func (a *api) amend(w http.ResponseWriter, r *http.Request, fn func(http.ResponseWriter, *http.Request, *upstream.Upstream) error) {
	u := a.find(w, r)
	if u == nil {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxChange)
	err := fn(w, r, u)
	if err == nil {
		return
	}
	status := http.StatusBadRequest
	switch long := (*http.MaxBytesError)(nil); {
	case errors.As(err, &long):
		status = http.StatusRequestEntityTooLarge
	case errors.Is(err, upstream.ErrNoTarget):
		status = http.StatusNotFound
	case errors.Is(err, upstream.ErrTargetExists), errors.Is(err, upstream.ErrConfigured):
		status = http.StatusConflict
	}
	http.Error(w, err.Error(), status)
}

const maxChange = 4 << 10 // bytes of a request's body

// TargetChange is what may be said of a target; nil: it stays as it is.
type TargetChange struct {
	Weight *int    `json:"weight,omitempty" doc:"1 to 1000."`
	Tier   *int    `json:"tier,omitempty" doc:"0 to 100; the lowest that can serves."`
	State  *string `json:"state,omitempty" enum:"active,standby,spare,drain,disabled"`
}

// NewTarget is a target that is added.
type NewTarget struct {
	URL string `json:"url" doc:"As in http://users-3.internal:8080."`
	TargetChange
}

func (a *api) add(w http.ResponseWriter, r *http.Request)    { a.amend(w, r, a.addTarget) }
func (a *api) change(w http.ResponseWriter, r *http.Request) { a.amend(w, r, a.changeTarget) }
func (a *api) remove(w http.ResponseWriter, r *http.Request) { a.amend(w, r, a.removeTarget) }

// changeTarget changes weight, tier or state of a target.
func (a *api) changeTarget(w http.ResponseWriter, r *http.Request, u *upstream.Upstream) error {
	var said TargetChange
	if err := read(r.Body, &said, `{"state": "drain"}`); err != nil {
		return err
	}
	if said == (TargetChange{}) {
		return errors.New("nothing to change: give weight, tier or state")
	}
	c, err := said.check()
	if err != nil {
		return err
	}
	if err := u.SetTarget(r.PathValue("target"), c); err != nil {
		return err
	}
	a.show(w, http.StatusOK, u)
	return nil
}

// addTarget adds a target that the config does not have.
func (a *api) addTarget(w http.ResponseWriter, r *http.Request, u *upstream.Upstream) error {
	var said NewTarget
	if err := read(r.Body, &said, `{"url": "http://users-3.internal:8080"}`); err != nil {
		return err
	}
	c, err := said.check()
	if err != nil {
		return err
	}
	t, err := a.Pools.Target(said.URL)
	if err != nil {
		return fmt.Errorf("url: %w", err)
	}
	t.Weight = 1
	if c.Weight != nil {
		t.Weight = *c.Weight
	}
	if c.Tier != nil {
		t.Tier = *c.Tier
	}
	if c.State != nil {
		t.State = *c.State
	}
	if err := u.AddTarget(t); err != nil {
		return err
	}
	a.show(w, http.StatusCreated, u)
	return nil
}

// removeTarget removes a target that was added.
func (a *api) removeTarget(w http.ResponseWriter, r *http.Request, u *upstream.Upstream) error {
	if err := u.RemoveTarget(r.PathValue("target")); err != nil {
		return err
	}
	a.show(w, http.StatusOK, u)
	return nil
}

// states are balance's by their names.
var states = map[string]balance.State{
	"active": balance.Active, "standby": balance.Standby, "spare": balance.Spare, "drain": balance.Drain, "disabled": balance.Disabled,
}

// check holds what was said to the bounds that the config has.
func (c *TargetChange) check() (out upstream.Change, err error) {
	switch {
	case c.Weight != nil && (*c.Weight < 1 || *c.Weight > 1000):
		return out, errors.New("weight is from 1 to 1000; for none, state is disabled")
	case c.Tier != nil && (*c.Tier < 0 || *c.Tier > 100):
		return out, errors.New("tier is from 0 to 100")
	}
	out.Weight, out.Tier = c.Weight, c.Tier
	if c.State != nil {
		s, ok := states[*c.State]
		if !ok {
			return out, fmt.Errorf("state is active, standby, spare, drain or disabled, and not %q", *c.State)
		}
		out.State = &s
	}
	return out, nil
}

// read reads a body that is one JSON value, like the example, and nothing else.
func read(body io.Reader, into any, example string) error {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the body is not as in %s: %w", example, err)
	}
	switch _, err := d.Token(); {
	case err == nil:
		return errors.New("something follows the body's first value")
	case err != io.EOF:
		return fmt.Errorf("something follows the body's first value: %w", err)
	}
	return nil
}
