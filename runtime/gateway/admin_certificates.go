package gateway

import (
	"slices"
	"time"

	"wasmgate/config"
	"wasmgate/runtime/admin"
	"wasmgate/runtime/certs"
)

// certificates are those that a listener shows; none: it speaks cleartext.
func (o operators) certificates(l *config.Listener, set *certs.Set) (list []admin.Certificate) {
	if set == nil {
		return nil
	}
	names, flaws := set.Names(), set.Flaws()
	for i, c := range set.Certificates() {
		one := admin.Certificate{Names: names[i], File: c.File, NotBefore: moment(c.NotBefore), NotAfter: moment(c.NotAfter), Stapled: c.Stapled}
		for _, f := range flaws {
			if f.Pair == i {
				one.Problems = append(one.Problems, f.Message+"; "+f.Help)
			}
		}
		list = append(list, one)
	}
	m := o.issued.manager.Load()
	if m == nil {
		return list
	}
	for _, s := range m.States() {
		if slices.Contains(l.TLS.ACME, s.Name) {
			list = append(list, admin.Certificate{Names: []string{s.Name}, NotAfter: moment(s.NotAfter), Error: s.Error, Next: moment(s.Next)})
		}
	}
	return list
}

// moment is a time; nil: there is none.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
