package telemetry

import "time"

// CertificateStats are figures of one name whose certificate is obtained by ACME.
type CertificateStats struct {
	NotAfter                  time.Time // zero: there is none
	Obtained, Renewed, Failed uint64
	Next                      time.Time // when it is tried for again; zero: it is not waited for
}

var (
	mCertNotAfter = metric{"wasmgate_acme_certificate_not_after_seconds", gauge, "When the certificate ends that is served for a name and was obtained by ACME, as Unix time; 0 while there is none."}
	mCertAttempts = metric{"wasmgate_acme_certificates_total", counter, "Attempts to obtain or renew a certificate by ACME, by what came of them."}
	mCertNext     = metric{"wasmgate_acme_next_attempt_seconds", gauge, "When a certificate that could not be obtained or renewed is tried for again, as Unix time, for a renewal at the latest; 0 where none is waited for."}
)

func (l *Live) certificates(p *page) {
	each(p, mCertNotAfter, l.Certificates, "name", func(s CertificateStats) float64 { return unixOf(s.NotAfter) })
	p.head(mCertAttempts)
	for _, name := range sortedKeys(l.Certificates) {
		s := l.Certificates[name]
		p.count(s.Obtained, "name", name, "result", "obtained")
		p.count(s.Renewed, "name", name, "result", "renewed")
		p.count(s.Failed, "name", name, "result", "failed")
	}
	each(p, mCertNext, l.Certificates, "name", func(s CertificateStats) float64 { return unixOf(s.Next) })
}

// unixOf is a time in seconds, or 0 for none.
func unixOf(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1e3
}
