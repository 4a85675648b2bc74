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
  return n + ' ' + (n === 1 ? one : many);
}

// clock is a time of day.
export function clock(time) {
  return time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
}
