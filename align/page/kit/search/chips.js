// Chips: the parts of the query beside the text field. A chip is form fields, so the form alone states the query.
import { ask, askSoon } from "./ask.js";

const list = document.getElementById("chips"), text = document.getElementById("text"), plan = document.getElementById("chip");

export const chips = () => [...list.children];
export const hasParts = () => list.children.length > 0 || Boolean(text && text.value.trim());

function update() {
  const has = (selector) => list.querySelector(selector) !== null;
  document.body.classList.toggle("composed", list.children.length > 0);
  document.body.classList.toggle("has-file", has("[name=file], [name=vector], [name=item]"));
}

// Add a chip. picture: the address of its thumbnail. icon: its modality or its element.
function add(field, name, { picture = "", icon = "other", weight = 1 } = {}) {
  const chip = plan.content.firstElementChild.cloneNode(true), label = chip.querySelector(".name");
  if (field) chip.prepend(field);
  label.textContent = name;
  label.title = name;
  if (picture) {
    const img = document.createElement("img");
    img.alt = "";
    img.src = picture;
    chip.querySelector(".thumb").replaceChildren(img);
  } else chip.querySelector("use").setAttribute("href", `#i-${icon}`);
  for (const unseen of chip.querySelectorAll(".unseen")) unseen.textContent = unseen.textContent.replace("this part", name || "these words");
  chip.querySelector(".plain-button").setAttribute("aria-label", `Take away ${name || "these words"}`);
  chip.querySelector("[name=weight]").value = Math.abs(weight);
  chip.querySelector("[name=minus]").checked = weight < 0;
  list.append(chip);
  dress(chip);
  update();
  return chip;
}

const input = (type, name, value = "") => Object.assign(document.createElement("input"), { type, name, value });

// The element by which a file is shown, from the type that the browser knows.
const iconOf = (file) => (file.type.startsWith("image/") ? "image" : file.type.startsWith("video/") ? "video" : file.type.startsWith("audio/") ? "audio" : file.type.startsWith("text/") ? "text" : "points");

export function addFile(file) {
  const holder = new DataTransfer(), field = input("file", "file");
  holder.items.add(file);
  field.files = holder.files;
  field.hidden = true;
  field.tabIndex = -1;
  const seen = /^image\/(png|jpeg|webp|gif|avif|bmp)$/.test(file.type);
  const chip = add(field, file.name, { picture: seen ? URL.createObjectURL(file) : "", icon: iconOf(file) });
  const choice = document.getElementById("as");
  if (choice) field.after(input("hidden", "as", choice.value));
  return chip;
}

export function addItem(value, name, { picture, weight }) {
  for (const old of list.querySelectorAll("[name=item]")) if (old.value === value) old.closest(".chip").remove();
  add(input("hidden", "item", value), name, { picture, weight, icon: value.split(":")[0] });
}

// A file that the server has read before: its embedding, and its weight.
export function addVector({ value, weight }) {
  add(input("hidden", "vector", value), value.split(":").slice(2).join(":"), { weight, icon: value.split(":")[0] });
}

// The embeddings among the chips, from which they can be made again.
export function listVectors() {
  return chips().filter((chip) => chip.querySelector("[name=vector]")).map((chip) => {
    const weight = Number(chip.querySelector("[name=weight]").value), isLess = chip.querySelector("[name=minus]").checked;
    return { value: chip.querySelector("[name=vector]").value, weight: isLess ? -weight : weight };
  });
}

// Ask with one hit instead of the present query.
function askLike(link, picture) {
  if (text) text.value = "";
  for (const name of ["classes", "captions"]) {
    const field = document.querySelector(`#ask [name=${name}]`);
    if (field && field.type === "checkbox") field.checked = false;
    else if (field) field.value = "";
  }
  list.replaceChildren();
  addItem(link.dataset.item, link.dataset.name, { picture, weight: 1 });
  scrollTo({ top: 0 });
  ask();
}

export function addWords() {
  const field = input("text", "text"), chip = add(null, "", { icon: "text" });
  field.setAttribute("aria-label", "More words");
  field.placeholder = "more words";
  field.dir = "auto";
  chip.querySelector(".name").replaceWith(field);
  chip.prepend(chip.querySelector(".thumb"));
  field.focus();
}

// A file that the server has read is a vector from now on: it is sent and decoded once.
export function settle(sent, vectors) {
  const holders = sent.map((chip) => chip.querySelector("[name=file], [name=vector]")).filter(Boolean);
  if (holders.length !== vectors.length) return;
  holders.forEach((holder, i) => { if (holder.isConnected && holder.name === "file") holder.replaceWith(input("hidden", "vector", vectors[i])); });
}

function dress(chip) {
  const range = chip.querySelector("[name=weight]"), said = chip.querySelector("output"), minus = chip.querySelector("[name=minus]");
  const show = () => { said.textContent = Number(range.value).toFixed(1); chip.classList.toggle("less", minus.checked); };
  range.addEventListener("input", show);
  minus.addEventListener("change", show);
  show();
}

export function startChips() {
  chips().forEach(dress);
  const weight = document.getElementById("words-weight");
  if (weight) dress(weight);
  update();
  list.addEventListener("click", (e) => {
    const button = e.target.closest("[name=drop]");
    if (!button) return;
    e.preventDefault();
    const chip = button.closest(".chip"), next = chip.nextElementSibling || chip.previousElementSibling;
    chip.remove();
    update();
    (next ? next.querySelector(".plain-button") : text || document.getElementById("file")).focus();
    if (hasParts()) ask();
  });
  list.addEventListener("keydown", (e) => { if (e.key === "Enter" && e.target.type === "text") { e.preventDefault(); ask(); } });
  document.addEventListener("click", (e) => {
    const link = e.target.closest("a.add, a.like");
    if (!link || e.ctrlKey || e.metaKey || e.shiftKey) return; // these open another window
    e.preventDefault();
    const card = link.closest(".card"), img = card.querySelector(".face img:not(.waveform)"), canvas = card.querySelector("canvas");
    const still = card.querySelector(".turning"), picture = img ? img.src : canvas ? still.dataset.still : "";
    if (link.matches(".like")) {
      askLike(link, picture);
      return;
    }
    link.closest("details").open = false;
    addItem(link.dataset.item, link.dataset.name, { picture, weight: Number(link.dataset.weight) });
    ask();
    list.lastElementChild.querySelector(".plain-button").focus();
  });
  const more = document.getElementById("more-words");
  if (more && text) {
    more.hidden = false;
    more.addEventListener("click", addWords);
  }
  list.addEventListener("change", (e) => { if (e.target.type === "text") askSoon(); });
}
