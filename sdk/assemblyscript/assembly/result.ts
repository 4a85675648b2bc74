/** What a call of the gateway came to. */
export enum Result {
  OK,
  /** Call: no whole answer in time. */
  Timeout,
  /** Call: no connection to the upstream. */
  Connect,
  /** It was tried while the plugin is being configured. */
  Denied,
  /** Call: the answer has more than 1 MiB. Store: the key or the value is too long. */
  TooLarge,
  /** Call: the request is not valid; the gateway's log says why. */
  Invalid,
  /** Call: the upstream broke off, or did not speak HTTP. */
  Failed,
  /** Call: the handler has made too many. */
  Limit,
  /** Store: the key has another version, or its value is no counter. */
  Mismatch,
  /** Store: it has no room. */
  Full,
  /** Store: there is no such key. */
  Absent,
}

const texts: StaticArray<string> = [
  "ok",
  "no answer in time",
  "no connection to the upstream",
  "not while the plugin is configured",
  "too large",
  "not a valid request",
  "the upstream failed",
  "too many calls",
  "another version",
  "the store is full",
  "no such key",
];

/** The text of a result; one of a later version of the gateway is a failure. */
export function describe(result: Result): string {
  return <u32>result < <u32>texts.length ? texts[result] : "failed";
}
