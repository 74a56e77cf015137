// Cards: groups of samples, each with the faces of some of its members. All are drawn at once: a link may lead to any.
(() => {
  const block = document.getElementById("cards-data");
  if (!block) return;
  const { groups, up } = JSON.parse(block.textContent), { element } = faces;
  const radii = groups.flatMap((g) => g.flatMap((card) => card.faces.filter((f) => f[1] && f[1].k === "cloud").map((f) => f[1].r)));
  if (radii.length) clouds.largest(Math.max(...radii));

  function part([name, face, label]) {
    const shown = face ? faces.show(face, name, up) : [element("p", "nothing", label || "nothing to show")];
    const out = element("div", "part", element("div", "face", ...shown));
    if (name) out.prepend(element("div", "head", element("code", "", name)));
    if (face && label) out.append(element("div", "caption", label));
    return out;
  }

  function card({ key, shard, faces: parts, detail, label }) {
    const out = element("article", "card sample", element("div", "head", element("b", "", key || shard), label || ""));
    if (detail) out.append(element("p", "why", detail));
    out.append(element("div", parts.length > 1 ? "parts many" : "parts", ...parts.map(part)));
    out.title = shard;
    return out;
  }

  for (const place of document.querySelectorAll(".cards")) place.append(...groups[place.dataset.group].map(card));
})();
