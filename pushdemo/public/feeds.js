/* All feeds of the server, each in its natural way: text as text, data as a table, and an image in
 * an <img>, which plays it without a script.
 *
 * Text and data of all feeds come over one stream, which the tabs of the browser share. An <img>
 * has a connection of its own, and there are only six for all tabs: so only the tab that can be
 * seen has one. Where the feeds are in a <details>, nothing is asked for until it is opened, and its
 * summary names them.
 */
(() => {
  'use strict';

  const ROOT = new URL('.', document.currentScript.src); // where the application is mounted
  const feeds = new Map(); // by name, the element that shows a feed's value
  const images = new Map(); // an <img>, and its address
  const details = document.querySelector('details');
  let stream = null; // of all that is no image
  let built = null; // a promise that the cards are there
  let joined = false;

  async function list() {
    const answer = await fetch(new URL('server/feeds', ROOT), { cache: 'no-store' });
    const all = answer.ok ? await answer.json() : [];
    return all.map((feed) => ({ ...feed, url: new URL(feed.url, answer.url).href }));
  }

  async function build() {
    const all = await list();
    const kinds = await Promise.all(all.map(kindOf));
    const shown = all.filter((feed, index) => {
      const value = card(feed.name);
      if (kinds[index] === 'image') value.append(image(feed));
      else feeds.set(feed.name, value);
      return kinds[index] !== 'image';
    });
    if (shown.length) {
      const names = shown.map(({ name }) => encodeURIComponent(name)).join('+');
      stream = new WatchedStream(new URL(`server/index/${names}`, ROOT), (message) => {
        if (message.type === 'part') render(feeds.get(message.feed ?? shown[0].name), message);
      });
    }
  }

  /** What a feed gives. One that has not run yet is asked for a value, which an image cannot be. */
  async function kindOf({ url, type }) {
    if (type !== null) return type.startsWith('image/') ? 'image' : 'other';
    const answer = await fetch(`${url}?format=json`, { cache: 'no-store' });
    return answer.status === 406 ? 'image' : 'other';
  }

  function card(name) {
    const section = document.createElement('section');
    const heading = document.createElement('h2');
    const value = document.createElement('div');
    heading.textContent = name;
    value.dataset.feed = name;
    section.append(heading, value);
    document.getElementById('feeds').append(section);
    return value;
  }

  function image({ name, url }) {
    const shown = document.createElement('img');
    shown.alt = name;
    images.set(shown, url);
    return shown;
  }

  function render(value, part) {
    const parsed = MultipartXMLHttpRequest.parseXML(part.text, part.contentType);
    value.replaceChildren(parsed ? content(parsed.documentElement) : part.text);
  }

  /** A value's elements as text, a list or a table: see the server's xml.py for what they are. */
  function content(value) {
    const members = [...value.children];
    if (!members.length) return value.textContent;
    if (members.every((member) => member.matches('item:not([key])'))) return sequence(members);
    const table = document.createElement('table');
    for (const member of members) row(table, 'th', nameOf(member), content(member));
    return table;
  }

  function sequence(items) {
    const columns = [...new Set(items.flatMap((item) => [...item.children].map(nameOf)))];
    if (!columns.length || columns.includes('item')) {
      const list = document.createElement('ol');
      for (const item of items) list.appendChild(document.createElement('li')).append(content(item));
      return list;
    }
    const table = document.createElement('table');
    const head = table.insertRow();
    for (const column of columns) head.appendChild(document.createElement('th')).append(column);
    for (const item of items) {
      const members = new Map([...item.children].map((member) => [nameOf(member), member]));
      const cells = table.insertRow();
      for (const column of columns) {
        cells.insertCell().append(members.has(column) ? content(members.get(column)) : '');
      }
    }
    return table;
  }

  function row(table, kind, name, value) {
    const cells = table.insertRow();
    cells.appendChild(document.createElement(kind)).append(name);
    cells.insertCell().append(value);
  }

  const nameOf = (member) => member.getAttribute('key') ?? member.nodeName;

  async function appear() {
    if (details && !details.open) return;
    await (built ??= build());
    if (joined || (details && !details.open)) return; // it was closed meanwhile
    joined = true;
    stream?.join();
    look();
  }

  function disappear() {
    if (joined) stream?.leave();
    joined = false;
    look();
  }

  function look() {
    const visible = joined && document.visibilityState === 'visible';
    for (const [shown, url] of images) {
      if (!visible) shown.removeAttribute('src');
      else if (!shown.hasAttribute('src')) shown.src = url;
    }
  }

  async function summarize() {
    const names = (await list()).map((feed) => feed.name).join(', ');
    details.querySelector('summary').textContent = `All feeds: ${names}`;
    details.hidden = !names;
  }

  if (details) summarize();
  details?.addEventListener('toggle', () => (details.open ? appear() : disappear()));
  addEventListener('pageshow', appear);
  addEventListener('pagehide', disappear);
  document.addEventListener('visibilitychange', look);
})();
