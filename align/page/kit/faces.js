// Faces: what a row looks like, by its kind. Used wherever the page shows samples.
const faces = (() => {
  const element = (name, className, ...children) => {
    const e = document.createElement(name);
    e.className = className;
    e.append(...children);
    return e;
  };
  const kinds = {
    image(face, label) {
      const img = element("img", "");
      img.alt = label;
      img.draggable = false;
      img.addEventListener("load", () => img.classList.toggle("tiny", img.naturalWidth < 48));
      img.src = `data:${face.t};base64,${face.d}`;
      return [img];
    },
    sound: (face, label) => [sounds.button(face, `the sound of ${label}`)],
    cloud: (face, label, up) => [clouds.canvas(face, up, label)],
    text: (face) => face.d.split("\n").map((line) => element("p", line.length > 90 ? "words long" : "words", line)),
  };

  // The elements of a face: one for each line of a text, else a single one.
  return { element, show: (face, label, up) => kinds[face.k](face, label, up) };
})();
