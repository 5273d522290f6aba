// Before the first paint: the theme that was chosen here last; without a choice, the system's.
(() => {
  try {
    const chosen = localStorage.getItem("theme");
    if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  } catch {
    // storage is blocked: the system's theme
  }
})();
