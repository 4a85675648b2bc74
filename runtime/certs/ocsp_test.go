package certs

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"wasmgate/runtime/internal/testkit"
)

// responder answers for an authority what a test wants.
type responder struct {
	*authority
	*httptest.Server
	asked atomic.Int64

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request, q *ocsp.Request)
}

func newResponder(t *testing.T, a *authority) *responder {
	t.Helper()
	r := &responder{authority: a}
	r.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.asked.Add(1)
		body, err := io.ReadAll(req.Body)
		q, e := ocsp.ParseRequest(body)
		if err != nil || e != nil || req.Header.Get("Content-Type") != "application/ocsp-request" {
			t.Errorf("the question: %v %v", err, e)
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		r.mu.Lock()
		answer := r.answer
		r.mu.Unlock()
		answer(w, req, q)
	}))
	r.Listener.Close()
	ln, err := listen(fmt.Sprintf("127.0.0.1:%d", testkit.Port(t))) // which nobody else has while it is down
	if err != nil {
		t.Fatal(err)
	}
	r.Listener = ln
	r.Start()
	t.Cleanup(r.Server.Close)
	r.say(ocsp.Response{Status: ocsp.Good}, time.Hour)
	return r
}

func (r *responder) do(f func(w http.ResponseWriter, r *http.Request, q *ocsp.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// say has it give an answer that is good for a time from when it was asked for.
func (r *responder) say(is ocsp.Response, good time.Duration) {
	r.do(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
		_, _ = w.Write(r.signed(q, is, good, r.cert, r.key))
	})
}

func (r *responder) signed(q *ocsp.Request, is ocsp.Response, good time.Duration, by *x509.Certificate, key crypto.Signer) []byte {
	now := time.Now()
	if is.SerialNumber == nil {
		is.SerialNumber = q.SerialNumber
	}
	if is.ThisUpdate.IsZero() {
		is.ThisUpdate = now.Add(-time.Minute)
	}
	if good != 0 {
		is.NextUpdate = now.Add(good)
	}
	if is.Status == ocsp.Revoked {
		is.RevokedAt = now.Add(-time.Hour)
	}
	text, err := ocsp.CreateResponse(r.cert, by, is, key)
	if err != nil {
		r.t.Error(err)
	}
	return text
}

// pair is a certificate that names the responder. must: it demands a staple.
func (r *responder) pair(name string, must bool) Pair {
	c := &x509.Certificate{DNSNames: []string{name + ".test"}, OCSPServer: []string{r.URL + "/ocsp"}}
	if must {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}}
	}
	return r.issueAs(name, ecdsaKey(r.t), c)
}

// stapled is what a handshake hands on.
func (r *responder) stapled(set *Set, name string) []byte {
	r.t.Helper()
	_, c, err := shake(r.t, set.Config(), &tls.Config{RootCAs: r.pool, ServerName: name + ".test"})
	if err != nil {
		r.t.Fatal(err)
	}
	return c.OCSPResponse
}

// impatient is a store whose waits are short.
func impatient(t *testing.T) (*Store, *lines) {
	s, log := newStore(t)
	s.retryStaple = 20 * time.Millisecond
	return s, log
}

