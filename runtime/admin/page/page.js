// The page: it asks the gateway for its upstreams, again and again while somebody looks, and says how fresh what it shows
// is. Each part of the page is a module with a render function that brings its elements up to date.

import * as api from './api.js';
import { clock, count, put, say } from './dom.js';
import { ill, render } from './upstreams.js';

const find = (id) => document.getElementById(id);
const live = find('live'), updated = find('updated'), trouble = find('trouble'), nothing = find('nothing');
const signIn = find('sign-in'), token = find('token');
const filter = find('filter'), unhealthy = find('unhealthy'), every = find('every');

let list = null; // the upstreams as last heard of
let heard = null; // when that was
let lost = null; // since when they cannot be had; null: they can
let why = null; // the error of the last try
let changed = 0; // counts the changes that were made here

let timer = 0, asking = false;

// look asks once, and has the next question asked in time.
async function look() {
  clearTimeout(timer);
  if (document.hidden || asking) return;
  asking = true;
  const before = changed;
  try {
    const answer = await api.upstreams();
    if (changed === before) list = answer; // else it may be older than the change
    heard = new Date();
    lost = why = null;
  } catch (e) {
    lost ??= new Date();
    why = e;
  }
  asking = false;
  show();
  const pause = Number(every.value);
  if (pause > 0 && !document.hidden) timer = setTimeout(look, pause);
}

// done takes over the answer to a change.
function done(upstream) {
  changed++;
  list = list.map((u) => u.name === upstream.name ? upstream : u);
  show();
}

// show brings the page up to date with what is known.
function show() {
  showTrouble();
  if (list === null) return;
  const shown = render(find('upstreams'), list, { select, done });
  const members = list.flatMap((u) => u.members), bad = members.filter(ill).length;
  const all = `${count(list.length, 'upstream')}, ${count(members.length, 'address', 'addresses')}`;
  const health = members.length === 0 ? '' : bad === 0 ? ', all healthy' : `, ${bad} not healthy`;
  const part = shown < members.length ? ` ${shown} shown.` : '';
  say(live, lost ? '' : (every.value === '0' ? 'Not updated: ' : 'Live: ') + all + health + '.' + part);
  document.title = lost ? 'Not reached – wasmgate' : bad > 0 ? `${bad} not healthy – wasmgate` : 'wasmgate';
  const none = list.length === 0 ? 'The config has no upstreams.' : find('upstreams').childElementCount > 0 ? '' : filter.value.trim() === '' ? 'Everything is healthy.' : 'Nothing fits the filter.';
  say(nothing, none);
  nothing.hidden = none === '';
}

function showTrouble() {
  if (heard) {
    const time = updated.querySelector('time');
    say(time, clock(heard));
    put(time, 'datetime', heard.toISOString());
    updated.hidden = false;
  }
  put(document.querySelector('main'), 'class', lost && 'old');
  trouble.hidden = !lost;
  signIn.hidden = !why?.refused;
  if (!lost) return;
  const old = heard ? `What is shown is old: it is from ${clock(heard)}.` : 'There is nothing to show yet.';
  const again = every.value === '0' ? '' : ' The page keeps trying.';
  const since = why.reached ? `${why.message.replace(/\.?$/, '.')} Since ${clock(lost)} its upstreams cannot be had.` : `${why.message.replace(/\.$/, '')} since ${clock(lost)}.`;
  say(trouble, `${since} ${old}${again}`);
  say(live, '');
  document.title = 'Not reached – wasmgate';
}

// select is the members of an upstream that the filter lets through; null: the upstream is not to be shown at all.
function select(upstream) {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (m) => {
    const text = [upstream.name, m.target, m.address, m.state, m.state === 'drain' ? 'draining' : '', m.health].join(' ').toLowerCase();
    return words.every((w) => text.includes(w)) && (!unhealthy.checked || upstream.breaker_open || ill(m));
  };
  const members = upstream.members.filter(fits);
  if (members.length > 0) return members;
  const empty = upstream.members.length === 0 && !unhealthy.checked && words.every((w) => upstream.name.toLowerCase().includes(w));
  return empty ? [] : null;
}

filter.addEventListener('input', show);
unhealthy.addEventListener('change', show);
every.addEventListener('change', look);
find('tools').addEventListener('submit', (e) => e.preventDefault());
document.addEventListener('visibilitychange', look);
signIn.addEventListener('submit', (e) => {
  e.preventDefault();
  api.signIn(token.value.trim());
  token.value = '';
  look();
});
look();
