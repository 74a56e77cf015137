// Copies of a hit's text, link or picture, and of the query's link. Menus close by themselves.
const toast = document.getElementById("toast");
let timer = 0;

function say(sentence) {
  toast.textContent = sentence;
  toast.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => { toast.hidden = true; }, 2200);
}

async function picture(address) {
  const bitmap = await createImageBitmap(await (await fetch(address)).blob()), canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((done) => { canvas.toBlob(done, "image/png"); }); // the clipboard takes PNG alone
}

const copies = {
  text: (data) => navigator.clipboard.writeText(data.text),
  link: (data) => navigator.clipboard.writeText(new URL(data.link, document.baseURI).href),
  picture: (data) => navigator.clipboard.write([new ClipboardItem({ "image/png": picture(data.link) })]),
};

async function copy(kind, data, name) {
  try {
    await copies[kind](data);
    say(`${name} copied`);
  } catch {
    say("The browser does not allow a copy here");
  }
}

function dress() { for (const e of document.querySelectorAll(".scripted")) e.hidden = false; }

export function startCopying() {
  dress();
  document.addEventListener("results", dress);
  document.addEventListener("click", (e) => {
    const button = e.target.closest("[data-copy]"), link = e.target.closest("#link"), menu = e.target.closest(".menu");
    for (const other of document.querySelectorAll(".menu[open]")) if (other !== menu) other.open = false;
    if (button) {
      menu.open = false;
      menu.querySelector("summary").focus();
      copy(button.dataset.copy, button.dataset, button.textContent.replace("Copy t", "T").replace("Copy l", "L").replace("Copy p", "P"));
    }
    if (link) {
      e.preventDefault();
      copy("link", { link: link.href }, "Link");
    }
  });
  document.addEventListener("keydown", (e) => {
    const menu = e.key === "Escape" && document.querySelector(".menu[open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
}
