// Asking the gateway. Each function returns what it answers, or throws an Error whose message is for people; its property
// reached says whether the gateway answered at all, and refused that it wants a token.

const patience = 5000; // milliseconds
const place = 'wasmgate.token'; // of the token, until the tab is closed

// signIn keeps the token that is sent from now on; an empty one is forgotten.
export const signIn = (token) => token ? sessionStorage.setItem(place, token) : sessionStorage.removeItem(place);

export const upstreams = () => ask('GET', '/upstreams');
export const change = (upstream, target, what) => ask('PATCH', path(upstream, target), what);
export const add = (upstream, what) => ask('POST', path(upstream), what);
export const remove = (upstream, target) => ask('DELETE', path(upstream, target));

function path(upstream, target) {
  const all = '/upstreams/' + encodeURIComponent(upstream) + '/targets';
  return target === undefined ? all : all + '/' + encodeURIComponent(target);
}

function fields(what) {
  const token = sessionStorage.getItem(place);
  return { ...(what && { 'Content-Type': 'application/json' }), ...(token && { Authorization: 'Bearer ' + token }) };
}

async function ask(method, url, what) {
  let answer, text;
  try {
    answer = await fetch(url, {
      method, body: what && JSON.stringify(what), headers: fields(what),
      cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(patience),
    });
    text = await answer.text();
  } catch (e) {
    const why = e.name === 'TimeoutError' ? 'The gateway has not answered for ' + patience / 1000 + ' seconds.' : 'The gateway cannot be reached.';
    throw Object.assign(new Error(why), { reached: false });
  }
  if (!answer.ok) {
    const said = text.trim().slice(0, 500) || 'it gave no reason';
    throw Object.assign(new Error('The gateway answered ' + answer.status + ': ' + said), { reached: true, refused: answer.status === 401 });
  }
  try {
    return JSON.parse(text);
  } catch {
    throw Object.assign(new Error('The gateway answered with something else than its upstreams. Does another program listen there?'), { reached: true });
  }
}
