package config

import (
	"net/netip"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// Module is where a plugin's module comes from: a file, or what is fetched and pinned by a SHA-256 digest, so that nobody
// can put another module in its place. In a file it is a path, URL@sha256:DIGEST, or {url: URL, sha256: DIGEST}. Two
// Modules can be compared with ==. The zero Module is none.
type Module struct {
	Path   string // of a file; empty for one that is fetched
	URL    string // https://host/path, http://host/path on loopback, or oci://registry/repository[:tag]; empty for a file
	Digest string // of the module or, with oci, of the image's manifest: 64 hexadecimal digits in lower case; empty for a file
}

// Fetched says whether m is not a file.
func (m Module) Fetched() bool { return m.URL != "" }

// Image takes an oci reference apart; ok is false for any other. The tag may be empty, and says nothing beside a digest.
func (m Module) Image() (registry, repository, tag string, ok bool) {
	rest, ok := strings.CutPrefix(m.URL, "oci://")
	if !ok {
		return "", "", "", false
	}
	registry, repository, _ = strings.Cut(rest, "/")
	repository, tag, _ = strings.Cut(repository, ":")
	return registry, repository, tag, true
}

// Host is the host, with the port if there is one, that a module is fetched from; empty for a file.
func (m Module) Host() string {
	_, rest, _ := strings.Cut(m.URL, "://")
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return rest
}

// String writes m the way it is written in a file: the path, or URL@sha256:DIGEST.
func (m Module) String() string {
	if m.Fetched() {
		return m.URL + digestMark + m.Digest
	}
	return m.Path
}

// MarshalText writes m as String does.
func (m Module) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

const (
	digestMark  = "@sha256:"
	moduleForms = "write a path, https://HOST/FILE.wasm@sha256:DIGEST, or oci://REGISTRY/REPOSITORY@sha256:DIGEST"
	digestHelp  = "`sha256sum FILE` prints it"
	imageHelp   = "`oras resolve REGISTRY/REPOSITORY:TAG` prints it"
)

// UnmarshalText reads a path as it is, or a reference with its digest.
func (m *Module) UnmarshalText(b []byte) error {
	s := string(b)
	if !moduleScheme.MatchString(s) {
		*m = Module{Path: s}
		return nil
	}
	where, digest, pinned := s, "", false
	if i := strings.LastIndex(s, digestMark); i >= 0 {
		where, digest, pinned = s[:i], s[i+len(digestMark):], true
	}
	out := Module{URL: where}
	if err := out.checkURL(); err != nil {
		return err
	}
	if !pinned {
		return out.unpinned()
	}
	if err := out.setDigest(digest); err != nil {
		return err
	}
	*m = out
	return nil
}

// moduleScheme begins what is not a path. A scheme has two letters or more: C:// is none.
var moduleScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]+://`)

// unpinned says how to pin a reference that has no digest.
func (m *Module) unpinned() error {
	from := digestHelp
	if _, _, _, image := m.Image(); image {
		from = "a tag may be moved by whoever can push; " + imageHelp
	}
	if strings.Contains(m.URL, "@sha") {
		return helped{"a module is pinned by its SHA-256 digest, and by nothing else", "write it with @sha256: and 64 hexadecimal digits at its end; " + from}
	}
	return helped{quote(m.URL) + " has no digest", "add it at the end, @sha256: and 64 hexadecimal digits; " + from}
}

// setDigest reads 64 hexadecimal digits.
func (m *Module) setDigest(s string) error {
	from := digestHelp
	if _, _, _, image := m.Image(); image {
		from = imageHelp
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !strings.ContainsRune("0123456789abcdefABCDEF", r) }) {
		return helped{quote(s) + " is not a SHA-256 digest", "it is 64 hexadecimal digits; " + from}
	}
	if len(s) != 64 {
		return helped{"the digest has " + strconv.Itoa(len(s)) + " digits, not 64", "write all of it; " + from}
	}
	m.Digest = strings.ToLower(s)
	return nil
}

