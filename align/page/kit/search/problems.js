// Problems: one sentence beside its cause, with a button where another try may help.
const places = () => document.querySelectorAll(".problem[data-place]:not(.answer)");

export function clearProblems() {
  for (const place of places()) { place.hidden = true; place.replaceChildren(); }
  for (const chip of document.querySelectorAll(".chip.wrong")) chip.classList.remove("wrong");
}

export function tell(where, sentence, again = null) {
  const all = [...places()], place = all.find((p) => p.dataset.place === where) || all.find((p) => p.dataset.place === "");
  place.replaceChildren(sentence);
  if (again) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "Try again";
    button.addEventListener("click", again);
    place.append(button);
  }
  place.hidden = false;
  place.scrollIntoView({ block: "nearest" }); // a file may be dropped far below
  for (const chip of document.querySelectorAll(".chip")) {
    const name = chip.querySelector(".name");
    if (where === "parts" && name && name.textContent && sentence.includes(name.textContent)) chip.classList.add("wrong");
  }
}
