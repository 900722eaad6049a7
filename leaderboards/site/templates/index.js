// Search over the boards.
"use strict";
(function () {
  const boards = Array.from(document.querySelectorAll(".boards > li"));
  const found = document.getElementById("found");
  document.getElementById("search").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const board of boards) {
      board.hidden = !words.every((word) => board.dataset.text.includes(word));
      count += board.hidden ? 0 : 1;
    }
    found.textContent = count + " of " + boards.length + " boards";
  });
})();
