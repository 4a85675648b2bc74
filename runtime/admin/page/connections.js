// The connections to upstreams: a group for each address, and each connection's life as a bar.

import * as api from './api.js';
import { ask as question } from './dialog.js';
import { bytes, clock, count, el, facts, fill, fits, keep, ms, number, put, say, to, wordy } from './dom.js';

export const view = {
  name: 'connections', title: 'Connections', ask,
  filter: 'upstream, address, reason, or #number', choice: { label: 'State', options: [['', 'open'], ['idle', 'idle'], ['busy', 'busy'], ['closed', 'closed lately']] },
  show(root, data, at, page) {
    const wanted = data.connections.filter((c) => fits(at.words, text(c)));
    const groups = Map.groupBy(wanted, (c) => c.upstream + ' ' + c.address);
    keep(root, [...groups], ([key]) => key, group, (e, [, list]) => changeGroup(e, list, page));
    const part = wanted.length < data.total ? ` ${number(wanted.length)} shown.` : '';
    const missing = data.loops_missing > 0 ? ` ${count(data.loops_missing, 'event loop')} did not answer: their connections are missing.` : '';
    return {
      live: `${count(data.total, 'connection')} ${data.closed ? 'closed lately' : at.choice || 'open'}.${part}${missing}`,
      nothing: wanted.length > 0 ? '' : one(at) ? `Connection ${at.words[0]} is not open any more, and was not closed lately.` : data.total > 0 ? 'Nothing fits the filter.' : at.choice === 'closed' ? 'No connection was closed yet.' : at.choice ? `No connection is ${at.choice}.` : 'No connection is open. One is opened when a request needs it.',
    };
  },
};

// one says whether the filter asks for a single connection.
const one = (at) => at.words.length === 1 && /^#\d+$/.test(at.words[0]);

// ask asks for the connections; for a single one that is not open any more among those that were closed.
async function ask(at) {
  const data = await api.connections(at.choice);
  if (at.choice !== '' || !one(at) || data.connections.some((c) => '#' + c.id === at.words[0])) return { ...data, closed: at.choice === 'closed' };
  return { ...await api.connections('closed'), closed: true };
}

const text = (c) => [c.upstream, c.host, c.address, c.state, wordy(c.opened_why), c.closing ? 'closing' : '', wordy(c.closed_why ?? ''), c.error, `loop ${c.loop}`, c.use?.route, c.use?.client, '#' + c.id].join(' ');

const atFirst = 20; // connections of an address that are shown until somebody wants to see more

const now = new WeakMap(); // what an element shows, for those who press its buttons

function group([, [first]]) {
  const all = el('button', { type: 'button', 'aria-label': `Close all connections to ${first.address}` }, 'Close all …');
  const more = el('button', { type: 'button', class: 'more' });
  const section = el('section', { class: 'card', 'aria-label': `${first.upstream}, ${first.address}` },
    el('div', { class: 'head' }, el('h2', {}, el('a', { href: to('upstreams', first.upstream) }, first.upstream), ' → ', el('code', {}, first.address)), el('p', { class: 'soft' }), all),
    el('ol', { class: 'conns' }), more);
  all.addEventListener('click', () => drain(now.get(section)));
  more.addEventListener('click', () => {
    now.get(section).most += 100;
    now.get(section).page.replace((data) => data);
  });
  now.set(section, { most: atFirst });
  return section;
}

function changeGroup(section, list, page) {
  const own = now.get(section), open = list.filter((c) => c.state !== 'closed'), idle = open.filter((c) => c.state === 'idle').length;
  Object.assign(own, { list, page });
  const requests = list.reduce((n, c) => n + c.requests, 0);
  say(section.querySelector('.head p'), (open.length > 0 ? `${count(list.length, 'connection')}, ${idle} idle; ` : `${count(list.length, 'connection')} closed; `) + `${count(number(requests), 'request')}` + (list[0].host === list[0].address ? '' : ` as ${list[0].host}`));
  keep(section.querySelector('.conns'), list.slice(0, own.most), (c) => `${c.id} ${c.opened} ${c.loop}`, make, (li, c) => change(li, c, page));
  section.querySelector('.head button').hidden = open.length === 0;
  const more = section.querySelector('.more'), rest = list.length - own.most;
  more.hidden = rest <= 0;
  say(more, `Show ${Math.min(rest, 100)} more of ${list.length}`);
}

