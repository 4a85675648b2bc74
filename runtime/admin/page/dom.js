// Building the page. What comes from the gateway becomes text and never markup: names are whatever somebody wrote into a
// config or a name server.

// el makes an element. Attributes that are undefined, null or false are left out; on: { click: f } adds listeners.
export function el(name, { on = {}, ...attributes } = {}, ...children) {
  const e = document.createElement(name);
  for (const [attribute, value] of Object.entries(attributes)) put(e, attribute, value);
  for (const [event, listener] of Object.entries(on)) e.addEventListener(event, listener);
  e.append(...children);
  return e;
}

// say changes an element's text if it is another one, so that what nobody changed is not drawn, selected or read out anew.
export function say(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

// svg makes an element of a drawing.
export function svg(name, attributes = {}) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', name);
  for (const [attribute, value] of Object.entries(attributes)) put(e, attribute, value);
  return e;
}

// fill has an element hold these children and nothing else. It is for parts that nobody presses or types into.
export const fill = (e, ...children) => e.replaceChildren(...children.filter((c) => c !== undefined && c !== null && c !== false && c !== ''));

// put changes an attribute if it is another one; undefined, null and false remove it.
export function put(e, attribute, value) {
  if (value === undefined || value === null || value === false) e.removeAttribute(attribute);
  else if (e.getAttribute(attribute) !== String(value)) e.setAttribute(attribute, value === true ? '' : value);
}

// keep makes elements for items, in their order, behind the elements that parent had at first. An item that was there before
// keeps its element, and with it the focus. make(item) returns an element; change(element, item) brings it up to date.
export function keep(parent, items, key, make, change) {
  if (!lists.has(parent)) lists.set(parent, { before: parent.lastElementChild, elements: new Map() });
  const list = lists.get(parent), had = list.elements;
  list.elements = new Map();
  for (const item of items) {
    const k = key(item);
    list.elements.set(k, had.get(k) ?? make(item));
    had.delete(k);
  }
  for (const gone of had.values()) gone.remove();
  let previous = list.before;
  for (const item of items) {
    const e = list.elements.get(key(item));
    const next = previous ? previous.nextElementSibling : parent.firstElementChild;
    if (next !== e) parent.insertBefore(e, next);
    change(e, item);
    previous = e;
  }
}

const lists = new WeakMap();

// duration is one as Go writes it, for people: "1m3.214s" is "1 min 3 s".
export function duration(text) {
  const short = text.replace(/(\d+)\.(\d)\d*s$/, (_, whole, tenth) => whole.length > 1 || /m\d/.test(text) ? whole + 's' : whole + '.' + tenth + 's');
  return short.replace(/(\d)([a-zµ]+)/g, (_, digit, unit) => digit + ' ' + (unit === 'm' ? 'min' : unit) + ' ').trim();
}

// age is a duration without what is less than a second.
export function age(text) {
  return /[mµn]s$/.test(text) ? 'under 1 s' : duration(text.replace(/\.\d+s$/, 's'));
}

// count is "1 request", "2 requests".
export function count(n, one, many = one + 's') {
  return n + ' ' + (String(n) === '1' ? one : many);
}

// clock is a time of day.
export function clock(time) {
  return time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}

// number is one with its thousands apart.
export const number = (n) => n.toLocaleString('en');

// ms is a time in milliseconds, for people: "0.42 ms", "3.2 s", "4 min 3 s", "2 d 5 h".
export function ms(n) {
  if (n < 9.995) return (n < 0.0005 ? '0' : n < 0.995 ? n.toFixed(2) : n.toFixed(1)).replace(/\.0+$/, '') + ' ms';
  if (n < 999.5) return Math.round(n) + ' ms';
  const s = n / 1000;
  if (s < 59.95) return s.toFixed(1).replace(/\.0$/, '') + ' s';
  const [big, small, of, text] = s < 3600 ? [60, 1, 'min', 's'] : s < 86400 ? [3600, 60, 'h', 'min'] : [86400, 3600, 'd', 'h'];
  const whole = Math.floor(s / big), rest = Math.floor((s - whole * big) / small);
  return `${whole} ${of}` + (rest > 0 ? ` ${rest} ${text}` : '');
}

// bytes is a size, for people: "812 B", "1.5 MiB".
export function bytes(n) {
  for (const unit of ['B', 'KiB', 'MiB']) {
    if (n < 1024) return (n < 10 && unit !== 'B' ? n.toFixed(1).replace(/\.0$/, '') : Math.round(n)) + ' ' + unit;
    n /= 1024;
  }
  return n.toFixed(1).replace(/\.0$/, '') + ' GiB';
}

// wordy is a name of the API's as words: "idle_timeout" is "idle timeout".
export const wordy = (name) => name.replaceAll('_', ' ');

// facts is a list of names with what there is to say of each: [name, text or element]; what has nothing is left out.
export function facts(list) {
  const dl = el('dl', { class: 'facts' });
  for (const [name, value] of list) {
    if (value === undefined || value === null || value === false || value === '') continue;
    dl.append(el('div', {}, el('dt', {}, name), el('dd', {}, value)));
  }
  return dl;
}

// to is the address of a view of the page, with what its filter shall have in it.
export const to = (view, q) => '#/' + view + (q ? '?q=' + encodeURIComponent(q) : '');

// fits says whether a text has all words; "#12" is the number 12 and not the beginning of 123.
export function fits(words, text) {
  text = text.toLowerCase();
  return words.every((w) => /^#\d+$/.test(w) ? (text + ' ').includes(w + ' ') : text.includes(w));
}
