// What was changed live: how the gateway differs from its config file, and who did it.

import * as api from './api.js';
import { clock, count, el, fits, keep, say, to } from './dom.js';

export const view = {
  name: 'changes', title: 'Changes', ask: api.changes, filter: 'target, plugin, operation or person',
  show(root, data, at) {
    if (!root.firstElementChild) {
      root.append(
        el('section', { class: 'card' }, el('h2', {}, 'Differs from the file'), el('p', { class: 'soft' }), el('ul', { class: 'differences' })),
        el('section', { class: 'card' }, el('h2', {}, 'Who changed what'), el('p', { class: 'soft' }, 'No one has changed anything since the gateway started.'), el('ol', { class: 'rows' })));
    }
    const [now, history] = root.children, d = data.differences.filter((x) => fits(at.words, [x.kind, x.name, x.text].join(' ')));
    say(now.querySelector('p'), `The config in force was loaded at ${clock(new Date(data.since))}.` + (data.differences.length === 0 ? ' Nothing differs from it.' : ''));
    keep(now.querySelector('ul'), d, (x) => `${x.kind} ${x.name}`, (x) => el('li', {}, el('a', { class: 'name', href: to(x.kind === 'plugin' ? 'plugins' : 'upstreams', x.name.replace('/', ' ')) }, x.name), ' ', el('span')), (li, x) => say(li.lastElementChild, x.text));
    for (const li of now.querySelectorAll('li')) if (li.firstElementChild.textContent === 'log_level') li.firstElementChild.removeAttribute('href');
    history.querySelector('p').hidden = data.history.length > 0;
    const h = data.history.filter((x) => fits(at.words, [x.by, x.from, x.what, x.object, x.said].join(' ')));
    keep(history.querySelector('ol'), h, (x) => x.time + x.what + x.object, (x) => el('li', {},
      el('span', { class: 'when' }, clock(new Date(x.time))), el('strong', { class: x.status < 400 ? 'good' : 'bad' }, x.status < 400 ? '● done' : `✕ refused: ${x.status}`),
      el('span', { class: 'what' }, `${x.what} ${x.object}`), el('span', { class: 'soft' }, `by ${x.by}, from ${x.from}`), x.said ? el('code', { class: 'said' }, x.said) : ''), () => {});
    return { live: data.differences.length === 0 ? 'nothing differs from the config file.' : `${count(data.differences.length, 'thing differs', 'things differ')} from the config file.` };
  },
};
