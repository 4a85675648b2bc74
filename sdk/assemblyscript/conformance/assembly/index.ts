// The conformance plugin of the AssemblyScript SDK: it does what the commands in x-cmd say, as
// sdk/conformance/README.md lists them.
import {
  Config,
  Decision,
  Exchange,
  Header,
  Request,
  Response,
  byteLength,
  configure,
  handle,
  handleResponse,
  log,
  requestHeader,
  responseHeader,
} from "wasmgate";
import { configureMore, more, reset } from "./more";
import { first, rest } from "./text";
export * from "wasmgate/exports";

const command = requestHeader("x-cmd");
const answerCommand = responseHeader("x-cmd");
let headers: Header[] = []; // those that the configuration declares, in its order

configure((c: Config): string | null => {
  headers = [];
  reset();
  const lines = c.raw.split("\n");
  for (let i = 0; i < lines.length; i++) {
    if (lines[i].length == 0) continue;
    const word = first(lines[i]), arg = rest(lines[i]);
    if (word == "request-header") headers.push(requestHeader(arg));
    else if (word == "response-header") headers.push(responseHeader(arg));
    else if (word == "upstream") c.upstream(arg);
    else if (word == "fail") return "as the configuration says";
    else if (!configureMore(c, word, arg)) return "unknown line";
  }
  return null;
});

handle((r: Request): Decision => run(r, r, null, command));
handleResponse((r: Response): Decision => run(r, null, r, answerCommand));

function run(x: Exchange, request: Request | null, response: Response | null, commands: Header): Decision {
  let d = Decision.Continue;
  for (let k = 0; k < x.headerCount(commands); k++) {
    const line = x.headerAt(commands, k);
    const word = first(line), arg = rest(line);
    if (edit(x, response, word, arg) || (request && editRequest(request, word, arg)) || more(x, word, arg)) continue;
    if (word == "continue") d = Decision.Continue;
    else if (word == "no-match") d = Decision.NoMatch;
    else if (word == "route") d = Decision.routeTo(U32.parseInt(arg));
    else if (word == "deny") d = Decision.deny(I32.parseInt(arg));
    else if (word == "respond") d = x.respond(I32.parseInt(first(arg)), rest(arg), ["x-conformance", "yes", "x-empty", ""]);
    else if (word == "body") d = x.respond(200, "y".repeat(I32.parseInt(arg)));
    else if (word == "echo") d = x.respond(200, echo(x, response));
    else if (word == "trap") throw new Error("as the command says");
    else d = Decision.fail(word == "fail" ? arg : "unknown command");
  }
  return d;
}

// edit does a command that both messages take; false if it is none.
function edit(x: Exchange, response: Response | null, word: string, arg: string): bool {
  if (word == "set") x.setHeader(first(arg), rest(arg));
  else if (word == "append") x.appendHeader(first(arg), rest(arg));
  else if (word == "remove") x.removeHeader(arg);
  else if (word == "attribute") x.attribute(first(arg), rest(arg));
  else if (word == "log") x.log(I32.parseInt(first(arg)), rest(arg));
  else if (word == "log-now") log(I32.parseInt(first(arg)), rest(arg));
  else if (word == "fill") x.setHeader("x-fill", "x".repeat(I32.parseInt(arg)));
  else if (word == "lookup") x.appendHeader("x-lookup", lookup(x, response, arg));
  else return false;
  return true;
}

function editRequest(r: Request, word: string, arg: string): bool {
  if (word == "method") r.setMethod(arg);
  else if (word == "authority") r.setAuthority(arg);
  else if (word == "path") r.setPath(arg);
  else if (word == "query") r.setQuery(arg);
  else if (word == "address") r.setAddress(arg);
  else if (word == "timeout") r.setTimeout(I32.parseInt(arg));
  else if (word == "hash") r.setHashKey(U64.parseInt(arg));
  else if (word == "context") r.setContext(U64.parseInt(arg));
  else if (word == "rematch") r.rematch();
  else return false;
  return true;
}

function lookup(x: Exchange, response: Response | null, args: string): string {
  const k = I32.parseInt(first(rest(args))), name = rest(rest(args));
  let v: string | null = null;
  if (first(args) == "0") v = x.lookupRequest(name, k);
  else if (first(args) == "4") v = x.lookupTLS(name, k);
  else if (first(args) != "1") v = x.lookupTrailer(name, k);
  else if (response) v = response.lookupResponse(name, k);
  return v === null ? "none" : sized(v);
}

// sized writes a string with its length in bytes, so that it may hold anything.
function sized(s: string): string {
  return byteLength(s).toString() + ":" + s;
}

function echo(x: Exchange, response: Response | null): string {
  const yes = (v: bool): string => (v ? "1" : "0");
  let s = "role=" + x.role.toString() + "\nresponse=" + yes(response !== null) + "\nsampled=" + yes(x.sampled);
  s += "\nlocal=" + yes(response !== null && response.local) + "\ntime=" + x.time.toString() + "\nseed=" + x.seed.toString();
  s += "\ncontext=" + x.context.toString() + "\nstatus=" + (response ? response.status : 0).toString();
  s += "\nhas_query=" + yes(x.hasQuery) + "\nmethod=" + sized(x.method) + "\nscheme=" + sized(x.scheme);
  s += "\nauthority=" + sized(x.authority) + "\nhost=" + sized(x.host) + "\npath=" + sized(x.path) + "\nquery=" + sized(x.query);
  s += "\nclient=" + sized(x.client) + "\nsni=" + sized(x.sni) + "\ncertificate=" + sized(x.certSubject);
  s += "\nroute=" + sized(x.route) + "\n";
  for (let i = 0; i < headers.length; i++) {
    s += "header=" + x.headerCount(headers[i]).toString() + "\n";
    for (let k = 0; k < x.headerCount(headers[i]); k++) s += "value=" + sized(x.headerAt(headers[i], k)) + "\n";
  }
  return s;
}
