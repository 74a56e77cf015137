// Legends of figures: a name hides its line or its points, and points them out under the pointer.
for (const figure of document.querySelectorAll(".chart:has(.legend)")) {
  const groups = [...figure.querySelectorAll("svg .s")];
  for (const button of figure.querySelectorAll(".legend button")) {
    const i = +button.dataset.i;
    button.addEventListener("click", () => {
      const off = groups[i].classList.toggle("off");
      button.setAttribute("aria-pressed", String(!off));
    });
    const point = (on) => groups.forEach((g, j) => g.classList.toggle("dim", on && j !== i));
    button.addEventListener("pointerenter", () => point(true));
    button.addEventListener("pointerleave", () => point(false));
  }
}
