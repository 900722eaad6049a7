// Chosen theme before the first paint, so that nothing flashes.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("owb-theme"); } catch (error) { /* storage is closed to files in some browsers */ }
  if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  window.owbTheme = {
    isDark: function () {
      var own = document.documentElement.dataset.theme;
      return own ? own === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    },
    start: function (changed) {
      var button = document.getElementById("theme");
      var say = function () {
        button.textContent = window.owbTheme.isDark() ? "Light" : "Dark";
        button.setAttribute("aria-label", "Switch to " + button.textContent.toLowerCase() + " colours");
      };
      button.hidden = false;
      button.addEventListener("click", function () {
        var next = window.owbTheme.isDark() ? "light" : "dark";
        document.documentElement.dataset.theme = next;
        try { localStorage.setItem("owb-theme", next); } catch (error) { /* for this visit only */ }
        say();
        changed();
      });
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () { say(); changed(); });
      say();
    }
  };
})();
