// The heat map of the words over a hit's picture: a switch. Without the script it is a link to the picture of it.
function turn(button) {
  const img = button.closest(".card").querySelector(".face img.picture");
  if (!img) return false;
  const shown = button.getAttribute("aria-pressed") === "true";
  if (!shown) {
    button.dataset.plain = img.getAttribute("src");
    img.addEventListener("error", () => { if (button.getAttribute("aria-pressed") === "true") turn(button); }, { once: true });
  }
  img.src = shown ? button.dataset.plain : button.getAttribute("href");
  button.setAttribute("aria-pressed", String(!shown));
  return true;
}

function dress(root) {
  for (const button of root.querySelectorAll("a.places")) {
    button.setAttribute("role", "button");
    button.setAttribute("aria-pressed", "false");
  }
}

export function startWhere() {
  const found = document.getElementById("found");
  dress(found);
  document.addEventListener("results", () => dress(found));
  const press = (e) => {
    const button = e.target.closest("a.places");
    if (button && turn(button)) e.preventDefault();
  };
  found.addEventListener("click", press);
  found.addEventListener("keydown", (e) => { if (e.key === " ") press(e); }); // a link has Enter of its own
}
