/* A card for each feed: its value in its natural way, whether that is true still, and what sharing
 * it has saved. All cards are there from the beginning, and none waits for another: their values
 * come over one stream of all feeds, pictures too, which the tabs of the browser share.
 *
 * The server has put the cards into the page (see the server's page.py): elements with
 *
 *     data-feed      the feed's name
 *     data-made      how its values are made: computed, published or relayed
 *     data-interval  seconds between two beats, and
 *     data-duration  seconds for which a value is good; both empty where values come from elsewhere
 *     data-repeats   "true" where each beat sends something
 *
 * and on the body, data-streams: the streams' addresses, relative to the page.
 */
(() => {
  'use strict';

  const FIGURES = '~feeds'; // the feed that tells how the others are
  const FIGURES_INTERVAL = 2_000;
  const LINES = 100;
  const QUIET = 10_000; // milliseconds between two values that are read aloud

  const element = (id) => document.getElementById(id);
  const cards = new Map();
  const links = []; // the streams
  let ticking = null;
  let announced = 0;

  /** Have a screen reader say something, when it has said what it is saying. */
  function announce(text, { now = false } = {}) {
    if (!now && Date.now() - announced < QUIET) return;
    announced = Date.now();
    element('announcer').textContent = text;
  }

  // One feed.

  class Card {
    #element;
    #name;
    #made; // computed, published or relayed
    #interval;
    #duration;
    #repeats;
    #charts = new Charts();
    #arrived = null; // when the last part was
    #computed = null; // when the value was
    #shown = null; // the last part's text, and type
    #failing = false;
    #figures = {};
    #picture = null;

    constructor(section) {
      const { feed, made, interval, duration, repeats } = section.dataset;
      this.#made = made;
      this.#element = section;
      this.#name = feed;
      this.#interval = Number(interval) * 1_000;
      this.#duration = Number(duration) * 1_000;
      this.#repeats = repeats === 'true';
    }

    get #value() {
      return this.#element.querySelector('.value');
    }

    /** A value. */
    take(part) {
      const [before, news] = [this.#shown, part.text || part.id];
      this.#arrived = part.arrived;
      this.#computed = part.computed ?? this.#computed;
      this.#shown = news;
      if (part.blob) this.#showPicture(part);
      else this.#show(part, before === news);
      if (before !== news) this.#announce(part);
    }

    #announce(part) {
      const value = documentOf(part);
      const words = value && !value.children.length ? `: ${value.textContent.trim()}` : '';
      announce(words ? `${this.#name}${words}` : `${this.#name} has a new value`);
    }

    #show(part, again) {
      const value = documentOf(part);
      if (value === null || (!value.children.length && !isNumber(value))) {
        this.#addLine((value?.textContent ?? part.text).trim(), again);
        return;
      }
      this.#value.replaceChildren(
        valueOf(value, (name, number) => this.#charts.add(name, number, part.arrived)),
      );
      this.#seeWhetherItScrolls();
    }

    #list() {
      let list = this.#value.querySelector('ul.lines');
      if (list === null) {
        list = document.createElement('ul');
        list.className = 'lines';
        this.#value.replaceChildren(list);
      }
      return list;
    }

    #addLine(text, again, kind = '') {
      const line = document.createElement('li');
      line.textContent = text;
      line.className = kind || (again ? 'again' : '');
      line.dataset.at = new Date(this.#arrived ?? Date.now()).toLocaleTimeString();
      const list = this.#list();
      list.prepend(line);
      while (list.childElementCount > LINES) list.lastElementChild.remove();
      this.#seeWhetherItScrolls();
    }

    /** Parts may be missing: of text, a list shows that. What is a state needs no more. */
    reset() {
      if (this.#value.querySelector('ul.lines')) this.#addLine('Something may be missing here.', false, 'gap');
    }

    #showPicture(part) {
      if (this.#picture === null) {
        this.#picture = document.createElement('img');
        this.#value.replaceChildren(this.#picture);
      }
      const before = this.#picture.src;
      this.#picture.src = URL.createObjectURL(part.blob);
      this.#picture.alt = `${this.#name}, a picture`;
      if (before) URL.revokeObjectURL(before);
    }

    /** What is wider than its place can be scrolled by keyboard, and is named for who does. */
    #seeWhetherItScrolls() {
      const value = this.#value;
      const scrolls = value.scrollWidth > value.clientWidth || value.scrollHeight > value.clientHeight;
      value.classList.toggle('scrolls', scrolls);
      if (scrolls) {
        value.tabIndex = 0;
        value.setAttribute('role', 'region');
        value.setAttribute('aria-label', `${this.#name}, value`);
      } else {
        for (const name of ['tabindex', 'role', 'aria-label']) value.removeAttribute(name);
      }
    }

    /** The feed fails, or works again. */
    trouble(works) {
      if (this.#failing === !works) return;
      this.#failing = !works;
      announce(`${this.#name} ${works ? 'works again' : 'fails'}`, { now: true });
    }

    /** What the server has counted. */
    figures(figures) {
      this.#figures = figures;
    }

    /** What is true now: a word for the colour, and words. */
    #state(connection, now) {
      const known = this.#shown !== null;
      if (connection.state !== 'live') {
        const words = connection.state === 'connecting' ? 'Connecting' : 'Not connected';
        return known ? ['stale', `${words}: this is the last value`] : ['waiting', words];
      }
      if (this.#failing) {
        return ['failing', known ? 'Failing: this is the last value' : 'Failing: there is no value yet'];
      }
      if (!known) return ['waiting', 'Waiting for the first value'];
      const silent = silence(this.#repeats ? this.#interval : 0, this.#arrived, now);
      if (silent) return ['stale', `Silent for ${span(silent)}`];
      const took = Number(this.#figures.took ?? 0) * 1_000;
      const good = this.#duration + 2 * this.#interval + 2 * took + LATE;
      if (this.#interval && this.#repeats && this.#computed !== null && now - this.#computed > good) {
        return ['stale', 'Stale: a new value is overdue'];
      }
      return ['live', 'Live'];
    }

    tick(connection, now = Date.now()) {
      const [state, words] = this.#state(connection, now);
      const shown = this.#element.querySelector('.state');
      shown.dataset.state = state;
      write(shown.querySelector('.words'), words);
      write(this.#element.querySelector('.age'), this.#ageWords(now));
      write(this.#element.querySelector('.shared'), this.#sharedWords());
    }

    #ageWords(now) {
      if (this.#computed === null) return '';
      const took = Number(this.#figures.took ?? 0);
      const within = took >= 0.001 ? ` in ${took < 1 ? `${Math.round(took * 1_000)} ms` : `${took.toFixed(1)} s`}` : '';
      return `${this.#made === 'published' ? 'published' : 'computed'} ${age(this.#computed, now)} ago${within}`;
    }

    #sharedWords() {
      const { watchers, values, deliveries } = this.#figures;
      if (watchers === undefined) return '';
      const watched = `watched by ${formatted(Number(watchers), 0)}`;
      if (values === '0') return `${watched}; nothing ${this.#made} yet`;
      return `${watched}; ${this.#made} ${times(values)}, delivered ${times(deliveries)}`;
    }
  }

  const times = (number) => (number === '1' ? 'once' : `${formatted(Number(number), 0)} times`);

  // Written only when it changes, for every writing costs a layout, and may be read aloud.
  function write(where, text) {
    if (where && where.textContent !== text) where.textContent = text;
  }

  // All of them.

  class Link {
    #stream;
    #names;
    #heard = 0; // when the last part was
    state = { state: 'connecting' };
    figured = false; // it has the figures, which come on a beat of their own

    constructor(url) {
      const names = url.pathname.split('/').at(-1).split('+').map(decodeURIComponent);
      this.figured = names.includes(FIGURES);
      // The address of an application's own view need not name its feeds: it is of all cards then.
      this.#names = this.figured ? names : [...cards.keys()];
      this.#stream = new WatchedStream(url, (message) => this.#hear(message));
    }

    join() {
      this.state = { state: 'connecting' };
      this.#stream.join();
    }

    leave() {
      this.#stream.leave();
      this.state = { state: 'stopped' };
    }

    hurry() {
      this.#stream.hurry();
    }

    get cards() {
      return this.#names.map((name) => cards.get(name)).filter((card) => card !== undefined);
    }

    silent(now) {
      if (this.state.state !== 'live' || !this.figured) return 0;
      return silence(FIGURES_INTERVAL, this.#heard, now);
    }

    #hear(message) {
      if (message.type === 'state') {
        this.state = message;
        if (message.state === 'live') this.#heard = Date.now();
        tick();
      } else if (message.type === 'reset') {
        for (const card of this.cards) card.reset();
      } else if (message.type === 'trouble') {
        cards.get(message.feed)?.trouble(message.works);
        tick();
      } else if (message.type === 'part') {
        this.#heard = Math.max(this.#heard, message.arrived);
        this.#take(message);
      }
    }

    #take(part) {
      const name = part.feed ?? this.#names[0];
      if (name === FIGURES) {
        for (const item of documentOf(part)?.children ?? []) {
          const figures = Object.fromEntries([...item.children].map((one) => [one.nodeName, one.textContent]));
          cards.get(figures.name)?.figures(figures);
        }
      } else {
        cards.get(name)?.take(part);
      }
      tick();
    }
  }

  function tick() {
    const now = Date.now();
    for (const link of links) for (const card of link.cards) card.tick(link.state, now);
    const [worst] = [...links].sort((one, other) => (one.state.state === 'live') - (other.state.state === 'live'));
    if (worst) sayState(worst, now);
  }

  function sayState(link, now) {
    const silent = link.silent(now);
    const state = element('state');
    state.dataset.state = silent ? 'silent' : link.state.state;
    // The seconds stand outside the status, or a screen reader would count them aloud.
    write(element('status'), silent ? 'Silent' : stateWords(link.state));
    write(element('countdown'), silent ? `for ${span(silent)}` : countdownWords(link.state.due ?? null, now));
  }

  // A page put aside in the back-forward cache must not hold a stream: who is not looked at costs
  // the server nothing.
  addEventListener('pageshow', () => {
    clearInterval(ticking);
    ticking = setInterval(tick, 1_000);
    for (const link of links) link.join();
    tick();
  });

  addEventListener('pagehide', () => {
    for (const link of links) link.leave();
    clearInterval(ticking);
    tick();
  });

  addEventListener('online', () => links.forEach((link) => link.hurry()));

  for (const section of document.querySelectorAll('[data-feed]')) {
    cards.set(section.dataset.feed, new Card(section));
  }
  for (const address of document.body.dataset.streams.split(' ').filter(Boolean)) {
    links.push(new Link(new URL(address, document.baseURI)));
  }

  // The lines to copy, with the address as this browser has it.

  const here = new URL(location.href);
  here.search = here.hash = '';
  for (const line of document.querySelectorAll('[data-line]')) {
    line.textContent = line.textContent.replaceAll(line.dataset.line, here.href);
  }
  for (const button of document.querySelectorAll('button[data-copies]')) {
    button.hidden = !navigator.clipboard;
    button.addEventListener('click', async () => {
      await navigator.clipboard.writeText(element(button.dataset.copies).textContent);
      announce('Copied', { now: true });
    });
  }
})();
