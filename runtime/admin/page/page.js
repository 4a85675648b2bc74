// The page: it asks the gateway for what the view shows that somebody looks at, again and again while they do, and says how
// fresh it is. Each view is a module; what it has open, and what was typed into it, stays while others are looked at.
//
// A view has: name and title; ask(at), which returns what it shows; show(root, data, at, page), which brings root up to date
// with it and returns what there is to say of it: live, title, and nothing for an empty one. What it may have: id, for one
// thing of a kind; once, if what it shows does not change; filter, only and choice, the texts of its tools.

import * as api from './api.js';
import { clock, el, put, say, to } from './dom.js';
import { view as connections } from './connections.js';
import { view as errors } from './errors.js';
import { view as explain } from './explain.js';
import { view as live_changes } from './live.js';
import { view as map } from './map.js';
import { view as plugins } from './plugins.js';
import { view as trace } from './trace.js';
import { view as traces } from './traces.js';
import { view as upstreams } from './upstreams.js';

const views = [map, upstreams, connections, traces, explain, plugins, errors, live_changes];

const find = (id) => document.getElementById(id);
const live = find('live'), updated = find('updated'), trouble = find('trouble'), nothing = find('nothing'), every = find('every');
const filter = find('filter'), only = find('only'), choice = find('choice');

const states = new Map(); // what is known of each view, by its name and id
let at = null; // where the reader is: view, id, q, words, only, choice
let lost = null; // since when nothing can be had; null: it can
let why = null; // the error of the last try
let changed = 0; // counts the changes that were made here
let timer = 0, turn = 0;

// state is what is known of a view: its element, and the data as last heard of, with when that was.
function state() {
  const key = at.view.name + '/' + (at.id ?? '');
  if (!states.has(key)) {
    const root = el('div', { id: at.id === undefined ? at.view.name : undefined, class: `view ${at.view.name}` });
    find('shown').append(root);
    for (const [old, s] of states) {
      if (old.startsWith(at.view.name + '/') && at.id !== undefined) { // of things of a kind, one is kept
        s.root.remove();
        states.delete(old);
      }
    }
    states.set(key, { root, data: null, heard: null });
  }
  return states.get(key);
}

// read reads where the reader is from the address of the page.
function read() {
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, id] = path.split('/').map(decode), said = new URLSearchParams(query ?? '');
  const view = name === 'traces' && id ? trace : views.find((v) => v.name === name) ?? map;
  const q = said.get('q') ?? '';
  return {
    view, id: view === trace ? id : undefined, q, words: q.toLowerCase().split(/\s+/).filter(Boolean), only: said.get('only') === '1',
    choice: view.choice?.options.some(([value]) => value === said.get('choice')) ? said.get('choice') : '',
  };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// go shows the view that the address names.
function go() {
  at = read();
  if (filter.value !== at.q) filter.value = at.q;
  only.checked = at.only;
  const { view } = at;
  put(filter, 'placeholder', view.filter);
  for (const e of [filter, find('tools').querySelector('label')]) e.hidden = !view.filter;
  only.parentElement.hidden = !view.only;
  say(find('only-name'), view.only ?? '');
  choice.parentElement.hidden = !view.choice;
  every.parentElement.hidden = Boolean(view.once);
  say(find('choice-name'), view.choice?.label ?? '');
  choice.replaceChildren(...(view.choice?.options ?? []).map(([value, text]) => el('option', { value }, text)));
  choice.value = at.choice;
  const own = state();
  for (const s of states.values()) s.root.hidden = s !== own;
  [...find('views').children].forEach((li, i) => {
    const here = views[i] === view || views[i] === traces && view === trace;
    put(li.firstElementChild, 'aria-current', here && 'page');
    if (views[i] === view) put(li.firstElementChild, 'href', location.hash || to(view.name));
  });
  show();
  look();
}

// tools writes what the tools say into the address, so that it is there when the page is loaded anew, or somebody goes back.
function tools() {
  const said = new URLSearchParams();
  if (filter.value) said.set('q', filter.value);
  if (only.checked) said.set('only', '1');
  if (choice.value) said.set('choice', choice.value);
  const other = choice.value !== at.choice;
  history.replaceState(null, '', to(at.view.name) + (said.size > 0 ? '?' + said : ''));
  if (other) state().data = null;
  go();
}

