// Asking the gateway. Each function returns what it answers, or throws an Error whose message is for people; its property
// reached says whether the gateway answered at all, and status with what.

const patience = 5000; // milliseconds

const part = encodeURIComponent;

export const listeners = () => ask('GET', '/listeners');
export const routes = () => ask('GET', '/routes');
export const changes = () => ask('GET', '/changes');

export const upstreams = () => ask('GET', '/upstreams');
export const change = (upstream, target, what) => ask('PATCH', path(upstream, target), what);
export const add = (upstream, what) => ask('POST', path(upstream), what);
export const remove = (upstream, target) => ask('DELETE', path(upstream, target));

export const connections = (state) => ask('GET', '/connections' + (state ? '?state=' + part(state) : ''));
export const closeConnection = (id, now) => ask('DELETE', '/connections/' + part(id) + (now ? '?now=true' : ''));
export const drainConnections = (upstream, address) => ask('POST', `/connections/drain?address=${part(address)}&upstream=${part(upstream)}`);

export const traces = (kept) => ask('GET', '/traces' + (kept ? '?kept=' + part(kept) : ''));
export const trace = (id) => ask('GET', '/traces/' + part(id));
export const errors = () => ask('GET', '/errors');

export const plugins = () => ask('GET', '/plugins');
export const rollBack = (name) => ask('POST', `/plugins/${part(name)}/rollback`);
export const swap = (name, what) => ask('POST', `/plugins/${part(name)}/swap`, what, 60_000); // a module is fetched and compiled

export const explain = (what) => ask('POST', '/explain', what, 30_000); // plugins run

function path(upstream, target) {
  const all = '/upstreams/' + part(upstream) + '/targets';
  return target === undefined ? all : all + '/' + part(target);
}

// The token of who has signed in is kept for as long as the tab is open, and no other tab has it.
const place = 'wasmgate-token';

export const token = () => sessionStorage.getItem(place);

export function setToken(text) {
  if (text) sessionStorage.setItem(place, text);
  else sessionStorage.removeItem(place);
}

async function ask(method, url, what, wait = patience) {
  let answer, text;
  const headers = {};
  if (what) headers['Content-Type'] = 'application/json';
  if (token()) headers['Authorization'] = 'Bearer ' + token();
  try {
    answer = await fetch(url, {
      method, body: what && JSON.stringify(what), headers, cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(wait),
    });
    text = await answer.text();
  } catch (e) {
    const why = e.name === 'TimeoutError' ? 'The gateway has not answered for ' + wait / 1000 + ' seconds.' : 'The gateway cannot be reached.';
    throw Object.assign(new Error(why), { reached: false });
  }
  if (!answer.ok) {
    const said = text.trim().slice(0, 500) || 'it gave no reason';
    throw Object.assign(new Error('The gateway answered ' + answer.status + ': ' + said), { reached: true, status: answer.status, said });
  }
  try {
    return JSON.parse(text);
  } catch {
    throw Object.assign(new Error('The gateway answered with something else than JSON. Does another program listen there?'), { reached: true });
  }
}
