// What the map shows: nodes, and the ways through them. A way is what one route, or one listener in TCP mode, does with what
// it is given: its plugins, then its upstream. It is told apart from drawing, which is in map.js.

import { count, fits, number, wordy } from './dom.js';
import { ill as illPlugin } from './plugins.js';
import { ill as illMember, signs } from './upstreams.js';

// graph makes nodes and ways of what the gateway answers.
export function graph({ listeners, routes, plugins, upstreams }) {
  const nodes = new Map(), ways = [];
  const put = (n) => nodes.set(n.key, n);
  for (const l of listeners) put(listener(l));
  for (const r of routes) put(route(r));
  for (const p of plugins) put(plugin(p));
  for (const u of upstreams) {
    put(upstream(u));
    for (const m of u.members) put(address(u, m));
  }
  const way = (keys, hits) => ways.push({ id: ways.length, keys: keys.filter((k) => nodes.has(k)), hits });
  const http = listeners.filter((l) => l.mode !== 'tcp').map((l) => 'listener ' + l.name);
  for (const r of routes) way([`route ${r.index}`, ...r.plugins.map((p) => 'plugin ' + p), ...(r.match.plugin ? ['plugin ' + r.match.plugin] : []), r.upstream && 'upstream ' + r.upstream], r.hits);
  for (const l of listeners.filter((l) => l.mode === 'tcp')) {
    for (const u of new Set([l.upstream, ...(l.sni ?? []).map((s) => s.upstream)].filter(Boolean))) way(['listener ' + l.name, ...l.plugins.map((p) => 'plugin ' + p), 'upstream ' + u], l.requests);
  }
  // What no way leads to is shown too: a plugin may choose an upstream that no route names.
  const on = new Set(ways.flatMap((w) => w.keys));
  for (const n of nodes.values()) if ((n.kind === 'plugin' || n.kind === 'upstream') && !on.has(n.key)) way([n.key], 0);
  for (const l of listeners.filter((l) => l.mode !== 'tcp' && l.plugins.length > 0)) way(['listener ' + l.name, ...l.plugins.map((p) => 'plugin ' + p)], l.requests);
  return { nodes, ways, http };
}

const listener = (l) => ({
  kind: 'listener', key: 'listener ' + l.name, name: l.name, words: [l.address, l.bound, l.mode].join(' '), level: 'good',
  text: `${l.bound || l.address}, ${l.mode}; ${count(number(l.requests), l.mode === 'tcp' ? 'session' : 'request')}`, way: l.mode === 'tcp' ? [...l.plugins, l.upstream].filter(Boolean).join(' → ') : '',
});

function route(r) {
  const m = r.match;
  const match = [
    m.methods?.join('|'), m.hosts?.join(', '), m.path ?? (m.path_prefix !== undefined ? m.path_prefix.replace(/\/?$/, '/…') : m.path_regex !== undefined ? '~ ' + m.path_regex : undefined),
    ...Object.entries(m.headers ?? {}).map(([k, v]) => `${k}: ${v}`), ...Object.entries(m.query ?? {}).map(([k, v]) => `?${k}: ${v}`), m.plugin && `if plugin ${m.plugin} says so`,
  ].filter(Boolean).join(' ') || 'everything';
  const end = r.exclude ? 'answered 404' : r.respond ? `answered ${r.respond}` : r.upstream ?? 'what its plugins choose';
  return {
    kind: 'route', key: `route ${r.index}`, name: r.name || match, index: r.index, hits: r.hits, words: [match, r.at, end].join(' '), level: 'good',
    text: `${r.index + 1}. ${match}; ${count(number(r.hits), 'request')}`, way: [...r.plugins, end].join(' → '), end: [...r.plugins, end].join(' → '),
  };
}

function plugin(p) {
  const bad = illPlugin(p), failures = Object.values(p.figures.failures_by_kind ?? {}).reduce((n, m) => n + m, 0);
  return {
    kind: 'plugin', key: 'plugin ' + p.name, name: p.name, words: p.abi, level: p.missing ? 'bad' : bad ? 'warn' : 'good', mark: p.differs_from_config && 'differs from the file',
    health: p.missing ? '✕ its module is not there' : p.figures.breaker_open ? '▲ breaker open' : '● well',
    text: `${count(number(p.figures.calls), 'call')}${failures > 0 ? `, ${count(number(failures), 'failure')}` : ''}`,
  };
}

function upstream(u) {
  const ill = u.members.filter(illMember).length, well = u.members.length - ill;
  return {
    kind: 'upstream', key: 'upstream ' + u.name, name: u.name, words: u.breaker_open ? 'breaker open' : '',
    level: u.breaker_open || u.members.length > 0 && well === 0 ? 'bad' : ill > 0 || u.requests_waiting > 0 ? 'warn' : 'good',
    health: u.breaker_open ? '▲ breaker open' : u.requests_waiting > 0 && ill === 0 ? '▲ requests wait' : u.members.length === 0 ? '○ no targets' : ill === 0 ? '● all healthy' : well === 0 ? '✕ none healthy' : `▲ ${ill} of ${u.members.length} not healthy`,
    text: `${count(u.connections_open, 'connection')} open${u.requests_waiting > 0 ? `, ${count(u.requests_waiting, 'request')} waiting` : ''}`,
  };
}

