// Confusions: a line that says the cell under the pointer or the finger, whose words a finger cannot see otherwise.
for (const place of document.querySelectorAll(".confusions")) {
  const said = place.querySelector(".said");
  const say = (e) => {
    const cell = e.target.closest("td[title]");
    if (cell) said.textContent = cell.title;
  };
  place.addEventListener("pointerover", say);
  place.addEventListener("pointerdown", say);
}