// look asks once, and has the next question asked in time.
async function look() {
  clearTimeout(timer);
  const mine = ++turn, own = state(), { view } = at, before = changed;
  if (document.hidden) return;
  if (view.ask) {
    try {
      const answer = await view.ask(at);
      if (changed === before && mine === turn) own.data = answer; // else it may be older than the change
      own.heard = new Date();
      lost = why = null;
    } catch (e) {
      if (mine !== turn) return;
      lost ??= new Date();
      why = e;
    }
    if (mine !== turn) return;
    show();
  }
  const pause = Number(every.value);
  if (pause > 0 && !document.hidden && view.ask && why?.status !== 401 && !(view.once && own.data !== null)) timer = setTimeout(look, pause);
}

// page is what views know of the page.
const page = {
  // replace takes over the answer to a change.
  replace(change) {
    changed++;
    const own = state();
    own.data = change(own.data);
    show();
  },
  // again asks at once: something has changed.
  async again() {
    changed++;
    await look();
  },
};

// show brings the page up to date with what is known.
function show() {
  const { view } = at, own = state(), signin = why?.status === 401;
  find('signin').hidden = !signin;
  find('leave').hidden = !api.token() || signin;
  for (const id of ['tools', 'shown']) find(id).hidden = signin;
  if (signin && !document.activeElement.closest('#signin')) find('token').focus();
  showTrouble(own, signin);
  let says = { live: '' };
  if (!signin && (own.data !== null || !view.ask)) says = view.show(own.root, own.data, at, page);
  const quiet = every.value === '0' || view.once ? '' : 'Live: ';
  const asking = view.ask && own.data === null && !signin ? 'Asking the gateway …' : '';
  say(live, lost ? '' : asking || (says.live && (every.value === '0' && !view.once ? 'Not updated: ' : quiet) + says.live));
  find('status').hidden = live.textContent === '' && updated.hidden;
  document.title = (signin ? 'Sign in' : lost ? 'Not reached' : [says.title, view.title].filter(Boolean).join(' – ')) + ' – wasmgate';
  say(nothing, signin ? '' : says.nothing ?? '');
  nothing.hidden = nothing.textContent === '';
}

function showTrouble(own, signin) {
  updated.hidden = !own.heard || signin || Boolean(at.view.once);
  if (own.heard) {
    const time = updated.querySelector('time');
    say(time, clock(own.heard));
    put(time, 'datetime', own.heard.toISOString());
  }
  put(document.querySelector('main'), 'class', lost && !signin && 'old');
  trouble.hidden = !lost || signin;
  if (trouble.hidden) return;
  const old = own.heard ? `What is shown is old: it is from ${clock(own.heard)}.` : 'There is nothing to show yet.';
  const again = every.value === '0' ? '' : ' The page keeps trying.';
  const since = why.reached ? `${why.message.replace(/\.?$/, '.')} Since ${clock(lost)} this view cannot be had.` : `${why.message.replace(/\.$/, '')} since ${clock(lost)}.`;
  say(trouble, `${since} ${old}${again}`);
}

// The form for who is not known yet.
find('signin').addEventListener('submit', async (e) => {
  e.preventDefault();
  const field = find('token');
  api.setToken(field.value.trim());
  await look();
  const refused = why?.status === 401;
  find('refused').hidden = !refused;
  if (refused) say(find('refused'), 'The gateway does not accept this token.');
  else {
    field.value = '';
    filter.focus();
  }
});
find('leave').addEventListener('click', () => {
  api.setToken(null);
  location.reload();
});

find('views').append(...views.map((v) => el('li', {}, el('a', { href: to(v.name) }, v.title))));
filter.addEventListener('input', tools);
only.addEventListener('change', tools);
choice.addEventListener('change', tools);
every.addEventListener('change', go);
find('tools').addEventListener('submit', (e) => e.preventDefault());
document.addEventListener('visibilitychange', look);
addEventListener('hashchange', () => {
  lost = why?.status === 401 ? lost : null; // another view may well be had
  why = why?.status === 401 ? why : null;
  go();
});
go();
