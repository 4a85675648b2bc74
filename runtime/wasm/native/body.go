package native

import (
	"wasmgate/runtime/exchange"
	"wasmgate/runtime/fault"
	"wasmgate/runtime/filter"
	"wasmgate/sdk/abi"
)

// held is a message's body in one phase of a plugin that has a part in it.
type held struct {
	body     exchange.Body
	wants    abi.Body
	onDemand bool
	there    bool // data is the body, or its beginning if it is not whole
	whole    bool
	data     []byte // valid until the body is asked for more
	wanted   bool   // the guest asked for it on demand
	asked    bool   // the guest was asked, and has not failed
}

// flags are the view's bits about the body.
func (h *held) flags() (bits uint32) {
	if h.there {
		bits |= abi.FlagBody
		if !h.whole {
			bits |= abi.FlagPart
		}
	}
	return bits
}

// hold reads the body.
func (h *held) hold(p *Plugin, phase uint32) *fault.Error {
	most := int(h.wants.Max)
	data, whole, err := h.body.Hold(most)
	switch {
	case err != nil:
		return err
	case len(data) > most:
		data, whole = data[:most], false
	}
	h.there, h.whole, h.data = true, whole, data
	if whole || h.wants.Bits&abi.BodyPartial != 0 {
		return nil
	}
	f := fault.New(fault.BodyTooLarge, fault.Client, 413, "the body is longer than the %d bytes that the plugin reads", most)
	if phase == abi.PhaseResponse {
		f.Source, f.Status = fault.Upstream, 502
	}
	f.Plugin, f.Phase = p.core.options.Name, phaseNames[phase]
	return f
}

// askWithBody is ask for a plugin that has a part in the phase's body.
func (p *Plugin) askWithBody(x *exchange.Exchange, phase, role uint32, place int) (filter.Verdict, error) {
	h := &held{body: x.RequestBody, wants: p.core.manifest.RequestBody}
	if phase == abi.PhaseResponse {
		h.body, h.wants = x.ResponseBody, p.core.manifest.ResponseBody
	}
	if h.body == nil {
		return filter.Continue, fault.New(fault.Internal, fault.Gateway, 500, "a message without a place for its body")
	}
	h.onDemand = h.wants.Bits&abi.BodyOnDemand != 0
	buffered := h.wants.Mode == abi.BodyBuffered
	if buffered && !h.onDemand {
		if err := h.hold(p, phase); err != nil {
			return filter.Continue, err
		}
	}
	v, err := p.ask(x, phase, role, place, h)
	if v != filter.Continue || err != nil || !h.asked || h.onDemand && !h.wanted {
		return v, err
	}
	if buffered && h.onDemand {
		if err := h.hold(p, phase); err != nil {
			return filter.Continue, err
		}
		return p.ask(x, phase, role, place, h)
	}
	if !buffered && !h.empty() {
		h.body.Stage(&stage{plugin: p, x: x, place: place, message: phase, word: *x.Word(place)})
	}
	return v, nil
}

// empty says that there is no body that could be seen.
func (h *held) empty() bool {
	if !h.body.Ended() {
		return false
	}
	data, _, _ := h.body.Hold(0)
	return len(data) == 0
}
