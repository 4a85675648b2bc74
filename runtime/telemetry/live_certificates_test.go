package telemetry

import (
	"testing"
	"time"
)

func TestCertificatesAreTold(t *testing.T) {
	tel := start(t, Options{Loops: 1, Sources: []func(*Live){func(l *Live) {
		l.Certificates["a.example.com"] = CertificateStats{NotAfter: time.Unix(2e9, 5e8), Obtained: 1, Renewed: 2, Failed: 3}
		l.Certificates["b.example.com"] = CertificateStats{Failed: 1, Next: time.Unix(1e9, 0)}
	}}})
	defer finish(t, tel)
	page := scrape(t, tel)
	for _, want := range []struct {
		value  float64
		name   string
		labels []string
	}{
		{2000000000.5, "wasmgate_acme_certificate_not_after_seconds", []string{"name", "a.example.com"}},
		{0, "wasmgate_acme_certificate_not_after_seconds", []string{"name", "b.example.com"}},
		{1, "wasmgate_acme_certificates_total", []string{"name", "a.example.com", "result", "obtained"}},
		{2, "wasmgate_acme_certificates_total", []string{"name", "a.example.com", "result", "renewed"}},
		{3, "wasmgate_acme_certificates_total", []string{"name", "a.example.com", "result", "failed"}},
		{1, "wasmgate_acme_certificates_total", []string{"name", "b.example.com", "result", "failed"}},
		{0, "wasmgate_acme_next_attempt_seconds", []string{"name", "a.example.com"}},
		{1e9, "wasmgate_acme_next_attempt_seconds", []string{"name", "b.example.com"}},
	} {
		if got := page.value(want.name, want.labels...); got != want.value {
			t.Errorf("%s%q: %v, want %v", want.name, want.labels, got, want.value)
		}
	}
}
