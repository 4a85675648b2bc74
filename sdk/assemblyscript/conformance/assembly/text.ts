// The words of commands.

export function first(s: string): string {
  const i = s.indexOf(" ");
  return i < 0 ? s : s.substring(0, i);
}

export function rest(s: string): string {
  const i = s.indexOf(" ");
  return i < 0 ? "" : s.substring(i + 1);
}
