// The colours of a page: light, dark, or as the system says; chosen before the first paint, so that nothing flashes.
// Whoever draws by script listens to "themechange".
"use strict";
(function () {
  const SYSTEM = "system";
  let chosen = null;
  try { chosen = localStorage.getItem("owb-theme"); } catch (error) { /* storage is closed to files in some browsers */ }
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  const tell = () => { document.dispatchEvent(new Event("themechange")); };
  apply(chosen);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = document.documentElement.dataset.theme || SYSTEM;
    select.parentNode.hidden = false;
    select.addEventListener("change", () => {
      apply(select.value);
      try { localStorage.setItem("owb-theme", select.value); } catch (error) { /* for this visit only */ }
      tell();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", tell);
  });
})();
