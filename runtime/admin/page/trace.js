// One recent request as a waterfall: its spans, each where it was in time, with what is known of it.

import * as api from './api.js';
import { clock, el, facts, ms, put, to } from './dom.js';
import { connection, level, status } from './traces.js';

export const view = {
  name: 'trace', title: 'Trace', once: true, ask: (at) => api.trace(at.id),
  show(root, t, at) {
    if (!root.firstElementChild) draw(root, t);
    return { live: '', title: t.path };
  },
};

function draw(root, t) {
  const end = Math.max(t.duration_ms, ...t.spans.map((s) => s.offset_ms + s.duration_ms), 0.001);
  root.append(
    el('p', {}, el('a', { href: '#/traces' }, '← Recent requests')),
    el('h2', {}, [t.method, (t.host ?? '') + (t.path ?? '')].filter(Boolean).join(' ') || 'A request that could not be read'),
    el('p', {}, el('strong', { class: level(t) }, status(t)), ` in ${ms(t.duration_ms)}`, t.error ? el('span', { class: 'wrong' }, ' – ' + t.error) : ''),
    facts([
      ['At', `${new Date(t.time).toLocaleDateString()} ${clock(new Date(t.time))}`], ['Client', t.client], ['Listener', t.listener], ['Route', t.route],
      ['Upstream', t.upstream && el('a', { href: to('upstreams', t.upstream) }, t.upstream)], ['Address', t.address],
      ['Connection', t.connection && connection(t.connection)], ['Attempts', t.attempts],
      ['Kept', { error: 'because it failed', slow: 'because it was slow', sample: 'as a sample' }[t.kept] ?? t.kept],
      ['Trace', t.id], ['In Jaeger', jaeger(t)],
    ]),
    axis(end), el('ol', { class: 'spans', 'aria-label': 'Spans' }, ...inOrder(t.spans).map(({ span, depth }) => row(span, depth, end))));
}

// jaeger is a link to the same trace there, if it was exported and the gateway knows where.
function jaeger(t) {
  if (!/^https?:\/\//.test(t.jaeger ?? '')) return null;
  if (!t.exported) return 'not there: it was not exported';
  return el('a', { href: t.jaeger, target: '_blank', rel: 'noopener noreferrer' }, 'Open it ↗');
}

// axis is the time from the start to the end, in quarters.
function axis(end) {
  const marks = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const e = el('span', {}, ms(end * part));
    e.style.left = 100 * part + '%';
    return e;
  });
  return el('div', { class: 'axis', 'aria-hidden': 'true' }, el('div', {}, ...marks));
}

// inOrder is the spans as a tree, each behind its parent, with how deep it is. What has no parent here is at the top.
function inOrder(spans) {
  const ids = new Set(spans.map((s) => s.id)), below = Map.groupBy(spans, (s) => ids.has(s.parent) && s.parent !== s.id ? s.parent : '');
  const list = [], seen = new Set();
  const walk = (id, depth) => {
    for (const span of below.get(id) ?? []) {
      if (seen.has(span.id)) continue;
      seen.add(span.id);
      list.push({ span, depth });
      walk(span.id, depth + 1);
    }
  };
  walk('', 0);
  for (const span of spans) if (!seen.has(span.id)) list.push({ span, depth: 0 }); // parents in a circle
  return list;
}

// kinds give spans their colours; their names say the same.
const kinds = [[/^plugin\.call/, 'plugin'], [/^wait/, 'wait'], [/^response\.body/, 'body'], [/./, 'other']];

const kind = (s) => s.kind === 'server' ? 'server' : s.kind === 'client' ? 'attempt' : kinds.find(([name]) => name.test(s.name))[1];

function row(s, depth, end) {
  const bar = el('span', { class: 'bar ' + kind(s) });
  bar.style.left = 100 * s.offset_ms / end + '%';
  bar.style.width = 100 * s.duration_ms / end + '%';
  const ticks = s.events.map((e) => {
    const tick = el('span', { class: e.name === 'exception' ? 'tick bad' : 'tick', title: `${e.name} at ${ms(e.offset_ms)}` });
    tick.style.left = 100 * e.offset_ms / end + '%';
    return tick;
  });
  const name = el('span', { class: 'name' }, el('span', { class: 'text' }, s.name), s.error ? el('span', { class: 'bad' }, ' ✕ ' + (s.attributes['error.type'] ?? 'failed')) : '');
  name.style.setProperty('--depth', depth);
  const d = el('details', { class: 'span' }, el('summary', {}, name, el('span', { class: 'track' }, bar, ...ticks), el('span', { class: 'took' }, ms(s.duration_ms))), about(s));
  put(d, 'data-kind', kind(s));
  return el('li', {}, d);
}

function about(s) {
  const value = (key, v) => key === 'wasmgate.connection.id' ? connection(v) : key === 'wasmgate.upstream' ? el('a', { href: to('upstreams', v) }, v) : String(v);
  const list = (attributes) => facts(Object.entries(attributes ?? {}).map(([key, v]) => [key, value(key, v)]));
  const box = el('div', { class: 'about' }, el('p', { class: 'soft' }, `From ${ms(s.offset_ms)} to ${ms(s.offset_ms + s.duration_ms)}, kind ${s.kind}`));
  if (s.error) box.append(el('p', { class: 'wrong' }, s.error));
  box.append(list(s.attributes));
  if (s.events.length > 0) box.append(el('h3', {}, 'Events'), el('ol', {}, ...s.events.map((e) => el('li', {}, el('strong', {}, `${ms(e.offset_ms)} ${e.name}`), list(e.attributes)))));
  return box;
}
