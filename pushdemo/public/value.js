/* A value as elements: text, a number, a list or a table, from the XML of a part (see the server's
 * xml.py). Never HTML: what is pushed is data.
 *
 *     document.body.append(valueOf(documentElement));
 *
 * Numbers are formatted by the reader's locale, and by the unit that their name ends with: bytes,
 * percent, seconds, ms, us, celsius, hz. A column of numbers has one unit and one number of digits,
 * and is aligned to the right.
 */
'use strict';

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;
// These are names that happen to consist of digits.
const NO_QUANTITY = /(?:^|[_ .-])(?:id|code|zip|year|port|pid|version|number|phone)$/i;
const UNIT = /(?:^|[_ .-])(bytes|percent|pct|seconds|secs|ms|us|celsius|hz)$/i;
const SUFFIXES = { percent: '%', pct: '%', seconds: 's', secs: 's', us: 'µs', celsius: '°C', hz: 'Hz' };
const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
const MOST_DIGITS = 3; // after the point

const nameOf = (member) => member.getAttribute('key') ?? member.nodeName;

/** Whether an element has a quantity, and not members or text. */
const isNumber = (element, name = '') =>
  !element.children.length && NUMBER.test(element.textContent) && !NO_QUANTITY.test(name);

const formats = new Map();
// Below this there is no separator: 2009 may be a year.
const GROUPED = 10_000;

/** A number with so many digits after the point. largest: of those it stands with. */
function formatted(number, digits, largest = Math.abs(number)) {
  const grouped = largest >= GROUPED;
  const key = `${digits} ${grouped}`;
  if (!formats.has(key)) {
    const options = { minimumFractionDigits: digits, maximumFractionDigits: digits };
    formats.set(key, new Intl.NumberFormat(undefined, { ...options, useGrouping: grouped }));
  }
  return formats.get(key).format(number);
}

const digitsOf = (text) => Math.min(text.split(/[eE]/)[0].split('.')[1]?.length ?? 0, MOST_DIGITS);

/** What formats the numbers of one column, given as texts, under its name. */
function formatter(name, texts) {
  const unit = name.match(UNIT)?.[1].toLowerCase();
  const largest = Math.max(...texts.map((text) => Math.abs(Number(text))));
  if (unit === 'bytes') {
    const power = largest >= 1 ? Math.min(Math.floor(Math.log2(largest) / 10), BYTES.length - 1) : 0;
    return (text) => `${formatted(Number(text) / 1024 ** power, power ? 1 : 0)} ${BYTES[power]}`;
  }
  const digits = Math.max(...texts.map(digitsOf));
  const suffix = unit ? ` ${SUFFIXES[unit] ?? unit}` : '';
  return (text) => {
    const number = Number(text);
    // What would be rounded away is shown as it is.
    if (number !== 0 && (Math.abs(number) < 10 ** -digits / 2 || Math.abs(number) >= 1e15)) return text;
    return formatted(number, digits, largest) + suffix;
  };
}

/** A name that may go on in the next line after each underscore. */
const breakable = (name) =>
  name.split(/(?<=_)/).flatMap((part, index) => (index ? [document.createElement('wbr'), part] : [part]));

/** The elements for a value. decorate: called with the name of each number of a mapping at the top,
 * and the number; what it returns is shown beside that. */
function valueOf(value, decorate = () => null) {
  if (value.children.length || !isNumber(value)) return contentOf(value, decorate);
  const number = document.createElement('data');
  number.value = value.textContent;
  number.className = 'number';
  number.textContent = formatter('', [value.textContent])(value.textContent);
  const beside = decorate('', Number(value.textContent));
  if (!beside) return number;
  const both = document.createElement('div');
  both.append(number, beside);
  return both;
}

function contentOf(value, decorate = () => null) {
  const members = [...value.children];
  if (!members.length) return document.createTextNode(value.textContent);
  if (members.every((member) => member.matches('item:not([key])'))) return sequenceOf(members);
  return mappingOf(members, decorate);
}

function mappingOf(members, decorate) {
  const table = document.createElement('table');
  for (const member of members) {
    const name = nameOf(member);
    const row = table.insertRow();
    const head = row.appendChild(document.createElement('th'));
    head.scope = 'row';
    head.append(...breakable(name));
    const cell = row.insertCell();
    if (!isNumber(member, name)) {
      cell.append(contentOf(member));
      continue;
    }
    cell.className = 'number';
    cell.textContent = formatter(name, [member.textContent])(member.textContent);
    const beside = decorate(name, Number(member.textContent));
    if (beside) row.insertCell().append(beside);
  }
  return table;
}

function sequenceOf(items) {
  const columns = [...new Set(items.flatMap((item) => [...item.children].map(nameOf)))];
  if (!columns.length || columns.includes('item')) {
    const list = document.createElement('ol');
    for (const item of items) list.appendChild(document.createElement('li')).append(contentOf(item));
    return list;
  }
  return tableOf(columns, items);
}

function tableOf(columns, items) {
  const rows = items.map((item) => new Map([...item.children].map((one) => [nameOf(one), one])));
  const formatOf = new Map();
  for (const name of columns) {
    const cells = rows.map((row) => row.get(name)).filter((cell) => cell?.textContent);
    if (cells.length && cells.every((cell) => isNumber(cell, name))) {
      formatOf.set(name, formatter(name, cells.map((cell) => cell.textContent)));
    }
  }
  const table = document.createElement('table');
  const head = table.createTHead().insertRow();
  for (const name of columns) {
    const cell = head.appendChild(document.createElement('th'));
    cell.scope = 'col';
    cell.append(...breakable(name));
    if (formatOf.has(name)) cell.className = 'number';
  }
  const body = table.createTBody();
  for (const row of rows) {
    const cells = body.insertRow();
    for (const name of columns) {
      const cell = cells.insertCell();
      const member = row.get(name);
      const format = formatOf.get(name);
      if (format) cell.className = 'number';
      if (member) cell.append(format && member.textContent ? format(member.textContent) : contentOf(member));
    }
  }
  return table;
}
