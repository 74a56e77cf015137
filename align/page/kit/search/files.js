// Files: chosen, dropped anywhere on the page, or pasted.
import { ask } from "./ask.js";
import { addFile } from "./chips.js";

const box = document.getElementById("box");

export function take(files) {
  for (const file of files) addFile(file);
  if (files.length) ask();
}

export function startFiles() {
  const chooser = document.getElementById("file");
  chooser.addEventListener("change", () => {
    const files = [...chooser.files];
    chooser.value = "";
    take(files);
  });
  const holds = (e) => e.dataTransfer && [...e.dataTransfer.types].includes("Files");
  let depth = 0; // the pointer enters a child before it leaves the parent
  addEventListener("dragenter", (e) => { if (holds(e)) { depth += 1; box.classList.add("over"); } });
  addEventListener("dragleave", (e) => { if (holds(e) && (depth -= 1) <= 0) { depth = 0; box.classList.remove("over"); } });
  addEventListener("dragover", (e) => { if (holds(e)) e.preventDefault(); });
  addEventListener("drop", (e) => {
    if (!holds(e)) return;
    e.preventDefault();
    depth = 0;
    box.classList.remove("over");
    take([...e.dataTransfer.files]);
  });
  addEventListener("paste", (e) => {
    const files = e.clipboardData ? [...e.clipboardData.files] : [];
    if (!files.length) return;
    e.preventDefault();
    take(files);
  });
}
