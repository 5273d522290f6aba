// The panel of a search: who is looked for. They are dropped, pasted, chosen, typed, or drawn on a frame.
import { api } from "../api.js";
import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import {
  attempt,
  button,
  field,
  modalities,
  problem,
  purposeField,
  purposeOf,
  shortModality,
  standingCase,
} from "../parts.js";
import { textOf } from "./asked.js";
import { previewOf, shownExample, upload } from "./query.js";

const UNDECIDED = 422; // a picture, but nobody was found in it, or it is grey; others are none, or too large
const PICTURES = "image/jpeg,image/png,image/tiff,image/bmp,image/webp";

/**
 * The panel.
 * @param {object} search - Its `state` as it is now, `cameras`, `may`, `change`, and whether it is `current`.
 */
export function panelOf(search) {
  const element = h("aside", { class: "query", "aria-label": "Query" });
  const purpose = purposeField();
  purpose.addEventListener("change", () => sessionStorage.setItem("purpose", purpose.value));
  const cases = search.may("cases") ? caseChoice(search.may("evidence")) : null;
  const typed = h("input", {
    type: "text",
    placeholder: "Tracklet or P0007",
    "aria-label": "Tracklet or person",
    autocomplete: "off",
    spellcheck: "false",
  });
  const file = h("input", { type: "file", accept: PICTURES, hidden: true });
  file.addEventListener("change", () => {
    addFile(file.files[0]);
    file.value = "";
  });
  let refused = null; // a picture that cannot be taken, or does not tell what it shows

  async function add(example) {
    const { examples } = search.state;
    if (examples.some((each) => textOf(each) === textOf(example))) return;
    await search.change({ examples: [...examples, example] }, { search: false });
    element.querySelector(".ask")?.focus();
  }

  async function addFile(picture, given) {
    if (!picture) return;
    element.classList.add("loading");
    try {
      const example = await upload(picture, given);
      refused = null;
      await add(example);
    } catch (error) {
      refuse({ picture, error });
    } finally {
      element.classList.remove("loading");
    }
  }

  function refuse(what) {
    refused = what;
    draw();
  }

  async function addNamed(event) {
    event.preventDefault();
    const text = typed.value.trim();
    if (!text) return;
    const name = /^P\d{4,}$/.test(text) ? (await attempt(() => api.person(text)))?.best_tracklet : text;
    if (name && (await attempt(() => api.tracklet(name)))) {
      typed.value = "";
      add({ tracklet_id: name });
    }
  }

  async function drawOnFrame() {
    const previews = await Promise.all(search.state.examples.map(previewOf));
    const known = previews.find((each) => each.camera_id);
    const frame = await attempt(() => import("./frame.js"));
    const example = await frame?.drawBox(search.cameras, { camera_id: known?.camera_id });
    if (example) add(example);
  }

  async function draw() {
    const { examples, negatives, asked } = search.state;
    const all = [
      ...examples.map((example) => ({ example, of: "examples" })),
      ...negatives.map((example) => ({ example, of: "negatives" })),
    ];
    const previews = await Promise.all(all.map(({ example }) => previewOf(example)));
    if (!search.current()) return;
    const asking = element.contains(document.activeElement) && document.activeElement.matches(".ask");
    const shown = all.map(({ example, of }, at) =>
      shownExample(example, previews[at], {
        against: of === "negatives",
        remove: () => search.change({ [of]: search.state[of].filter((each) => each !== example) }),
        change: (made) => search.change({ [of]: search.state[of].map((each) => (each === example ? made : each)) }),
      }),
    );
    replace(
      element,
      h("h2", {}, ["Who are you looking for?", "Query"][all.length] ?? "Who is looked for"),
      all.length ? h("ul", { class: "examples" }, shown) : null,
      refused ? undecided(refused, addFile, refuse) : null,
      all.length
        ? h(
            "div",
            { class: "stack" },
            field("Purpose", purpose),
            cases?.(),
            button("search", asked ? "Search again" : "Search", ask, {
              class: "main ask",
              disabled: !examples.length,
            }),
          )
        : null,
      ways(all.length > 0),
    );
    if (asking) element.querySelector(".ask")?.focus();
  }

  function ask() {
    search.change({ asked: true }, { search: true });
  }

  /** How somebody gets in; folded away on a phone once there is one. */
  function ways(more) {
    const inside = [
      h(
        "div",
        { class: "row wrap" },
        button("image", more ? "Picture" : "Choose a picture", choose, { title: "Choose a picture (i)" }),
        button("box", more ? "Frame" : "Draw on a frame", drawOnFrame, { title: "Draw a box on a frame (f)" }),
      ),
      file,
      h(
        "form",
        { class: "row by-name", on: { submit: addNamed } },
        typed,
        h("button", { type: "submit", class: "icon-only", "aria-label": "Add" }, icon("plus")),
      ),
    ];
    if (!more) {
      const text = "Drop or paste a picture of the person, or pick somebody who was seen";
      return h("div", { class: "drop" }, icon("image"), h("span", {}, text), inside);
    }
    return h(
      "details",
      { class: "drop more", open: matchMedia("(min-width: 821px)").matches },
      h("summary", {}, "Add another example"),
      h("div", {}, inside),
    );
  }

  function choose() {
    file.click();
  }

  function type() {
    typed.closest("details")?.setAttribute("open", "");
    typed.focus();
  }

  /** Take what is dropped on the view, or pasted, until the function that is given back is called. */
  function take(root) {
    const over = (event) => {
      event.preventDefault();
      element.querySelector(".drop")?.classList.toggle("over", event.type === "dragover");
    };
    const dropped = (event) => {
      over(event);
      addFile(event.dataTransfer.files[0]);
    };
    const pasted = (event) => {
      const [picture] = event.clipboardData.files;
      if (!picture) return;
      event.preventDefault();
      addFile(picture);
    };
    const heard = { dragover: over, dragleave: over, drop: dropped };
    for (const [name, listener] of Object.entries(heard)) root.addEventListener(name, listener);
    addEventListener("paste", pasted);
    return () => {
      for (const [name, listener] of Object.entries(heard)) root.removeEventListener(name, listener);
      removeEventListener("paste", pasted);
    };
  }

  return { element, draw, add, choose, type, drawOnFrame, take, why: () => ({ ...purposeOf(purpose), ...standingCase() }) };
}

