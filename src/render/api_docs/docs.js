// Finds calls by what is typed, and opens the one that a link names. The page itself needs no script.
"use strict";

const calls = Array.from(document.querySelectorAll("main details"));

document.getElementById("find").hidden = false;
document.getElementById("filter").addEventListener("input", (event) => {
  const wanted = event.target.value.toLowerCase();
  for (const call of calls) {
    call.hidden = !call.querySelector("summary").textContent.toLowerCase().includes(wanted);
  }
});

function open() {
  const named = calls.find((call) => "#" + call.id === location.hash);
  if (named) named.open = true;
}

addEventListener("hashchange", open);
open();
