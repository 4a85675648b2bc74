// Explain as a form: what would become of a request, and why.

import * as api from './api.js';
import { field } from './dialog.js';
import { clock, el, facts, fill, number, put, say, to } from './dom.js';

export const view = {
  name: 'explain', title: 'Explain', once: true, ask: api.listeners,
  show(root, listeners, at, page) {
    if (!root.firstElementChild) make(root, page);
    const select = root.querySelector('select[name="listener"]');
    for (const l of listeners) {
      if ([...select.options].some((o) => o.value === l.name)) continue;
      select.append(el('option', { value: l.name }, `${l.name} (${l.bound || l.address})`));
    }
    return { live: '' };
  },
};

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'];

function make(root, page) {
  const method = field('Method', { options: methods.map((m) => [m, m]), value: 'GET' });
  const url = field('URL', { type: 'text', spellcheck: 'false', placeholder: '/path?query', hint: 'with its host, or a path alone; tls://name for a listener in mode tcp' });
  const fields = field('Fields', { area: 3, required: false, spellcheck: 'false', placeholder: 'host: shop.example', hint: 'name: value, one in a line' });
  const body = field('Body', { area: 2, required: false, spellcheck: 'false' });
  const client = field('Client', { type: 'text', required: false, spellcheck: 'false', placeholder: '127.0.0.1', hint: 'the address that asks' });
  const listener = field('Listener', { options: [['', 'by the port of the URL']], value: '', required: false, name: 'listener' });
  const calls = el('input', { type: 'checkbox' });
  const error = el('p', { class: 'error', role: 'alert', hidden: true }), act = el('button', { type: 'submit', class: 'act' }, 'Explain');
  const result = el('div', { class: 'result', 'aria-live': 'polite' });
  const form = el('form', { class: 'card ask' },
    el('p', { class: 'soft' }, 'Nothing is sent: the gateway says what it would do with the request. Plugins are run for real, in the sandbox.'),
    method.box, url.box, fields.box,
    el('details', {}, el('summary', {}, 'Body, client, listener'), el('div', { class: 'fields' }, body.box, client.box, listener.box, el('label', { class: 'check' }, calls, 'Send the requests that plugins make themselves'))),
    error, el('div', { class: 'buttons' }, act));
  form.addEventListener('submit', async (e) => {
    e.preventDefault();
    if (act.hasAttribute('aria-disabled')) return;
    put(act, 'aria-disabled', true);
    error.hidden = true;
    try {
      const what = { method: method.input.value, url: url.input.value.trim(), fields: read(fields.input.value), body: body.input.value, client: client.input.value.trim(), listener: listener.input.value, calls: calls.checked };
      for (const key of Object.keys(what)) if (what[key] === '' || what[key] === false || what[key].length === 0) delete what[key];
      fill(result, ...explanation(await api.explain(what)));
    } catch (why) {
      fill(result);
      // Not there: an older gateway, or one that was built without it.
      say(error, why.status === 404 && /page not found/.test(why.said) || why.status === 405 || why.status === 501 ? 'This gateway cannot explain requests.' : why.message);
      error.hidden = false;
      if (why.status === 401) page.again();
    }
    put(act, 'aria-disabled', null);
  });
  root.append(form, result);
}

// read reads fields as they are written, one in a line.
function read(text) {
  return text.split('\n').filter((line) => line.trim() !== '').map((line) => {
    const colon = line.indexOf(':', 1);
    if (colon < 0) throw new Error(`A field is name: value, and this is not: ${line.trim()}`);
    return { name: line.slice(0, colon).trim(), value: line.slice(colon + 1).trim() };
  });
}

const outcomes = { forwarded: '→ It is forwarded', answered: '↩ It is answered by the gateway itself', closed: '✕ Its connection is closed without an answer', passed: '→ Its bytes are passed on' };

const place = (p) => p.at || p.path ? el('small', { class: 'place' }, p.at || p.path) : '';

function explanation(x) {
  const chosen = x.upstream?.members?.find((m) => m.choice === 'chosen');
  const where = x.outcome === 'answered' && x.answer ? `: ${x.answer.line}` : x.outcome === 'forwarded' || x.outcome === 'passed' ? [' to', x.upstream?.name, chosen && `at ${chosen.address || chosen.target}`].filter(Boolean).join(' ') : '';
  return [
    el('section', { class: 'card outcome' }, el('h2', { class: x.error ? 'bad' : 'good' }, (outcomes[x.outcome] ?? x.outcome) + where),
      x.error ? el('p', { class: 'wrong' }, x.error) : '', facts([['Request', x.request.line], ['Client', x.client], ['Listener', `${x.listener.name || x.listener.address}: ${x.listener.why}`], ['Route', x.route && el('a', { href: to('map', x.route) }, x.route)], ['As of', x.live ? `now, ${clock(new Date())}` : 'the config alone']]),
      ...(x.notes ?? []).map((n) => el('p', { class: 'soft' }, n))),
    el('section', { class: 'card' }, el('h2', {}, 'Step by step'), el('ol', { class: 'steps' }, ...x.steps.map((s) => el('li', {}, s.round ? round(s.round) : s.plugin ? plugin(s.plugin) : '')))),
    x.upstream ? upstream(x.upstream) : '',
    x.sent ? message('What the upstream gets', x.sent) : '',
    x.answer ? message('What the client gets', x.answer) : '',
  ];
}