/**
 * Which case this tab works on: what is searched and decided belongs to it, until the tab is closed.
 * @returns {function(): Element} The choice; the cases are asked for when it is shown first.
 */
function caseChoice(mayOpen) {
  const choice = h("select", { class: "grow", "aria-label": "Case" });
  choice.addEventListener("change", () => sessionStorage.setItem("case", choice.value));
  const offer = (cases, textOfCase) => {
    const { case_id: standing = "" } = standingCase();
    replace(
      choice,
      h("option", { value: "" }, "none"),
      cases.map((each) => h("option", { value: each.case }, textOfCase(each))),
    );
    choice.value = standing;
    if (choice.value === standing) return;
    choice.value = ""; // it was closed meanwhile
    sessionStorage.removeItem("case");
  };
  const load = async () => {
    const { openCases, caseText } = await import("./verdicts.js");
    offer(await openCases(), caseText);
  };
  const begin = async () => {
    const made = await (await attempt(() => import("./verdicts.js")))?.newCase();
    if (!made) return;
    sessionStorage.setItem("case", made);
    await attempt(load);
  };
  const { case_id: standing } = standingCase();
  offer(standing ? [{ case: standing }] : [], (each) => each.case);
  const open = mayOpen ? button("plus", null, begin, { title: "Open a new case" }) : null;
  let loading = null;
  return () => {
    loading ??= attempt(load);
    const row = h("div", { class: "row" }, choice, open);
    return h("div", { class: "field" }, h("span", { "aria-hidden": "true" }, "Case"), row);
  };
}

/** Why a picture was refused. A grey one may be of any modality: whoever brought it says which. */
function undecided({ picture, error }, addFile, refuse) {
  const shows = (modality) => () => {
    refuse(null);
    addFile(picture, { modality, whole: true });
  };
  return h(
    "div",
    { class: "stack" },
    problem(error),
    error.status === UNDECIDED
      ? h(
          "div",
          { class: "row wrap" },
          h("span", { class: "small" }, "It shows"),
          modalities.map((name) => button(null, shortModality(name), shows(name))),
        )
      : null,
    button(null, "Forget this picture", () => refuse(null), { class: "plain" }),
  );
}
