// Recent errors, the newest first, with the way to what they are about.

import * as api from './api.js';
import { clock, count, el, facts, fits, keep, number, to, wordy } from './dom.js';
import { connection } from './traces.js';

export const view = {
  name: 'errors', title: 'Errors', ask: api.errors, filter: 'text, kind, route, upstream, address, plugin',
  show(root, data, at) {
    const wanted = data.errors.filter((e) => fits(at.words, text(e)));
    if (!root.firstElementChild) root.append(el('ol', { class: 'rows errors' }));
    let n = 0; // of those that are alike
    const seen = new Map(), key = (e) => {
      const k = JSON.stringify(e);
      n = (seen.get(k) ?? 0) + 1;
      seen.set(k, n);
      return `${k} ${n}`;
    };
    const keyed = wanted.map((e) => ({ e, key: key(e) }));
    keep(root.firstElementChild, keyed, (k) => k.key, (k) => make(k.e), () => {});
    const missing = data.loops_missing > 0 ? ` ${count(data.loops_missing, 'event loop')} did not answer.` : '';
    return {
      live: `${count(number(data.errors.length), 'recent error')}.${wanted.length < data.errors.length ? ` ${wanted.length} shown.` : ''}${missing}`,
      nothing: wanted.length > 0 ? '' : data.errors.length > 0 ? 'Nothing fits the filter.' : 'There was no error yet.',
    };
  },
};

const text = (e) => [e.of, wordy(e.kind), e.kind, e.source, e.text, e.status, e.listener, e.route, e.upstream, e.host, e.address, e.plugin, e.connection ? '#' + e.connection : '', e.trace_id].join(' ');

function make(e) {
  const li = el('li', {},
    el('span', { class: 'when' }, clock(new Date(e.time))), el('strong', { class: 'bad' }, `✕ ${wordy(e.kind)}`),
    el('span', { class: 'what' }, e.text),
    facts([
      ['Of', e.of === 'call' ? 'a plugin’s own request' : e.of], ['Whose doing', e.source], ['Client was sent', e.status],
      ['Route', e.route && el('a', { href: to('map', e.route) }, e.route)], ['Upstream', e.upstream && el('a', { href: to('upstreams', e.upstream) }, e.upstream)],
      ['Server', [e.host, e.address !== e.host && e.address].filter(Boolean).join(', ')], ['Plugin', e.plugin && el('a', { href: to('plugins', e.plugin) }, e.plugin)],
      ['Connection', e.connection && connection(e.connection)], ['Trace', e.trace_id && el('a', { href: '#/traces/' + encodeURIComponent(e.trace_id) }, e.trace_id.slice(0, 8) + '…')],
    ]));
  return li;
}
