// Loads the page anew when the issue, its templates or the settings have changed.
"use strict";
const shown = document.body.dataset.version;
const state = document.getElementById("state");
async function look() {
  let text = "The preview has ended. Start it again to go on.";
  try {
    const answer = await fetch("/version", { cache: "no-store" });
    const { version } = await answer.json();
    if (String(version) !== shown) {
      location.reload();
      return;
    }
    text = "";
  } catch {
    // The server is gone; what is shown is the last state.
  }
  state.textContent = text;
  setTimeout(look, 1000);
}
look();
