// Gap bands behind the candles of a chart: a primitive of lightweight-charts.

class BandRenderer {
  constructor(bands) {
    this.bands = bands;
  }

  draw(target) {
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio }) => {
      for (const { left, right, fill, edge } of this.bands) {
        const from = Math.round(left * horizontalPixelRatio);
        const width = Math.max(2, Math.round((right - left) * horizontalPixelRatio));
        context.fillStyle = fill;
        context.fillRect(from, 0, width, bitmapSize.height);
        context.fillStyle = edge;
        context.fillRect(from, 0, width, Math.max(2, 3 * horizontalPixelRatio));
      }
    });
  }
}

/** `gaps`: [{first, last, reason}]: times of the first and last place of each, in seconds. */
export class GapBands {
  constructor(coloursOf) {
    this.coloursOf = coloursOf;
    this.gaps = [];
    this.views = [{ zOrder: () => "bottom", renderer: () => new BandRenderer(this.visible()) }];
  }

  attached({ chart, requestUpdate }) {
    this.chart = chart;
    this.requestUpdate = requestUpdate;
  }

  detached() {
    this.chart = null;
  }

  show(gaps) {
    this.gaps = gaps;
    this.requestUpdate?.();
  }

  paneViews() {
    return this.views;
  }

  visible() {
    const scale = this.chart?.timeScale();
    if (!scale) return [];
    const half = scale.options().barSpacing / 2;
    return this.gaps.flatMap(({ first, last, reason }) => {
      const left = scale.timeToCoordinate(first);
      const right = scale.timeToCoordinate(last);
      if (left === null || right === null) return [];
      return [{ left: left - half, right: right + half, ...this.coloursOf(reason) }];
    });
  }
}
