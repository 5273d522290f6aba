// Audit: who did what, when and why; and whether the record is whole.
import { api } from "../api.js";
import { h, replace } from "../dom.js";
import * as keys from "../keys.js";
import { button, count, mark, pages, problem, tampered } from "../parts.js";
import { href } from "../route.js";
import { moment } from "../times.js";

const PAGE = 100;
const ACTIONS = {
  search: "Search",
  hold: "Into case",
  release: "Out of case",
  case_open: "Case opened",
  case_close: "Case closed",
  export: "Export",
  evidence: "Export",
  download: "Download",
  login: "Logged in",
  login_failed: "Login failed",
  logout: "Logged out",
};

export async function show({ root, current }) {
  const first = await api.audit({ limit: PAGE });
  if (!current()) return undefined;
  const body = h("tbody", {});
  const verdict = h("div", { class: "verdict", "aria-live": "polite" });
  const append = (items) => body.append(...items.map(row));
  const more = pages(first, (cursor) => api.audit({ limit: PAGE, cursor }), append, "Show older");
  async function verify() {
    replace(verdict, h("p", { class: "muted" }, "Checking every row …"));
    try {
      const found = await api.verifyAudit();
      replace(
        verdict,
        found.findings.length
          ? tampered("The record was tampered with", found.findings)
          : h(
              "div",
              { class: "panel row wrap verified" },
              mark("whole", "good"),
              h("span", {}, `${count(found.rows, "row")}, each follows from the one before.`),
              h(
                "span",
                { class: "small muted" },
                "Keep this elsewhere: ",
                h("code", {}, `${found.head[0]}:${found.head[1]}`),
              ),
            ),
        found.notes.map((text) => h("p", { class: "small muted" }, text)),
      );
    } catch (error) {
      replace(verdict, problem(error));
    }
  }
  replace(
    root,
    h(
      "div",
      { class: "head" },
      h("h1", {}, "Audit"),
      h("span", { class: "grow" }),
      button("shield", "Verify the chain", verify, { class: "verify", title: "Verify the chain (y)" }),
    ),
    verdict,
    first.items.length
      ? h(
          "section",
          { class: "panel below" },
          h(
            "div",
            { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rows of the audit" },
            h(
              "table",
              { class: "audit" },
              h(
                "thead",
                {},
                h(
                  "tr",
                  {},
                  ["No.", "When", "Who", "What", "Case", "Purpose", "Details"].map((name) =>
                    h("th", { scope: "col" }, name),
                  ),
                ),
              ),
              body,
            ),
          ),
          more,
        )
      : h("p", { class: "empty" }, "Nothing was done yet."),
  );
  keys.here([{ keys: ["y"], text: "Verify the chain", run: verify }]);
  return {};
}

function row(each) {
  return h(
    "tr",
    {},
    h("td", { class: "number" }, each.number),
    h("td", { class: "nowrap" }, moment(each.at, { withDay: true })),
    h("td", {}, each.actor),
    h("td", { class: "nowrap" }, h("strong", {}, ACTIONS[each.action] ?? each.action.replaceAll("_", " "))),
    h("td", {}, each.case_id ? h("a", { href: href("cases", each.case_id) }, each.case_id) : ""),
    h("td", {}, each.purpose ?? ""),
    h(
      "td",
      {},
      h(
        "details",
        { class: "small" },
        h("summary", {}, summary(each.details)),
        h("pre", { class: "mono" }, JSON.stringify(each.details, null, 1)),
        h("p", { class: "muted" }, "hash ", h("code", {}, each.hash)),
      ),
    ),
  );
}

/** The first few words of what a row says. */
function summary(details) {
  if (details.query !== undefined) return count(details.answers?.length ?? 0, "answer");
  if (Array.isArray(details.tracklets)) return count(details.tracklets.length, "tracklet");
  const [name, value] = Object.entries(details)[0] ?? ["", ""];
  return name ? `${name} ${typeof value === "object" ? "…" : value}`.slice(0, 60) : "…";
}