function round(r) {
  const tried = r.tried ?? [], missed = tried.filter((t) => t.part), fit = tried.filter((t) => !t.part);
  const box = el('div', {}, el('strong', {}, `${r.number > 1 ? 'The routes are searched again' : 'The routes are searched'} for ${r.method} ${r.authority}${r.path}`));
  if (missed.length > 0) {
    box.append(el('details', { open: missed.length <= 5 }, el('summary', {}, `${missed.length} ${missed.length === 1 ? 'route does' : 'routes do'} not match`),
      el('ol', {}, ...missed.map((t) => el('li', {}, el('span', { class: 'name' }, t.route), ` – ${t.part}${t.name ? ' ' + t.name : ''}: wants ${t.want || 'something else'}, has ${t.have || 'nothing'} `, place(t))))));
  }
  for (const t of fit) box.append(el('p', {}, t.route === r.matched ? '● ' : '○ ', el('span', { class: 'name' }, t.route), t.route === r.matched ? ' matches ' : ' would match, but its plugin decided otherwise ', place(t)));
  if (!r.matched) box.append(el('p', { class: 'warn' }, 'No route matches.'));
  return box;
}

function plugin(p) {
  const fields = (list) => list?.length > 0 && list.map((f) => `${f.name}: ${f.value}`).join('\n');
  return el('div', {}, el('strong', {}, 'Plugin ', el('a', { href: to('plugins', p.name) }, p.name), ` (${p.role}, ${p.phase}): `, el('span', { class: p.failure ? 'bad' : 'good' }, p.decision)), ' ', place(p),
    p.failure ? el('p', { class: 'wrong' }, p.failure) : '',
    facts([
      ['Method', p.method], ['Authority', p.authority], ['Path', p.path], ['Upstream', p.upstream], ['Address', p.address], ['Timeout', p.timeout], ['Status', p.status], ['Body', p.body],
      ['Set', fields(p.set)], ['Removed', (p.removed ?? []).join(', ')], ['Says', (p.says ?? []).join('\n')],
      ['Calls', (p.calls ?? []).map((c) => `${c.method} ${c.path} of ${c.upstream}: ${c.sent ? c.error || c.status : 'not sent'}`).join('\n')],
      ['Fuel', number(p.fuel)], ['Took', `${number(Math.round(p.took_ns / 1000))} µs`],
    ]));
}

const choices = { chosen: '● chosen', eligible: '○ eligible', full: '▲ full', 'passed over': '– passed over' };

function upstream(u) {
  return el('section', { class: 'card' }, el('h2', {}, 'Upstream ', el('a', { href: to('upstreams', u.name) }, u.name)), el('p', {}, u.why, ' ', place(u)),
    facts([['Host field', u.host], ['Authority', u.authority], ['Balancing', u.algorithm], ['Hash key', u.hash_key], ['Session', u.session],
      ['Pool now', u.pool && `${u.pool.connections_open} open, ${u.pool.connections_idle} idle, ${u.pool.requests_waiting} waiting${u.pool.breaker_open ? ', breaker open' : ''}, ${u.pool.retries_left} retries left`]]),
    el('h3', {}, 'Whom it can be given to'),
    el('ul', { class: 'members' }, ...(u.members ?? []).map((m) => el('li', { class: m.choice === 'chosen' ? 'chosen' : '' }, el('strong', {}, choices[m.choice] ?? m.choice), ' ', el('code', {}, m.address || m.target),
      ` ${m.address && m.address !== m.target ? 'of ' + m.target + ', ' : ''}${m.state}, ${m.health}${m.why ? ` (${m.why})` : ''}, weight ${m.weight}, tier ${m.tier}` + (u.pool ? `, ${m.connections_open} open, ${m.connections_idle} idle` : '')))),
    el('h3', {}, 'Rules in force'), facts((u.rules ?? []).map((r) => [r.key, r.value])));
}

function message(title, m) {
  return el('section', { class: 'card' }, el('h2', {}, title), el('pre', {}, el('strong', {}, m.line), ...(m.fields ?? []).flatMap((f) => ['\n', `${f.name}: ${f.value}`, f.note ? el('small', {}, `   ← ${f.note}`) : '']), m.body ? `\n\n${m.body}` : ''));
}
