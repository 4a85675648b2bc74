package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"

	"wasmgate/plugins/kit"
)

// algorithm is one of the ways to sign that are known (RFC 7518, 3 and RFC 8037).
type algorithm uint8

const (
	hs256 algorithm = iota
	rs256
	es256
	eddsa
)

var algorithms = [...]struct{ name, kind, curve string }{
	hs256: {"HS256", "oct", ""}, rs256: {"RS256", "RSA", ""}, es256: {"ES256", "EC", "P-256"}, eddsa: {"EdDSA", "OKP", "Ed25519"},
}

// key is a key. It is for one algorithm: what a token says cannot have it used for another.
type key struct {
	id     string // "": it is for tokens that name any key, or none
	alg    algorithm
	secret []byte
	rsa    *rsa.PublicKey
	ecdsa  *ecdsa.PublicKey
	eddsa  ed25519.PublicKey
}

// keys are those of the configuration, and behind them those of the key set.
var keys struct {
	all    []key
	static int
}

// The bounds of keys.
const (
	leastSecret = 32   // bytes: RFC 7518, 3.2
	leastRSA    = 2048 // bits: RFC 7518, 3.3
	mostRSA     = 4096 // bits: a signature of more would cost too much
)

func (k *key) verify(signed string, signature []byte) bool {
	switch k.alg {
	case hs256:
		mac := hmac.New(sha256.New, k.secret)
		mac.Write([]byte(signed))
		return hmac.Equal(mac.Sum(nil), signature)
	case eddsa:
		return ed25519.Verify(k.eddsa, []byte(signed), signature)
	}
	sum := sha256.Sum256([]byte(signed))
	if k.alg == rs256 {
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], signature) == nil
	}
	if len(signature) != 64 {
		return false
	}
	return ecdsa.Verify(k.ecdsa, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}

// readJWK reads a key (RFC 7517). other says that it is for something else, or of a kind that is not known here.
func readJWK(j kit.JSON) (k key, other bool, problem string) {
	text := func(name string) string {
		v, n := j.Get(name)
		if n > 1 {
			problem = name + " is there twice"
		}
		if n == 0 {
			return ""
		}
		if v.Kind() != '"' {
			problem = name + " is not a text"
		}
		return v.String()
	}
	bytes := func(name string) []byte {
		b, err := base64.RawURLEncoding.Strict().DecodeString(text(name))
		if err != nil || len(b) == 0 || strings.ContainsAny(text(name), "\r\n") {
			problem = name + " is not base64url"
		}
		return b
	}
	k.id = text("kid")
	kind, curve, alg, use := text("kty"), text("crv"), text("alg"), text("use")
	if ops, n := j.Get("key_ops"); n > 0 && !anyOf(ops, []string{"verify"}) || use != "" && use != "sig" {
		return k, true, problem
	}
	other = true
	for a := range algorithms {
		if w := &algorithms[a]; w.kind == kind && w.curve == curve && (alg == "" || alg == w.name) {
			k.alg, other = algorithm(a), false
		}
	}
	if other || problem != "" {
		return k, other, problem
	}
	switch k.alg {
	case hs256:
		k.secret = bytes("k")
	case rs256:
		n, e := bytes("n"), bytes("e")
		k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e[max(0, len(e)-8):]).Int64())}
		if len(e) > 4 {
			problem = "e is too large"
		}
	case es256:
		x, y := bytes("x"), bytes("y")
		if problem == "" {
			problem = k.point(append(append([]byte{4}, x...), y...))
		}
	case eddsa:
		k.eddsa = bytes("x")
	}
	if problem == "" {
		problem = k.problem()
	}
	return k, false, problem
}

// point takes a point of the curve.
func (k *key) point(b []byte) (problem string) {
	var err error
	if k.ecdsa, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), b); err != nil {
		return "it is no point of P-256"
	}
	return ""
}

// problem says why a key must not be used.
func (k *key) problem() string {
	switch {
	case k.alg == hs256 && len(k.secret) < leastSecret:
		return "a secret for HS256 has at least 32 bytes"
	case k.alg == eddsa && len(k.eddsa) != ed25519.PublicKeySize:
		return "a key of Ed25519 has 32 bytes"
	case k.alg == rs256 && (k.rsa.N.BitLen() < leastRSA || k.rsa.N.BitLen() > mostRSA):
		return "a key of RSA has 2048 to 4096 bits here"
	case k.alg == rs256 && (k.rsa.E < 3 || k.rsa.E&1 == 0 || k.rsa.E > 1<<31-1 || k.rsa.N.Bit(0) == 0):
		return "it is no key of RSA"
	}
	return ""
}

// readPEM reads a public key: BEGIN PUBLIC KEY (RFC 5280, 4.1.2.7). Package crypto/x509 would double the module.
func readPEM(text string) (k key, problem string) {
	const begin, end = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
	text = strings.TrimSpace(text)
	body, ok := strings.CutPrefix(text, begin)
	body, closed := strings.CutSuffix(body, end)
	if !ok || !closed {
		return k, "it is not one -----BEGIN PUBLIC KEY-----; of a certificate, openssl x509 -pubkey -noout tells it"
	}
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(body), ""))
	if err != nil {
		return k, "it is not base64"
	}
	outer, rest, ok := element(der, 0x30)
	algorithm, outer, ok1 := element(outer, 0x30)
	name, parameters, ok2 := element(algorithm, 0x06)
	bits, after, ok3 := element(outer, 0x03)
	if !ok || !ok1 || !ok2 || !ok3 || len(rest)+len(after) > 0 || len(bits) < 2 || bits[0] != 0 {
		return k, "it is no public key"
	}
	bits = bits[1:]
	switch string(name) {
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01": // rsaEncryption
		k.alg = rs256
		numbers, rest, ok := element(bits, 0x30)
		n, numbers, ok1 := element(numbers, 0x02)
		e, numbers, ok2 := element(numbers, 0x02)
		if !ok || !ok1 || !ok2 || len(rest)+len(numbers) > 0 || len(e) > 4 {
			return k, "it is no key of RSA"
		}
		k.rsa = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	case "\x2a\x86\x48\xce\x3d\x02\x01": // ecPublicKey
		k.alg = es256
		if curve, _, ok := element(parameters, 0x06); !ok || string(curve) != "\x2a\x86\x48\xce\x3d\x03\x01\x07" {
			return k, "its curve is not P-256"
		}
		if problem = k.point(bits); problem != "" {
			return k, problem
		}
	case "\x2b\x65\x70": // Ed25519
		k.alg, k.eddsa = eddsa, bits
	default:
		return k, "it is neither of RSA, nor of P-256, nor of Ed25519"
	}
	return k, k.problem()
}

// element divides DER: the first element's content, which must be of this kind, and what follows it.
func element(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		octets := n & 0x7f
		if octets < 1 || octets > 2 || len(b) < 2+octets {
			return nil, nil, false
		}
		n, head = 0, 2+octets
		for _, c := range b[2:head] {
			n = n<<8 | int(c)
		}
	}
	if len(b)-head < n {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}