// checkURL checks what stands before the digest.
func (m *Module) checkURL() error {
	if bad := strings.IndexFunc(m.URL, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }); bad >= 0 {
		return helped{quote(m.URL) + " has a character in it that no URL has", "write " + strconv.QuoteRune(rune(m.URL[bad])) + " in its %XX form, or remove it"}
	}
	if len(m.URL) > 2048 {
		return helped{"an URL of " + strconv.Itoa(len(m.URL)) + " bytes, more than 2048", moduleForms}
	}
	scheme, rest, _ := strings.Cut(m.URL, "://")
	switch scheme {
	case "https", "http":
		return m.checkHTTP()
	case "oci":
		return m.checkImage(rest)
	case "file":
		return helped{"a file has no scheme", "write its path alone: `" + rest + "`"}
	case "docker", "oci-image", "registry", "image":
		return helped{quote(scheme+"://") + " is not known", "write `oci://" + rest + "`, with @sha256: and the digest of the manifest at its end"}
	}
	if lower := strings.ToLower(scheme); lower == "https" || lower == "http" || lower == "oci" {
		return helped{"schemes are in lower case", "write `" + lower + "://" + rest + "`"}
	}
	return helped{quote(scheme+"://") + " is not known", moduleForms}
}

func (m *Module) checkHTTP() error {
	u, err := url.Parse(m.URL)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || !validPort(u):
		return helped{quote(m.URL) + " is not an URL", "write it as in https://plugins.example.com/auth.wasm@sha256:DIGEST"}
	case u.User != nil:
		return helped{"a password does not belong into an URL, which is logged", "name an environment variable: `plugin_sources.hosts.HOST.credentials`"}
	case strings.Contains(m.URL, "#"):
		return helped{"what follows a # is never sent to a server", "remove it"}
	case strings.Contains(u.Path, "@sha"):
		return m.unpinned()
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return helped{"http:// is for loopback addresses only", "write https://; nobody else is to see which modules are run, or what they are fetched with"}
	}
	return nil
}

// validPort says whether the host has no port, or a usable one.
func validPort(u *url.URL) bool {
	if strings.HasSuffix(u.Host, ":") {
		return false
	}
	n, err := strconv.ParseUint(u.Port(), 10, 16)
	return u.Port() == "" || (err == nil && n > 0)
}

// loopback says whether a host is the machine itself by its name alone.
func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || (err == nil && ip.Unmap().IsLoopback())
}

// The forms of https://github.com/opencontainers/distribution-spec.
var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	registryForm   = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?$`)
)

func (m *Module) checkImage(rest string) error {
	const form = "write it as in oci://registry.example.com/plugins/auth:1.2@sha256:DIGEST"
	if strings.Contains(rest, "@") {
		if strings.Contains(rest, "@sha") {
			return m.unpinned()
		}
		return helped{"a password does not belong into a reference, which is logged", "`docker login` keeps it, or name an environment variable: `plugin_sources.hosts.REGISTRY.credentials`"}
	}
	registry, repository, tag, _ := m.Image()
	u, err := url.Parse("oci://" + registry)
	switch {
	case !registryForm.MatchString(registry) || err != nil || !validPort(u):
		return helped{quote(registry) + " is not a registry", form}
	case repository == "" || (!strings.ContainsAny(registry, ".:") && registry != "localhost"):
		return helped{quote(rest) + " names no registry", "write `oci://docker.io/" + hubPath(rest) + "` if Docker's is meant; " + form}
	case repository != strings.ToLower(repository):
		return helped{"repositories are in lower case", "write `oci://" + registry + "/" + strings.ToLower(repository) + "`"}
	case !repositoryForm.MatchString(repository) || len(repository) > 255:
		return helped{quote(repository) + " is not a repository", form}
	case strings.HasSuffix(rest, ":") || (tag != "" && !tagForm.MatchString(tag)):
		return helped{quote(tag) + " is not a tag", "remove it; the digest says which image is meant"}
	}
	return nil
}

// hubPath is the repository that a name without a registry stands for.
func hubPath(name string) string {
	if strings.Contains(name, "/") {
		return strings.TrimSuffix(name, "/")
	}
	return path.Join("library", name)
}

