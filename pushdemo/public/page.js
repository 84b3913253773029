// The seed's page, in its simplest form: shows what the server pushes, from server/index, while the
// page is open.
'use strict';

const LINES = 100;

// Milliseconds between two beats of the first feed; 0 where there are none.
const interval = Number(document.body.dataset.interval) * 1_000;

const element = (id) => document.getElementById(id);

let state = { state: 'stopped' }; // of the stream
let shown = false; // a value has been
let computed = null; // when the newest value was
let arrived = 0; // when the last part was
let ticking = null;

// Beside this script, wherever the application is mounted.
const address = new URL('server/index', document.currentScript.src);

const stream = new WatchedStream(address, (message) => {
  if (message.type === 'part') show(message);
  else if (message.type === 'reset') add('Something may be missing here.', 'gap');
  else if (message.type === 'trouble') add(troubleOf(message), 'gap');
  else say(message);
});

function show(part) {
  // Never HTML: what is pushed is data.
  const text = messageOf(part).trim();
  add(part.feed === null ? text : `${part.feed}: ${text}`);
  shown = true;
  arrived = part.arrived;
  computed = part.computed;
  tick();
}

/** The text of a message in XML, or of whatever else the part is. */
const messageOf = (part) => documentOf(part)?.textContent ?? part.text;

function troubleOf({ feed, works }) {
  if (works) return `${feed} works again.`;
  const meanwhile = shown ? 'this is its last value' : 'there is no value yet';
  return `${feed} fails: ${meanwhile}.`;
}

function add(text, kind = '') {
  const line = document.createElement('li');
  line.textContent = text;
  line.className = kind;
  const list = element('container');
  list.prepend(line);
  while (list.childElementCount > LINES) list.lastElementChild.remove();
}

function say(message) {
  state = message;
  if (message.state === 'live') arrived = Date.now();
  tick();
}

function tick() {
  const silent = state.state === 'live' ? silence(interval, arrived) : 0;
  element('state').dataset.state = silent ? 'silent' : state.state;
  // Written only when it changes, for every writing may be read aloud.
  const words = silent ? 'Silent' : stateWords(state);
  if (element('status').textContent !== words) element('status').textContent = words;
  const more = silent ? `for ${span(silent)}` : countdownWords(state.due ?? null);
  element('countdown').textContent = more;
  element('age').textContent = computed === null ? '' : `computed ${age(computed)} ago`;
}

// pageshow is also the first showing. A page put aside in the back-forward cache must not hold a
// stream: who is not looked at costs the server nothing.
addEventListener('pageshow', () => {
  say({ state: 'connecting' });
  ticking = setInterval(tick, 1_000);
  stream.join();
});

addEventListener('pagehide', () => {
  stream.leave();
  clearInterval(ticking);
  say({ state: 'stopped' });
});

addEventListener('online', () => stream.hurry());
