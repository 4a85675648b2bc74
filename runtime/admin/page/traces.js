// Recent requests, the newest first.

import * as api from './api.js';
import { clock, count, el, fits, keep, ms, number, put, say, to } from './dom.js';

export const view = {
  name: 'traces', title: 'Traces', ask: (at) => api.traces(at.choice),
  filter: 'path, route, upstream, status, or #connection',
  choice: { label: 'Kept', options: [['', 'all'], ['error', 'for an error'], ['slow', 'for being slow'], ['sample', 'as a sample']] },
  show(root, data, at) {
    const wanted = data.traces.filter((t) => fits(at.words, text(t)));
    if (!root.firstElementChild) root.append(el('ol', { class: 'rows' }));
    const most = Math.max(1, ...wanted.map((t) => t.duration_ms));
    keep(root.firstElementChild, wanted, (t) => t.id + t.time, make, (li, t) => change(li, t, most));
    const none = data.capacity === 0 ? 'This gateway keeps no requests to look at: admin.traces is 0 in its config.' : at.choice ? 'No request was kept for that.' : 'There was no request yet.';
    const missing = data.loops_missing > 0 ? ` ${count(data.loops_missing, 'event loop')} did not answer.` : '';
    return {
      live: `the last ${count(number(wanted.length), 'request')} of ${number(data.capacity)} that are kept.${missing}`,
      nothing: wanted.length > 0 ? '' : data.traces.length > 0 ? 'Nothing fits the filter.' : none,
    };
  },
};

const text = (t) => [t.method, t.host, t.path, t.route, t.upstream, t.address, t.status || 'none', t.kept, t.error, t.client, t.listener, t.id, t.connection ? '#' + t.connection : ''].join(' ');

// level says how bad a request is: for its colour.
export const level = (t) => t.error || t.status === 0 || t.status >= 500 ? 'bad' : t.status >= 400 || t.kept === 'slow' ? 'warn' : 'good';

const signs = { bad: '✕', warn: '▲', good: '●' };

// status is what became of it, in words.
export const status = (t) => `${signs[level(t)]} ${t.status || 'no answer'}` + (t.kept === 'slow' ? ', slow' : '');

function make(t) {
  return el('li', {},
    el('span', { class: 'when' }), el('strong', { class: 'status' }), el('a', { class: 'what', href: '#/traces/' + encodeURIComponent(t.id) }),
    el('span', { class: 'took' }, el('span', { class: 'bar' }, el('span')), el('span', { class: 'text' })), el('span', { class: 'soft way' }), el('small', { class: 'wrong' }));
}

function change(li, t, most) {
  const find = (name) => li.querySelector('.' + name);
  say(find('when'), clock(new Date(t.time)));
  say(find('status'), status(t));
  put(find('status'), 'class', 'status ' + level(t));
  say(find('what'), [t.method, (t.host ?? '') + (t.path ?? '')].filter(Boolean).join(' ') || 'a request that could not be read');
  say(li.querySelector('.took .text'), ms(t.duration_ms));
  li.querySelector('.took .bar span').style.width = 100 * t.duration_ms / most + '%';
  const tries = t.attempts > 1 ? `, ${t.attempts} attempts` : '';
  say(find('way'), [t.route && `route ${t.route}`, t.upstream && `upstream ${t.upstream}`, t.address].filter(Boolean).join(' → ') + tries);
  say(find('wrong'), t.error ?? '');
  find('wrong').hidden = !t.error;
}

// connection is a link to one.
export const connection = (id) => el('a', { href: to('connections', '#' + id) }, '#' + id);
