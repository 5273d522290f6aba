// Cases: what was found becomes evidence, is held, exported as one zip, and verified.
import { all, api } from "../api.js";
import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import {
  ask,
  attempt,
  badge,
  bestOf,
  button,
  confirmed,
  count,
  crop,
  field,
  mark,
  problem,
  purposeField,
  purposeOf,
  questions,
  size,
  tampered,
  toast,
} from "../parts.js";
import { go, href } from "../route.js";
import { duration, moment } from "../times.js";
import { newCase } from "./verdicts.js";

const POLL = 700;

export async function show(given) {
  return given.id ? showOne(given) : showAll(given);
}

async function showAll({ root, may, current }) {
  const { items } = await all(api.cases, { limit: 200 }, 1000);
  if (!current()) return undefined;
  const open = items.filter((each) => !each.closed);
  const closed = items.filter((each) => each.closed);
  const begin = async () => {
    const name = await newCase();
    if (name) go(href("cases", name));
  };
  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Cases"),
      h("span", { class: "grow" }),
      may("evidence") ? button("plus", "New case", begin, { class: "main", title: "New case (n)" }) : null,
    ),
    items.length
      ? [
          h(
            "section",
            { class: "panel" },
            h("h2", {}, "Open"),
            open.length ? list(open) : h("p", { class: "muted" }, "None."),
          ),
          closed.length ? h("section", { class: "panel below" }, h("h2", {}, "Closed"), list(closed)) : null,
        ]
      : h(
          "p",
          { class: "empty" },
          "No case yet. A case holds tracklets, so that they neither age nor are erased, and becomes one zip of evidence.",
        ),
  );
  keys.here([
    ...keys.through(() => [...root.querySelectorAll("a.item")]),
    {
      keys: ["n"],
      text: "New case",
      run: () => {
        if (may("evidence")) begin();
      },
    },
  ]);
  return {};
}

function list(items) {
  return h(
    "ul",
    { class: "list" },
    items.map((each) =>
      h(
        "li",
        {},
        h(
          "a",
          { class: "item", href: href("cases", each.case) },
          icon("cases"),
          h(
            "span",
            { class: "grow" },
            h("strong", {}, each.case),
            each.title ? h("span", {}, `  ${each.title}`) : null,
            h("span", { class: "small muted block" }, "opened ", moment(each.opened, { withDay: true })),
          ),
          mark(count(each.items.length, "tracklet")),
        ),
      ),
    ),
  );
}

async function showOne({ root, id, may, current, again }) {
  const details = await api.case(id);
  if (!current()) return undefined;
  const writable = may("evidence") && !details.closed;
  const mayEnd = may("evidence", { ofAll: true });
  const exports = h("div", {});
  let timer = null;

  async function close() {
    const text = "What it holds may age and be erased again. It can be opened again later.";
    if (!(await confirmed("Close the case", text, { yes: "Close case" }))) return;
    if (await attempt(() => api.closeCase(id))) {
      toast("Closed.", { kind: "good" });
      again();
    }
  }
  async function reopen() {
    if (await attempt(() => api.openCase({ case_id: id, title: details.title }))) again();
  }
  async function release(name) {
    const text = "It is held no longer, and may age and be erased.";
    if (!(await confirmed("Take it out of the case", text, { yes: "Take out", danger: true }))) return;
    const done = await attempt(async () => {
      await api.release(id, name);
      return true;
    });
    if (done) again();
  }
  async function begin() {
    const asked = await askExport();
    if (!asked) return;
    const made = await attempt(() => api.export(id, asked));
    if (made) {
      details.exports = [made, ...details.exports];
      drawExports();
    }
  }

  function drawExports() {
    clearTimeout(timer);
    replace(
      exports,
      details.exports.length
        ? h(
            "ul",
            { class: "list" },
            details.exports.map((each) => h("li", { dataset: { export: each.export_id } }, exported(each, may))),
          )
        : h("p", { class: "muted" }, "Nothing was exported yet."),
    );
    if (details.exports.some((each) => each.state === "running")) timer = setTimeout(poll, POLL);
  }
  async function poll() {
    if (!current()) return;
    details.exports = await Promise.all(
      details.exports.map((each) =>
        each.state === "running"
          ? api.exported(each.export_id).catch((error) => (isOver(error) ? failed(each, error) : each))
          : each,
      ),
    );
    drawExports();
  }

  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("a", { class: "button icon-only plain", href: href("cases"), "aria-label": "All cases" }, icon("back")),
      h("h1", {}, id),
      details.closed ? mark("closed") : mark("open", "good"),
      h("span", { class: "grow" }),
      mayEnd && details.closed ? button(null, "Open again", reopen) : null,
      mayEnd && !details.closed ? button(null, "Close case", close, { class: "plain" }) : null,
      h(
        "p",
        { class: "under" },
        details.title || "Without a title",
        h("span", { class: "small" }, " · opened ", moment(details.opened, { withDay: true })),
      ),
    ),
    h(
      "div",
      { class: "two-columns" },
      h(
        "section",
        { class: "panel" },
        h("h2", {}, `Evidence: ${count(details.details.length, "tracklet")}`),
        details.details.length
          ? h(
              "ul",
              { class: "links items" },
              details.details.map((each) => item(each, writable ? release : null, may("look"))),
            )
          : h(
              "p",
              { class: "muted" },
              "Empty. Star answers of a search and press e, or add a tracklet from its own page.",
            ),
      ),
      h(
        "section",
        { class: "panel" },
        h(
          "div",
          { class: "row panel-head" },
          h("h2", { class: "grow" }, "Exports"),
          may("evidence")
            ? button("download", "Export", begin, {
                class: "main",
                title: "Export as a zip (z)",
                disabled: !details.details.length,
              })
            : null,
        ),
        exports,
        h(
          "p",
          { class: "small muted note" },
          "One zip: clips with and without boxes, crops, events, the rows of the audit, and a manifest with the SHA-256 of each file, the model, the software and where times came from.",
        ),
      ),
    ),
  );
  drawExports();
  keys.here([
    ...keys.through(() => [...root.querySelectorAll(".items .open")], { what: "tracklet" }),
    {
      keys: ["z"],
      text: "Export",
      run: () => {
        if (may("evidence") && details.details.length) begin();
      },
    },
    { keys: ["y"], text: "Verify the last export", run: () => exports.querySelector(".verify")?.click() },
  ]);
  return { dispose: () => clearTimeout(timer) };
}

