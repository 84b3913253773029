/* A stream that stays: it asks for a feed's parts, and asks again whenever they stop coming. It
 * stops only when nothing can be made of what the server sends.
 *
 * It tells what happens as messages, which are plain data, so that they can pass between a worker
 * and a page (times are this machine's, in milliseconds):
 *
 *     { type: 'part', text, contentType, blob, feed, id, computed, arrived }
 *                                          feed, id and computed may be null; an image is a blob,
 *                                          and has no text
 *     { type: 'reset' }                    parts may be missing between the last and the next
 *     { type: 'trouble', feed, works }     a feed fails, and keeps its last value, or works again
 *     { type: 'state', state: 'connecting' | 'live' | 'stopped' }
 *     { type: 'state', state: 'waiting', why, due }             reconnecting at the time `due`
 *     { type: 'state', state: 'failed', why }                   not reconnecting: what the server
 *                                                               sends cannot be read
 *
 * For pages and workers alike; needs multipart-xhr.js.
 */
'use strict';

const BASE = 1_000;
const CAP = 30_000;
// A network that went away says nothing, so a silence this long is taken for its end: three of the
// server's heartbeats, of which two may be late.
const SILENCE = 45_000;

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

/** A percent-encoded name; as it is if it is not well encoded. */
function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name;
  }
}

class Stream {
  #url;
  #tell;
  #request = null;
  #streaming = false; // the answer is multipart, rather than an error
  #attempts = 0; // in a row, without a part
  #base = BASE;
  #timer = null; // of the next attempt
  #clockOffset = 0; // the server's clock less ours
  #lastId = null;

  /** tell is called with each message. */
  constructor(url, tell) {
    this.#url = url;
    this.#tell = tell;
    this.newest = null; // the last message of type part …
    this.state = { type: 'state', state: 'stopped' }; // … and of type state
  }

  /** Begins, after the part with that id if there is one. Whoever knows none knows no part. */
  start(lastId = null) {
    this.#lastId = lastId;
    this.newest = null;
    this.#attempts = 0;
    this.#connect();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const dropped = this.#request;
    this.#request = null; // first: abort() fires loadend, and #ended must know that this was us
    dropped?.abort();
    this.#say('stopped');
  }

