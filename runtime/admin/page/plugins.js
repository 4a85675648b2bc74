// The plugins: what each is made of, what it has done, and the way back to the version before.

import * as api from './api.js';
import { ask, field } from './dialog.js';
import { bytes, clock, count, el, facts, fill, fits, keep, ms, number, put, say, to, wordy } from './dom.js';

export const view = {
  name: 'plugins', title: 'Plugins', filter: 'plugin, module, ABI, route', only: 'Only what is not well',
  async ask() {
    const list = await api.plugins();
    return { list, time: performance.now() };
  },
  show(root, { list, time }, at, page) {
    const wanted = list.filter((p) => fits(at.words, [p.name, p.abi, p.module, p.digest, ...p.used_by.routes, ...p.used_by.listeners].join(' ')) && (!at.only || ill(p)));
    keep(root, wanted, (p) => p.name, make, (e, p) => change(e, p, time, page));
    const bad = list.filter(ill).length;
    return {
      live: `${count(list.length, 'plugin')}${bad > 0 ? `, ${bad} not well` : list.length > 0 ? ', all well' : ''}.`, title: bad > 0 ? `${bad} not well` : '',
      nothing: list.length === 0 ? 'The config has no plugins.' : wanted.length > 0 ? '' : at.words.length === 0 ? 'All plugins are well.' : 'Nothing fits the filter.',
    };
  },
};

// ill says whether somebody should look at a plugin now.
export const ill = (p) => Boolean(p.missing) || p.figures.breaker_open;

const now = new WeakMap(); // what an element shows, and the figures of the reading before

const short = (digest) => digest ? digest.replace('sha256:', '').slice(0, 12) : 'none';

function make(p) {
  const back = el('button', { type: 'button', 'aria-label': `Roll back ${p.name}` }, 'Roll back …');
  const swap = el('button', { type: 'button', 'aria-label': `Swap the module of ${p.name}` }, 'Swap …');
  const e = el('section', { class: 'card plugin', 'aria-label': p.name },
    el('div', { class: 'head' }, el('h2', {}, p.name), el('span', { class: 'mark', hidden: true }, 'differs from the file'), el('p', { class: 'well' }), el('span', { class: 'actions' }, back, swap)),
    el('div', { class: 'now' }), el('div', { class: 'errors' }), el('details', {}, el('summary', {}, 'Versions, limits and event loops'), el('div')));
  back.addEventListener('click', () => rollBack(now.get(e)));
  swap.addEventListener('click', () => swapModule(now.get(e)));
  e.querySelector('details').addEventListener('toggle', () => tell(e));
  return e;
}

function change(e, p, time, page) {
  const before = now.get(e);
  const own = { p, time, page, rate: before?.rate };
  if (before && before.time !== time) own.rate = Math.max(0, p.figures.calls - before.p.figures.calls) / (time - before.time) * 1000;
  now.set(e, own);
  e.querySelector('.mark').hidden = !p.differs_from_config;
  const state = e.querySelector('.well');
  say(state, p.missing ? `✕ its module is not there: ${p.missing}` : p.figures.breaker_open ? '▲ breaker open: it failed too often and is not called' : '● well');
  put(state, 'class', 'well ' + (p.missing ? 'bad' : p.figures.breaker_open ? 'warn' : 'good'));
  e.querySelector('.actions').firstElementChild.hidden = p.versions.length < 2;
  const f = p.figures, failures = Object.entries(f.failures_by_kind ?? {}).filter(([, n]) => n > 0);
  redraw(e.querySelector('.now'), facts([
    ['Calls', number(f.calls) + (own.rate === undefined ? '' : `, ${own.rate.toFixed(own.rate > 0 && own.rate < 10 ? 1 : 0)} a second`)],
    ['Fuel for a call', f.calls > 0 ? `${number(Math.round(f.fuel / f.calls))} of ${number(p.limits.fuel)}` : '–'],
    ['Failures', failures.length > 0 ? failures.map(([kind, n]) => `${number(n)} ${wordy(kind)}`).join(', ') : 'none'],
    ['Instances', `${f.instances}, ${bytes(f.memory_bytes)}`],
    ['ABI', p.abi], ['If it fails', p.on_error === 'fail_open' ? 'requests go on (fail_open)' : 'requests fail (fail_closed)'],
    ['Module', p.module], ['Digest', short(p.digest)], ['At', p.at],
    ['Routes', p.used_by.routes.length > 0 && el('a', { href: to('map', p.name) }, p.used_by.routes.length > 5 ? count(p.used_by.routes.length, 'route') : p.used_by.routes.join(', '))],
    ['Listeners', p.used_by.listeners.join(', ')],
  ]));
  redraw(e.querySelector('.errors'), p.errors.length === 0 ? '' : el('div', {}, el('h3', {}, 'Last errors'), el('ol', {}, ...p.errors.slice(0, 5).map((x) =>
    el('li', {}, el('strong', {}, `${clock(new Date(x.time))} ${wordy(x.phase)}${x.kind ? ', ' + wordy(x.kind) : ''}: `), x.text, x.repeated ? el('span', { class: 'soft' }, ` (and ${number(x.repeated)} like it)`) : '')))));
  tell(e);
}

