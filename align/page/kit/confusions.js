// Confusions: a line that says the cell under the pointer or the finger, whose words a finger cannot see otherwise.
for (const said of document.querySelectorAll(".confusions .said")) {
  const say = (e) => {
    const cell = e.target.closest("td[title]");
    if (cell) said.textContent = cell.title;
  };
  said.parentElement.addEventListener("pointerover", say);
  said.parentElement.addEventListener("pointerdown", say);
}
