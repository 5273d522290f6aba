// Cases: what was found becomes evidence, is held, exported as one zip, and verified.
import { all, api } from "../api.js";
import { h, replace } from "../dom.js";
import { icon } from "../icons.js";
import * as keys from "../keys.js";
import { ask, attempt, badge, bestOf, confirmed, count, crop, mark, problem, size, toast } from "../parts.js";
import { go, href } from "../route.js";
import { duration, moment } from "../times.js";

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
      may("evidence")
        ? h(
            "button",
            { type: "button", class: "main", title: "New case (n)", on: { click: begin } },
            icon("plus"),
            "New case",
          )
        : null,
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
    { keys: ["j", "ArrowDown"], text: "Next", run: () => keys.move([...root.querySelectorAll("a.item")], "next") },
    {
      keys: ["k", "ArrowUp"],
      text: "Previous",
      run: () => keys.move([...root.querySelectorAll("a.item")], "previous"),
    },
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

function newCase() {
  return ask("New case", (finish) => {
    const name = h("input", {
      type: "text",
      required: true,
      pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,63}",
      title: "letters, digits, _, - and .",
      placeholder: "2026-0417",
      autofocus: true,
    });
    const title = h("input", { type: "text", maxlength: 2000, placeholder: "what it is about" });
    const place = h("div", {});
    const run = async (event) => {
      event.preventDefault();
      try {
        finish((await api.openCase({ case_id: name.value, title: title.value })).case);
      } catch (error) {
        replace(place, problem(error));
      }
    };
    return h(
      "form",
      { class: "stack loose", on: { submit: run } },
      h("label", { class: "field" }, h("span", {}, "Number"), name),
      h("label", { class: "field" }, h("span", {}, "Title"), title),
      place,
      h(
        "div",
        { class: "foot" },
        h("button", { type: "button", on: { click: () => finish(null) } }, "Cancel"),
        h("button", { type: "submit", class: "main" }, "Open case"),
      ),
    );
  });
}

async function showOne({ root, id, may, current, ...rest }) {
  const details = await api.case(id);
  if (!current()) return undefined;
  const again = () => {
    if (current()) showOne({ root, id, may, current, ...rest });
  };
  const writable = may("evidence") && !details.closed;
  const exports = h("div", {});
  let timer = null;

  async function close() {
    if (
      !(await confirmed("Close the case", "What it holds may age and be erased again. It can be opened again later.", {
        yes: "Close case",
      }))
    )
      return;
    if (await attempt(() => api.closeCase(id))) {
      toast("Closed.", { kind: "good" });
      again();
    }
  }
  async function reopen() {
    if (await attempt(() => api.openCase({ case_id: id, title: details.title }))) again();
  }
  async function release(name) {
    if (
      !(await confirmed("Take it out of the case", "It is held no longer, and may age and be erased.", {
        yes: "Take out",
        danger: true,
      }))
    )
      return;
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
          ? api.exported(each.export_id).catch((error) => ({ ...each, state: "failed", error: error.detail }))
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
      may("evidence")
        ? details.closed
          ? h("button", { type: "button", on: { click: reopen } }, "Open again")
          : h("button", { type: "button", class: "plain", on: { click: close } }, "Close case")
        : null,
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
            ? h(
                "button",
                {
                  type: "button",
                  class: "main",
                  disabled: !details.details.length,
                  title: "Export as a zip (z)",
                  on: { click: begin },
                },
                icon("download"),
                "Export",
              )
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
    {
      keys: ["j", "ArrowDown"],
      text: "Next tracklet",
      run: () => keys.move([...root.querySelectorAll(".items .open")], "next"),
    },
    {
      keys: ["k", "ArrowUp"],
      text: "Previous tracklet",
      run: () => keys.move([...root.querySelectorAll(".items .open")], "previous"),
    },
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
      ? h(
          "button",
          {
            type: "button",
            class: "plain icon-only",
            "aria-label": `Take ${tracklet.tracklet_id} out of the case`,
            title: "Take out",
            on: { click: () => release(tracklet.tracklet_id) },
          },
          icon("reject"),
        )
      : null,
  );
}

function askExport() {
  return ask("Export the case", (finish) => {
    const purpose = h("input", {
      type: "text",
      maxlength: 2000,
      placeholder: "stands in the audit and the manifest",
      autofocus: true,
    });
    const clips = h("input", { type: "checkbox", checked: true });
    const blur = h("input", { type: "checkbox" });
    return h(
      "form",
      {
        class: "stack loose",
        on: {
          submit: (event) => {
            event.preventDefault();
            finish({
              clips: clips.checked,
              blur_others: blur.checked,
              ...(purpose.value.trim() ? { purpose: purpose.value.trim() } : {}),
            });
          },
        },
      },
      h("label", { class: "field" }, h("span", {}, "Purpose"), purpose),
      h("label", { class: "tick" }, clips, "with clips"),
      h("label", { class: "tick" }, blur, "blur everybody else in the clips"),
      h(
        "div",
        { class: "foot" },
        h("button", { type: "button", on: { click: () => finish(null) } }, "Cancel"),
        h("button", { type: "submit", class: "main" }, "Export"),
      ),
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
          ? h(
              "div",
              { class: "problem" },
              h("strong", {}, "It was changed"),
              found.findings.map((text) => h("span", {}, text)),
            )
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
          h("button", { type: "button", class: "verify", on: { click: verify } }, icon("shield"), "Verify"),
        )
      : null,
    verdict,
  );
}