// opening is how long that took; what could not be opened did nothing else.
const opening = (c) => c.closed_why === 'connect_failed' ? c.age_ms : c.dns_ms + c.connect_ms + c.tls_ms;

// phases of a connection's life, in the order of the bar. Only their sums are known, but for the last one, which goes on.
const phases = [
  { is: 'dial', text: 'opening', of: opening },
  { is: 'requests', text: 'in requests', of: (c) => Math.max(0, c.age_ms - opening(c) - c.idle_total_ms - c.idle_ms - (c.use?.for_ms ?? 0)) },
  { is: 'idle', text: 'idle in between', of: (c) => c.idle_total_ms },
  { is: 'requests now', text: 'in this request', of: (c) => c.use?.for_ms ?? 0 },
  { is: 'idle now', text: 'idle until now', of: (c) => c.idle_ms },
];

function make(c) {
  const close = el('button', { type: 'button', 'aria-label': `Close connection #${c.id}` }, 'Close …');
  const li = el('li', {}, el('div', { class: 'line' }, el('strong', {}, c.id ? '#' + c.id : 'Never open'), el('span', { class: 'phase' }), el('span', { class: 'soft why' }), close),
    el('p', { class: 'wrong', hidden: true }), el('div', { class: 'bar', role: 'img' }, ...phases.map((p) => el('span', { class: p.is }))), el('p', { class: 'legend' }),
    el('details', {}, el('summary', {}, 'All facts'), el('div')));
  li.querySelector('details').addEventListener('toggle', () => tell(li));
  close.addEventListener('click', () => closeOne(now.get(li).c, now.get(li).page));
  return li;
}

function change(li, c, page) {
  now.set(li, { c, page });
  const state = li.querySelector('.phase');
  say(state, c.closed ? `✕ closed: ${wordy(c.closed_why)}` : c.closing ? '◌ closing when its request has ended' : c.state === 'idle' ? '○ idle' : '● busy');
  put(state, 'data-state', c.closing ? 'closing' : c.state);
  const end = c.closed ? `; closed ${clock(new Date(c.closed))}, after ${ms(c.age_ms)}` : '';
  say(li.querySelector('.why'), `opened ${clock(new Date(c.opened))}${c.closed ? '' : `, ${ms(c.age_ms)} ago`}: ${wordy(c.opened_why)}${end}`);
  li.querySelector('.line button').hidden = Boolean(c.closed);
  const wrong = li.querySelector('.wrong');
  say(wrong, c.error ?? '');
  wrong.hidden = !c.error;
  const parts = phases.map((p) => ({ ...p, ms: p.of(c) })), all = parts.reduce((n, p) => n + p.ms, 0) || 1;
  const bar = li.querySelector('.bar');
  parts.forEach((p, i) => {
    const e = bar.children[i];
    e.style.flexGrow = p.ms / all;
    e.hidden = p.ms <= 0;
    put(e, 'title', `${c.closed && p.is === 'idle' ? 'idle' : p.text}: ${ms(p.ms)}`);
  });
  const told = parts.filter((p) => p.ms > 0).map((p) => c.closed && p.is === 'idle' ? { ...p, text: 'idle' } : p);
  put(bar, 'aria-label', told.map((p) => `${p.text} ${ms(p.ms)}`).join(', '));
  const legend = li.querySelector('.legend'), says = told.map((p) => ({ is: p.is, text: `${p.text} ${ms(p.ms)}` + (p.is === 'requests' ? ` (${count(number(c.requests - (c.use ? 1 : 0)), 'request')})` : '') }));
  keep(legend, says, (p) => p.is, (p) => el('span', { class: 'key ' + p.is }), (e, p) => say(e, p.text));
  tell(li);
}

