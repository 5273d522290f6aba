// Elements from data. Text only ever becomes text nodes: nothing from the server is read as markup.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element.
 * @param {string} tag - Its name.
 * @param {object} [given] - Attributes; `on` holds listeners, `dataset` data, `vars` CSS variables, `class` class names.
 * @param {...*} children - Nodes, texts, numbers, arrays of them; null and false are left out.
 */
export function h(tag, given = {}, ...children) {
  return fill(assign(document.createElement(tag), given), children);
}

/** An element of a drawing. */
export function svg(tag, given = {}, ...children) {
  return fill(assign(document.createElementNS(SVG, tag), given), children);
}

function assign(element, given) {
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "dataset") {
      Object.assign(element.dataset, value);
    } else if (name === "vars") {
      for (const [variable, of] of Object.entries(value)) element.style.setProperty(`--${variable}`, String(of));
    } else if (name in element && ["value", "checked", "indeterminate", "muted", "srcObject"].includes(name)) {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  return element;
}

function fill(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Put these in the place of all that an element holds. */
export function replace(element, ...children) {
  element.replaceChildren();
  return fill(element, children);
}

/** Say something to those who listen to the page. */
export function say(text) {
  const place = document.getElementById("said");
  place.textContent = "";
  requestAnimationFrame(() => {
    place.textContent = text;
  });
}
