package http1

// Reserved says whether a field with this name is what the gateway writes itself, so that nobody else may: framing, the
// connection, Host, Trailer, Expect. '_' counts as '-', because servers that turn names into variables do not tell them
// apart.
func Reserved(name []byte) bool { return (skipRequest | 1<<FieldTrailer).has(respelled(name)) }

// MayTrail says whether a field with this name may be in a trailer section: nothing about framing, routing, authentication,
// or what had to be known before the content. '_' counts as '-'.
func MayTrail(name []byte) bool {
	const forwarded = "x-forwarded-"
	if len(name) > len(forwarded) && equalSpelling(name[:len(forwarded)], forwarded) {
		return false
	}
	return !notInTrailers.has(respelled(name))
}
