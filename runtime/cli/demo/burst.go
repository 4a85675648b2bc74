package demo

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// ask is one kind of request of the burst.
type ask struct {
	path, tenant string // tenant: the field x-tenant; empty: none is sent
	status       int    // what must come back
}

// cycle is what each client asks for, again and again.
var cycle = []ask{
	{"/orders", "acme", 200}, {"/orders", "globex", 200}, {"/invoices", "acme", 200}, {"/admin", "acme", 403},
	{"/orders", "acme", 200}, {"/users/1001", "globex", 200}, {"/orders", "umbrella", 200}, {"/users/1002", "acme", 200},
	{"/invoices", "globex", 200}, {"/", "", 200},
}

// burst sends all requests, each client over one connection of its own, and returns how long it took. An answer with
// another status than the expected one is an error: the demo must not show what is not so.
func burst(url string) (time.Duration, error) {
	began := time.Now()
	errs := make([]error, Clients)
	var wg sync.WaitGroup
	for i := range Clients {
		wg.Go(func() { errs[i] = client(url, i, Requests/Clients) })
	}
	wg.Wait()
	return time.Since(began), errors.Join(errs...)
}

func client(url string, first, n int) error {
	transport := &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	for i := range n {
		if err := cycle[(first+i)%len(cycle)].send(c, url); err != nil {
			return err
		}
	}
	return nil
}

func (a ask) send(c *http.Client, url string) error {
	r, err := http.NewRequest(http.MethodGet, url+a.path, nil)
	if err != nil {
		return err
	}
	r.Header.Set("User-Agent", "wasmgate-demo")
	if a.tenant != "" {
		r.Header.Set("X-Tenant", a.tenant)
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != a.status {
		return fmt.Errorf("GET %s for tenant %q: %s: %.200s", a.path, a.tenant, answer.Status, body)
	}
	return nil
}
