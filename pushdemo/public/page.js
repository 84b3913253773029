// The root page: shows what /server/index pushes, and keeps asking for it while the page is open.
'use strict';

const LINES = 100;
const BASE = 1_000; // milliseconds, as are all times here
const CAP = 30_000;
// A network that went away says nothing, so a silence this long is taken for its end. A feed slower
// than this is merely asked for again, and its newest value comes at once.
const SILENCE = 60_000;

const element = (id) => document.getElementById(id);

let request = null;
let streaming = false; // the answer is multipart, rather than an error
let attempts = 0; // in a row, without a part
let base = BASE;
let timer = null; // of the next attempt, due at …
let due = null;
let ticking = null;
let clockOffset = 0; // the server's clock less ours
let computed = null; // when the newest value was, by the server's clock

/** Exponential backoff, capped, with full jitter: after a restart of the server its clients must
 * not all come back in the same instant. */
function backoff(attempt, base, random = Math.random()) {
  return random * Math.min(base * 2 ** attempt, Math.max(CAP, base));
}

/** Retry-After, in seconds or as a date, as milliseconds from now; null if there is none. */
function retryAfter(value, now = Date.now()) {
  if (!value) return null;
  const delay = /^\d+$/.test(value) ? Number(value) * 1_000 : Date.parse(value) - now;
  return delay >= 0 ? delay : null;
}

function connect() {
  clearTimeout(timer);
  timer = due = null;
  streaming = false;
  say('connecting', 'Connecting');
  request = new MultipartXMLHttpRequest();
  request.multipart = true;
  request.open('GET', '/server/index');
  request.timeout = SILENCE;
  request.addEventListener('open', began);
  request.addEventListener('load', show);
  request.addEventListener('loadend', ended);
  request.send();
}

function disconnect() {
  const dropped = request;
  request = null; // first: abort() fires loadend, and ended() must know that this was us
  dropped?.abort();
  clearTimeout(timer);
  timer = due = null;
}

function began() {
  streaming = true;
  const date = Date.parse(request.getResponseHeader('Date'));
  clockOffset = Number.isNaN(date) ? 0 : date - Date.now();
}

function show() {
  if (!streaming) return;
  attempts = 0;
  const retry = request.getResponseHeader('Retry');
  if (/^\d+$/.test(retry ?? '')) base = Number(retry);

  const line = document.createElement('li');
  const received = request.responseXML?.documentElement.textContent ?? request.responseText;
  line.textContent = received.trim(); // never HTML: what is pushed is data
  const list = element('container');
  list.prepend(line);
  while (list.childElementCount > LINES) list.lastElementChild.remove();

  computed = Date.parse(request.getResponseHeader('Last-Modified'));
  say('live', 'Live');
}

function ended({ target }) {
  if (target !== request) return; // dropped by this page
  const wait = retryAfter(request.getResponseHeader('Retry-After'));
  const why = reason();
  request = null;
  // What the server asks for is a minimum; the jitter on top keeps its clients apart.
  const delay = (wait ?? 0) + backoff(attempts++, base);
  due = Date.now() + delay;
  timer = setTimeout(connect, delay);
  say('waiting', `${why}. Reconnecting`);
}

function reason() {
  if (streaming) return 'The server went away';
  if (request.status === 0) return 'The server cannot be reached';
  if (request.status === 503) return 'The server is full';
  if (request.status === 200) return 'The server sent no stream';
  return `The server answered ${request.status} ${request.statusText}`.trim();
}

function say(state, words) {
  element('state').dataset.state = state;
  // Written only when it changes, for every writing may be read aloud.
  if (element('status').textContent !== words) element('status').textContent = words;
  tick();
}

function tick() {
  const seconds = Math.ceil((due - Date.now()) / 1_000);
  element('countdown').textContent = due === null ? '' : seconds > 0 ? `in ${seconds} s` : 'now';
  const age = Date.now() + clockOffset - computed;
  // Both dates are whole seconds, so a value computed just now may seem to come from the future.
  element('age').textContent = computed ? `computed ${span(Math.max(0, age))} ago` : '';
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
// stream, or a browser that allows six connections to a server soon has none left.
addEventListener('pageshow', () => {
  disconnect();
  attempts = 0;
  ticking = setInterval(tick, 1_000);
  connect();
});

addEventListener('pagehide', () => {
  disconnect();
  clearInterval(ticking);
  say('stopped', 'Stopped');
});

addEventListener('online', () => {
  if (timer !== null) connect();
});