// TestStaples: a good answer is in the handshake, in either version of TLS.
func TestStaples(t *testing.T) {
	r := newResponder(t, newAuthority(t))
	s, _ := impatient(t)
	set := open(t, s, Options{Staple: true, Pairs: []Pair{r.pair("a", false), r.pair("b", true)}})
	for _, name := range []string{"a", "b"} {
		testkit.Eventually(t, "a staple for "+name, func() bool { return r.stapled(set, name) != nil })
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			_, c, err := shake(t, set.Config(), &tls.Config{RootCAs: r.pool, ServerName: name + ".test", MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			if answer, err := ocsp.ParseResponseForCert(c.OCSPResponse, c.PeerCertificates[0], r.cert); err != nil || answer.Status != ocsp.Good {
				t.Errorf("%s, %s: %+v %v", name, tls.VersionName(version), answer, err)
			}
		}
	}
	for _, i := range set.Certificates() {
		if !i.Stapled {
			t.Errorf("%+v", i)
		}
	}
	if n := r.asked.Load(); n != 2 {
		t.Errorf("for two certificates it was asked %d times", n)
	}
	off := open(t, s, Options{Pairs: []Pair{r.pair("off", false)}})
	if r.stapled(off, "off") != nil {
		t.Error("a staple without ocsp_stapling")
	}
}

// TestAnswersThatAreNotHandedOn: whatever a responder does but answer that the certificate is good now, there is no staple, a
// line that says why, and a staple as soon as it does.
func TestAnswersThatAreNotHandedOn(t *testing.T) {
	a := newAuthority(t)
	stranger, own := newAuthority(t), ecdsaKey(t)
	delegate := func(usage x509.ExtKeyUsage) *x509.Certificate {
		return a.sign(&x509.Certificate{
			SerialNumber: big.NewInt(1000), Subject: pkix.Name{CommonName: "delegate"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
		}, a.cert, own)
	}
	for says, do := range map[string]func(r *responder){
		"was revoked at":       func(r *responder) { r.say(ocsp.Response{Status: ocsp.Revoked}, time.Hour) },
		"does not know":        func(r *responder) { r.say(ocsp.Response{Status: ocsp.Unknown}, time.Hour) },
		"not good any more":    func(r *responder) { r.say(ocsp.Response{ThisUpdate: time.Now().Add(-2 * time.Hour)}, -time.Hour) },
		"look at the clocks":   func(r *responder) { r.say(ocsp.Response{ThisUpdate: time.Now().Add(time.Hour)}, 2*time.Hour) },
		"no response matching": func(r *responder) { r.say(ocsp.Response{SerialNumber: big.NewInt(77)}, time.Hour) },
		"bad OCSP signature": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
				_, _ = w.Write(r.signed(q, ocsp.Response{}, time.Hour, a.cert, stranger.key))
			})
		},
		"by a certificate that is not for it": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) {
				c := delegate(x509.ExtKeyUsageServerAuth)
				_, _ = w.Write(r.signed(q, ocsp.Response{Certificate: c}, time.Hour, c, own))
			})
		},
		"500 Internal": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) { w.WriteHeader(500) })
		},
		"asn1": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) { _, _ = w.Write([]byte("hello")) })
		},
		"more than 64 KiB": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
				for n := 0; n < 1<<20; n++ { // far more than is read of it
					if _, err := w.Write(make([]byte, 32<<10)); err != nil {
						return
					}
				}
				t.Error("all of an endless answer was taken")
			})
		},
		"exceeded 16384": func(r *responder) {
			r.do(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
				w.Header().Set("X-Long", strings.Repeat("x", 100<<10))
			})
		},
		"deadline exceeded": func(r *responder) {
			r.do(func(w http.ResponseWriter, req *http.Request, _ *ocsp.Request) {
				_, _ = w.Write([]byte{0x30})
				_ = http.NewResponseController(w).Flush()
				<-req.Context().Done()
			})
		},
		"connection refused": nil,
	} {
		t.Run(says, func(t *testing.T) {
			r := newResponder(t, a)
			s, log := impatient(t)
			s.stapleTimeout = 5 * time.Second
			if says == "deadline exceeded" {
				s.stapleTimeout = 100 * time.Millisecond
			}
			p := r.pair("a", true)
			addr := r.Listener.Addr().String()
			if do == nil {
				r.Server.Close()
			} else {
				do(r)
			}
			set := open(t, s, Options{Name: "public", Staple: true, Pairs: []Pair{p}})
			log.wait(t, "no OCSP answer to staple, which the certificate demands")
			log.wait(t, says)
			if r.stapled(set, "a") != nil {
				t.Error("there is a staple")
			}
			if do == nil { // it comes up
				if again, err := listen(addr); err == nil {
					srv := &http.Server{Handler: r.Server.Config.Handler} //nolint:gosec // its client is the store
					go func() { _ = srv.Serve(again) }()
					t.Cleanup(func() { srv.Close() })
				} else {
					t.Fatal(err)
				}
			}
			is := ocsp.Response{Status: ocsp.Good}
			r.do(func(w http.ResponseWriter, _ *http.Request, q *ocsp.Request) { // by a delegate, as responders do
				c := delegate(x509.ExtKeyUsageOCSPSigning)
				is.Certificate = c
				_, _ = w.Write(r.signed(q, is, time.Hour, c, own))
			})
			testkit.Eventually(t, "a staple when the answer is good", func() bool { return r.stapled(set, "a") != nil })
		})
	}
}