// redraw puts something else into an element if it is different.
function redraw(e, content) {
  const said = content === '' ? '' : content.innerText ?? content.textContent;
  if (e.dataset.said === said) return;
  e.dataset.said = said;
  const focused = e.contains(document.activeElement);
  fill(e, content);
  if (focused) e.querySelector('a')?.focus();
}

const ways = { config: 'from the config', swap: 'swapped in', rollback: 'rolled back to' };

function tell(e) {
  const details = e.querySelector('details'), { p } = now.get(e), l = p.limits;
  if (!details.open) return;
  redraw(details.lastElementChild, el('div', {},
    el('h3', {}, 'Versions'),
    el('ol', {}, ...p.versions.map((v, i) => el('li', {}, el('code', {}, short(v.digest)), ` ${v.module}, ${bytes(v.bytes)}, ${ways[v.why] ?? v.why} at ${clock(new Date(v.since))}${i === 0 ? ' – in force' : ''}`))),
    el('h3', {}, 'Limits of a call'),
    facts([['Memory', bytes(l.memory_bytes)], ['Fuel', number(l.fuel)], ['To start', number(l.start_fuel)], ['Body', bytes(l.body_bytes)], ['Own requests', l.calls], ['Wait for an instance', ms(l.wait_ms)]]),
    el('h3', {}, 'Event loops'),
    el('ul', {}, ...p.loops.map((x) => el('li', {}, `Loop ${x.loop}: ${count(x.instances, 'instance')}, ${x.parked} waiting, ${bytes(x.memory_bytes)}${x.breaker_open ? ', breaker open' : ''}`)))));
}

const holds = 'Requests under way end with the module that they began with. It stays until the config is loaded again.';

function rollBack({ p, page }) {
  const [is, before] = p.versions;
  return ask({
    title: `Roll back ${p.name}?`, button: 'Roll back', danger: true,
    says: () => [`Instead of ${short(is.digest)} (${is.module}), ${short(before.digest)} (${before.module}) is called, as before ${clock(new Date(is.since))}.`, holds],
    go: async () => {
      await api.rollBack(p.name);
      await page.again();
    },
  });
}

function swapModule({ p, page }) {
  const module = field('Module', { type: 'text', value: p.module, spellcheck: 'false', hint: 'a path on the gateway’s machine, or a reference as in the config' });
  const text = () => module.input.value.trim();
  return ask({
    title: `Swap the module of ${p.name}`, button: 'Swap', fields: [module.box],
    says: () => [
      text() === p.module ? `${p.module} is read again and put in the place of what is in force.` : `${text()} is put in the place of ${p.module}.`,
      'It is compiled and started before anything changes; one that cannot be used changes nothing. ' + holds,
    ],
    ready: () => text() !== '',
    go: async () => {
      await api.swap(p.name, text() === p.module ? { reload: true } : { module: text() });
      await page.again();
    },
  });
}
