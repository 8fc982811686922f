// The coverage map as a grid: by pointer (drag a rectangle), and by keyboard (arrows move, with
// Shift they select, Space adds or takes away one cell, Escape clears).

import { Component, html, useEffect, useRef, useState } from "./vendor/preact.js";
import { columnLabel, describe, lookOf } from "./coverage_map.js";

/** A row of cells; drawn again only when something of it changed: a map has thousands of cells. */
class GridRow extends Component {
  shouldComponentUpdate(next) {
    return ["row", "selected", "cursor", "columns"].some((name) => next[name] !== this.props[name]);
  }

  render({ row, at, selected, cursor, columns, labels }) {
    return html`<tr role="row" aria-rowindex=${at + 2}>
      <th scope="row" role="rowheader" class="map-head">
        <button type="button" tabindex="-1" data-row=${row.key} title="Select the row">
          <span>${row.symbol}</span> <small>${row.timeframe}</small>
        </button>
      </th>
      ${row.cells.map((cell, place) => {
        const { state, level } = lookOf(cell);
        return html`<td
          key=${place}
          role="gridcell"
          data-key=${row.key}
          data-at=${place}
          tabindex=${cursor === place ? 0 : -1}
          aria-selected=${selected?.has(place) ? "true" : "false"}
          aria-label=${`${row.symbol} ${row.timeframe} ${labels[place]}: ${describe(cell)}`}
          class=${`map-cell is-${state} level-${level}`}
        ></td>`;
      })}
    </tr>`;
  }
}

/** Selection of the rectangle between two cells. */
function rectangle(keys, from, to) {
  const places = [keys.indexOf(from.key), keys.indexOf(to.key)].sort((one, other) => one - other);
  const [left, right] = [from.at, to.at].sort((one, other) => one - other);
  const across = Array.from({ length: right - left + 1 }, (_, at) => left + at);
  return new Map(keys.slice(places[0], places[1] + 1).map((key) => [key, new Set(across)]));
}

function toggled(selected, { key, at }) {
  const next = new Map(selected);
  const places = new Set(next.get(key));
  if (!places.delete(at)) places.add(at);
  if (places.size) next.set(key, places);
  else next.delete(key);
  return next;
}

/** `onSelect(selected, cursor)`: Map of row keys -> set of columns, and the cell that has focus. */
export function CoverageGrid({ rows, columns, resolution, selected, onSelect }) {
  const grid = useRef(null);
  const drag = useRef(null);
  const anchor = useRef(null);
  const [cursor, setCursor] = useState({ key: null, at: 0 });
  const keys = [...rows.keys()];
  const labels = columns.map((column) => columnLabel(resolution, column));
  const here = rows.has(cursor.key) ? cursor : { key: keys[0], at: columns.length - 1 };

  const focus = (place) => {
    setCursor(place);
    const name = `[data-key="${CSS.escape(place.key)}"][data-at="${place.at}"]`;
    // What was drawn has the tab stop elsewhere: focus works without it.
    grid.current.querySelector(name)?.focus();
  };
  const select = (next, place) => {
    setCursor(place);
    onSelect(next, place);
  };
  useEffect(() => {
    const end = () => {
      drag.current = null;
    };
    window.addEventListener("pointerup", end);
    return () => window.removeEventListener("pointerup", end);
  }, []);

  const cellOf = (event) => {
    const { key, at } = event.target.closest("[data-at]")?.dataset ?? {};
    return key === undefined ? null : { key, at: Number(at) };
  };
  const pressed = (event) => {
    const place = cellOf(event);
    if (!place || event.button || event.pointerType !== "mouse") return;
    event.preventDefault();
    focus(place);
    if (event.ctrlKey || event.metaKey) return select(toggled(selected, place), place);
    if (!event.shiftKey || !anchor.current) anchor.current = place;
    drag.current = anchor.current;
    return select(rectangle(keys, anchor.current, place), place);
  };
  const moved = (event) => {
    const place = drag.current && cellOf(event);
    if (place) select(rectangle(keys, drag.current, place), place);
  };
  const clicked = (event) => {
    const head = event.target.closest("[data-row], [data-column]")?.dataset;
    if (head) {
      const from = head.row ? { key: head.row, at: 0 } : { key: keys[0], at: +head.column };
      const to = head.row
        ? { key: head.row, at: columns.length - 1 }
        : { key: keys.at(-1), at: +head.column };
      anchor.current = from;
      select(rectangle(keys, from, to), from);
    } else if (event.pointerType !== "mouse" && event.detail) {
      const place = cellOf(event); // a touch: dragging scrolls
      if (place) select(toggled(selected, place), place);
    }
  };
  const typed = (event) => {
    const row = keys.indexOf(here.key);
    const last = columns.length - 1;
    const to = {
      ArrowLeft: [row, here.at - 1],
      ArrowRight: [row, here.at + 1],
      ArrowUp: [row - 1, here.at],
      ArrowDown: [row + 1, here.at],
      Home: [event.ctrlKey ? 0 : row, 0],
      End: [event.ctrlKey ? keys.length - 1 : row, last],
    }[event.key];
    if (to) {
      event.preventDefault();
      const clamp = (number, most) => Math.max(0, Math.min(most, number));
      const place = { key: keys[clamp(to[0], keys.length - 1)], at: clamp(to[1], last) };
      if (event.shiftKey) {
        anchor.current ??= here;
        select(rectangle(keys, anchor.current, place), place);
      } else anchor.current = null;
      focus(place);
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      anchor.current = here;
      select(toggled(selected, here), here);
    } else if (event.key === "Escape") select(new Map(), here);
  };

  const every = Math.ceil(columns.length / 12);
  return html`<div class="map-scroll">
    <table
      ref=${grid}
      class="map"
      role="grid"
      aria-label="Coverage by symbol, timeframe and time"
      aria-multiselectable="true"
      aria-rowcount=${keys.length + 1}
      onPointerDown=${pressed}
      onPointerOver=${moved}
      onClick=${clicked}
      onKeyDown=${typed}
    >
      <thead>
        <tr role="row" aria-rowindex="1">
          <th scope="col" role="columnheader" class="map-head">Symbol</th>
          ${labels.map(
            (label, at) => html`<th key=${label} scope="col" role="columnheader" class="map-time">
              <button
                type="button"
                tabindex="-1"
                data-column=${at}
                aria-label=${label}
                title=${`Select ${label}`}
                class=${at % every ? "" : "is-named"}
              >
                ${at % every ? "" : label.slice(resolution === "day" ? 5 : 0)}
              </button>
            </th>`,
          )}
        </tr>
      </thead>
      <tbody>
        ${keys.map(
          (key, at) => html`<${GridRow}
            key=${key}
            at=${at}
            row=${rows.get(key)}
            columns=${columns}
            labels=${labels}
            selected=${selected.get(key)}
            cursor=${here.key === key ? here.at : null}
          />`,
        )}
      </tbody>
    </table>
  </div>`;
}
