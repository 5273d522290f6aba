// The keyboard: one table of keys for the page, one for the view that is shown; `?` shows both.

let general = [];
let ofView = [];
let waiting = null; // for the second key of two
let patience = 0;

/** Keys that work everywhere. @param {{keys: string[], text: string, run: Function}[]} table */
export function everywhere(table) {
  general = table;
}

/** Keys of the view that is shown; they end with it. */
export function here(table) {
  ofView = table;
}

/** Both tables, for the help. */
export const known = () => ({ general, ofView });

const isTyping = (element) =>
  element.isContentEditable ||
  (element.matches("input, textarea, select") &&
    !["checkbox", "radio", "button", "submit", "range"].includes(element.type));

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.querySelector("dialog[open]") && event.key !== "?") return;
  const { key } = event;
  if (isTyping(event.target)) {
    if (key === "Escape") event.target.blur();
    return;
  }
  const pressed = waiting ? `${waiting} ${key}` : key;
  waiting = null;
  clearTimeout(patience);
  const found = [...ofView, ...general].find((each) => each.keys.includes(pressed));
  if (found) {
    if (found.run(event) !== false) event.preventDefault();
  } else if ([...ofView, ...general].some((each) => each.keys.some((name) => name.startsWith(`${key} `)))) {
    waiting = key;
    patience = setTimeout(() => {
      waiting = null;
    }, 1200);
  }
}

addEventListener("keydown", onKey);

/**
 * Keys to go through a list.
 * @param {Function} items - Gives its elements as they are now.
 * @param {{rows: Element, what: string}} how - `rows`: what holds a grid, in which the arrows go in four directions.
 */
export function through(items, { rows = null, what = "" } = {}) {
  const to = (direction) => () => move(items(), direction);
  const within = (direction) => () => rows.contains(document.activeElement) && move(items(), direction);
  const named = (text) => (what ? `${text} ${what}` : text);
  return [
    { keys: ["j", rows ? "ArrowRight" : "ArrowDown"], text: named("Next"), run: to("next") },
    { keys: ["k", rows ? "ArrowLeft" : "ArrowUp"], text: named("Previous"), run: to("previous") },
    ...(rows
      ? [
          { keys: ["ArrowDown"], text: "Row below", run: within("down") },
          { keys: ["ArrowUp"], text: "Row above", run: within("up") },
        ]
      : []),
  ];
}

/** Move the focus among elements that stand in rows: by one, or to the row above or below. */
export function move(items, direction) {
  if (!items.length) return;
  const at = items.findIndex((item) => item === document.activeElement || item.contains(document.activeElement));
  const next =
    at < 0
      ? items[0]
      : direction === "up" || direction === "down"
        ? inNextRow(items, at, direction)
        : items[Math.max(0, Math.min(items.length - 1, at + (direction === "next" ? 1 : -1)))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function inNextRow(items, at, direction) {
  const own = items[at].getBoundingClientRect();
  const below = direction === "down" ? 1 : -1;
  const others = items
    .map((item) => ({ item, box: item.getBoundingClientRect() }))
    .filter(({ box }) => below * (box.top - own.top) > own.height / 2);
  if (!others.length) return items[at];
  const distance = ({ box }) => Math.abs(box.top - own.top) * 10 + Math.abs(box.left - own.left);
  return others.reduce((best, each) => (distance(each) < distance(best) ? each : best)).item;
}
