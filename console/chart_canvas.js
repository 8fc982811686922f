// The drawn chart: candles, volume and gap bands with lightweight-charts, in the page's colours.

import {
  CandlestickSeries,
  createChart,
  HistogramSeries,
} from "./vendor/lightweight-charts.js";
import { GapBands } from "./bands.js";
import { lengthOf, withPlaces } from "./candles.js";
import { isMissing } from "./reasons.js";
import { colour } from "./ui.js";

/** Places left of the screen at which older candles are asked for. */
const NEAR = 100;

const coloursNow = () => ({
  text: colour("--muted"),
  grid: colour("--grid"),
  up: colour("--up"),
  down: colour("--down"),
  upVolume: colour("--up-soft"),
  downVolume: colour("--down-soft"),
  missing: { fill: colour("--gap-missing-fill"), edge: colour("--gap-missing") },
  explained: { fill: colour("--gap-explained-fill"), edge: colour("--gap-explained") },
});

export class CandleChart {
  /** `onNearStart()`: older candles are about to be looked at; `onLook(row, gap)`: what is under the
   * cursor, or nulls. */
  constructor(element, timeframe, { onNearStart, onLook }) {
    this.timeframe = timeframe;
    this.gaps = [];
    this.places = [];
    const hours = lengthOf(timeframe) < 864e5;
    this.chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: false, background: { color: "transparent" }, fontSize: 12 },
      timeScale: { timeVisible: hours, secondsVisible: timeframe.endsWith("s"), rightOffset: 4 },
      rightPriceScale: { borderVisible: false },
      crosshair: { mode: 0 },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, { borderVisible: false });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceFormat: { type: "volume" },
      priceScaleId: "volume",
      lastValueVisible: false,
      priceLineVisible: false,
    });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.candles.priceScale().applyOptions({ scaleMargins: { top: 0.06, bottom: 0.22 } });
    this.bands = new GapBands((reason) =>
      isMissing(reason) ? this.colours.missing : this.colours.explained,
    );
    this.candles.attachPrimitive(this.bands);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.paint = () => this.recolour();
    this.dark.addEventListener("change", this.paint);
    this.recolour();
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => {
      if (range && range.from < NEAR) onNearStart();
    });
    this.chart.subscribeCrosshairMove(({ time }) => onLook(...this.at(time)));
  }

  recolour() {
    const colours = (this.colours = coloursNow());
    this.chart.applyOptions({
      layout: { textColor: colours.text },
      grid: { vertLines: { color: colours.grid }, horzLines: { color: colours.grid } },
    });
    this.candles.applyOptions({
      upColor: colours.up,
      wickUpColor: colours.up,
      downColor: colours.down,
      wickDownColor: colours.down,
    });
    if (this.rows) this.show(this.rows, this.gaps);
  }

  volumeOf = (row) =>
    row.volume === undefined
      ? { time: row.time }
      : {
          time: row.time,
          value: row.volume,
          color: row.close >= row.open ? this.colours.upVolume : this.colours.downVolume,
        };

  show(rows, gaps) {
    this.rows = rows;
    this.gaps = gaps;
    this.byTime = new Map(rows.map((row) => [row.time, row]));
    const first = this.places[0]?.time;
    const range = this.chart.timeScale().getVisibleLogicalRange();
    this.places = withPlaces(rows, gaps, this.timeframe);
    this.fit();
    this.candles.setData(this.places);
    this.volume.setData(this.places.map(this.volumeOf));
    this.bands.show(this.bandsOf(gaps));
    // What came in front of the rows moves them: the reader keeps looking at the same ones.
    const added = this.places.findIndex((row) => row.time === first);
    if (range && added > 0) {
      this.chart
        .timeScale()
        .setVisibleLogicalRange({ from: range.from + added, to: range.to + added });
    }
  }

  /** Prices are shown with as many digits as they have. */
  fit() {
    const digits = (price) => price.toFixed(8).replace(/0+$/, "").split(".")[1].length;
    const some = this.rows.slice(-50);
    const precision = Math.min(8, Math.max(0, ...some.map((row) => digits(row.close))));
    this.candles.applyOptions({
      priceFormat: { type: "price", precision, minMove: 1 / 10 ** precision },
    });
  }

  bandsOf(gaps) {
    return gaps.flatMap((gap) => {
      const inside = this.places.filter(
        (row) => row.close === undefined && row.time * 1000 >= gap.start && row.time * 1000 < gap.end,
      );
      if (!inside.length) return [];
      return [{ first: inside[0].time, last: inside.at(-1).time, reason: gap.reason }];
    });
  }

  /** A candle behind the last, or the last anew. */
  put(rows) {
    const row = rows.at(-1);
    if (this.places.length && row.time < this.places.at(-1).time) {
      this.show(rows, this.gaps);
      return;
    }
    this.rows = rows;
    this.byTime.set(row.time, row);
    if (this.places.at(-1)?.time === row.time) this.places[this.places.length - 1] = row;
    else this.places.push(row);
    this.candles.update(row);
    this.volume.update(this.volumeOf(row));
  }

  at(time) {
    if (time === undefined) return [null, null];
    const ms = time * 1000;
    const gap = this.gaps.find((each) => each.start <= ms && ms < each.end) ?? null;
    return [this.byTime?.get(time) ?? null, gap];
  }

  /** The times that are on the screen, in epoch milliseconds; null: nothing is. */
  visible() {
    const range = this.chart.timeScale().getVisibleRange();
    return range && { start: range.from * 1000, end: range.to * 1000 + lengthOf(this.timeframe) };
  }

  lookAt(gap) {
    const at = this.places.findIndex((row) => row.time * 1000 >= gap.start);
    if (at < 0) return;
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const half = Math.max(20, (range.to - range.from) / 2);
    this.chart.timeScale().setVisibleLogicalRange({ from: at - half, to: at + half });
  }

  /** Move by a share of what is on the screen, zoom by a factor, or go to the newest. */
  move(share) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const by = (range.to - range.from) * share;
    this.chart.timeScale().setVisibleLogicalRange({ from: range.from + by, to: range.to + by });
  }

  zoom(factor) {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    const from = range.to - (range.to - range.from) * factor;
    this.chart.timeScale().setVisibleLogicalRange({ from, to: range.to });
  }

  newest() {
    this.chart.timeScale().scrollToRealTime();
  }

  close() {
    this.dark.removeEventListener("change", this.paint);
    this.chart.remove();
  }
}
