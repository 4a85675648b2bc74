import * as answer from "./answer";
import { Code, Op } from "./answer";
import { Upstream } from "./config";

/**
 * What a handler says. Edits made on the request or response are done with it, all or none. A decision is for being
 * returned at once: the next one takes its place.
 */
@final
export class Decision {
  private constructor(public readonly code: u32, private value: u32 = 0, private text: string = "") {}

  /** Goes on: the next plugin, or the upstream that the route or an earlier plugin chose. */
  static readonly Continue: Decision = new Decision(Code.OK);

  /** The route is not for the request. It is for plugins that match routes; edits are dropped. */
  static readonly NoMatch: Decision = new Decision(Code.NoMatch);

  private static readonly routed: Decision = new Decision(Code.Route);
  private static readonly denied: Decision = new Decision(Code.Deny);
  private static readonly responded: Decision = new Decision(Code.Operations);
  private static readonly failed: Decision = new Decision(Code.Error);

  /** Sends the request to an upstream. */
  static routeTo(upstream: Upstream): Decision {
    Decision.routed.value = upstream;
    return Decision.routed;
  }

  /** Answers with a status of 400 to 599 and no body; 0 is 403. */
  static deny(status: i32 = 0): Decision {
    Decision.denied.value = status;
    return Decision.denied;
  }

  /** The plugin could not decide. The request follows the plugin's on_error policy; the text is logged. */
  static fail(text: string): Decision {
    Decision.failed.text = text;
    return Decision.failed;
  }

  /** The answer that respond of a request or response wrote; it returns this. */
  static respond(status: i32, body: string, fields: string[]): Decision {
    answer.respond(status, body, fields);
    return Decision.responded;
  }

  /** What was written is done; replace of a piece returns this. */
  static written(): Decision {
    return Decision.responded;
  }

  /** Turns the decision and the edits before it into what the gateway is answered. Not for plugins. */
  finish(): u64 {
    const code = this.code;
    if (code == Code.Error) return answer.fail(this.text);
    if (code == Code.NoMatch || (answer.written() == 0 && code != Code.Operations)) return answer.pack(code, this.value);
    if (code == Code.Route) answer.op32(Op.Upstream, this.value);
    else if (code == Code.Deny) answer.respond(this.value ? this.value : 403, "", []);
    return answer.settle(Code.Operations);
  }
}
