// header-policy removes, renames, sets and appends headers, as its configuration says: see ../../../README.md. The
// versions in other languages do the same.
import {
  Config,
  Decision,
  Exchange,
  Header,
  Request,
  Response,
  configure,
  handle,
  handleResponse,
  requestHeader,
  responseHeader,
} from "wasmgate";
export * from "wasmgate/exports";

class Field {
  constructor(public name: string, public value: string) {}
}

class Rename {
  constructor(public from: Header, public old: string, public name: string) {}
}

const BAD_KEYS = "config: the keys are request and response, with remove, rename, set and append in each";
const NO_NAME = "config: a header has no name";

// Policy is what is done to a message, in the order of the fields.
class Policy {
  remove: string[] = [];
  rename: Rename[] = [];
  set: Field[] = [];
  append: Field[] = [];

  // rule adds what the configuration has.
  rule(kind: string, name: string, value: string, declare: (name: string) => Header): string | null {
    if (kind == "remove") {
      if (value.length == 0) return NO_NAME;
      this.remove.push(value);
    } else if (kind == "rename") {
      if (name.length == 0 || value.length == 0) return NO_NAME;
      this.rename.push(new Rename(declare(name), name, value));
    } else if (kind == "set") {
      this.set.push(new Field(name, value));
    } else if (kind == "append") {
      this.append.push(new Field(name, value));
    } else {
      return BAD_KEYS;
    }
    return name.length == 0 ? NO_NAME : null;
  }

  // apply does it all, each with the message as it came.
  apply(m: Exchange): Decision {
    for (let i = 0; i < this.remove.length; i++) m.removeHeader(this.remove[i]);
    for (let i = 0; i < this.rename.length; i++) {
      const r = this.rename[i];
      const n = m.headerCount(r.from);
      if (n == 0) continue;
      m.removeHeader(r.old);
      m.setHeader(r.name, m.header(r.from));
      for (let k = 1; k < n; k++) m.appendHeader(r.name, m.headerAt(r.from, k));
    }
    for (let i = 0; i < this.set.length; i++) m.setHeader(this.set[i].name, this.set[i].value);
    for (let i = 0; i < this.append.length; i++) m.appendHeader(this.append[i].name, this.append[i].value);
    return Decision.Continue;
  }
}

let requests = new Policy();
let responses = new Policy();

configure((c: Config): string | null => {
  requests = new Policy();
  responses = new Policy();
  return c.walk((c: Config, path: string[], value: string): string | null => {
    if (path.length != 3) return BAD_KEYS;
    if (path[0] == "request") return requests.rule(path[1], path[2], value, requestHeader);
    if (path[0] == "response") return responses.rule(path[1], path[2], value, responseHeader);
    return BAD_KEYS;
  });
});

handle((r: Request): Decision => requests.apply(r));
handleResponse((r: Response): Decision => responses.apply(r));
