// The upstreams: a section for each, with a table that has a group of rows for each target and a row for each address.

import * as api from './api.js';
import * as changes from './changes.js';
import { age, count, duration, el, fits, keep, number, put, say, to } from './dom.js';

export const view = {
  name: 'upstreams', title: 'Upstreams', ask: api.upstreams,
  filter: 'upstream, target, address or state', only: 'Only what is not healthy',
  show(root, list, at, page) {
    const done = (upstream) => page.replace((list) => list.map((u) => u.name === upstream.name ? upstream : u));
    const wanted = list.map((upstream) => ({ upstream, members: select(upstream, at), done })).filter(({ members }) => members !== null);
    keep(root, wanted, ({ upstream }) => upstream.name, section, changeSection);
    const shown = wanted.reduce((n, { members }) => n + members.length, 0);
    const members = list.flatMap((u) => u.members), bad = members.filter(ill).length;
    const health = members.length === 0 ? '' : bad === 0 ? ', all healthy' : `, ${bad} not healthy`;
    const part = shown < members.length ? ` ${shown} shown.` : '';
    return {
      live: `${count(list.length, 'upstream')}, ${count(members.length, 'address', 'addresses')}${health}.${part}`,
      title: bad > 0 ? `${bad} not healthy` : '',
      nothing: list.length === 0 ? 'The config has no upstreams.' : wanted.length > 0 ? '' : at.words.length === 0 ? 'Everything is healthy.' : 'Nothing fits the filter.',
    };
  },
};

// select is the members of an upstream that the filter lets through; null: the upstream is not to be shown at all.
function select(upstream, { words, only }) {
  const wanted = (m) => fits(words, [upstream.name, m.target, m.address, m.state, m.state === 'drain' ? 'draining' : '', m.health].join(' ')) && (!only || upstream.breaker_open || ill(m));
  const members = upstream.members.filter(wanted);
  if (members.length > 0) return members;
  return upstream.members.length === 0 && !only && fits(words, upstream.name) ? [] : null;
}

// ill says whether somebody should look at a member.
export const ill = (m) => m.health !== 'healthy' && m.health !== 'left' || Boolean(m.dns_doubt);

let made = 0;

// now holds what an element shows, for those who press its buttons.
const now = new WeakMap();

function section({ upstream }) {
  const id = `upstream-${++made}`;
  const plus = el('button', { type: 'button', 'aria-label': `Add a target to ${upstream.name}` }, 'Add a target');
  const s = el('section', { class: 'upstream', 'aria-labelledby': id },
    el('div', { class: 'head' }, el('h2', { id, tabindex: -1 }, upstream.name), el('ul', { class: 'counts' }), plus),
    el('p', { class: 'so-far' }),
    el('table', { role: 'table', 'aria-labelledby': id }, el('thead', { role: 'rowgroup' }, el('tr', { role: 'row' }, ...columns.map(head)))),
    el('p', { class: 'empty' }, 'It has no targets.'));
  plus.addEventListener('click', () => changes.add(now.get(s).upstream, now.get(s).done));
  return s;
}

function changeSection(s, shown) {
  now.set(s, shown);
  const { upstream, members, done } = shown;
  keep(s.querySelector('.counts'), counts(upstream), ({ key }) => key, () => el('li'), (li, c) => {
    say(li, c.text);
    put(li, 'class', c.level);
  });
  say(s.querySelector('.so-far'), soFar(upstream));
  const targets = Map.groupBy(members, (m) => m.target);
  const table = s.querySelector('table');
  table.hidden = targets.size === 0;
  s.querySelector('.empty').hidden = targets.size > 0;
  keep(table, [...targets], ([target]) => target, group, (body, [target, members]) => changeGroup(body, { upstream, target, members, done }));
}

function counts(u) {
  return [
    { key: 'breaker', text: '⚠ Breaker open: requests are refused', level: 'bad', shown: u.breaker_open },
    { key: 'waiting', text: count(u.requests_waiting, 'request') + ' waiting', level: u.requests_waiting > 0 && 'warn', shown: true },
    { key: 'open', text: count(u.connections_open, 'connection') + ' open', shown: true },
    { key: 'idle', text: u.connections_idle + ' idle', shown: true },
    { key: 'retries', text: count(u.retries_left, 'retry', 'retries') + ' left', level: u.retries_left === 0 && 'warn', shown: true },
  ].filter((c) => c.shown);
}

// soFar is what has become of requests and connections since the gateway started.
function soFar(u) {
  const by = (reasons) => Object.entries(reasons ?? {}).filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a).map(([why, n]) => `${number(n)} ${why.replaceAll('_', ' ')}`).join(', ');
  const fresh = Object.values(u.requests_on_new_connections_by_reason ?? {}).reduce((n, m) => n + m, 0), all = fresh + (u.requests_on_pooled_connections ?? 0);
  if (all === 0) return '';
  const closed = by(u.connections_closed_by_reason);
  return `Since the start: ${count(number(all), 'request')}, ${Math.floor(100 * u.requests_on_pooled_connections / all)} % on connections that were open already. ` +
    `Connections opened: ${by(u.connections_opened_by_reason) || 'none'}. ` + (closed ? `Closed: ${closed}.` : 'None was closed.');
}