// module reads a module as a text, or as a map with its URL and its digest.
func (d decoder) module(p keyPath, v any, to *Module) {
	const help = "write {url: URL, sha256: DIGEST}"
	m, isMap := v.(map[string]any)
	if !isMap {
		switch v.(type) {
		case string, loose:
			if err := to.UnmarshalText([]byte(scalarText(v))); err != nil {
				d.failErr(p, err)
			}
		default:
			d.fail(p, moduleForms, "wants %s, got %s", wanted(moduleType, field{}), describe(v))
		}
		return
	}
	texts := map[string]string{}
	for _, k := range sortedKeys(m) {
		q := p.key(k)
		if k != "url" && k != "sha256" {
			d.add(d.keyAt(q), q, "unknown key "+quote(k), moduleKeyHelp(k))
			continue
		}
		if m[k] == nil {
			d.add(d.keyAt(q), q, "has no value", help)
		} else if s, ok := d.stringOf(q, m[k], reflect.TypeFor[string](), field{}); ok {
			texts[k] = s
		}
	}
	if d.hurt[p.String()] {
		return // a key with another name may be the one that is missing
	}
	for _, k := range []string{"url", "sha256"} {
		if _, given := m[k]; !given && (k == "url" || !strings.Contains(texts["url"], digestMark)) {
			d.add(d.keyAt(p), p, quote(k)+" is missing", help+", or a path alone")
			return
		}
	}
	d.moduleParts(p, texts["url"], texts["sha256"], to)
}

// moduleParts puts an URL and a digest together. The digest may be in both, if it is the same.
func (d decoder) moduleParts(p keyPath, where, digest string, to *Module) {
	if !moduleScheme.MatchString(where) {
		d.fail(p.key("url"), "write the path of a file alone: `module: "+where+"`", "%s is not an URL", quote(where))
		return
	}
	out := Module{URL: where}
	if strings.Contains(where, digestMark) {
		if err := out.UnmarshalText([]byte(where)); err != nil {
			d.failErr(p.key("url"), err)
			return
		}
	} else if err := out.checkURL(); err != nil {
		d.failErr(p.key("url"), err)
		return
	}
	before := out.Digest
	if digest != "" || before == "" {
		if err := out.setDigest(strings.TrimPrefix(digest, digestMark[1:])); err != nil {
			d.failErr(p.key("sha256"), err)
			return
		}
	}
	if before != "" && out.Digest != before {
		d.fail(p.key("sha256"), "say it in one place only", "is not the digest that the URL has")
		return
	}
	*to = out
}

// moduleKeyHelp says what a key of another gateway's is here.
func moduleKeyHelp(k string) string {
	switch fold(k) {
	case "digest", "checksum", "hash", "sha":
		return "did you mean `sha256`?"
	case "uri", "href", "image", "oci", "http", "https", "remote", "registry":
		return "did you mean `url`?"
	case "path", "file", "filename", "local":
		return "write the path alone, as the module's text"
	}
	if near := nearest(k, []string{"url", "sha256"}); near != "" {
		return "did you mean `" + near + "`?"
	}
	return "its keys are url and sha256"
}

// modulePath checks that a module that is a file is there.
func (v *validator) modulePath(p keyPath, m *Module) {
	if m.Fetched() || !v.ok(p) || v.hurt[p.String()] {
		return
	}
	if m.Path == "" {
		v.fail(p, "write the path of a .wasm file", "is empty")
		return
	}
	if strings.Contains(m.Path, digestMark) && v.source.Stat(v.source.resolve(m.Path)) != nil {
		help := "write it with https:// or oci:// before it"
		if file, _, _ := strings.Cut(m.Path, digestMark); strings.HasSuffix(file, ".wasm") {
			help = "a file has no digest: write `" + file + "`; if it is to be fetched, " + help
		}
		v.fail(p, help, "a reference with a digest, and without a scheme")
		return
	}
	v.existingFile(p, &m.Path)
}

// pluginSources checks what is said about fetching modules.
func (v *validator) pluginSources() {
	s, p := &v.config.PluginSources, keyPath{"plugin_sources"}
	v.existingFile(p.key("ca_file"), &s.CAFile)
	if s.DockerConfig != "off" {
		v.existingFile(p.key("docker_config"), &s.DockerConfig)
	}
	for _, host := range mapKeys(s.Hosts) {
		q, h := p.key("hosts").key(host), s.Hosts[host]
		u, err := url.Parse("https://" + host)
		if err != nil || !registryForm.MatchString(host) || host != strings.ToLower(host) || !validPort(u) {
			v.add(v.keyAt(q), q, quote(host)+" is not a host", "write it in lower case, with a port if the module's has one, as in registry.example.com:5000")
		}
		v.existingFile(q.key("ca_file"), &h.CAFile)
		if r := q.key("credentials"); v.given(r) && v.ok(r) && !envName(h.Credentials) {
			// The text is not repeated: it may be what should have been in the variable.
			v.fail(r, "write the name alone, without ${}: what it holds is read when a module is fetched", "is not the name of an environment variable")
		}
	}
}
