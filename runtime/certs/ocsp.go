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
	from, till time.Time // when it came, and until when it is good
	again      time.Time // before which nobody is asked, whatever else
	fails      int       // attempts that failed since one did not
	why        string    // the last one did, as it was logged
}

// due is when a newer answer is to be asked for: when half of the time that the last was good for when it came has passed.
func (s *staple) due() time.Time {
	if s.answer == nil {
		return s.again
	}
	half := s.from.Add(s.till.Sub(s.from) / 2)
	if s.again.After(half) {
		return s.again
	}
	return half
}

const (
	stapleTimeout  = 10 * time.Second // for an answer, from the question to its last byte
	stapleMost     = 64 << 10         // bytes of an answer
	stapleHead     = 16 << 10         // bytes of its head
	stapleParallel = 4                // responders that are asked at a time
	stapleNoEnd    = time.Hour        // that an answer is good for which does not say
	clockSkew      = 5 * time.Minute  // that a responder's clock may be ahead
	// retryStaple is the wait after the first attempt that failed. It doubles up to stapleNoEnd.
	retryStaple = time.Minute
)

// stapler asks responders. Whatever they do, nobody waits for them: its goroutine asks each on another one.
type stapler struct {
	store  *Store
	client *http.Client
	slots  chan struct{}
	asking map[string]bool // by the certificate
	told   chan told
}

// told is what came of a question.
type told struct {
	of     string // the certificate
	staple staple
	err    error
}

var errRevoked = errors.New("the certificate was revoked")

// keepStapled renews staples until the store is closed.
func (s *Store) keepStapled() {
	defer s.ended.Done()
	st := &stapler{
		store: s, slots: make(chan struct{}, stapleParallel), asking: map[string]bool{}, told: make(chan told),
		client: &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, MaxResponseHeaderBytes: stapleHead}},
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-s.restaple:
		case <-timer.C:
		case is := <-st.told:
			delete(st.asking, is.of)
			s.staple(&is)
		}
		timer.Reset(time.Until(st.look()))
	}
}

// look asks for what is due, and takes away what is not good any more. It returns when it has to look again.
func (st *stapler) look() time.Time {
	now := time.Now()
	next := now.Add(time.Hour)
	for _, set := range st.store.open() {
		if !set.options.Staple {
			continue
		}
		for i, p := range set.all() {
			if len(p.cert.Leaf.OCSPServer) == 0 {
				continue
			}
			if p.staple.answer != nil && !now.Before(p.staple.till) {
				old := p.staple
				old.answer = nil
				set.replace(i, p, p.stapled(old))
				next = now
				continue
			}
			at, key := p.staple.due(), string(p.cert.Leaf.Raw)
			if !at.After(now) && !st.asking[key] {
				st.asking[key] = true
				st.store.ended.Add(1)
				go st.ask(p, key)
			}
			if p.staple.answer != nil && p.staple.till.Before(next) {
				next = p.staple.till
			}
			if at.After(now) && at.Before(next) {
				next = at
			}
		}
	}
	return next
}

// all are the pairs as they are now.
func (s *Set) all() []*pair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pairs)
}

func (st *stapler) ask(p *pair, key string) {
	defer st.store.ended.Done()
	is := told{of: key}
	select {
	case st.slots <- struct{}{}:
		is.staple, is.err = st.fetch(p)
		<-st.slots
	case <-st.store.stop:
		return
	}
	select {
	case st.told <- is:
	case <-st.store.stop:
	}
}

// staple puts what was told of a certificate into use, wherever it is shown. After a failure the answer from before stays while
// it is good, unless the certificate was revoked.
func (s *Store) staple(is *told) {
	var lines []func() // written when all of it is so: who reads that a certificate was revoked is handed nothing from before
	for _, set := range s.open() {
		if !set.options.Staple {
			continue
		}
		for i, p := range set.all() {
			if string(p.cert.Leaf.Raw) != is.of {
				continue
			}
			next := is.staple
			if is.err != nil {
				next = p.staple
				next.again = time.Now().Add(min(s.retryStaple<<min(next.fails, 16), stapleNoEnd))
				next.fails, next.why = next.fails+1, is.err.Error()
				if errors.Is(is.err, errRevoked) {
					next.answer = nil
				}
				if next.why != p.staple.why {
					lines = append(lines, func() { s.unstapled(set, p, next.again, is.err) })
				}
			}
			set.replace(i, p, p.stapled(next))
		}
	}
	for _, write := range lines {
		write()
	}
}

