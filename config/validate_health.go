package config

import (
	"fmt"
	"strings"
)

// passive checks what ejects an address.
func (v *validator) passive(p keyPath, h *PassiveHealth) {
	if h.Failures == 0 {
		v.idle(p, "say `failures: 3`, or remove it", "failures is 0", "on_connect", "fail_on_timeout", "fail_on_status", "eject_for", "eject_max", "recover_all")
	}
	if h.EjectFor > h.EjectMax {
		v.mention(v.keyAt(p), p, fmt.Sprintf("eject_for (%s) is more than eject_max (%s)", h.EjectFor, h.EjectMax), "give both, the smaller one as eject_for")
	}
	for i, r := range h.FailOnStatus {
		if q := p.key("fail_on_status").index(i); r.First < 400 && v.ok(q) {
			v.warn(q, "write codes from 400 on, as in 500-599", "answers below 400 are good ones as a rule")
		}
	}
}

// active checks the checks.
func (v *validator) active(p keyPath, h *ActiveHealth, protocol Protocol) {
	switch h.Type {
	case CheckOff:
		v.idle(p, "say `type: http` or `type: tcp`", "type is off", "interval", "timeout", "path", "host", "service", "status", "rise", "fall")
		return
	case CheckTCP:
		v.idle(p, "say `type: http`, or remove it", "type is tcp", "path", "host", "service", "status")
		return
	case CheckGRPC:
		v.idle(p, "say `type: http`, or remove it", "type is grpc", "path", "status")
		v.grpcCheck(p, h, protocol)
	default:
		v.idle(p, "say `type: grpc`, or remove it", "type is http", "service")
	}
	if h.Timeout > h.Interval && v.ok(p) {
		v.warn(p.key("timeout"), "write `"+h.Interval.String()+"` or less", "is longer than interval (%s): a check may still run when the next one is due", h.Interval)
	}
	if q := p.key("path"); h.Type == CheckHTTP && v.ok(q) {
		switch {
		case !strings.HasPrefix(h.Path, "/"):
			v.fail(q, "write `/"+h.Path+"`", "%s does not begin with /", quote(h.Path))
		case len(h.Path) > 4<<10 || strings.ContainsFunc(h.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }):
			v.fail(q, "write it as it stands in a request", "%s cannot stand in a request", quote(h.Path))
		}
	}
	if q := p.key("host"); h.Host != "" && v.ok(q) {
		if _, _, err := splitAuthority(h.Host); err != nil {
			v.failErr(q, err)
		}
	}
	if q := p.key("status"); h.Type == CheckHTTP && len(h.Status) == 0 && !v.hurt[q.String()] {
		v.fail(q, "write `status: [200-399]`", "is empty: every check would fail")
	}
}

// grpcCheck checks what a check by gRPC needs.
func (v *validator) grpcCheck(p keyPath, h *ActiveHealth, protocol Protocol) {
	if q := p.key("type"); protocol != ProtocolHTTP2 && v.ok(q) {
		v.fail(q, "say `protocol: http2` for the upstream, or `type: tcp`", "a check by gRPC needs an upstream of HTTP/2")
	}
	if q := p.key("service"); v.ok(q) && (len(h.Service) > 256 || strings.ContainsFunc(h.Service, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '/' })) {
		v.fail(q, "write it as in `acme.Users`: package and service", "%s is not the name of a service", quote(h.Service))
	}
}

// retries checks further attempts against what else bounds a request.
func (v *validator) retries(p keyPath, u *Upstream) {
	q, t := p.key("retries"), &u.Timeouts
	for _, other := range []struct {
		key   string
		limit Duration
	}{{"request", t.Request}, {"response_header", t.ResponseHeader}} {
		if r := u.Retries.PerTryTimeout; other.limit > 0 && r >= other.limit && v.given(q.key("per_try_timeout")) && v.ok(q.key("per_try_timeout")) {
			v.warn(q.key("per_try_timeout"), "write less than that", "has no effect: timeouts.%s is %s", other.key, other.limit)
			break
		}
	}
	v.hedge(p.key("hedge"), u)
	if u.Breaker.Ratio == 0 {
		v.idle(p.key("breaker"), "say `breaker.ratio`", "ratio is 0", "requests", "window", "open_for")
	}
}

func (v *validator) hedge(p keyPath, u *Upstream) {
	h, t := &u.Hedge, &u.Timeouts
	switch {
	case h.After == 0:
	case u.Retries.Attempts == 1:
		v.idle(p, "say `retries.attempts: 2`", "retries.attempts is 1, and the second attempt counts", "after")
	case t.ResponseHeader > 0 && h.After >= t.ResponseHeader:
		v.idle(p, "write less than that", fmt.Sprintf("timeouts.response_header is %s", t.ResponseHeader), "after")
	}
}