  /** Asks again at once, if it is waiting to, or has failed. */
  hurry() {
    if (this.#timer !== null || this.failed) this.#connect();
  }

  get failed() {
    return this.state.state === 'failed';
  }

  #connect() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#streaming = false;
    const request = (this.#request = new MultipartXMLHttpRequest());
    request.multipart = true;
    request.open('GET', this.#url);
    if (this.#lastId !== null) request.setRequestHeader('Last-Event-ID', this.#lastId);
    request.timeout = SILENCE;
    request.addEventListener('open', () => this.#began());
    request.addEventListener('load', () => this.#take());
    request.addEventListener('notice', () => this.#note());
    request.addEventListener('loadend', ({ target }) => this.#ended(target));
    this.#say('connecting');
    request.send();
  }

  #began() {
    this.#streaming = true;
    const date = Date.parse(this.#header('Date'));
    this.#clockOffset = Number.isNaN(date) ? 0 : date - Date.now();
    this.#say('live');
  }

  #take() {
    if (!this.#streaming) return;
    this.#attempts = 0;
    this.#rest();
    const id = this.#header('Event-ID');
    this.#lastId = id ?? this.#lastId;
    const feed = this.#header('Feed');
    const computed = Date.parse(this.#header('Last-Modified'));
    const contentType = this.#header('Content-Type');
    const isImage = /^image\//i.test(contentType ?? '');
    this.newest = {
      type: 'part',
      text: isImage ? '' : this.#request.responseText,
      contentType,
      blob: isImage ? this.#request.responseBlob : null,
      feed: feed && decoded(feed),
      id,
      computed: Number.isNaN(computed) ? null : computed - this.#clockOffset,
      arrived: Date.now(),
    };
    this.#tell(this.newest);
  }

  /** When the server wants its clients back. */
  #rest() {
    const retry = this.#header('Retry');
    if (/^\d+$/.test(retry ?? '')) this.#base = Number(retry);
  }

  #note() {
    const event = this.#header('Event');
    if (event === 'reset') this.#tell({ type: 'reset' });
    if (event === 'retry') this.#rest();
    if (event !== 'error' && event !== 'recovered') return;
    const { feed } = JSON.parse(this.#request.responseText);
    this.#tell({ type: 'trouble', feed, works: event === 'recovered' });
  }

  #ended(request) {
    if (request !== this.#request) return; // dropped by stop()
    if (request.reason !== null) {
      this.#request = null;
      this.#say('failed', { why: `The server cannot be understood: ${request.reason}` });
      return;
    }
    const wait = retryAfter(this.#header('Retry-After'));
    const why = this.#why();
    this.#request = null;
    // What the server asks for is a minimum; the jitter on top keeps its clients apart.
    const delay = (wait ?? 0) + backoff(this.#attempts++, this.#base);
    this.#timer = setTimeout(() => this.#connect(), delay);
    this.#say('waiting', { why, due: Date.now() + delay });
  }

  #why() {
    const { status, statusText } = this.#request;
    if (this.#streaming) return 'The server went away';
    if (status === 0) return 'The server cannot be reached';
    if (status === 503) return 'The server is full, or has no value yet';
    return `The server answered ${status} ${statusText}`.trim();
  }

  #header(name) {
    return this.#request.getResponseHeader(name);
  }

  #say(state, more) {
    this.state = { type: 'state', state, ...more };
    this.#tell(this.state);
  }
}

/* One stream for all who watch it, be they the tabs of a browser or a single page. It runs while
 * somebody watches.
 *
 * A watcher is whatever has postMessage(message): a port, for one. It says
 *
 *     { type: 'here', lastId }   I watch, and this is the last part I have seen; also after a ping
 *     { type: 'hurry' }          the network seems to be back
 *     { type: 'leave' }
 *
 * and is told the stream's messages, with the newest part of each feed, the feeds that fail, and
 * the state first, and
 *
 *     { type: 'ping' }           are you there?
 *
 * because a tab that crashed says nothing. One that only slept says `here` when it wakes, to the
 * ping that it finds, and so is a watcher again.
 */
const PING = 5_000;
const UNANSWERED = 3;

class SharedStream {
  #stream;
  #watchers = new Map(); // each with the number of pings that it has not answered
  #newest = new Map(); // of each feed, the newest part, the newest feed last
  #failing = new Map(); // of each feed that fails, the message that says so
  #pinging = null;

  constructor(url) {
    this.#stream = new Stream(url, (message) => {
      this.#remember(message);
      this.#tellAll(message);
    });
  }

  hear(watcher, { type, lastId = null }) {
    if (type === 'leave') this.#leave(watcher);
    else if (type === 'hurry') this.#stream.hurry();
    else if (this.#watchers.has(watcher)) this.#watchers.set(watcher, 0);
    else this.#welcome(watcher, lastId);
  }

  #welcome(watcher, lastId) {
    this.#watchers.set(watcher, 0);
    if (this.#watchers.size === 1) {
      this.#pinging = setInterval(() => this.#ping(), PING);
      this.#newest.clear();
      this.#failing.clear();
      this.#stream.start(lastId);
      return;
    }
    if (this.#stream.failed) this.#stream.hurry(); // whoever loads the page again wants an attempt
    const { newest, state } = this.#stream;
    if (newest !== null && (lastId === null || newest.id !== lastId)) {
      if (lastId !== null) watcher.postMessage({ type: 'reset' }); // it was away meanwhile
      for (const part of this.#newest.values()) watcher.postMessage(part);
    }
    for (const trouble of this.#failing.values()) watcher.postMessage(trouble);
    watcher.postMessage(state);
  }

  /** What a watcher that comes is to be told: of several feeds, each has its own newest part. */
  #remember(message) {
    if (message.type === 'part') {
      this.#newest.delete(message.feed);
      this.#newest.set(message.feed, message);
    } else if (message.type === 'trouble') {
      if (message.works) this.#failing.delete(message.feed);
      else this.#failing.set(message.feed, message);
    }
  }

  #leave(watcher) {
    if (!this.#watchers.delete(watcher) || this.#watchers.size) return;
    clearInterval(this.#pinging);
    this.#stream.stop();
  }

  #ping() {
    for (const [watcher, unanswered] of this.#watchers) {
      if (unanswered === UNANSWERED) {
        this.#leave(watcher);
      } else {
        this.#watchers.set(watcher, unanswered + 1);
        watcher.postMessage({ type: 'ping' });
      }
    }
  }

  #tellAll(message) {
    for (const watcher of this.#watchers.keys()) watcher.postMessage(message);
  }
}