// tell says all facts, if somebody wants to know them.
function tell(li) {
  const details = li.querySelector('details'), { c } = now.get(li);
  if (!details.open) return;
  const u = c.use, trace = (id) => id && el('a', { href: '#/traces/' + encodeURIComponent(id) }, id);
  const list = [
    ['Requests', c.id > 0 && el('a', { href: to('traces', '#' + c.id) }, `${number(c.requests)}: recent ones`)],
    ['Bytes in / out', `${bytes(c.bytes_in)} / ${bytes(c.bytes_out)}`],
    ['Opening', [c.dns_ms > 0 && `DNS ${ms(c.dns_ms)}`, `connect ${ms(c.connect_ms)}`, c.tls && `TLS ${ms(c.tls_ms)}`].filter(Boolean).join(', ')],
    ['DNS answer', c.dns_ttl_ms > 0 && `${ms(c.dns_age_ms)} old when it was opened, to be used for ${ms(c.dns_ttl_ms)}${c.dns_server ? ` (server ${c.dns_server})` : ''}${c.dns_stale ? '; ⚠ past its time' : ''}`],
    ['TLS', c.tls && [c.tls_version, c.tls_suite, c.tls_resumed && 'resumed', c.tls_server_name, c.tls_alpn].filter(Boolean).join(', ')],
    ['HTTP/2', [c.http2 && `${c.http2.open} of ${count(number(c.http2.max), 'stream')} open`, c.goaway_received && `the upstream said GOAWAY (${c.goaway_received})`, c.goaway_sent && `told GOAWAY (${c.goaway_sent})`].filter(Boolean).join(', ')],
    ['Event loop', c.loop + (c.moved_between_loops > 0 ? `, moved ${count(c.moved_between_loops, 'time')}` : '')],
    ['Used by', u && [u.kind === 'call' ? `a call of plugin ${u.plugin}` : u.kind, u.method, u.path, u.client && `of ${u.client}`, u.route && `on route ${u.route}`, `for ${ms(u.for_ms)}`].filter(Boolean).join(' ')],
    ['Its request’s trace', trace(u?.trace_id)],
    ['Its own trace', c.trace_id],
  ];
  // Only what is new is drawn: somebody may be about to press a link in it.
  const said = JSON.stringify(list.map(([name, v]) => [name, v?.textContent ?? v]));
  if (details.dataset.said === said) return;
  const focused = details.lastElementChild.contains(document.activeElement) ? document.activeElement.getAttribute('href') : null;
  details.dataset.said = said;
  fill(details.lastElementChild, facts(list));
  if (focused) [...details.querySelectorAll('a')].find((a) => a.getAttribute('href') === focused)?.focus();
}

function closeOne(c, page) {
  const box = el('input', { type: 'checkbox', id: 'at-once' });
  const busy = c.state === 'busy';
  return question({
    title: `Close connection #${c.id}?`, button: 'Close', danger: true,
    fields: busy ? [el('label', { class: 'check' }, box, 'Do not wait for its request: cut it off')] : [],
    says: () => [
      `It leads to ${c.address} of upstream ${c.upstream}.`,
      ...(!busy ? ['It is idle, and is closed at once.'] : box.checked ? [{ warning: 'The request that uses it fails, or is sent again as the config’s retries say.' }] : ['It is closed when the request that uses it has ended.']),
      'The next request that needs one opens another. To keep requests away from the address, drain its target.',
    ],
    go: async () => {
      await api.closeConnection(c.id, box.checked);
      await page.again();
    },
  });
}

function drain({ list, page }) {
  const [{ upstream, address }] = list;
  return question({
    title: `Close all connections to ${address}?`, button: 'Close all', danger: true,
    says: () => [
      `Of upstream ${upstream}. Those that are idle are closed at once, those in use when their requests have ended.`,
      'Further requests open new ones. To keep requests away from the address, drain its target.',
    ],
    go: async () => {
      await api.drainConnections(upstream, address);
      await page.again();
    },
  });
}
