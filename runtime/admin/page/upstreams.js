// The upstreams: a section for each, with a table that has a group of rows for each target and a row for each address.

import * as changes from './changes.js';
import { age, count, duration, el, keep, put, say } from './dom.js';

// render brings root up to date with a list of upstreams, as GET /upstreams gives it. select says which members are wanted
// of an upstream; what has none is left out. done is called with an upstream that was changed. It returns how many
// addresses are shown.
export function render(root, list, { select, done }) {
  const wanted = list.map((upstream) => ({ upstream, members: select(upstream), done })).filter(({ members }) => members !== null);
  keep(root, wanted, ({ upstream }) => upstream.name, section, changeSection);
  return wanted.reduce((n, { members }) => n + members.length, 0);
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
  { is: 'number open', text: 'Open / idle', title: 'connections', says: (m) => m.connections_open + ' / ' + m.connections_idle },
  { is: 'learned', text: 'Closes idle after', title: 'when the target closes idle connections, as far as the gateway has learned', says: (m) => m.learned_idle_timeout ? duration(m.learned_idle_timeout) : '–', more: (m) => m.learned_from },
  { is: 'dns', text: 'DNS answer', says: (m) => m.dns_age ? age(m.dns_age) + ' old' : '–', more: (m) => m.dns_doubt && '⚠ ' + m.dns_doubt },
  { is: 'actions', text: 'Actions' },
];

const head = ({ is, text, title }) => el('th', { role: 'columnheader', scope: 'col', class: is, title }, text);

// signs stand beside words, so that colour and shape say the same.
const signs = { healthy: '●', recovering: '◐', ejected: '▲', unhealthy: '✕', left: '○', unknown: '?' };

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
    const next = body.isConnected ? body.querySelector('button:not([hidden])') : document.querySelector('main h2');
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
    say(value, c.is === 'health' ? `${signs[m.health] ?? '?'} ${m.health}` : c.says(m));
    say(small, more ?? '');
    small.hidden = !more;
  });
  put(tr, 'data-health', m.health);
  put(tr, 'data-state', m.state);
  put(tr, 'data-doubt', Boolean(m.dns_doubt));
  put(tr, 'data-same', m.address === m.target);
}
