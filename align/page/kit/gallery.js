// The gallery: queries of one modality, their nearest answers in another. The pair stands in the address: #image_to_text.
(() => {
  const block = document.getElementById("gallery-data");
  if (!block) return;
  const { items, queries, up } = JSON.parse(block.textContent);
  const section = document.getElementById("gallery"), rows = document.getElementById("rows"), tally = document.getElementById("tally");
  const radios = (name) => [...section.querySelectorAll(`input[name="${name}"]`)];
  const radii = items.flatMap((item) => Object.values(item.faces).filter((f) => f.k === "cloud").map((f) => f.r));
  if (radii.length) clouds.largest(Math.max(...radii));
  const { element } = faces;

  const symbol = (viewBox, html) => {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", viewBox);
    svg.setAttribute("aria-hidden", "true");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", html);
    svg.append(path);
    return svg;
  };

  function card(className, item, modality, head) {
    const face = item.faces[modality], label = item.caption || item.key;
    const shown = face ? faces.show(face, label, up) : [element("p", "nothing", `no picture of its ${modality}`)];
    const out = element("div", `card ${className}`, element("div", "head", ...head), element("div", "face", ...shown));
    const said = face && face.k === "text" ? item.key : label;
    out.append(element("div", "caption", said));
    out.title = item.key;
    return out;
  }

  function answer([index, score, hit], rank, query, to) {
    const mark = element("span", "mark", symbol("0 0 16 16", hit ? "M3 8.5 6.5 12 13 4.5" : "M4 4l8 8M12 4l-8 8"));
    mark.setAttribute("role", "img");
    mark.setAttribute("aria-label", hit ? (index === query ? "hit: the same sample" : "hit") : "miss");
    mark.title = hit ? (index === query ? "the same sample" : "counts as a hit") : "not a hit";
    mark.prepend(score.toFixed(3));
    return element("li", "", card(hit ? "hit" : "miss", items[index], to, [element("b", "", String(rank + 1)), mark]));
  }

  function render(of, to) {
    sounds.stop();
    const asked = queries.filter((q) => q[1] === of && q[2] === to);
    rows.replaceChildren(...asked.map(([index, , , answers]) => {
      const list = element("ol", "answers", ...answers.map((a, rank) => answer(a, rank, index, to)));
      list.style.setProperty("--k", String(Math.max(3, answers.length)));
      return element("article", "row", card("ask", items[index], of, [element("b", "", of), "asks"]), list);
    }));
    clouds.clear();
    const first = asked.filter((q) => q[3].length && q[3][0][2]).length, any = asked.filter((q) => q[3].some((a) => a[2])).length;
    const k = Math.max(0, ...asked.map((q) => q[3].length));
    tally.textContent = asked.length
      ? `The first answer is right for ${first} of these ${asked.length}, one of the ${k} for ${any}.`
      : `No query here goes from ${of} to ${to}.`;
  }

  let of = queries[0][1], to = queries[0][2];
  function choose(a, b, write) {
    [of, to] = [a, b];
    for (const r of radios("of")) r.checked = r.value === of;
    for (const r of radios("to")) { r.checked = r.value === to; r.disabled = r.value === of; }
    if (write) history.replaceState(null, "", `#${encodeURIComponent(of)}_to_${encodeURIComponent(to)}`);
    render(of, to);
  }
  function follow() {
    const wanted = location.hash.slice(1);
    const q = queries.find((x) => `${encodeURIComponent(x[1])}_to_${encodeURIComponent(x[2])}` === wanted || `${x[1]}_to_${x[2]}` === wanted);
    if (!q) return false;
    choose(q[1], q[2], false);
    section.scrollIntoView({ behavior: "instant" });
    return true;
  }
  section.addEventListener("change", (e) => {
    const value = e.target.value;
    if (e.target.name === "of") choose(value, value === to ? of : to, true); // the target's own modality: swap
    if (e.target.name === "to") choose(of, value, true);
  });
  addEventListener("hashchange", follow);
  if (!follow()) choose(of, to, false);
})();
