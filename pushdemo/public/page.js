// The root page: shows what the server pushes, from server/index, while the page is open.
'use strict';

const LINES = 100;

const element = (id) => document.getElementById(id);

let due = null; // when the next attempt to reconnect is
let shown = false; // a value has been
let computed = null; // when the newest value was
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
  computed = part.computed;
  tick();
}

/** The text of a message in XML, or of whatever else the part is. */
function messageOf({ text, contentType }) {
  const parsed = MultipartXMLHttpRequest.parseXML(text, contentType);
  return parsed?.documentElement.textContent ?? text;
}

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
  const words = {
    connecting: 'Connecting',
    live: 'Live',
    waiting: `${message.why}. Reconnecting`,
    failed: `${message.why}. Reload the page to try again.`,
    stopped: 'Stopped',
  }[message.state];
  due = message.due ?? null;
  element('state').dataset.state = message.state;
  // Written only when it changes, for every writing may be read aloud.
  if (element('status').textContent !== words) element('status').textContent = words;
  tick();
}

function tick() {
  const seconds = Math.ceil((due - Date.now()) / 1_000);
  element('countdown').textContent = due === null ? '' : seconds > 0 ? `in ${seconds} s` : 'now';
  // The server's dates are whole seconds, so a value may seem to come from the future.
  const age = Math.max(0, Date.now() - computed);
  element('age').textContent = computed === null ? '' : `computed ${span(age)} ago`;
}

/** A time span in its largest unit: 59 s, 59 min, 23 h, 7 d. */
function span(milliseconds) {
  const seconds = Math.floor(milliseconds / 1_000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
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
