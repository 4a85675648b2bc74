package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// placeholder is what a Jaeger says in the place of its pages that was built without them.
const placeholder = "not the Jaeger UI"

// Tour plays one situation of the tour, and prints what to look for in Jaeger; without a name it prints which there are.
// If no Jaeger runs it starts one, and keeps that running until ctx ends.
func Tour(ctx context.Context, name string, p Ports, stdout, stderr io.Writer) error {
	if name == "" {
		for _, s := range situations {
			fmt.Fprintf(stdout, "go run -C examples/jaeger . tour %-8s %s\n", s.name, s.what)
		}
		return nil
	}
	for _, s := range situations {
		if s.name == name {
			return s.show(ctx, p, stdout, stderr)
		}
	}
	return fmt.Errorf("the tour has no %q: tour alone lists what it has", name)
}

func (s *situation) show(ctx context.Context, p Ports, stdout, stderr io.Writer) error {
	if jaegerRuns(ctx, p) {
		return s.playOn(ctx, p, stdout, stderr)
	}
	j, err := BuildAndStart(ctx, p, stderr)
	if err != nil {
		return err
	}
	if err := s.playOn(ctx, p, stdout, stderr); err != nil {
		_ = j.Stop()
		return err
	}
	fmt.Fprintln(stdout, "Jaeger stays for you to look. Interrupt to stop it.")
	return j.Wait(ctx)
}

// playOn plays the situation with a Jaeger that runs.
func (s *situation) playOn(ctx context.Context, p Ports, out, progress io.Writer) error {
	fmt.Fprintln(progress, "building the gateway; the first time takes a minute")
	st, err := newStage(ctx, p, out)
	if err != nil {
		return err
	}
	defer st.close()
	fmt.Fprintf(out, "%s: %s.\n\n", strings.ToUpper(s.name), s.what)
	if err := s.play(st); err != nil {
		return fmt.Errorf("tour %s: %w", s.name, err)
	}
	st.say("\nWho calls whom: %s/dependencies\n", p.QueryURL())
	if status, page, err := st.api.Get(ctx, "/"); err != nil || status != http.StatusOK || strings.Contains(string(page), placeholder) {
		st.say("This Jaeger has no pages, only its API. Any trace as text: go run -C examples/jaeger . show TRACE_ID\n")
	}
	return nil
}

// jaegerRuns says whether a Jaeger answers at the port of the query API.
func jaegerRuns(ctx context.Context, p Ports) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	status, body, err := NewAPI(p.QueryURL()).Get(ctx, "/api/services")
	return err == nil && status == http.StatusOK && strings.Contains(string(body), `"data"`)
}