function item({ tracklet, added, added_by: by, note }, release, mayLook) {
  return h(
    "li",
    {},
    mayLook
      ? h(
          "a",
          {
            class: "open",
            href: href("tracklet", tracklet.tracklet_id, { from: "cases" }),
            "aria-label": `Open ${tracklet.camera_id}, ${moment(tracklet.start).textContent}`,
          },
          crop(bestOf(tracklet), ""),
        )
      : h("span", { class: "crop" }, h("span", { class: "gone" }, "not for this role")),
    h(
      "div",
      { class: "stack tight" },
      h(
        "div",
        { class: "row wrap" },
        h("strong", {}, tracklet.camera_id),
        badge(tracklet.modality),
        tracklet.person
          ? mayLook
            ? h("a", { href: href("persons", tracklet.person) }, tracklet.person)
            : tracklet.person
          : null,
      ),
      h(
        "span",
        { class: "small" },
        moment(tracklet.start, { withDay: true }),
        h("span", { class: "muted" }, ` · ${duration(tracklet.seconds)}`),
      ),
      note ? h("span", { class: "row" }, icon("note"), note) : null,
      h("span", { class: "small muted" }, `added by ${by}, `, moment(added, { withDay: true })),
    ),
    release
      ? button("reject", null, () => release(tracklet.tracklet_id), {
          class: "plain",
          title: "Take out",
          "aria-label": `Take ${tracklet.tracklet_id} out of the case`,
        })
      : null,
  );
}

/** What is not there is not written any more; a server that does not answer now may do so the next time. */
const isOver = ({ status }) => status === 404 || status === 410;
const failed = (each, error) => ({ ...each, state: "failed", error: error.detail });

function askExport() {
  return ask("Export the case", (finish) => {
    const why = purposeField("", { placeholder: "stands in the audit and the manifest", autofocus: true });
    const clips = h("input", { type: "checkbox", checked: true });
    const blur = h("input", { type: "checkbox" });
    const run = () => ({ clips: clips.checked, blur_others: blur.checked, ...purposeOf(why) });
    return questions(
      finish,
      { yes: "Export", run },
      field("Purpose", why),
      h("label", { class: "tick" }, clips, "with clips"),
      h("label", { class: "tick" }, blur, "blur everybody else in the clips"),
    );
  });
}

function exported(each, may) {
  const verdict = h("div", { class: "verdict", "aria-live": "polite" });
  const verify = async () => {
    replace(verdict, h("span", { class: "muted small" }, "Comparing every byte …"));
    try {
      const found = await api.verifyExport(each.export_id);
      replace(
        verdict,
        found.findings.length
          ? tampered("It was changed", found.findings)
          : h(
              "span",
              { class: "row verified" },
              mark("whole", "good"),
              h("span", { class: "small" }, `${count(found.files, "file")} as the manifest says`),
            ),
        found.notes.map((text) => h("p", { class: "small muted" }, text)),
      );
    } catch (error) {
      replace(verdict, problem(error));
    }
  };
  const state = { running: ["being written", "warn"], done: ["done", "good"], failed: ["failed", "bad"] }[each.state];
  return h(
    "div",
    { class: "exported stack" },
    h(
      "div",
      { class: "row wrap" },
      mark(...state),
      h(
        "span",
        {},
        count(each.items, "tracklet"),
        each.bytes ? `, ${size(each.bytes)}` : "",
        each.blur_others ? ", others blurred" : "",
      ),
    ),
    h("div", { class: "small muted" }, `${each.by}, `, moment(each.created, { withDay: true })),
    each.state === "running" ? h("progress", { max: 1, value: each.progress, "aria-label": "Export" }) : null,
    each.error ? h("div", { class: "problem" }, each.error) : null,
    each.sha256
      ? h("div", { class: "small" }, h("span", { class: "muted" }, "SHA-256 "), h("code", {}, each.sha256))
      : null,
    each.state === "done"
      ? h(
          "div",
          { class: "row wrap" },
          may("evidence") && each.url
            ? h("a", { class: "button download", href: each.url, download: true }, icon("download"), "Download")
            : null,
          button("shield", "Verify", verify, { class: "verify" }),
        )
      : null,
    verdict,
  );
}
