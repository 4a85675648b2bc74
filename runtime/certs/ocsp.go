package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/crypto/ocsp"
)

// staple is what the authority of a certificate says of it.
type staple struct {
	answer     []byte
	from, till time.Time
}

// due says whether a newer answer is to be asked for: half of the time that the last is good for has passed.
func (s *staple) due(now time.Time) bool {
	return s.answer == nil || now.After(s.from.Add(s.till.Sub(s.from)/2))
}

const (
	stapleTimeout = 10 * time.Second
	stapleMost    = 64 << 10 // bytes of an answer
)

// stapleAll asks for the staples that are due.
func (s *Store) stapleAll() {
	for _, set := range s.open() {
		if set.options.Staple {
			set.staple()
		}
	}
}

// staple asks the authorities, and puts what they say into use. An answer that is no longer good is not handed on.
func (s *Set) staple() {
	s.mu.Lock()
	pairs := slices.Clone(s.pairs)
	s.mu.Unlock()
	for i, p := range pairs {
		now := time.Now()
		if !p.staple.due(now) || len(p.cert.Leaf.OCSPServer) == 0 {
			continue
		}
		next := *p
		answer, err := s.store.fetchStaple(p)
		switch {
		case err == nil:
			next.staple, next.unstapled = answer, ""
		case now.After(p.staple.till):
			next.staple = staple{}
		}
		if err != nil && err.Error() != p.unstapled {
			next.unstapled = err.Error()
			s.store.log.Warn().Str("listener", s.options.Name).Str("cert", p.from.Cert).Err(err).Msg("no OCSP answer to staple")
		}
		cert := *p.cert
		cert.OCSPStaple = next.staple.answer
		next.cert = &cert
		s.replace(i, p, &next)
	}
}

// replace puts a pair in the place of another, unless that was replaced meanwhile.
func (s *Set) replace(i int, old, next *pair) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pairs[i] == old {
		s.pairs[i] = next
		s.index.Store(newIndex(slices.Clone(s.pairs)))
	}
}

// fetchStaple asks the certificate's responder (RFC 6960).
func (s *Store) fetchStaple(p *pair) (staple, error) {
	if len(p.cert.Certificate) < 2 {
		return staple{}, errors.New("the file has no certificate of the authority behind the server's own, which the question needs")
	}
	issuer, err := x509.ParseCertificate(p.cert.Certificate[1])
	if err != nil {
		return staple{}, err
	}
	question, err := ocsp.CreateRequest(p.cert.Leaf, issuer, nil)
	if err != nil {
		return staple{}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stapleTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cert.Leaf.OCSPServer[0], bytes.NewReader(question))
	if err != nil {
		return staple{}, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return staple{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return staple{}, fmt.Errorf("%s answers %s", p.cert.Leaf.OCSPServer[0], resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, stapleMost))
	if err != nil {
		return staple{}, err
	}
	answer, err := ocsp.ParseResponseForCert(text, p.cert.Leaf, issuer)
	if err != nil {
		return staple{}, err
	}
	switch now := time.Now(); {
	case answer.Status == ocsp.Revoked:
		return staple{}, fmt.Errorf("the certificate was revoked at %s", answer.RevokedAt.Format(time.RFC3339))
	case answer.Status != ocsp.Good:
		return staple{}, errors.New("the responder does not know the certificate")
	case answer.NextUpdate.IsZero():
		answer.NextUpdate = now.Add(time.Hour)
	case now.After(answer.NextUpdate):
		return staple{}, errors.New("the answer is not good any more")
	}
	return staple{text, answer.ThisUpdate, answer.NextUpdate}, nil
}