function address(u, m) {
  const bad = ['ejected', 'unhealthy'].includes(m.health);
  return {
    kind: 'address', key: `address ${u.name} ${m.target} ${m.address}`, name: m.address || m.target, of: 'upstream ' + u.name, words: [m.target, m.state, m.health].join(' '),
    level: bad ? 'bad' : illMember(m) || m.state === 'drain' || m.state === 'disabled' ? 'warn' : 'good', mark: m.added ? 'added live' : m.differs_from_config && 'differs from the file',
    health: `${signs[m.health] ?? '?'} ${m.health}${m.state === 'active' ? '' : ', ' + (m.state === 'drain' ? 'draining' : m.state)}`, text: [m.address && m.target !== m.address ? m.target : '', m.why && wordy(m.why)].filter(Boolean).join(': '),
    link: m.address, busy: Math.max(0, m.connections_open - m.connections_idle), idle: m.connections_idle,
  };
}

const fewRoutes = 12, fewBoxes = 16, fewAddresses = 6, manyAddresses = 24;

// shownOf is what is shown of a graph: the ways that the filter lets through, and that go through the chosen node; routes
// that lead to the same are one box if there are many.
export function shownOf({ nodes, ways, http }, { words, only, through, open }) {
  const addresses = Map.groupBy([...nodes.values()].filter((n) => n.kind === 'address'), (n) => n.of);
  const chosen = nodes.get(through) ?? null;
  const all = (w) => w.keys.flatMap((k) => [nodes.get(k), ...(addresses.get(k) ?? [])]);
  const goesThrough = (w) => !chosen || w.keys.includes(chosen.key) || w.keys.includes(chosen.of) || http.includes(chosen.key) && w.keys[0].startsWith('route ');
  const fit = (w) => {
    const list = all(w), listeners = w.keys[0].startsWith('route ') ? http.map((k) => nodes.get(k).name) : [];
    return goesThrough(w) && fits(words, [...listeners, ...list.map((n) => `${n.name} ${n.words}`)].join(' ')) && (!only || list.some((n) => n.level !== 'good'));
  };
  const kept = ways.filter(fit), on = new Set(kept.flatMap((w) => w.keys));
  if (kept.some((w) => w.keys[0].startsWith('route '))) for (const k of http) if (!chosen || chosen.kind !== 'listener' || chosen.key === k) on.add(k);
  const list = [...nodes.values()].filter((n) => n.kind === 'address' ? on.has(n.of) && (chosen?.kind !== 'address' || chosen === n) : on.has(n.key));
  const of = (kind) => list.filter((n) => n.kind === kind);
  const fold = folds(of('route'), of('address'), open);
  const column = (kind, shown) => ({ nodes: shown ?? of(kind), shown: of(kind).length, total: [...nodes.values()].filter((n) => n.kind === kind).length });
  return {
    through: chosen, empty: list.length === 0, edges: edges(kept, http.filter((k) => on.has(k)), of('address'), fold.of, nodes),
    columns: { listener: column('listener'), route: column('route', fold.routes), plugin: column('plugin'), upstream: column('upstream'), address: column('address', fold.addresses) },
    waysOf: (key) => new Set(kept.filter((w) => w.keys.some((k) => k === key || (fold.of.get(k) ?? k) === key) || http.includes(key) && w.keys[0].startsWith('route ') || w.keys.includes(nodes.get(key)?.of)).map((w) => w.id)),
  };
}

// folds makes boxes of many routes that lead to the same, and of many addresses of an upstream. of says in which box a node is.
function folds(routes, addresses, open) {
  const of = new Map();
  const fold = (key, name, list, text, few) => {
    if (list.length <= few) return list;
    const unfolded = open.has(key), worst = ['bad', 'warn', 'good'].find((l) => list.some((n) => n.level === l));
    if (!unfolded) for (const n of list) of.set(n.key, key);
    return [{ fold: true, key, name, text, unfolded, level: worst }, ...(unfolded ? list.map((n) => ({ ...n, inFold: true })) : [])];
  };
  let ends = Map.groupBy(routes, (r) => r.end);
  if (ends.size > fewBoxes) ends = Map.groupBy(routes, (r) => r.end.split(' → ').at(-1));
  const shown = [], few = addresses.length > manyAddresses ? 1 : fewAddresses;
  if (routes.length <= fewRoutes) shown.push(...routes);
  else for (const [end, list] of ends) shown.push(...fold('fold ' + end, `${list.length} routes → ${end}`, list, `${number(list[0].index + 1)} to ${number(list.at(-1).index + 1)}; ${count(number(list.reduce((n, r) => n + r.hits, 0)), 'request')}`, 1));
  const folded = [];
  for (const [u, list] of Map.groupBy(addresses, (a) => a.of)) {
    const bad = list.filter((a) => a.level !== 'good').length, open_ = list.reduce((n, a) => n + a.busy + a.idle, 0);
    folded.push(...fold('fold ' + u, `${list.length} addresses of ${u.replace('upstream ', '')}`, list, `${bad === 0 ? '● all well' : `▲ ${bad} not well`}; ${count(number(open_), 'connection')}`, few));
  }
  return { of, routes: shown, addresses: folded };
}

// edges are the lines between boxes, each with the ways that go along it.
function edges(ways, http, addresses, of, nodes) {
  const list = new Map();
  const line = (from, to, way, hits) => {
    [from, to] = [of.get(from) ?? from, of.get(to) ?? to];
    const key = `${from}\n${to}`, e = list.get(key) ?? { from, to, hits: 0, ways: [] };
    e.hits += hits;
    e.ways.push(way);
    list.set(key, e);
  };
  for (const w of ways) {
    const isRoute = w.keys[0].startsWith('route ');
    // Each listener for HTTP leads to all routes; how many came from which is not known.
    if (isRoute) for (const l of http) line(l, w.keys[0], w.id, w.hits / http.length);
    w.keys.slice(1).forEach((k, i) => line(w.keys[i], k, w.id, w.hits));
    const last = w.keys.at(-1);
    if (nodes.get(last).kind === 'upstream') for (const a of addresses.filter((a) => a.of === last)) line(last, a.key, w.id, 0);
  }
  return list.values().toArray();
}
