/* Small charts of the last minutes of a feed's numbers, by uPlot (vendor/uplot.js).
 *
 * What they keep does not grow: so many points of so many numbers.
 */
'use strict';

const POINTS = 150;
const MINUTES = 5;
const MOST_CHARTS = 12; // of one feed
const [CHART_WIDTH, CHART_HEIGHT] = [96, 24]; // CSS pixels

class Charts {
  #charts = new Map(); // by the number's name

  /** Take a number; returns the element of its chart, or null where there is nothing to see yet. */
  add(name, number, now = Date.now()) {
    if (!this.#charts.has(name)) {
      if (this.#charts.size >= MOST_CHARTS) return null;
      this.#charts.set(name, new Chart());
    }
    return this.#charts.get(name).add(number, now / 1_000);
  }
}

class Chart {
  #times = [];
  #numbers = [];
  #element = null;
  #plot = null;

  add(number, now) {
    this.#times.push(now);
    this.#numbers.push(number);
    const old = this.#times.findIndex((time) => time >= now - MINUTES * 60);
    const drop = Math.max(old, this.#times.length - POINTS);
    if (drop > 0) {
      this.#times.splice(0, drop);
      this.#numbers.splice(0, drop);
    }
    if (this.#element === null) {
      // What never changes needs no chart.
      if (this.#numbers.every((one) => one === this.#numbers[0])) return null;
      this.#make();
    }
    this.#plot.setData([this.#times, this.#numbers]);
    this.#element.setAttribute('aria-label', this.#words());
    return this.#element;
  }

  #make() {
    this.#element = document.createElement('div');
    this.#element.className = 'chart';
    this.#element.setAttribute('role', 'img');
    const colour = () => getComputedStyle(this.#element).color;
    this.#plot = new uPlot(
      {
        width: CHART_WIDTH,
        height: CHART_HEIGHT,
        padding: [2, 2, 2, 2],
        axes: [{ show: false }, { show: false }],
        cursor: { show: false },
        legend: { show: false },
        series: [{}, { stroke: colour, width: 1.5, points: { show: false } }],
      },
      [this.#times, this.#numbers],
      this.#element,
    );
  }

  #words() {
    const [least, most] = [Math.min(...this.#numbers), Math.max(...this.#numbers)];
    const time = span((this.#times.at(-1) - this.#times[0]) * 1_000);
    return `In the last ${time}: from ${least} to ${most}`;
  }
}
