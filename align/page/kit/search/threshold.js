// The threshold: hits below it are hidden, at once and without the server.
const found = document.getElementById("found"), status = document.getElementById("status");
let timer = 0, kept = "";

function apply(write) {
  const slider = document.getElementById("slider"), least = document.getElementById("least"), above = document.getElementById("above");
  const value = write || least.value === "" ? Number(slider.value) : Number(least.value), off = value < Number(slider.min) + Number(slider.step) / 2, hits = [...found.querySelectorAll(".hit")];
  let left = 0;
  for (const hit of hits) {
    hit.hidden = !off && Number(hit.dataset.score) < value;
    left += hit.hidden ? 0 : 1;
  }
  const said = Math.abs(value) < 10 ? value.toFixed(3) : value.toFixed(2);
  above.textContent = off ? "" : `${left} of ${hits.length} above ${said}`;
  slider.setAttribute("aria-valuetext", off ? "none" : said);
  document.dispatchEvent(new CustomEvent("shown", { detail: left }));
  if (!write) return;
  least.value = off ? "" : String(Number(value.toPrecision(5)));
  clearTimeout(timer); // the status line and the address follow when the slider rests
  timer = setTimeout(() => {
    status.textContent = off ? kept : `${above.textContent}.`;
    const address = new URL(location.href);
    if (off) address.searchParams.delete("threshold");
    else address.searchParams.set("threshold", least.value);
    history.replaceState(null, "", address);
    const link = document.getElementById("link");
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
  slider.addEventListener("input", () => apply(true));
  apply(false);
}

export function startThreshold() {
  dress();
  document.addEventListener("results", dress);
}
