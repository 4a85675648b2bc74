package plugin

import (
	"path/filepath"
	"testing"
)

// made makes a new project with another source in it, and returns its folder.
func made(t *testing.T, l *language, source string) string {
	t.Helper()
	needs(t, l)
	dir := filepath.Join(t.TempDir(), "p")
	succeeds(t, "new", dir, "--lang", l.name)
	write(t, filepath.Join(dir, filepath.FromSlash(l.main)), source)
	return dir
}

// TestAssertions has a plugin whose assumptions do not hold: it fails, rather than to go on with what is not so.
func TestAssertions(t *testing.T) {
	dir := made(t, &asLanguage, `
import { Decision, Request, handle } from "wasmgate";
export * from "wasmgate/exports";

class A { b: B | null = null; }
class B { a: string = ""; }

function decide(r: Request): Decision {
  const x = new A();
  if (r.path == "/null") return r.respond(200, x.b!.a);
  assert(r.query.length > 3, "query too short");
  return r.respond(200, "x");
}
handle(decide);
`)
	write(t, filepath.Join(dir, "p.test.yaml"), `
tests:
  - { name: holds, request: { url: "/?long" }, expect: { status: 200 } }
  - { name: an assertion, request: { url: "/?x" }, expect: { decision: fail, log: [{ contains: query too short }] } }
  - { name: a null, request: { url: /null }, expect: { decision: fail, log: [{ contains: "null" }] } }
`)
	contains(t, succeeds(t, "test", dir), "3 tests passed")
}