// TestStaplesAreRenewedInTime: there is another answer before the last one ends; one that has ended is not handed on, and one
// that says that the certificate was revoked takes the last one away at once.
func TestStaplesAreRenewedInTime(t *testing.T) {
	r := newResponder(t, newAuthority(t))
	s, log := impatient(t)
	r.say(ocsp.Response{Status: ocsp.Good}, 4*time.Second)
	set := open(t, s, Options{Staple: true, Pairs: []Pair{r.pair("a", false)}})
	good := func() (text []byte) {
		t.Helper()
		began := time.Now()
		if text = r.stapled(set, "a"); text != nil {
			if answer, err := ocsp.ParseResponse(text, r.cert); err != nil || began.After(answer.NextUpdate.Add(time.Second)) {
				t.Fatalf("an answer was handed on that had ended: %+v %v", answer, err)
			}
		}
		return text
	}
	var last []byte
	for try := 1; ; try++ { // there is none for a time where the machine stood still for half of an answer's life
		testkit.Eventually(t, "a staple", func() bool { last = good(); return last != nil })
		first := last
		testkit.Eventually(t, "another one", func() bool { last = good(); return !bytes.Equal(last, first) })
		if last != nil {
			break
		}
		if try == 3 {
			t.Fatal("there was none for a time")
		}
	}
	end, err := ocsp.ParseResponse(last, r.cert)
	if err != nil {
		t.Fatal(err)
	}
	lives := func() bool { return time.Now().Before(end.NextUpdate) }
	// What another configuration has is there from the first handshake on, whatever the responder does.
	r.do(func(w http.ResponseWriter, _ *http.Request, _ *ocsp.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	again := open(t, s, Options{Staple: true, Pairs: set.options.Pairs})
	if r.stapled(again, "a") == nil && lives() {
		t.Error("after a reload there is no staple")
	}
	log.wait(t, "503 Service Unavailable")
	if good() == nil && lives() {
		t.Error("an answer that is good was thrown away")
	}
	testkit.Eventually(t, "the last one ends", func() bool { return good() == nil })
	r.say(ocsp.Response{Status: ocsp.Good}, 2*time.Second)
	testkit.Eventually(t, "a staple again", func() bool { return good() != nil })
	r.say(ocsp.Response{Status: ocsp.Revoked}, time.Hour)
	log.wait(t, `"level":"error"`)
	if r.stapled(set, "a") != nil {
		t.Error("the certificate was revoked, and an answer from before is handed on")
	}
}

// TestASlowResponderHoldsUpNobody: while it hangs, others are asked, files are followed, handshakes go on, and a store is closed
// at once.
func TestASlowResponderHoldsUpNobody(t *testing.T) {
	a := newAuthority(t)
	slow, quick := newResponder(t, a), newResponder(t, a)
	arrived := make(chan struct{}, 10)
	slow.do(func(_ http.ResponseWriter, r *http.Request, _ *ocsp.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	})
	s, log := newStore(t)
	s.stapleTimeout = time.Hour
	set := open(t, s, Options{Staple: true, Pairs: []Pair{slow.pair("slow", false)}})
	<-arrived
	other := open(t, s, Options{Staple: true, Pairs: []Pair{quick.pair("quick", false)}})
	testkit.Eventually(t, "another responder's answer", func() bool { return quick.stapled(other, "quick") != nil })
	if slow.stapled(set, "slow") != nil {
		t.Error("there is a staple")
	}
	slow.pair("slow", false)
	log.wait(t, "certificate replaced")
	<-arrived // for the new one
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("a store waits for a responder to close")
	}
}

func listen(addr string) (net.Listener, error) { return net.Listen("tcp", addr) }
