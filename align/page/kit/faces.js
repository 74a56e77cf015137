// Faces: the look of a row, by its element. Used wherever the page shows samples.
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
    drawing(face, label) {
      const [xs, ys] = [0, 1].map((axis) => face.d.flatMap((line) => line.map((point) => point[axis])));
      const [left, top] = [Math.min(...xs), -Math.max(...ys)]; // y points upwards, in SVG downwards
      const side = Math.max(Math.max(...xs) - left, -Math.min(...ys) - top) || 1, pad = side / 20;
      const middle = [(Math.max(...xs) - left - side) / 2, (-Math.min(...ys) - top - side) / 2];
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("viewBox", [left + middle[0] - pad, top + middle[1] - pad, side + 2 * pad, side + 2 * pad].join(" "));
      svg.setAttribute("class", "drawing");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", label);
      for (const line of face.d) {
        const shape = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
        shape.setAttribute("points", line.map(([x, y]) => `${x},${-y}`).join(" "));
        svg.append(shape);
      }
      return [svg];
    },
  };

  // The elements of a face: one for each line of a text, else a single one.
  return { element, show: (face, label, up) => kinds[face.k](face, label, up) };
})();
