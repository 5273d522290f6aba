// Times as the site's clock shows them, or in UTC for whoever switches to it; each says which.
import { h } from "./dom.js";

let site = "UTC";
let zone = "UTC"; // that is shown
let forms = {};

/** Take the site's time zone for all that is shown from now on. */
export function useZone(name) {
  site = name || "UTC";
  use(site);
}

/** Show UTC, or the site's clock again. */
export const switchZone = () => use(zone === site ? "UTC" : site);

function use(name) {
  zone = name;
  const form = (options) => new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options });
  forms = {
    clock: form({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
    short: form({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
    day: form({ weekday: "short", day: "numeric", month: "short", year: "numeric" }),
    date: form({ day: "numeric", month: "short" }),
    zone: form({ timeZoneName: "short" }),
    hour: new Intl.DateTimeFormat("en-GB", { timeZone: site, hour: "2-digit", hourCycle: "h23" }),
    shortDay: form({ weekday: "short", day: "numeric", month: "short" }),
    parts: form({
      year: "numeric",
      month: "2-digit",
      day: "2-digit",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
    }),
  };
}
useZone("UTC");

export const zoneName = () => zone;
export const siteZone = () => site;
/** Whose clock the fields for times mean. */
export const clockName = () => (zone === site && site !== "UTC" ? "by the site's clock" : "in UTC");
/** What a zone is called at a moment: the hour that comes twice in autumn is told apart by it. */
export const zoneAt = (when) =>
  forms.zone.formatToParts(new Date(when)).find((part) => part.type === "timeZoneName").value;
/** The hour of the site's wall clock. */
export const wallHour = (when) => Number(forms.hour.format(new Date(when)));
export const clock = (when) => forms.clock.format(new Date(when));
export const shortClock = (when) => forms.short.format(new Date(when));
export const day = (when) => forms.day.format(new Date(when));
export const shortDay = (when) => forms.shortDay.format(new Date(when));
export const utc = (when) => `${new Date(when).toISOString().slice(0, 19).replace("T", " ")} UTC`;

/** A time element with its zone: local to read, UTC to hover over or to switch to. */
export function moment(when, { withDay = false, short = false, class: name = null } = {}) {
  const text = withDay ? `${short ? forms.date.format(new Date(when)) : shortDay(when)}, ${clock(when)}` : clock(when);
  const called = h("span", { class: "zone" }, zoneAt(when));
  return h("time", { datetime: new Date(when).toISOString(), title: utc(when), class: name }, text, "\u00a0", called);
}

/** Seconds as 4.2 s, 3 min 5 s, 2 h 10 min. */
export function duration(given) {
  const gap = "\u00a0";
  if (given < 9.95) return `${given.toFixed(1)}${gap}s`;
  const seconds = Math.round(given);
  if (seconds < 60) return `${seconds}${gap}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}${gap}min ${seconds % 60}${gap}s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)}${gap}h ${Math.floor((seconds % 3600) / 60)}${gap}min`;
  return `${Math.floor(seconds / 86400)}${gap}days`;
}

/** How many minutes the site's clock is ahead of UTC at a moment. */
function aheadMinutes(when) {
  const found = Object.fromEntries(forms.parts.formatToParts(new Date(when)).map((part) => [part.type, part.value]));
  const local = Date.UTC(found.year, found.month - 1, found.day, found.hour, found.minute, found.second);
  return Math.round((local - Math.floor(new Date(when) / 1000) * 1000) / 60000);
}

/**
 * What a `datetime-local` field holds, as the site's clock means it, in UTC; null for nothing. In autumn an hour comes
 * twice: its first is meant, or, where a time ends, its second, so that neither is left out.
 */
export function fromField(text, { later = false } = {}) {
  if (!text) return null;
  const naive = new Date(`${text}Z`).getTime();
  const day = 86_400_000; // the clock is not changed twice in two days
  const ahead = [naive - day, naive + day].map((at) => aheadMinutes(at) * 60000);
  const meant = ahead.map((each) => naive - each).filter((at, place) => aheadMinutes(at) * 60000 === ahead[place]);
  const readings = meant.length ? meant : [naive - ahead[0]]; // none: the hour that spring leaves out
  return new Date(later ? Math.max(...readings) : Math.min(...readings)).toISOString();
}

/** A field for a moment, and what it says: of one that nobody touched exactly the moment, which has seconds too. */
export function timeField(when, { later = false, ...rest } = {}) {
  const shown = toField(when);
  const input = h("input", { type: "datetime-local", value: shown, ...rest });
  const read = () => (input.value === shown ? when || null : fromField(input.value, { later }));
  return { input, read };
}

/** A moment for a `datetime-local` field. */
export function toField(when) {
  if (!when) return "";
  return new Date(new Date(when).getTime() + aheadMinutes(when) * 60000).toISOString().slice(0, 16);
}

/** The hour a moment lies in, by the clock that is shown: a key that sorts, and how to call it. */
export function hourOf(when) {
  const ahead = aheadMinutes(when) * 60000;
  const begin = Math.floor((new Date(when).getTime() + ahead) / 3_600_000) * 3_600_000 - ahead;
  return { key: new Date(begin).toISOString(), text: `${shortDay(begin)}, ${shortClock(begin)} ${zoneAt(begin)}` };
}