// unstapled logs that there is no answer.
func (s *Store) unstapled(set *Set, p *pair, again time.Time, err error) {
	log := s.log.Warn()
	if errors.Is(err, errRevoked) {
		log = s.log.Error()
	}
	if log = log.Str("listener", set.options.Name).Str("cert", p.from.Cert).Err(err).Time("next", again); p.mustStaple() {
		log.Msg("no OCSP answer to staple, which the certificate demands: clients that look for it refuse the connection")
		return
	}
	log.Msg("no OCSP answer to staple")
}

// stapled is the pair with another staple.
func (p *pair) stapled(with staple) *pair {
	next, cert := *p, *p.cert
	cert.OCSPStaple = with.answer
	next.staple, next.cert = with, &cert
	return &next
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

// known is a pair with the staple that another set has for its certificate: a reload is no reason to be without one.
func (s *Store) known(p *pair) *pair {
	for _, set := range s.open() {
		for _, other := range set.index.Load().pairs {
			if other.staple.answer != nil && bytes.Equal(other.cert.Certificate[0], p.cert.Certificate[0]) && time.Now().Before(other.staple.till) {
				return p.stapled(other.staple)
			}
		}
	}
	return p
}

// fetch asks the certificate's responder (RFC 6960).
func (st *stapler) fetch(p *pair) (staple, error) {
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
	text, err := st.post(p.cert.Leaf.OCSPServer[0], question)
	if err != nil {
		return staple{}, err
	}
	answer, err := ocsp.ParseResponseForCert(text, p.cert.Leaf, issuer)
	if err != nil {
		return staple{}, err
	}
	now := time.Now()
	switch by := answer.Certificate; {
	case by != nil && !by.Equal(issuer) && !slices.Contains(by.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return staple{}, errors.New("the answer is signed by a certificate that is not for it")
	case answer.Status == ocsp.Revoked:
		return staple{}, fmt.Errorf("%w at %s", errRevoked, answer.RevokedAt.Format(time.RFC3339))
	case answer.Status != ocsp.Good:
		return staple{}, errors.New("the responder does not know the certificate")
	case answer.ThisUpdate.After(now.Add(clockSkew)):
		return staple{}, fmt.Errorf("the answer is not good before %s: look at the clocks", answer.ThisUpdate.Format(time.RFC3339))
	case answer.NextUpdate.IsZero():
		answer.NextUpdate = now.Add(stapleNoEnd)
	case now.After(answer.NextUpdate):
		return staple{}, fmt.Errorf("the answer is not good any more, since %s", answer.NextUpdate.Format(time.RFC3339))
	}
	// A responder may give one answer again until its end: it is not asked without a pause.
	return staple{answer: text, from: now, till: answer.NextUpdate, again: now.Add(st.store.retryStaple)}, nil
}

// post sends a question and returns the answer.
func (st *stapler) post(url string, question []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), st.store.stapleTimeout)
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-st.store.stop:
			cancel()
		case <-ended:
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	resp, err := st.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, stapleMost+1))
	if err == nil && len(text) > stapleMost {
		err = fmt.Errorf("%s answers with more than %d KiB", url, stapleMost>>10)
	}
	return text, err
}

// tlsFeature is the extension by which a certificate demands a staple (RFC 7633), and statusRequest the value in it.
const tlsFeature = "1.3.6.1.5.5.7.1.24"

var statusRequest = []byte{2, 1, 5} // an INTEGER

// mustStaple says whether the certificate demands one.
func (p *pair) mustStaple() bool {
	for i := range p.cert.Leaf.Extensions {
		if e := &p.cert.Leaf.Extensions[i]; e.Id.String() == tlsFeature {
			return bytes.Contains(e.Value, statusRequest)
		}
	}
	return false
}
