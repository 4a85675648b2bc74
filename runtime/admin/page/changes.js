// What an operator can change, and the words in which they are asked whether to.

import * as api from './api.js';
import { ask, field } from './dialog.js';

const holds = 'This holds until the gateway is restarted, or its config says something new of this target.';

const states = ['active', 'standby', 'spare', 'drain', 'disabled'].map((state) => [state, state]);

// what a target in this state gets.
const gets = {
  active: 'It gets its share of the requests.',
  standby: 'It gets requests only while no active target can serve.',
  spare: 'It gets requests only while an active target is missing, in place of that one.',
  drain: 'It gets no new requests; only sessions that name it.',
  disabled: 'It gets no requests at all.',
};

const serving = ['active', 'standby', 'spare'];
const well = ['healthy', 'recovering'];

// add up what is open and under way at all addresses of a target.
const sum = (members, of) => members.reduce((n, m) => n + m[of], 0);

// alone says whether nobody else of the upstream could take the requests of a target.
function alone(upstream, target) {
  return !upstream.members.some((m) => m.target !== target && serving.includes(m.state) && well.includes(m.health));
}

// warnings are what else happens if a target no longer serves.
function warnings(upstream, target) {
  return alone(upstream, target) ? [{ warning: `No other target of ${upstream.name} can serve now. Requests to it will be answered with 503.` }] : [];
}

// These are sentences about what a target has at all of its addresses, and what becomes of it.

function finishing(members) {
  const n = sum(members, 'requests_active');
  return n === 0 ? 'No request is under way.' : n === 1 ? 'The request under way finishes.' : `The ${n} requests under way finish.`;
}

function keeping(members) {
  const n = sum(members, 'connections_open');
  return n === 0 ? '' : n === 1 ? ' Its connection stays open for the sessions, until it has been idle for long.' : ` Its ${n} connections stay open for the sessions, until they have been idle for long.`;
}

function closing(members) {
  const n = sum(members, 'connections_idle');
  return n === 0 ? '' : n === 1 ? ' Its idle connection is closed at once.' : ` Its ${n} idle connections are closed at once.`;
}

// Each takes the upstream, the target's name and its members as they are now, and done, which is given the upstream as it
// is afterwards. It returns whether something was changed.

export function activate(upstream, target, members, done) {
  const { weight, tier } = members[0];
  return ask({
    title: `Activate ${target}?`, button: 'Activate',
    says: () => [`${target} of upstream ${upstream.name} gets its share of the requests again: weight ${weight}, tier ${tier}.`, holds],
    go: async () => done(await api.change(upstream.name, target, { state: 'active' })),
  });
}

export function drain(upstream, target, members, done) {
  return ask({
    title: `Drain ${target}?`, button: 'Drain', danger: true,
    says: () => [
      `${target} of upstream ${upstream.name} gets no new requests. Sessions that name it stay with it.`, finishing(members) + keeping(members),
      ...warnings(upstream, target), holds,
    ],
    go: async () => done(await api.change(upstream.name, target, { state: 'drain' })),
  });
}

export function disable(upstream, target, members, done) {
  return ask({
    title: `Disable ${target}?`, button: 'Disable', danger: true,
    says: () => [
      `${target} of upstream ${upstream.name} gets no requests at all. Sessions that name it go elsewhere.`, finishing(members) + closing(members),
      ...warnings(upstream, target), holds,
    ],
    go: async () => done(await api.change(upstream.name, target, { state: 'disabled' })),
  });
}

export function edit(upstream, target, members, done) {
  const is = members[0];
  const weight = field('Weight', { type: 'number', min: 1, max: 1000, step: 1, value: is.weight, hint: '1 to 1000' });
  const tier = field('Tier', { type: 'number', min: 0, max: 100, step: 1, value: is.tier, hint: '0 to 100; the lowest that can serves' });
  const state = field('State', { options: states, value: is.state });
  const what = () => {
    const said = {};
    if (weight.input.value !== '' && weight.input.valueAsNumber !== is.weight) said.weight = weight.input.valueAsNumber;
    if (tier.input.value !== '' && tier.input.valueAsNumber !== is.tier) said.tier = tier.input.valueAsNumber;
    if (state.input.value !== is.state) said.state = state.input.value;
    return said;
  };
  const says = () => {
    const now = what(), parts = Object.keys(now).map((key) => `${key} from ${is[key]} to ${now[key]}`);
    if (parts.length === 0) return ['Nothing is different yet.'];
    const texts = [`${target} of upstream ${upstream.name}: ${parts.join(', ')}.${now.state ? ' ' + gets[now.state] : ''}`];
    return [...texts, ...(now.state && !serving.includes(now.state) ? warnings(upstream, target) : []), holds];
  };
  return ask({
    title: `Change ${target}`, button: 'Change', fields: [weight.box, tier.box, state.box],
    says, ready: () => Object.keys(what()).length > 0,
    go: async () => done(await api.change(upstream.name, target, what())),
  });
}

export function remove(upstream, target, members, done) {
  return ask({
    title: `Remove ${target}?`, button: 'Remove', danger: true,
    says: () => [
      `${target} leaves upstream ${upstream.name} and gets no requests any more.`, finishing(members) + closing(members),
      'The config file does not have it, because it was added live. To have it back, add it again.',
      ...warnings(upstream, target),
    ],
    go: async () => done(await api.remove(upstream.name, target)),
  });
}

export function add(upstream, done) {
  const url = field('URL', { type: 'text', placeholder: 'http://10.0.0.7:8080', inputmode: 'url', spellcheck: 'false', hint: 'with its port, if it is not the usual one; without a path' });
  const weight = field('Weight', { type: 'number', min: 1, max: 1000, step: 1, value: 1, hint: '1 to 1000' });
  const tier = field('Tier', { type: 'number', min: 0, max: 100, step: 1, value: 0, hint: '0 to 100; the lowest that can serves' });
  const state = field('State', { options: states, value: 'active' });
  const what = () => ({ url: url.input.value.trim(), weight: weight.input.valueAsNumber, tier: tier.input.valueAsNumber, state: state.input.value });
  const says = () => {
    const now = what();
    if (now.url === '') return [`Upstream ${upstream.name} gets another target. Say which.`];
    return [`${now.url} becomes a target of upstream ${upstream.name}. ${gets[now.state]}`, 'It stays until it is removed here, or the gateway is restarted. The config file is not changed.'];
  };
  return ask({
    title: `Add a target to ${upstream.name}`, button: 'Add', fields: [url.box, weight.box, tier.box, state.box],
    says, ready: () => what().url !== '',
    go: async () => done(await api.add(upstream.name, what())),
  });
}
