// The map: listeners, routes, plugins, upstreams and addresses, with lines for the ways that requests can take. What is in it
// and what is shown of it is found out in graph.js; here it is drawn.

import * as api from './api.js';
import { count, el, keep, put, say, svg, to } from './dom.js';
import { graph, shownOf } from './graph.js';

export const view = {
  name: 'map', title: 'Map', filter: 'listener, route, path, plugin, upstream, address', only: 'Only ways that are not well',
  async ask() {
    const [listeners, routes, plugins, upstreams] = await Promise.all([api.listeners(), api.routes(), api.plugins(), api.upstreams()]);
    return { listeners, routes, plugins, upstreams };
  },
  show(root, data, at, page) {
    if (!root.firstElementChild) make(root);
    const all = graph(data), s = shownOf(all, { words: at.words, only: at.only, through: through(root), open });
    render(root, s, page);
    const bad = [...all.nodes.values()].filter((n) => n.level === 'bad' || n.level === 'warn').length;
    return {
      live: `${count(data.listeners.length, 'listener')}, ${count(data.routes.length, 'route')}, ${count(data.plugins.length, 'plugin')}, ${count(data.upstreams.length, 'upstream')}` + (bad > 0 ? `; ${bad} not well.` : '; all well.'),
      title: bad > 0 ? `${bad} not well` : '',
      nothing: s.empty ? (at.only && at.words.length === 0 ? 'Everything is well.' : 'Nothing fits the filter.') : '',
    };
  },
};

const open = new Set(); // groups that are unfolded

const chosen = new WeakMap(); // the node through which ways are shown, by root
const through = (root) => chosen.get(root) ?? null;

const titles = { listener: 'Listeners', route: 'Routes', plugin: 'Plugins', upstream: 'Upstreams', address: 'Addresses' };

let last = null; // what was drawn last, for when the size changes

function make(root) {
  const columns = Object.entries(titles).map(([kind, title]) => el('section', { class: `column ${title.toLowerCase()}`, 'aria-label': title }, el('h2', {}, title), el('ul')));
  const lines = svg('svg', { class: 'lines', 'aria-hidden': 'true' });
  const chip = el('p', { class: 'chip', hidden: true }, el('span'), ' ', el('button', { type: 'button' }, 'Show everything'));
  const canvas = el('div', { class: 'canvas' }, lines, ...columns);
  root.append(chip, canvas);
  chip.querySelector('button').addEventListener('click', () => {
    const key = through(root);
    chosen.set(root, null);
    last.page.replace((data) => data);
    [...root.querySelectorAll('[data-key]')].find((e) => e.dataset.key === key)?.querySelector('button')?.focus();
  });
  new ResizeObserver(() => draw(root)).observe(canvas);
  for (const event of ['mouseover', 'focusin']) canvas.addEventListener(event, (e) => light(root, e.target.closest('[data-key]')?.dataset.key));
  for (const event of ['mouseleave', 'focusout']) canvas.addEventListener(event, () => light(root, undefined));
}

function render(root, s, page) {
  last = { s, page };
  const chip = root.querySelector('.chip'), node = s.through;
  chip.hidden = !node;
  if (node) say(chip.firstElementChild, `Only ways through ${node.kind} ${node.name}.`);
  for (const kind of Object.keys(titles)) {
    const column = root.querySelector(`.${titles[kind].toLowerCase()}`), list = s.columns[kind];
    say(column.querySelector('h2'), `${titles[kind]} ${list.total > list.shown ? `${list.shown} of ${list.total}` : list.total || ''}`.trim());
    column.hidden = list.total === 0 && kind !== 'route';
    keep(column.querySelector('ul'), list.nodes, (n) => n.key, (n) => box(root, n), change);
  }
  draw(root);
}

const now = new WeakMap(); // the node that an element shows