// columns: class of the cells, heading, what the heading means, and what a cell says of a member.
const columns = [
  { is: 'target', text: 'Target' },
  { is: 'address', text: 'Address', says: (m) => m.address || 'not known yet' },
  { is: 'state', text: 'State', says: (m) => m.state === 'drain' ? 'draining' : m.state },
  { is: 'health', text: 'Health' },
  { is: 'number weight', text: 'Weight', says: (m) => String(m.weight) },
  { is: 'number tier', text: 'Tier', says: (m) => String(m.tier) },
  { is: 'number share', text: 'Share', title: 'of its weight: less while it recovers or starts', says: (m) => Math.round(m.share * 100) + ' %' },
  { is: 'number requests', text: 'Requests', title: 'under way now', says: (m) => String(m.requests_active) },
  { is: 'number open', text: 'Open / idle', title: 'connections', says: (m) => m.connections_open + ' / ' + m.connections_idle, link: (m) => m.address && m.connections_open > 0 && to('connections', m.address) },
  { is: 'learned', text: 'Closes idle after', title: 'when the target closes idle connections, as far as the gateway has learned', says: (m) => m.learned_idle_timeout ? duration(m.learned_idle_timeout) : '–', more: (m) => m.learned_from },
  { is: 'dns', text: 'DNS answer', says: (m) => m.dns_age ? age(m.dns_age) + ' old' : '–', more: (m) => m.dns_doubt && '⚠ ' + m.dns_doubt },
  { is: 'actions', text: 'Actions' },
];

const head = ({ is, text, title }) => el('th', { role: 'columnheader', scope: 'col', class: is, title }, text);

// signs stand beside words, so that colour and shape say the same.
export const signs = { healthy: '●', recovering: '◐', ejected: '▲', unhealthy: '✕', left: '○', unknown: '?' };

const actions = [
  { text: 'Activate', run: changes.activate, shown: (m) => m.state !== 'active' },
  { text: 'Drain', run: changes.drain, shown: (m) => m.state !== 'drain' && m.state !== 'disabled' },
  { text: 'Disable', run: changes.disable, shown: (m) => m.state !== 'disabled' },
  { text: 'Change …', name: 'Change weight, tier or state of', run: changes.edit, shown: () => true },
  { text: 'Remove', run: changes.remove, shown: (m) => m.added },
];

// group is the rows of one target. Its first row has its name and its buttons; addresses come and go in the other cells.
function group([target]) {
  const body = el('tbody', { role: 'rowgroup' });
  const press = ({ run }) => async () => {
    const { upstream, members, done } = now.get(body);
    await run(upstream, target, members, done);
    if (document.activeElement !== document.body) return;
    // The button is no longer there: go on where the reader was.
    const next = body.isConnected ? body.querySelector('button:not([hidden])') : document.querySelector('#upstreams h2');
    next?.focus();
  };
  body.append(row(
    el('th', { role: 'rowheader', scope: 'rowgroup', class: 'target' }, el('span', { class: 'name' }, target), el('span', { class: 'mark', hidden: true })),
    el('td', { role: 'cell', class: 'actions' }, ...actions.map((a) =>
      el('button', { type: 'button', 'aria-label': `${a.name ?? a.text} ${target}`, on: { click: press(a) } }, a.text)))));
  return body;
}

// row is one of an address, in between the cells of the target if it is its first.
function row(before, after) {
  const cells = columns.filter((c) => c.is !== 'target' && c.is !== 'actions').map((c) =>
    el('td', { role: 'cell', class: c.is, 'data-label': c.text }, el('span', { class: 'value' }), el('small', { hidden: true })));
  return el('tr', { role: 'row' }, ...[before, ...cells, after].filter(Boolean));
}

function changeGroup(body, shown) {
  now.set(body, shown);
  const { members } = shown, first = members[0];
  while (body.rows.length > members.length) body.rows[body.rows.length - 1].remove();
  while (body.rows.length < members.length) body.append(row());
  members.forEach((m, i) => changeRow(body.rows[i], m));
  for (const cell of body.querySelectorAll('.target, .actions')) cell.rowSpan = members.length;
  const mark = body.querySelector('.mark'), text = first.added ? 'added live' : first.differs_from_config ? 'differs from the file' : '';
  say(mark, text);
  mark.hidden = text === '';
  actions.forEach((a, i) => { body.querySelector('.actions').children[i].hidden = !a.shown(first); });
}

function changeRow(tr, m) {
  const cells = [...tr.cells].filter((c) => c.tagName === 'TD' && !c.classList.contains('actions'));
  columns.filter((c) => c.is !== 'target' && c.is !== 'actions').forEach((c, i) => {
    const [value, small] = cells[i].children;
    const more = c.is === 'health' ? m.why : c.more?.(m);
    const text = c.is === 'health' ? `${signs[m.health] ?? '?'} ${m.health}` : c.says(m);
    if (c.link) link(value, c.link(m), text);
    else say(value, text);
    say(small, more ?? '');
    small.hidden = !more;
  });
  put(tr, 'data-health', m.health);
  put(tr, 'data-state', m.state);
  put(tr, 'data-doubt', Boolean(m.dns_doubt));
  put(tr, 'data-same', m.address === m.target);
}

// link has an element be a link, or a text alone.
function link(e, href, text) {
  if (!href) return say(e, text);
  if (e.firstElementChild?.tagName !== 'A') e.replaceChildren(el('a'));
  put(e.firstElementChild, 'href', href);
  say(e.firstElementChild, text);
}
