package main

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"wasmgate/plugins/kit"
	wasmgate "wasmgate/sdk/go"
)

// settings are the plugin's configuration.
type settings struct {
	store       wasmgate.Store
	limits      []limit
	exempt      kit.Networks
	status      int
	body        string
	contentType string
	headers     bool
	allow       bool // what cannot be counted
	unavailable int  // else the status of that
}

var conf settings

func configure(c *wasmgate.Config) error {
	conf = settings{status: 429, body: "too many requests\n", contentType: "text/plain; charset=utf-8", headers: true, allow: true, unavailable: 503}
	store := ""
	err := kit.Read(c, kit.Keys{
		"store": kit.Text(&store),
		"limits": func(v kit.Value) error {
			return v.Map(func(name string, v kit.Value) error { return addLimit(c, name, v) })
		},
		"exempt":         func(v kit.Value) error { defer conf.exempt.Seal(); return v.List(conf.exempt.Add) },
		"status":         kit.Int(&conf.status, 400, 599),
		"body":           kit.Text(&conf.body),
		"content_type":   contentType,
		"headers":        kit.Bool(&conf.headers),
		"on_store_error": onStoreError,
	})
	switch {
	case err != nil:
		return err
	case store == "":
		return errors.New("config.store is missing: the name of a key-value store that the plugin is granted, by state")
	case len(conf.limits) == 0 || len(conf.limits) > maxLimits:
		return errors.New("config.limits: there are " + strconv.Itoa(len(conf.limits)) + ", and it takes 1 to " + strconv.Itoa(maxLimits))
	}
	conf.store = c.Store(store)
	wasmgate.HandleMarkedResponse(nil)
	if conf.headers {
		wasmgate.HandleMarkedResponse(response)
	}
	return nil
}

func contentType(v kit.Value) error {
	s, err := v.Text()
	if err == nil && !kit.FieldValue(s) {
		err = v.Wrong("cannot stand in a header")
	}
	conf.contentType = s
	return err
}

func onStoreError(v kit.Value) error {
	switch s, _ := v.Text(); s {
	case "allow":
		conf.allow = true
	case "deny":
		conf.allow = false
	default:
		return v.Wrong("is neither allow nor deny")
	}
	return nil
}

func addLimit(c *wasmgate.Config, name string, v kit.Value) error {
	if !kit.Token(name) || len(name) > 64 {
		return errors.New(v.Path() + ": a limit's name has up to 64 letters, digits and signs such as - and _")
	}
	l := limit{name: name, prefix: c.Name() + "/" + name + "/"}
	err := v.Object(kit.Keys{
		"key": func(v kit.Value) error {
			return v.List(func(v kit.Value) error {
				t, err := v.Template(false)
				l.keys = append(l.keys, t)
				return err
			})
		},
		"rate": l.readRate,
		"burst": func(v kit.Value) (err error) {
			l.burst, err = v.Int(1, 1_000_000_000)
			return err
		},
	})
	switch {
	case err != nil:
		return err
	case l.interval == 0:
		return v.Missing("rate", "such as 10/s, 600/m or 5/10s")
	case len(l.keys) == 0:
		return v.Missing("key", `whose rate it is, such as "{client.network}" or "{header.x-user}"; "all" for one rate of all together`)
	case l.interval > (1<<62)/l.burst:
		return v.Wrong("has a burst that takes a hundred years to come back")
	}
	l.policy = strconv.FormatInt(l.burst, 10) + ";w=" + strconv.FormatInt(max(1, l.burst*l.interval/second), 10)
	conf.limits = append(conf.limits, l)
	return nil
}

// readRate reads a number and a time: 10/s, 600/m, 1000/h, 5/10s. It is the burst too, if there is none yet.
func (l *limit) readRate(v kit.Value) error {
	s, err := v.Text()
	if err != nil {
		return err
	}
	number, per, ok := strings.Cut(s, "/")
	n, err := strconv.ParseInt(number, 10, 64)
	switch per {
	case "s", "m", "h":
		per = "1" + per
	case "d":
		per = "24h"
	}
	d, wrong := time.ParseDuration(per)
	if !ok || err != nil || wrong != nil || n < 1 || n > 1_000_000_000 || d < time.Millisecond || d > 366*24*time.Hour {
		return v.Wrong("is not a rate such as 10/s, 600/m, 1000/h, 5000/d or 5/10s")
	}
	if l.interval = int64(d) / n; l.interval == 0 {
		return v.Wrong("is more than one in a nanosecond")
	}
	if l.burst == 0 {
		l.burst = n
	}
	return nil
}
