// Package modules has the bytes of a plugin's module, wherever they are: in a file, behind an URL, or in a registry for
// container images. What is fetched is pinned by a SHA-256 digest in its reference, is held against it whenever it is
// read, and is kept in a folder under that digest, so that a start needs no network for what was had before.
//
// A Fetcher has one module; a Manager has several at once, says of each what became of it, and goes on in the background
// with those that failed. Nothing here is on the way of a request. Servers are not trusted: sizes, redirects and times are
// bounded, archives are searched and never unpacked to a disk, and no name that a server gives becomes a path.
//
// What is accepted in a registry is what Envoy, Istio and Higress accept (README.md has the list): the two forms of
// https://github.com/solo-io/wasm/tree/master/spec, those of wasm-to-oci and of the CNCF's Wasm OCI Artifact, and a file
// pushed by `oras push` with no type at all.
//
// Libraries: oras-go is who a registry is to be talked to as (challenges, tokens, Docker's credentials and their helpers),
// because each registry has its own way and oras is tried on all of them; image-spec for the names of media types;
// x/net's httpproxy because the standard library reads proxies from the process's environment only.
package modules
