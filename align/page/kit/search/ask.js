// Asking: the form is sent, the results take their place, and the address follows.
import { addVector, chips, hasParts, listVectors, settle } from "./chips.js";
import { clearProblems, tell } from "./problems.js";

const form = document.getElementById("ask"), found = document.getElementById("found"), status = document.getElementById("status");
const time = document.getElementById("time"), progress = document.getElementById("progress"), box = document.getElementById("box");
const PATIENCE = 250, PAUSE = 280; // milliseconds before the progress is shown, and before a moved weight asks
const NARROWING = /^(is|from|to)\.|^(fold|threshold|classes)$/; // fields that change no score
let running = null, timer = 0, shown = location.search, scored = "";

// The fields that say something, as a form that holds files, or as an address.
function collect() {
  const fields = [...new FormData(form)].filter(([name, value]) => (value instanceof File ? value.name : value !== "" || name === "text"));
  const hasFiles = fields.some(([name]) => name === "file" || name === "vector");
  const out = hasFiles ? new FormData() : new URLSearchParams();
  for (const [name, value] of fields) out.append(name, value);
  return { out, hasFiles };
}

// The fields on which the scores depend, as one text.
const state = () => JSON.stringify([...new FormData(form)].filter(([name]) => !NARROWING.test(name)).map(([name, value]) => [name, value.name || value]));

// A least score is of the scores that it was chosen for: another question lifts it.
function liftThreshold() {
  const least = document.getElementById("least");
  if (least && state() !== scored) least.value = "";
}

// The element that has the focus in the results, so that its like gets it back.
function remember() {
  const e = document.activeElement;
  if (!e || !found.contains(e)) return () => {};
  const inside = e.closest("details:not(.menu)"), open = inside && inside.id;
  const like = e.id ? `#${CSS.escape(e.id)}` : e.name ? `[name="${CSS.escape(e.name)}"][value="${CSS.escape(e.value)}"]` : "";
  return () => {
    if (open && document.getElementById(open)) document.getElementById(open).open = true;
    const place = like && found.querySelector(like);
    (place || found).focus({ preventScroll: true });
  };
}

function put(html, more) {
  const restore = remember(), count = found.querySelectorAll(".hit").length;
  const filters = document.getElementById("filters"), open = filters && filters.open;
  found.innerHTML = html;
  if (open && document.getElementById("filters")) document.getElementById("filters").open = true;
  const results = found.querySelector(".results");
  status.textContent = results.dataset.status;
  time.textContent = results.dataset.seconds;
  document.body.classList.remove("first");
  const examples = document.getElementById("examples");
  if (examples) examples.remove();
  document.dispatchEvent(new CustomEvent("results"));
  const next = more && found.querySelectorAll(".hit")[count];
  if (next) next.querySelector("h2 a").focus();
  else restore();
  return results;
}

// Ask with the form as it stands. A newer question ends an older one. more: {k} for more results.
export async function ask({ k = 0, keepAddress = false } = {}) {
  clearTimeout(timer);
  clearProblems();
  if (running) running.abort();
  if (!hasParts()) return tell("parts", box.dataset.texts ? "Type some words, or add a file." : "Add a file.");
  const mine = (running = new AbortController()), sent = chips();
  const wait = setTimeout(() => { progress.hidden = false; status.textContent = "Searching…"; }, PATIENCE);
  const before = status.textContent;
  found.setAttribute("aria-busy", "true");
  const again = () => ask({ k, keepAddress });
  liftThreshold();
  try {
    const { out, hasFiles } = collect();
    if (k) out.append("k", k);
    const headers = { "X-Part": "results" };
    const reply = await (hasFiles ? fetch(".", { method: "POST", body: out, headers, signal: mine.signal }) : fetch(`?${out}`, { headers, signal: mine.signal }));
    const body = await reply.text();
    if (mine !== running) return undefined;
    if (!reply.ok) return fail(reply, body, before, again);
    const results = put(body, k > 0);
    settle(sent, [...results.querySelectorAll("input.vector")].map((input) => input.value));
    scored = state();
    const address = results.dataset.address, vectors = listVectors(); // which no address holds
    history[keepAddress || k || address === shown ? "replaceState" : "pushState"]({ vectors }, "", address);
    shown = address;
  } catch (error) {
    if (error.name === "AbortError" || mine !== running) return undefined;
    status.textContent = before;
    tell("", "The server does not answer. Your query is kept.", again);
  } finally {
    clearTimeout(wait);
    if (mine === running) {
      running = null;
      progress.hidden = true;
      found.removeAttribute("aria-busy");
    }
  }
  return undefined;
}

function fail(reply, body, before, again) {
  const problem = new DOMParser().parseFromString(body, "text/html").querySelector(".problem.answer");
  status.textContent = before;
  if (problem) return tell(problem.dataset.place, problem.textContent, reply.status === 429 || reply.status === 503 ? again : null);
  let sentence = "";
  try { sentence = JSON.parse(body).error.message; } catch { /* no JSON: another program answered */ }
  const wait = Number(reply.headers.get("retry-after"));
  const said = { 413: "This is too large for the server", 429: "The server is busy", 503: "The server is about to stop or to start again" }[reply.status];
  return tell("", `${said || sentence || `The server answers with error ${reply.status}`}${wait ? `; try again in ${wait} s` : ""}.`.replace("..", "."), reply.status === 422 ? null : again);
}

// Ask a moment later, unless another change comes first.
export function askSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => { if (hasParts()) ask(); }, PAUSE);
}

export function startAsking() {
  scored = state();
  const kept = (history.state && history.state.vectors) || [];
  if (kept.length && !chips().some((chip) => chip.querySelector("[name=vector]"))) {
    kept.forEach(addVector);
    ask({ keepAddress: true });
  }
  form.addEventListener("submit", (e) => { e.preventDefault(); ask(); });
  document.addEventListener("change", (e) => {
    const { target } = e;
    if (target.form !== form || target.type === "file" || target.name === "threshold") return;
    if (target.name === "text") return; // a text asks when Enter is pressed
    if (target.type === "range") askSoon();
    else if (hasParts()) ask();
  });
  document.addEventListener("click", (e) => {
    const onward = e.target.closest("#onward"), clear = e.target.closest("[data-clear]");
    if (onward) { e.preventDefault(); ask({ k: Number(onward.dataset.k) }); }
    if (clear) {
      e.preventDefault();
      for (const input of found.querySelectorAll('[name^="is."]:checked')) input.checked = false;
      for (const input of found.querySelectorAll('[name^="from."], [name^="to."]')) input.value = "";
      ask();
    }
  });
  // Back and forward: the server draws the page of that address.
  addEventListener("popstate", () => { if (location.search !== shown) location.reload(); });
}
