// Where one is stands in the address behind the #: so that back, reload and a link sent to a colleague work.

/** What an address that somebody mistyped means stays as it stands. */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The view, what it is about, and its settings: `#/tracklet/gate-01?from=search`. */
export function where() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view = "", ...rest] = path.split("/");
  return { view: view || "search", id: rest.map(decoded).join("/"), params: new URLSearchParams(query) };
}

/** The address of a view. */
export function href(view, id = "", params = {}) {
  const query = params instanceof URLSearchParams ? params : search(params);
  const text = query.toString();
  return `#/${view}${id ? `/${encodeURIComponent(id)}` : ""}${text ? `?${text}` : ""}`;
}

/** URLSearchParams of an object: lists repeat, what is empty is left out. */
export function search(params) {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "" && each !== false)
        found.append(name, each === true ? "1" : each);
    }
  }
  return found;
}

/** Go somewhere; `quietly` changes the address alone, for settings of the view that is shown already. */
export function go(address, { quietly = false, instead = false } = {}) {
  if (location.hash === address) return;
  if (quietly) history[instead ? "replaceState" : "pushState"](null, "", address);
  else if (instead) location.replace(address);
  else location.hash = address;
}

/** Be told of every change that was not made quietly. */
export function listen(listener) {
  addEventListener("hashchange", () => listener());
}
