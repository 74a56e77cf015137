// The threshold: hits below it are hidden, at once and without the server.
const found = document.getElementById("found"), status = document.getElementById("status");
let timer = 0, kept = "";

// Show the hits from a score on. value: null shows all of them.
function apply(value) {
  const slider = document.getElementById("slider"), above = document.getElementById("above"), hits = [...found.querySelectorAll(".hit")];
  for (const hit of hits) hit.hidden = value !== null && Number(hit.dataset.score) < value;
  const left = hits.filter((hit) => !hit.hidden).length, onward = found.querySelector(".onward");
  const said = value === null ? "none" : Math.abs(value) < 10 ? value.toFixed(3) : value.toFixed(2);
  above.textContent = value === null ? "" : `${left} of ${hits.length} above ${said}`;
  document.getElementById("none-above").hidden = left > 0;
  if (onward) onward.hidden = hits.at(-1).hidden; // further hits are weaker still
  slider.setAttribute("aria-valuetext", said);
  document.dispatchEvent(new CustomEvent("shown", { detail: left }));
}

// The user's choice of a score. The status line and the address follow when the slider rests.
function choose(value) {
  const least = document.getElementById("least"), above = document.getElementById("above");
  apply(value);
  least.value = value === null ? "" : String(Number(value.toPrecision(6)));
  clearTimeout(timer);
  timer = setTimeout(() => {
    status.textContent = value === null ? kept : `${above.textContent}.`;
    const address = new URL(location.href), link = document.getElementById("link");
    if (value === null) address.searchParams.delete("threshold");
    else address.searchParams.set("threshold", least.value);
    history.replaceState(history.state, "", address);
    if (link) link.href = address.search;
  }, 300);
}

function dress() {
  const slider = document.getElementById("slider"), least = document.getElementById("least");
  if (!slider) return;
  kept = found.querySelector(".results").dataset.status;
  slider.hidden = false;
  least.hidden = true;
  document.querySelector('label[for="least"]').htmlFor = "slider";
  slider.addEventListener("input", () => {
    const value = Number(slider.value), isOff = value < Number(slider.min) + Number(slider.step) / 2;
    choose(isOff ? null : value);
  });
  apply(least.value === "" ? null : Number(least.value));
}

export function startThreshold() {
  dress();
  document.addEventListener("results", dress);
  document.addEventListener("click", (e) => {
    const button = e.target.closest("#calibrated, #lift"), slider = document.getElementById("slider");
    if (!button) return;
    e.preventDefault();
    slider.value = button.value || slider.min;
    choose(button.value ? Number(button.value) : null);
    if (button.id === "lift") slider.focus();
  });
}