// box is a node: a button that shows only the ways through it, with what there is to say of it; or a fold with several.
function box(root, n) {
  const li = el('li', { 'data-key': n.key, class: 'node' });
  if (n.fold) {
    const button = el('button', { type: 'button', class: 'fold' });
    button.addEventListener('click', () => {
      if (!open.delete(n.key)) open.add(n.key);
      last.page.replace((data) => data);
    });
    li.append(button, el('p', { class: 'soft' }));
    return li;
  }
  const button = el('button', { type: 'button', class: 'name' });
  button.addEventListener('click', () => {
    chosen.set(root, through(root) === n.key ? null : n.key);
    last.page.replace((data) => data);
  });
  li.append(button, el('span', { class: 'mark', hidden: true }), el('p', { class: 'health' }), el('p', { class: 'soft' }), el('p', { class: 'way' }), el('p', { class: 'dots' }, el('span', { 'aria-hidden': 'true' }), el('a')));
  return li;
}

function change(li, n) {
  now.set(li, n);
  const button = li.firstElementChild;
  put(li, 'data-level', n.level);
  say(button, n.name);
  if (n.fold) {
    put(button, 'aria-expanded', String(n.unfolded));
    return say(li.lastElementChild, n.text);
  }
  put(button, 'aria-pressed', String(last.s.through?.key === n.key));
  put(button, 'title', 'Show only the ways through it');
  put(li, 'data-in', n.inFold);
  const mark = li.querySelector('.mark');
  say(mark, n.mark ?? '');
  mark.hidden = !n.mark;
  for (const [name, text] of [['health', n.health], ['soft', n.text], ['way', n.way && '→ ' + n.way]]) {
    const p = li.querySelector('p.' + name);
    say(p, text || '');
    p.hidden = !text;
  }
  const dots = li.querySelector('.dots');
  dots.hidden = !n.link;
  if (!n.link) return;
  say(dots.firstElementChild, '●'.repeat(Math.min(n.busy, 24)) + '○'.repeat(Math.min(n.idle, 24 - Math.min(n.busy, 24))));
  const a = dots.querySelector('a');
  put(a, 'href', to('connections', n.link));
  say(a, `${count(n.busy + n.idle, 'connection')}, ${n.idle} idle`);
}

// draw puts the lines where the boxes are. Where columns are below each other, there are none: each box says where it leads.
function draw(root) {
  const canvas = root.querySelector('.canvas'), lines = root.querySelector('.lines');
  if (!last || !canvas.checkVisibility()) return;
  const frame = canvas.getBoundingClientRect(), wide = getComputedStyle(lines).display !== 'none';
  const boxes = new Map([...canvas.querySelectorAll('[data-key]')].map((e) => [e.dataset.key, e]));
  const edges = wide ? last.s.edges.filter((e) => boxes.has(e.from) && boxes.has(e.to)) : [];
  const most = Math.max(1, ...edges.map((e) => e.hits));
  keep(lines, edges, (e) => `${e.from}\n${e.to}`, () => svg('path'), (path, e) => {
    const a = boxes.get(e.from).getBoundingClientRect(), b = boxes.get(e.to).getBoundingClientRect();
    const x = a.right - frame.left, y = a.top - frame.top + Math.min(a.height / 2, 18), u = b.left - frame.left, v = b.top - frame.top + Math.min(b.height / 2, 18), bend = Math.max(12, (u - x) / 2);
    // Listeners for HTTP share one line to all routes.
    const trunk = e.from.startsWith('listener ') && (e.to.startsWith('route ') || e.to.startsWith('fold '));
    put(path, 'd', trunk ? `M${x} ${y}H${u - 16}V${v}H${u}`.replace(/(\.\d)\d+/g, '$1') : `M${x} ${y}C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}`.replace(/(\.\d)\d+/g, '$1'));
    put(path, 'stroke-width', e.hits > 0 && !trunk ? (1.25 + 3 * e.hits / most).toFixed(1) : '1');
    put(path, 'data-used', e.hits > 0);
    put(path, 'data-ways', ' ' + e.ways.join(' ') + ' ');
  });
}

// light makes the lines of the ways through a node stand out.
function light(root, key) {
  const ways = key === undefined ? null : last?.s.waysOf(key);
  for (const path of root.querySelector('.lines').children) {
    put(path, 'class', ways && path.dataset.ways.trim().split(' ').some((w) => ways.has(Number(w))) ? 'lit' : null);
  }
}
