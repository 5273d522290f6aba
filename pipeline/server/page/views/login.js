// Log in: only where there are users.
import { api } from "../api.js";
import { h, replace } from "../dom.js";
import { field, problem } from "../parts.js";

export function show({ root, entered }) {
  const user = h("input", {
    type: "text",
    autocomplete: "username",
    required: true,
    autofocus: true,
    autocapitalize: "none",
    spellcheck: "false",
  });
  const password = h("input", { type: "password", autocomplete: "current-password", required: true });
  const place = h("div", { "aria-live": "assertive" });
  const button = h("button", { type: "submit", class: "main" }, "Log in");
  const run = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await entered(await api.login(user.value, password.value));
    } catch (error) {
      replace(place, problem(error.status === 401 ? { ...error, title: "Not logged in" } : error));
      password.value = "";
      password.focus();
    } finally {
      button.disabled = false;
    }
  };
  replace(
    root,
    h(
      "div",
      { class: "login" },
      h(
        "section",
        { class: "panel" },
        h(
          "form",
          { class: "stack loose", on: { submit: run } },
          h("h1", {}, "Log in"),
          field("Name", user),
          field("Password", password),
          place,
          button,
        ),
      ),
    ),
  );
  user.focus();
  return {};
}
