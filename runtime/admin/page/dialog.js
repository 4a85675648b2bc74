// Asking the operator before something is changed.

import { el, say } from './dom.js';

let made = 0;

// ask opens a dialog and returns once it is closed, with whether something was done.
//
//   title, button  what it is about, and the word on the button that does it
//   danger         the button is marked as one that takes something away
//   fields         elements between the texts and the buttons; the first one has the focus, else it is Cancel
//   says()         the paragraphs that tell what will happen: strings, or { warning: string }. They are told anew on input
//   ready()        whether there is anything to do
//   go()           does it; an Error that it throws is shown, and the dialog stays open
export function ask({ title, button, danger = false, fields = [], says, ready = () => true, go }) {
  const n = ++made;
  const texts = el('div', { id: `dialog-${n}-says`, class: 'says' });
  const error = el('p', { class: 'error', role: 'alert', hidden: true });
  const cancel = el('button', { type: 'button', autofocus: fields.length === 0 }, 'Cancel');
  const act = el('button', { type: 'submit', class: danger ? 'act danger' : 'act' }, button);
  const form = el('form', {}, el('h2', { id: `dialog-${n}-title` }, title), ...fields, texts, error, el('div', { class: 'buttons' }, cancel, act));
  const dialog = el('dialog', { 'aria-labelledby': `dialog-${n}-title`, 'aria-describedby': `dialog-${n}-says` }, form);

  const tell = () => {
    const paragraphs = says();
    while (texts.childElementCount > paragraphs.length) texts.lastElementChild.remove();
    while (texts.childElementCount < paragraphs.length) texts.append(el('p'));
    paragraphs.forEach((p, i) => {
      texts.children[i].className = p.warning ? 'warning' : '';
      say(texts.children[i], p.warning ?? p);
    });
    act.disabled = !ready();
  };

  return new Promise((resolve) => {
    let done = false, busy = false;
    cancel.addEventListener('click', () => { if (!busy) dialog.close(); });
    dialog.addEventListener('cancel', (e) => { if (busy) e.preventDefault(); }); // Escape
    dialog.addEventListener('close', () => {
      dialog.remove();
      resolve(done);
    });
    form.addEventListener('input', tell);
    form.addEventListener('submit', async (e) => {
      e.preventDefault();
      if (busy || !ready()) return;
      busy = true;
      error.hidden = true;
      act.setAttribute('aria-disabled', 'true'); // not disabled: it would lose the focus
      try {
        await go();
        done = true;
        dialog.close();
      } catch (why) {
        say(error, why.message);
        error.hidden = false;
      }
      busy = false;
      act.removeAttribute('aria-disabled');
    });
    tell();
    document.body.append(dialog);
    dialog.showModal();
  });
}

// field is a labelled input, a select with options: [value, text], or a text area with so many lines.
export function field(label, { options, area, hint, ...attributes }) {
  const n = ++made;
  const input = el(options ? 'select' : area ? 'textarea' : 'input', { rows: area, id: `field-${n}`, required: true, autocomplete: 'off', 'aria-describedby': hint && `field-${n}-hint`, ...attributes });
  if (options) {
    input.append(...options.map(([value, text]) => el('option', { value }, text)));
    input.value = attributes.value;
  }
  const parts = [el('label', { for: `field-${n}` }, label), input];
  if (hint) parts.push(el('small', { id: `field-${n}-hint` }, hint));
  return { box: el('div', { class: 'field' }, ...parts), input };
}
