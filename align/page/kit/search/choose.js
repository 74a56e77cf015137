// The choice of hits to take away.
import { tell } from "./problems.js";

const found = document.getElementById("found");

function count() {
  const said = document.getElementById("chosen");
  if (!said) return;
  const chosen = found.querySelectorAll("[name=chosen]:checked").length, hits = [...found.querySelectorAll(".hit")];
  const hidden = new Set(hits.filter((hit) => hit.hidden).map((hit) => hit.id));
  for (const field of found.querySelectorAll("[name=shown]")) field.disabled = hidden.has(`hit-${field.value.split(":")[0]}`);
  said.lastChild.textContent = chosen ? `${chosen} chosen` : `All ${hits.length - hidden.size}`;
}

// The file comes by fetch, so that an error can be said on this page.
async function download(form, button) {
  const body = new FormData(form, button);
  button.setAttribute("aria-busy", "true");
  try {
    const reply = await fetch(form.action, { method: "POST", body });
    if (!reply.ok) return tell("", (await reply.text()).slice(0, 300));
    const name = /filename="([^"]+)"/.exec(reply.headers.get("content-disposition") || "");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await reply.blob());
    link.download = name ? name[1] : "found";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch {
    tell("", "The server does not answer. Your choice is kept.");
  } finally {
    button.removeAttribute("aria-busy");
  }
  return undefined;
}

export function startChoice() {
  count();
  document.addEventListener("results", count);
  document.addEventListener("shown", count);
  document.addEventListener("change", (e) => { if (e.target.name === "chosen") count(); });
  document.addEventListener("submit", (e) => {
    if (e.target.id !== "take") return;
    e.preventDefault();
    download(e.target, e.submitter);
  });
}
